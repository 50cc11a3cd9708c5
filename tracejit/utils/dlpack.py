"""``tracejit.utils.dlpack``: tensors to and from other libraries without a copy.

Invariant: memory is shared, so a write is seen on both sides.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.methods import from_dlpack

__all__ = ["from_dlpack", "to_dlpack"]


def to_dlpack(tensor: Any) -> Any:
    """A capsule that another library's ``from_dlpack`` takes once."""
    return tensor.__dlpack__()
