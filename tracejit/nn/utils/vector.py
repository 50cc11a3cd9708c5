"""Parameters joined to one vector, and back.

Invariant: order and shapes are those of the iterable of parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracejit.eager.joining import cat
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Any]) -> Tensor:
    """All parameters flattened and joined."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Any]) -> None:
    """Overwrite the parameters' data with consecutive pieces of `vec`."""
    if not isinstance(vec, Tensor):
        raise TypeError(at_user_line(f"expected a Tensor, but got {type(vec).__name__}"))
    flat: Any = vec
    at = 0
    for p in parameters:
        count = p.numel()
        p.data = flat[at : at + count].reshape(*p.shape).detach()
        at += count
