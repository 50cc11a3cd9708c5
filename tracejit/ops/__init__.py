"""The primitives, one stanza each. Importing this package registers them all in `OPS`."""

from tracejit.ops import (
    activations,
    bessel,
    contraction,
    control,
    convolution,
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
    "activations",
    "bessel",
    "contraction",
    "control",
    "convolution",
    "elementwise",
    "indexing",
    "library",
    "linear_algebra",
    "load_library",
    "movement",
    "pooling",
    "random",
    "reduction",
    "sampling",
    "scan",
    "special",
    "source",
]


def load_library(path: str) -> None:
    """``torch.ops.load_library``: raises OSError, since such a file holds code compiled for torch.

    Packages that ship one fall back to what they have in Python.
    """
    raise OSError(f"{path} holds operators compiled for torch, which tracejit cannot call")
