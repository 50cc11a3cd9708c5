"""``tracejit.fx``: the one name of torch.fx that model code uses.

Invariant: nothing is traced symbolically; graphs come from ``tracejit.compile``.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["wrap"]

T = TypeVar("T")


def wrap(fn_or_name: T) -> T:
    """`fn_or_name` itself: marks a leaf for torch's symbolic tracer."""
    return fn_or_name
