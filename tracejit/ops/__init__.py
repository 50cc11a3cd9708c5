"""The primitives, one stanza each. Importing this package registers them all in `OPS`."""

from tracejit.ops import (
    contraction,
    control,
    elementwise,
    indexing,
    library,
    linear_algebra,
    movement,
    pooling,
    random,
    reduction,
    sampling,
    scan,
    source,
    special,
)

__all__ = [
    "contraction",
    "control",
    "elementwise",
    "indexing",
    "library",
    "linear_algebra",
    "movement",
    "pooling",
    "random",
    "reduction",
    "sampling",
    "scan",
    "special",
    "source",
]
