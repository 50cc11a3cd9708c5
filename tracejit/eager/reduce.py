"""Reductions with torch's names and signatures, and the scans along a dimension.

Invariant: the ops drop the reduced axes; `keepdim` puts them back as a view.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.dispatch import apply, pointwise
from tracejit.eager.inplace import deliver
from tracejit.eager.pointwise import as_bool
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.shape import axes_of, axis_of, flatten, sizes_of, unsqueeze
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, product
from tracejit.tensor import Tensor

ValuesIndices = namedtuple("ValuesIndices", ["values", "indices"])


def reduce(op_name: str, input: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """One reduction op over `axes`."""
    result: Tensor = apply(OPS[op_name], (input,), {"axes": axes})
    if not keepdim:
        return result
    shape = tuple(1 if i in axes else n for i, n in enumerate(sizes_of(input)))
    return result.reshape(shape)


@public()
def sum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The sum over `dim` (all if None); integers and bools add up in int64."""
    x = input.to(dtypes.sum_dtype(input.dtype) if dtype is None else dtype)
    return deliver(reduce("reduce_sum", x, axes_of(dim, x.ndim, "sum"), keepdim), out)


@public()
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum with NaN counted as 0."""
    return sum(input.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf), dim, keepdim)


@public()
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The product over `dim` (all if None)."""
    x = input.to(dtypes.sum_dtype(input.dtype) if dtype is None else dtype)
    return reduce("reduce_prod", x, axes_of(dim, x.ndim, "prod"), keepdim)


def _count(input: Tensor, axes: tuple[int, ...]) -> Any:
    return product(sizes_of(input)[a] for a in axes)


@public()
def mean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The mean over `dim` (all if None) of a floating tensor."""
    x = input if dtype is None else input.to(dtype)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(
            f"mean: needs a floating dtype, got {x.dtype.name}; pass dtype= or convert"))  # fmt: skip
    axes = axes_of(dim, x.ndim, "mean")
    return deliver(reduce("reduce_sum", x, axes, keepdim) / _count(x, axes), out)


@public()
def var(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Tensor:  # fmt: skip
    """The variance: squared distances from the mean over ``max(0, n - correction)``."""
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    if input.dtype.kind != "f":
        raise DTypeError(at_user_line(f"var: needs a floating dtype, got {input.dtype.name}"))
    axes = axes_of(dim, input.ndim, "var")
    centred = input - mean(input, axes or None, keepdim=True)
    total = reduce("reduce_sum", centred.square(), axes, keepdim)
    count = _count(input, axes)
    rest = count - correction if correction else count
    if type(rest) is not SymInt:
        rest = max(rest, 0)
    return total / rest


@public()
def std(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Tensor:  # fmt: skip
    """The square root of `var`."""
    return var(input, dim, unbiased, keepdim, correction=correction).sqrt()


@public()
def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(`var`, `mean`)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    spread = var(input, dim, unbiased, keepdim, correction=correction)
    return spread, mean(input, dim, keepdim)


@public()
def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(`std`, `mean`)."""
    spread, middle = var_mean(input, dim, unbiased, keepdim, correction=correction)
    return spread.sqrt(), middle


@public()
def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest over `dim`; gradients are shared among ties."""
    return reduce("reduce_max", input, axes_of(dim, input.ndim, "amax"), keepdim)


@public()
def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest over `dim`; gradients are shared among ties."""
    return reduce("reduce_min", input, axes_of(dim, input.ndim, "amin"), keepdim)


@public()
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(smallest, largest)."""
    pair = namedtuple("aminmax", ["min", "max"])
    return pair(amin(input, dim, keepdim), amax(input, dim, keepdim))


def _extreme(name: str, input: Tensor, dim: Any, keepdim: bool) -> Any:
    """`max`/`min`: of all, element by element with another tensor, or with indices along `dim`."""
    if dim is None:
        return reduce(f"reduce_{name}", input, axes_of(None, input.ndim, name), False)
    if isinstance(dim, Tensor):
        return FUNCTIONS["maximum" if name == "max" else "minimum"](input, dim)
    at = axis_of(dim, input.ndim, name)
    if input.ndim == 0:
        return ValuesIndices(input.clone(), input.to(dtypes.int64) * 0)
    index = reduce(f"arg{name}", input, (at,), True)
    values = apply(OPS["gather"], (input, index), {"axis": at})
    if keepdim:
        return ValuesIndices(values, index)
    return ValuesIndices(values.squeeze(at), index.squeeze(at))


@public()
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest of all; with `dim`: (values, indices); with a tensor: element by element."""
    return _extreme("max", input, dim if other is None else other, keepdim)


@public()
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest of all; with `dim`: (values, indices); with a tensor: element by element."""
    return _extreme("min", input, dim if other is None else other, keepdim)


def _arg_extreme(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    if dim is None:
        flat = reduce(name, flatten(input), (0,), False)
        return flat.reshape((1,) * input.ndim) if keepdim else flat
    if input.ndim == 0:
        return input.to(dtypes.int64) * 0
    return reduce(name, input, (axis_of(dim, input.ndim, name),), keepdim)


@public()
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first largest element (of the flattened tensor if `dim` is None)."""
    return _arg_extreme("argmax", input, dim, keepdim)


@public()
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first smallest element (of the flattened tensor if `dim` is None)."""
    return _arg_extreme("argmin", input, dim, keepdim)


@public()
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero."""
    x = as_bool(input)
    result = reduce("reduce_any", x, axes_of(dim, x.ndim, "any"), keepdim)
    return result.to(dtypes.uint8) if input.dtype is dtypes.uint8 else result


@public()
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero."""
    x = as_bool(input)
    result = reduce("reduce_all", x, axes_of(dim, x.ndim, "all"), keepdim)
    return result.to(dtypes.uint8) if input.dtype is dtypes.uint8 else result


@public()
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero."""
    return sum(as_bool(input), dim)


@public()
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` over `dim` without overflow."""
    x = input if input.dtype.kind == "f" else input.to(dtypes.get_default_dtype())
    return reduce("logsumexp", x, axes_of(dim, x.ndim, "logsumexp"), keepdim)


def _softmax_family(name: str, input: Tensor, dim: int, dtype: DType | None) -> Tensor:
    x = input if dtype is None else input.to(dtype)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(f"{name}: not implemented for dtype {x.dtype.name}"))
    if x.ndim == 0:
        return x.exp() * 0 + 1 if name == "softmax" else x * 0
    return apply(OPS[name], (x,), {"axis": axis_of(dim, x.ndim, name)})  # type: ignore[no-any-return]


@public()
def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along `dim`."""
    return _softmax_family("softmax", input, dim, dtype)


@public()
def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """``log(softmax(x))`` along `dim` without overflow."""
    return _softmax_family("log_softmax", input, dim, dtype)


@public(aliases=())
def norm(
    input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:  # fmt: skip
    """The p-norm over `dim` ('fro' is 2; inf, -inf and 0 as in torch)."""
    x = input if dtype is None else input.to(dtype)
    if p in ("fro", 2, 2.0, None):
        return sum(x.square(), dim, keepdim).sqrt()
    if p == math.inf:
        return amax(x.abs(), dim, keepdim)
    if p == -math.inf:
        return amin(x.abs(), dim, keepdim)
    if p == 0:
        return sum((x != 0).to(x.dtype), dim, keepdim)
    if p == 1:
        return sum(x.abs(), dim, keepdim)
    return sum(x.abs() ** p, dim, keepdim) ** (1.0 / p)


@public()
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference."""
    return norm(input - other, p)


@public()
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all, or (values, indices) along `dim`."""
    flat = flatten(input) if dim is None else input
    at = axis_of(-1 if dim is None else dim, flat.ndim, "median")
    values, order = FUNCTIONS["sort"](flat, at)
    middle = (int(sizes_of(flat)[at]) - 1) // 2
    if dim is None:
        return values.select(at, middle)
    picked = values.narrow(at, middle, 1), order.narrow(at, middle, 1)
    return ValuesIndices(*(p if keepdim else p.squeeze(at) for p in picked))


# --- scans and sorting -----------------------------------------------------------------------


def _scan(name: str, input: Tensor, dim: int, dtype: DType | None) -> Tensor:
    x = input.to(dtypes.sum_dtype(input.dtype) if dtype is None else dtype)
    if x.ndim == 0:
        return x.clone()
    return apply(OPS[name], (x,), {"axis": axis_of(dim, x.ndim, name)})  # type: ignore[no-any-return]


@public(inplace=True)
def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The running sum along `dim`."""
    return _scan("cumsum", input, dim, dtype)


@public(inplace=True)
def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The running product along `dim`."""
    return _scan("cumprod", input, dim, dtype)


def _cumextreme(input: Tensor, dim: int, largest: bool) -> Any:
    params = {"axis": axis_of(dim, input.ndim, "cummax"), "largest": largest}
    return ValuesIndices(*apply(OPS["cumextreme"], (input,), params))


@public()
def cummax(input: Tensor, dim: int) -> Any:
    """(running maxima, their indices) along `dim`."""
    return _cumextreme(input, dim, True)


@public()
def cummin(input: Tensor, dim: int) -> Any:
    """(running minima, their indices) along `dim`."""
    return _cumextreme(input, dim, False)


@public()
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(sorted values, indices) along `dim`; stable; NaN counts as the largest."""
    if input.ndim == 0:
        return ValuesIndices(input.clone(), input.to(dtypes.int64) * 0)
    params = {"axis": axis_of(dim, input.ndim, "sort"), "descending": bool(descending)}
    return ValuesIndices(*apply(OPS["sort"], (input,), params))


@public()
def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> Tensor:
    """The indices that sort along `dim`."""
    return sort(input, dim, descending).indices  # type: ignore[no-any-return]


@public()
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Any:
    """The `k` largest (or smallest) elements along `dim` and their indices, in order."""
    at = axis_of(dim, input.ndim, "topk")
    if not 0 <= k <= (sizes_of(input)[at] if input.ndim else 1):
        raise RuntimeError(at_user_line(f"topk: k={k} is out of range"))
    if input.ndim == 0:
        return ValuesIndices(input.clone(), input.to(dtypes.int64) * 0)
    values, order = sort(input, at, descending=largest)
    return ValuesIndices(values.narrow(at, 0, k).clone(), order.narrow(at, 0, k).clone())


@public()
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest element (counted from 1) along `dim` and its index."""
    at = axis_of(dim, input.ndim, "kthvalue")
    values, order = sort(input, at)
    picked = values.narrow(at, k - 1, 1), order.narrow(at, k - 1, 1)
    return ValuesIndices(*(p if keepdim else p.squeeze(at) for p in picked))


@public()
def cross(input: Tensor, other: Tensor, dim: int = -1) -> Tensor:
    """The cross product of 3-vectors along `dim`."""
    a, b = input.unbind(dim), other.unbind(dim)
    parts = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return FUNCTIONS["stack"](parts, dim)  # type: ignore[no-any-return]


__all__ = ["ValuesIndices", "pointwise", "reduce", "unsqueeze"]
