"""Dropout: elements or whole channels zeroed at random, the rest scaled to keep the mean.

Invariant: the mask comes from the one counter-based stream, so eager and compiled masks agree.
"""

from __future__ import annotations

import warnings
from typing import Any

from tracejit.eager.inplace import write_into
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.random import draw
from tracejit.tensor import Tensor

_SELU_LIMIT = 1.7580993408473766  # -(scale * alpha): what selu tends to at minus infinity


def _check(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(
            at_user_line(f"dropout probability has to be between 0 and 1, but got {p}")
        )


def _kept(input: Any, p: float, shape: Any) -> Any:
    """A mask of the given shape, true with probability ``1 - p``."""
    u: Any = draw("random_uniform", tuple(shape), input.dtype, device=input.device)
    return u >= p


def _apply(input: Any, p: float, training: bool, inplace: bool, shape: Any) -> Tensor:
    _check(p)
    if not training or p == 0:
        return input
    if p == 1:
        result = input * 0.0
    else:
        keep = _kept(input, p, shape)
        result = where_of(keep, input * (1.0 / (1.0 - p)), 0.0, input.dtype)
    return write_into(input, result, "dropout_") if inplace else result


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element zero with probability `p`, else divided by ``1 - p`` (Hinton et al., 2012)."""
    return _apply(input, p, training, inplace, input.shape)


def _channels(name: str, input: Any, spatial: int) -> Any:
    """The mask shape that drops whole channels of a batched (or single) input."""
    if input.ndim not in (spatial + 1, spatial + 2):
        warnings.warn(f"{name}: received a {input.ndim}-d input; {spatial + 1}-d (single) or "
                      f"{spatial + 2}-d (batched) is expected", stacklevel=3)  # fmt: skip
    lead = 1 if input.ndim == spatial + 1 else 2
    return (*input.shape[:lead], *(1,) * (input.ndim - lead))


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [N, C, L] or [C, L] zero with probability `p`."""
    return _apply(input, p, training, inplace, _channels("dropout1d", input, 1))


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [N, C, H, W] zero with probability `p`.

    A 3-d input counts as [N, C, L], as in torch.
    """
    shape = (*input.shape[:2], *(1,) * (input.ndim - 2))
    return _apply(input, p, training, inplace, shape)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of [N, C, D, H, W] or [C, D, H, W] zero with probability `p`."""
    return _apply(input, p, training, inplace, _channels("dropout3d", input, 3))


def _alpha(input: Any, p: float, training: bool, inplace: bool, shape: Any) -> Tensor:
    """Dropped elements become selu's limit; an affine map then restores mean and variance."""
    _check(p)
    if not training or p == 0:
        return input
    if p == 1:
        result = input * 0.0
        return write_into(input, result, "alpha_dropout_") if inplace else result
    scale = ((1 - p) * (1 + p * _SELU_LIMIT**2)) ** -0.5
    shift = scale * _SELU_LIMIT * p
    kept = _kept(input, p, shape)
    result = where_of(kept, input, -_SELU_LIMIT, input.dtype) * scale + shift
    return write_into(input, result, "alpha_dropout_") if inplace else result


def alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps the mean and variance of `selu` activations (Klambauer et al., 2017)."""
    return _alpha(input, p, training, inplace, input.shape)


def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels."""
    return _alpha(input, p, training, inplace, (*input.shape[:2], *(1,) * (input.ndim - 2)))
