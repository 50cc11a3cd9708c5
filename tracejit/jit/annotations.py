"""``tracejit.jit.annotations``: TorchScript's names for types in annotations.

Invariant: Python's own types; nothing checks them.
"""

from __future__ import annotations

from typing import Any, List, Optional  # noqa: UP035

__all__ = [
    "BroadcastingList1", "BroadcastingList2", "BroadcastingList3", "List", "Optional",
]  # fmt: skip


class _OneOrSeveral:
    """``BroadcastingList2[int]``: an int or two of them."""

    def __getitem__(self, kind: Any) -> Any:
        return kind | List[kind]  # noqa: UP006


BroadcastingList1 = BroadcastingList2 = BroadcastingList3 = _OneOrSeveral()
