"""Reductions with torch's names and signatures: sums, extremes, any/all, softmax, norms.

Invariant: the ops drop the reduced axes; `keepdim` puts them back as a view.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.dispatch import apply
from tracejit.eager.pointwise import as_bool, check_tensors, where_of
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.results import named
from tracejit.eager.shape import axes_of, axis_of, flatten, is_empty, reshape, sizes_of
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.tensor import Tensor


def reduce(op_name: str, input: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """One reduction op over `axes`."""
    result: Tensor = apply(OPS[op_name], (input,), {"axes": axes})
    if not keepdim or not axes:
        return result
    shape = tuple(1 if i in axes else n for i, n in enumerate(sizes_of(input)))
    return reshape(result, shape)


def to_dtype(input: Tensor, dtype: Any, default: DType) -> Tensor:
    """`input` as `dtype`, or as `default` if that is None."""
    wanted = default if dtype is None else dtypes.as_dtype(dtype)
    return input if input.dtype is wanted else input.to(wanted)


@public(out=True)
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim` (all if None); integers and bools add up in int64."""
    check_tensors("sum", input)
    x = to_dtype(input, dtype, dtypes.sum_dtype(input.dtype))
    if x.dtype.kind == "b":
        return any(x, dim, keepdim)
    return reduce("reduce_sum", x, axes_of(dim, x.ndim, "sum"), keepdim)


@public(out=True)
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum with NaN counted as 0."""
    x = input if input.dtype.kind != "f" else where_of(input.isnan(), 0.0, input, input.dtype)
    return sum(x, dim, keepdim, dtype=dtype)


@public(out=True)
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The product over `dim` (all if None)."""
    x = to_dtype(input, dtype, dtypes.sum_dtype(input.dtype))
    if x.dtype.kind == "b":
        return all(x, dim, keepdim)
    return reduce("reduce_prod", x, axes_of(dim, x.ndim, "prod"), keepdim)


def count_of(input: Tensor, axes: tuple[int, ...]) -> Any:
    """How many elements each result of a reduction over `axes` comes from."""
    return product(sizes_of(input)[a] for a in axes)


@public(out=True)
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim` (all if None) of a floating tensor."""
    x = to_dtype(input, dtype, input.dtype)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(
            f"mean: needs a floating dtype, got {x.dtype.name}; pass dtype= or convert"
        ))  # fmt: skip
    axes = axes_of(dim, x.ndim, "mean")
    return reduce("reduce_sum", x, axes, keepdim) / count_of(x, axes)


@public(out=True)
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of the elements that are not NaN."""
    x = to_dtype(input, dtype, input.dtype)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(f"nanmean: needs a floating dtype, got {x.dtype.name}"))
    count = sum(~x.isnan(), dim, keepdim)
    return nansum(x, dim, keepdim) / count


# --- extremes --------------------------------------------------------------------------------


@public(out=True)
def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest over `dim`; gradients are shared among ties."""
    return reduce("reduce_max", input, axes_of(dim, input.ndim, "amax"), keepdim)


@public(out=True)
def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest over `dim`; gradients are shared among ties."""
    return reduce("reduce_min", input, axes_of(dim, input.ndim, "amin"), keepdim)


@public(out=True)
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(smallest, largest)."""
    return named("aminmax", "min max")(amin(input, dim, keepdim), amax(input, dim, keepdim))


def _extreme(name: str, input: Tensor, dim: Any, keepdim: bool) -> Any:
    """`max`/`min`: of all, element by element with another tensor, or with indices along `dim`."""
    check_tensors(name, input)
    if dim is None:
        if is_empty(input):
            raise RuntimeError(at_user_line(f"{name}: the tensor has no elements; give a dim"))
        return reduce(f"reduce_{name}", input, axes_of(None, input.ndim, name), False)
    if isinstance(dim, Tensor):
        return FUNCTIONS["maximum" if name == "max" else "minimum"](input, dim)
    at = axis_of(dim, input.ndim, name)
    result = named(name, "values indices")
    if input.ndim == 0:
        return result(input.clone(), input.new_zeros((), dtype=dtypes.int64))
    index = reduce(f"arg{name}", input, (at,), True)
    values = apply(OPS["gather"], (input, index), {"axis": at})
    if keepdim:
        return result(values, index)
    return result(values.squeeze(at), index.squeeze(at))


@public(out=True)
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The largest of all; with `dim`: (values, indices); with a tensor: element by element."""
    return _extreme("max", input, dim if other is None else other, keepdim)


@public(out=True)
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The smallest of all; with `dim`: (values, indices); with a tensor: element by element."""
    return _extreme("min", input, dim if other is None else other, keepdim)


def _arg_extreme(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    if input.dtype.kind == "b":
        raise DTypeError(at_user_line(f"{name}: not defined for bool"))
    if dim is None:
        flat = reduce(name, flatten(input), (0,), False)
        return flat.reshape((1,) * input.ndim) if keepdim else flat
    at = axis_of(dim, input.ndim, name)
    if input.ndim == 0:
        return input.new_zeros((), dtype=dtypes.int64)
    return reduce(name, input, (at,), keepdim)


@public(out=True)
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first largest element (of the flattened tensor if `dim` is None)."""
    return _arg_extreme("argmax", input, dim, keepdim)


@public(out=True)
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first smallest element (of the flattened tensor if `dim` is None)."""
    return _arg_extreme("argmin", input, dim, keepdim)


@public(out=True)
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether any element is nonzero."""
    x = as_bool(input)
    result = reduce("reduce_any", x, axes_of(dim, x.ndim, "any"), keepdim)
    return result.to(dtypes.uint8) if input.dtype is dtypes.uint8 else result


@public(out=True)
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are nonzero."""
    x = as_bool(input)
    result = reduce("reduce_all", x, axes_of(dim, x.ndim, "all"), keepdim)
    return result.to(dtypes.uint8) if input.dtype is dtypes.uint8 else result


@public()
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero."""
    return sum(as_bool(input), dim)


# --- exponentials ----------------------------------------------------------------------------


@public(out=True)
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` over `dim` without overflow."""
    x = input if input.dtype.kind == "f" else input.to(dtypes.get_default_dtype())
    return reduce("logsumexp", x, axes_of(dim, x.ndim, "logsumexp"), keepdim)


def _softmax_family(name: str, input: Tensor, dim: int, dtype: Any) -> Tensor:
    x = to_dtype(input, dtype, input.dtype)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(f"{name}: not implemented for dtype {x.dtype.name}"))
    at = axis_of(dim, x.ndim, name)
    if x.ndim == 0:
        return reshape(apply(OPS[name], (reshape(x, 1),), {"axis": 0}), ())
    return apply(OPS[name], (x,), {"axis": at})


@public(out=True)
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along `dim`."""
    return _softmax_family("softmax", input, dim, dtype)


@public(out=True)
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``log(softmax(x))`` along `dim` without overflow."""
    return _softmax_family("log_softmax", input, dim, dtype)


# --- norms -----------------------------------------------------------------------------------


def safe_root(total: Tensor, power: float) -> Tensor:
    """``total ** power`` with gradient 0 (not NaN) where `total` is 0."""
    zero = total == 0
    safe = where_of(zero, 1.0, total, total.dtype)
    root = safe.sqrt() if power == 0.5 else safe**power
    return where_of(zero, 0.0, root, total.dtype)


def vector_norm(x: Tensor, ord: Any, dim: Any, keepdim: bool) -> Tensor:
    """The `ord`-norm over `dim` of a floating tensor, with torch's subgradients at zero."""
    axes = axes_of(dim, x.ndim, "norm")
    if count_of(x, axes) == 0 and (ord == math.inf or ord < 0):
        raise RuntimeError(at_user_line(f"norm: an empty tensor has no norm of order {ord}"))
    if ord == 0:
        counted = where_of(x != 0, 1.0, x.sign(), x.dtype)  # as torch's, with a gradient: zeros
        return reduce("reduce_sum", counted, axes, keepdim)
    if ord == 1:
        return reduce("reduce_sum", x.abs(), axes, keepdim)
    if ord in (math.inf, -math.inf):
        return reduce("reduce_max" if ord > 0 else "reduce_min", x.abs(), axes, keepdim)
    wide = x.float() if x.dtype is dtypes.float16 else x
    if ord == 2:
        total = reduce("reduce_sum", wide.square(), axes, keepdim)
        return safe_root(total, 0.5).to(x.dtype)
    zero = wide == 0
    powers = where_of(zero, 1.0, wide.abs(), wide.dtype) ** ord
    powers = where_of(zero, 0.0 if ord > 0 else math.inf, powers, wide.dtype)
    total = reduce("reduce_sum", powers, axes, keepdim)
    if ord < 0:
        return (total ** (1.0 / ord)).to(x.dtype)
    return safe_root(total, 1.0 / ord).to(x.dtype)


@public(out=True)
def norm(
    input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """The p-norm over `dim` ('fro' is 2, 'nuc' the sum of singular values, inf, -inf, 0 too)."""
    x = to_dtype(input, dtype, input.dtype)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(f"norm: needs a floating dtype, got {x.dtype.name}"))
    if p == "nuc":
        return _nuclear_norm(x, (-2, -1) if dim is None else dim, keepdim)
    if p not in ("fro", None) and isinstance(p, str):
        raise RuntimeError(at_user_line(f"norm: unknown order {p!r}"))
    return vector_norm(x, 2 if p in ("fro", None) else p, dim, keepdim)


def _nuclear_norm(x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """The sum of the singular values of the matrices in two dimensions."""
    at = axes_of(dim, x.ndim, "norm")
    if x.ndim < 2 or len(at) != 2:
        raise RuntimeError(at_user_line(f"norm: the nuclear norm needs matrices, not dims {dim}"))
    order = [i for i in range(x.ndim) if i not in at]
    values = apply(OPS["svd"], (x.permute(*order, *at),), {"full": False})[1]
    found = reduce("reduce_sum", values, (values.ndim - 1,), False)
    kept = [1 if i in at else n for i, n in enumerate(sizes_of(x))]
    return reshape(found, *kept) if keepdim else found


@public()
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference."""
    return norm(input - other, p)


@public(inplace=True, out=True)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Slices along `dim` whose p-norm exceeds `maxnorm` scaled down to it."""
    at = axis_of(dim, input.ndim, "renorm")
    if input.ndim < 2 or p <= 0 or maxnorm < 0:
        raise RuntimeError(at_user_line(
            "renorm: needs at least 2 dimensions, p > 0 and maxnorm >= 0"))  # fmt: skip
    others = tuple(i for i in range(input.ndim) if i != at)
    lengths = vector_norm(input, p, others, True)
    scale = where_of(lengths > maxnorm, maxnorm / (lengths + 1e-7), 1.0, input.dtype)
    return input * scale


@public(function=False)
def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over the dimensions that `size` lacks or has as 1."""
    wanted = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    own = sizes_of(self)
    extra = len(own) - len(wanted)
    pairs = zip(own[builtins.max(extra, 0) :], wanted)
    if extra < 0 or builtins.any(a != b and b != 1 for a, b in pairs):
        raise RuntimeError(at_user_line(f"sum_to_size: {list(wanted)} from {list(own)}"))
    axes = tuple(
        i for i in range(len(own)) if i < extra or (wanted[i - extra] == 1 and own[i] != 1)
    )
    result = sum(self, axes) if axes or not wanted else self
    return result.reshape(wanted)
