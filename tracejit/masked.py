"""``tracejit.masked``: reductions and normalisations that leave elements out.

Invariant: an element whose mask is False has no part in a result and gets no gradient; where a
whole lane is masked out the result is the operation's value of nothing, as torch has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.pointwise import where_of
from tracejit.eager.register import FUNCTIONS
from tracejit.eager.shape import broadcast_to
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp",
    "logsumexp", "mean", "median", "norm", "normalize", "prod", "softmax", "softmin", "std", "sum",
    "var",
]  # fmt: skip

Dims = int | Sequence[int] | None


def _whole_mask(input: Any, mask: Any) -> Any:
    """`mask` as booleans of the input's shape; raises IndexError if it has more dimensions."""
    if mask.ndim > input.ndim:
        raise IndexError(at_user_line("masked: the mask has more dimensions than the input"))
    return broadcast_to(mask.to(dtypes.bool_), tuple(input.shape))


def _filled(input: Any, mask: Any, value: float) -> Any:
    """`input` with `value` where the mask is False."""
    return input if mask is None else where_of(_whole_mask(input, mask), input, value, input.dtype)


def _lowest(input: Any) -> Any:
    return -math.inf if input.dtype.kind == "f" else dtypes.iinfo(input.dtype).min


def _highest(input: Any) -> Any:
    return math.inf if input.dtype.kind == "f" else dtypes.iinfo(input.dtype).max


def _dims(input: Any, dim: Dims) -> tuple[int, ...]:
    """The dimensions that `dim` names; all of them for None or ``()``."""
    if dim is None or dim == ():
        return tuple(range(input.ndim))
    return (dim,) if isinstance(dim, int) else tuple(dim)


def _summed(input: Any, dtype: DType | None) -> DType:
    """The dtype of sums and products: small integers become int64."""
    return dtype or (input.dtype if input.dtype.kind == "f" else dtypes.int64)


def sum(
    input: Any, dim: Dims = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The sum over `dim`; 0 of nothing."""
    kept = _filled(input, mask, 0)
    if not input.ndim:
        return kept.to(_summed(input, dtype))
    return kept.sum(_dims(input, dim), keepdim, dtype=_summed(input, dtype))


def prod(
    input: Any, dim: Dims = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The product over `dim`; 1 of nothing."""
    result = _filled(input, mask, 1).to(_summed(input, dtype))
    for d in sorted((d % input.ndim for d in _dims(input, dim)), reverse=True):
        result = result.prod(d, keepdim)
    return result


def cumsum(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
    """The running sum along `dim`."""
    return _filled(input, mask, 0).cumsum(dim, dtype=dtype or input.dtype)


def cumprod(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
    """The running product along `dim`."""
    return _filled(input, mask, 1).cumprod(dim, dtype=dtype or input.dtype)


def amax(
    input: Any, dim: Dims = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The largest over `dim`; the dtype's lowest value of nothing."""
    found = _filled(input, mask, _lowest(input)).amax(_dims(input, dim), keepdim)
    return found.to(dtype or input.dtype)


def amin(
    input: Any, dim: Dims = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The smallest over `dim`; the dtype's highest value of nothing."""
    found = _filled(input, mask, _highest(input)).amin(_dims(input, dim), keepdim)
    return found.to(dtype or input.dtype)


def argmax(
    input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None,
    mask: Any = None,
) -> Tensor:  # fmt: skip
    """Where the largest is, as numbers of the input's dtype unless told otherwise."""
    return _filled(input, mask, _lowest(input)).argmax(dim, keepdim).to(dtype or input.dtype)


def argmin(
    input: Any, dim: int | None = None, *, keepdim: bool = False, dtype: Any = None,
    mask: Any = None,
) -> Tensor:  # fmt: skip
    """Where the smallest is, as numbers of the input's dtype unless told otherwise."""
    return _filled(input, mask, _highest(input)).argmin(dim, keepdim).to(dtype or input.dtype)


def _count(input: Any, dim: Dims, keepdim: bool, mask: Any) -> Any:
    """How many elements take part."""
    taking: Any = input.new_ones(input.shape, dtype=dtypes.int64)
    return sum(taking, dim, keepdim=keepdim, mask=mask)


def mean(
    input: Any, dim: Dims = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The mean over `dim`; NaN of nothing. Raises ValueError for integers without `dtype`."""
    kind = dtype or input.dtype
    if kind.kind != "f":
        raise ValueError(at_user_line(
            f"mean(): the dtype must be a floating point dtype, got {kind}"))  # fmt: skip
    total: Any = sum(input, dim, keepdim=keepdim, dtype=kind, mask=mask)
    return total / _count(input, dim, keepdim, mask)


def median(
    input: Any, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The median along `dim`, the lower of two; raises ValueError for integers of nothing."""
    x = input if input.dtype.kind == "f" else input.to(dtypes.float32)
    found = FUNCTIONS["nanmedian"](_filled(x, mask, math.nan), dim, keepdim)[0]
    if input.dtype.kind == "f":
        return found
    if bool(found.isnan().any()):
        raise ValueError(at_user_line("masked median of integers: a whole row is masked out"))
    return found.to(dtype or input.dtype)


def norm(
    input: Any, ord: float | None = 2.0, dim: Dims = None, *, keepdim: bool = False,
    dtype: Any = None, mask: Any = None,
) -> Tensor:  # fmt: skip
    """The `ord`-norm of vectors over `dim`; 0 of nothing (inf for the order -inf)."""
    kept = _filled(input, mask, math.inf if ord == -math.inf else 0)
    order = 2.0 if ord is None else ord
    return FUNCTIONS["norm"](kept, order, _dims(input, dim), keepdim, dtype=dtype or input.dtype)


def _spread(
    input: Any, dim: Dims, unbiased: bool | None, correction: float | None, keepdim: bool,
    dtype: Any, mask: Any,
) -> Any:  # fmt: skip
    """Squared distances to the mean, divided by the count less the correction."""
    kind = dtype or (input.dtype if input.dtype.kind == "f" else dtypes.float32)
    wide = kind if kind.kind == "f" else dtypes.float32
    total: Any = sum(input, dim, keepdim=True, dtype=kind, mask=mask)
    distance = input - total / _count(input, dim, True, mask)
    squares: Any = sum(distance * distance, dim, keepdim=keepdim, dtype=wide, mask=mask)
    less = float(unbiased is None or unbiased) if correction is None else float(correction)
    count = _count(input, dim, keepdim, mask).to(wide)
    return (squares / (count - less).clamp(min=0)).to(kind)


def var(
    input: Any, dim: Dims = None, unbiased: bool | None = None, *,
    correction: float | None = None, keepdim: bool = False, dtype: Any = None, mask: Any = None,
) -> Tensor:  # fmt: skip
    """The variance over `dim`."""
    found: Tensor = _spread(input, dim, unbiased, correction, keepdim, dtype, mask)
    return found


def std(
    input: Any, dim: Dims = None, unbiased: bool | None = None, *,
    correction: float | None = None, keepdim: bool = False, dtype: Any = None, mask: Any = None,
) -> Tensor:  # fmt: skip
    """The standard deviation over `dim`."""
    found: Tensor = _spread(input, dim, unbiased, correction, keepdim, dtype, mask).sqrt()
    return found


def softmax(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
    """Softmax of the elements that take part; NaN where none does."""
    return _filled(input, mask, _lowest(input)).softmax(dim, dtype=dtype or input.dtype)


def log_softmax(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
    """The logarithm of `softmax`."""
    return _filled(input, mask, _lowest(input)).log_softmax(dim, dtype=dtype or input.dtype)


def softmin(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
    """`softmax` of the negative."""
    return (-_filled(input, mask, _highest(input))).softmax(dim, dtype=dtype or input.dtype)


def normalize(
    input: Any, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The elements that take part, over their norm (over `eps` if that is larger); else 0."""
    size: Any = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return _filled(input, mask, 0) / size.clamp(min=eps)


def logaddexp(
    input: Any, other: Any, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None
) -> Tensor:
    """``log(exp(input) + exp(other))`` of what takes part."""
    x = _filled(input, input_mask, _lowest(input))
    y = _filled(other, other_mask, _lowest(other))
    return FUNCTIONS["logaddexp"](x, y).to(dtype or input.dtype)


def logsumexp(
    input: Any, dim: Dims = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The logarithm of the sum of exponentials over `dim`; -inf of nothing."""
    kept = _filled(input, mask, _lowest(input))
    return kept.logsumexp(_dims(input, dim), keepdim).to(dtype or input.dtype)
