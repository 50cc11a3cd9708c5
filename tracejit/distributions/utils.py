"""``tracejit.distributions.utils``: helpers that classes of distributions share.

Invariant: probabilities are kept away from 0 and 1 before a logarithm is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import dtypes
from tracejit.distributions.distribution import broadcast_all
from tracejit.eager.modes import enable_grad
from tracejit.tensor import Tensor

__all__ = [
    "broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits",
]  # fmt: skip


def clamp_probs(probs: Any) -> Tensor:
    """`probs` brought into ``[eps, 1 - eps]`` of their dtype."""
    eps = dtypes.finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def logits_to_probs(logits: Any, is_binary: bool = False) -> Tensor:
    """Probabilities of log-odds (`is_binary`) or of the last axis' unnormalised logarithms."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Tensor:
    """The inverse of `logits_to_probs`, up to a constant."""
    safe: Any = clamp_probs(probs)
    return safe.log() - (-safe).log1p() if is_binary else safe.log()


class lazy_property:
    """A method whose result is kept as an attribute of its object after the first use."""

    def __init__(self, wrapped: Callable[[Any], Any]):
        self.wrapped = wrapped
        self.__doc__ = wrapped.__doc__
        self.__name__ = wrapped.__name__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.__name__, value)
        return value
