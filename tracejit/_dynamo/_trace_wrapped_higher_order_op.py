"""A file of torch whose one context lets a tensor index a tensor inside ``vmap``.

Invariant: that works here without it, because ``vmap`` calls the function on plain slices.
"""

from contextlib import nullcontext

__all__ = ["TransformGetItemToIndex"]


class TransformGetItemToIndex(nullcontext[None]):
    """A block that runs as it would without."""
