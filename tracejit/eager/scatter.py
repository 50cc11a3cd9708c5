"""Reading and writing along one dimension at index tensors: gather, scatter and index_*.

Invariant: indices here are never negative and never out of range: IndexError, with the user's line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.checks import is_on_device, require
from tracejit.eager.conversions import row_major
from tracejit.eager.dispatch import apply
from tracejit.eager.factories import as_tensor
from tracejit.eager.indexing import checked_index, index_on_device
from tracejit.eager.modes import state
from tracejit.eager.pointwise import check_tensors, where_of
from tracejit.eager.register import public
from tracejit.eager.shape import axis_of, expand, is_empty, reshape, sizes_of
from tracejit.eager.tape import type_of
from tracejit.errors import BoundsError, DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def _strict_index(index: Tensor, size: Any, name: str) -> Tensor:
    """`index` as int64; BoundsError unless all of it is in [0, size)."""
    array = index._array
    if index.dtype is not dtypes.int64:
        if index.dtype is not dtypes.int32 and not is_empty(index):
            raise DTypeError(at_user_line(f"{name}: expected an int64 index, got {type_of(index)}"))
        index = index.to(dtypes.int64)
    if is_on_device(index):
        return index_on_device(index, 0, size, name)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= size):
        bad = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise BoundsError(at_user_line(
            f"{name}: index {bad} is out of bounds for dimension with size {size}"))  # fmt: skip
    if state.capture is not None:  # also where there are none: a replay may have some
        require(lambda: ((index >= 0) & (index < size)).all(), f"{name}: index out of bounds")
    return index


def _at_axis(input: Tensor, dim: int, index: Tensor, name: str) -> tuple[Tensor, int, Tensor]:
    """0-d tensors as vectors of one element, the axis, the checked index."""
    check_tensors(name, input, index)
    x = input if input._array.ndim else reshape(input, 1)
    axis = axis_of(dim, x._array.ndim, name)
    i = index if index._array.ndim else reshape(index, 1)
    return x, axis, _strict_index(i, sizes_of(x)[axis], name)


def _same_dtype(name: str, input: Tensor, source: Tensor) -> None:
    if source.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"{name}: dtypes differ: {type_of(input)}, {type_of(source)}"))  # fmt: skip


@public(out=True)
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` for dim 0, and so on."""
    x, axis, i = _at_axis(input, dim, index, "gather")
    if x._array.ndim != i._array.ndim and not is_empty(i):
        raise ShapeError(at_user_line(
            f"gather: {type_of(input)} and index {type_of(index)} differ in dimensions"
        ))  # fmt: skip
    if is_empty(i) and not _fits_beside(i._array.shape, x._array.shape, axis):
        return input.new_empty(sizes_of(index))  # torch asks nothing of an empty index
    result: Tensor = apply(OPS["gather"], (x, i), {"axis": axis})
    return result if index._array.ndim else reshape(result, ())


def _fits_beside(index: tuple[int, ...], shape: tuple[int, ...], axis: int) -> bool:
    """Whether an index reaches only places that exist off its axis."""
    pairs = enumerate(zip(index, shape, strict=False))
    return len(index) == len(shape) and all(i == axis or a <= b for i, (a, b) in pairs)


@public(out=True)
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """NumPy's take_along_axis: sizes off `dim` broadcast."""
    if indices.dtype is not dtypes.int64:
        raise DTypeError(at_user_line(
            f"take_along_dim: expected int64 indices, got {type_of(indices)}"))  # fmt: skip
    if dim is None:
        flat = reshape(input, -1)
        at = checked_index(reshape(indices, -1), sizes_of(flat)[0], "take_along_dim")
        return gather(flat, 0, at)
    if input._array.ndim != indices._array.ndim:
        raise RuntimeError(at_user_line("take_along_dim: the numbers of dimensions differ"))
    axis = axis_of(dim, input._array.ndim, "take_along_dim")
    own, their = sizes_of(input), sizes_of(indices)
    common = [a if b == 1 else b for a, b in zip(own, their, strict=True)]
    x = expand(input, *(n if i == axis else c for i, (n, c) in enumerate(zip(own, common))))
    at = expand(indices, *(n if i == axis else c for i, (n, c) in enumerate(zip(their, common))))
    return gather(x, axis, checked_index(at, own[axis], "take_along_dim"))


# --- scatter ---------------------------------------------------------------------------------


def _source_for(name: str, input: Tensor, index: Tensor, value: Any) -> Tensor:
    """The part of the source that `index` reaches, or a number everywhere."""
    shape = sizes_of(index)
    if not isinstance(value, Tensor):
        return as_tensor(value).to(input.dtype).expand(*shape)
    _same_dtype(name, input, value)
    source = value if value._array.ndim else reshape(value, 1)
    if source._array.ndim != len(shape) and not is_empty(index):
        raise ShapeError(at_user_line(
            f"{name}: index {type_of(index)} and source {type_of(value)} differ in dimensions"
        ))  # fmt: skip
    if any(n > m for n, m in zip(shape, sizes_of(source))) and not is_empty(index):
        raise ShapeError(at_user_line(
            f"{name}: index {type_of(index)} is larger than the source {type_of(value)}"
        ))  # fmt: skip
    return source if sizes_of(source) == shape else source[tuple(slice(0, n) for n in shape)]


def _scattered(
    name: str, op_name: str, input: Tensor, dim: int, index: Tensor, value: Any, **params: Any
) -> Tensor:
    x, axis, i = _at_axis(input, dim, index, name)
    if is_empty(i):
        return input.clone()
    if x._array.ndim != i._array.ndim:
        raise ShapeError(at_user_line(
            f"{name}: {type_of(input)} and index {type_of(index)} differ in dimensions"
        ))  # fmt: skip
    source = _source_for(name, x, i, value)
    result = apply(OPS[op_name], (x, i, source), {"axis": axis, **params})
    return result if result._array.shape == input._array.shape else reshape(result, ())


@public(inplace=True, out=True)
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None,
    reduce: str | None = None,
) -> Tensor:  # fmt: skip
    """`src` written at `index` along `dim`; `reduce` 'add' or 'multiply' combines instead."""
    source = src if src is not None else value
    if reduce == "add":
        return _scattered("scatter", "scatter_add", input, dim, index, source)
    if reduce == "multiply":
        return _scattered("scatter", "scatter_reduce", input, dim, index, source, reduce="prod")
    if reduce is not None:
        raise RuntimeError(at_user_line(f"scatter: reduce must be add or multiply, not {reduce!r}"))
    return _scattered("scatter", "scatter", input, dim, index, source)


@public(inplace=True, out=True)
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`src` added at `index` along `dim`."""
    check_tensors("scatter_add", src)
    return _scattered("scatter_add", "scatter_add", input, dim, index, src)


def _limit(dtype: dtypes.DType, largest: bool) -> Any:
    """The neutral element of a maximum (`largest` false) or a minimum."""
    if dtype.kind == "f":
        return np.inf if largest else -np.inf
    if dtype.kind == "b":
        return largest
    info = dtypes.iinfo(dtype)
    return info.max if largest else info.min


_NEUTRAL: dict[str, Callable[[dtypes.DType], Any]] = {"prod": lambda t: 1,
"amax": lambda t: _limit(t, False),
            "amin": lambda t: _limit(t, True), "sum": lambda t: 0, "mean": lambda t: 0}  # fmt: skip


@public(inplace=True, out=True)
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`src` combined at `index` along `dim`: `reduce` is sum, prod, mean, amax or amin.

    include_self  whether the elements of `input` that are written to take part.
    """
    if reduce not in _NEUTRAL:
        raise RuntimeError(at_user_line(f"scatter_reduce: unknown reduction {reduce!r}"))
    check_tensors("scatter_reduce", input, index, src)
    x = input
    if not include_self and not is_empty(index):
        touched = _scattered("scatter_reduce", "scatter", input.new_zeros(
            sizes_of(input), dtype=dtypes.bool_), dim, index, True)  # fmt: skip
        x = where_of(touched, _NEUTRAL[reduce](input.dtype), input, input.dtype)
    if reduce in ("sum", "mean"):
        total = _scattered("scatter_reduce", "scatter_add", x, dim, index, src)
        return total if reduce == "sum" else _averaged(total, dim, index, include_self)
    return _scattered("scatter_reduce", "scatter_reduce", x, dim, index, src, reduce=reduce)


def _averaged(total: Tensor, dim: int, index: Tensor, include_self: bool) -> Tensor:
    start = total.new_full(sizes_of(total), 1 if include_self else 0, dtype=dtypes.int64)
    ones = index.new_ones(sizes_of(index), dtype=dtypes.int64)
    counts = _scattered("scatter_reduce", "scatter_add", start, dim, index, ones).clamp(min=1)
    if total.dtype.kind == "f":
        return total / counts.to(total.dtype)
    return total.div(counts.to(total.dtype), rounding_mode="floor")


# --- slices at an index ------------------------------------------------------------------------


@public(out=True)
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices at `index` along `dim`."""
    if index._array.ndim > 1:
        raise IndexError(at_user_line("index_select: the index must be 0-d or 1-d"))
    x, axis, i = _at_axis(input, dim, index, "index_select")
    result: Tensor = apply(OPS["take"], (x, i), {"axis": axis})
    return result if input._array.ndim else reshape(result, ())


def _slices(
    name: str, input: Tensor, dim: int, index: Tensor, source: Tensor
) -> tuple[Tensor, int, Tensor, Tensor]:
    """The operands of a write of slices, 0-d ones as vectors; raises where they do not fit."""
    if index._array.ndim > 1:
        raise IndexError(at_user_line(f"{name}: the index must be 0-d or 1-d"))
    x, axis, i = _at_axis(input, dim, index, name)
    _same_dtype(name, input, source)
    part = source if source._array.ndim else reshape(source, 1)
    shape = sizes_of(x)
    wanted = (*shape[:axis], sizes_of(i)[0], *shape[axis + 1 :])
    if sizes_of(part) != wanted:
        if part._array.size != 1 or any(int(n) != 1 for n in wanted):
            kind = IndexError if part._array.ndim == len(wanted) else ShapeError
            raise kind(at_user_line(
                f"{name}: source {type_of(source)} does not fit {len(wanted)} dimensions "
                f"{list(map(int, wanted))}"))  # fmt: skip
        part = reshape(part, wanted)
    return x, axis, i, part


@public(inplace=True, out=True)
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """Slices of `alpha * source` added at `index` along `dim`."""
    x, axis, i, part = _slices("index_add", input, dim, index, source)
    if x.dtype.kind == "b":
        part = part & bool(alpha)
    elif alpha != 1:
        part = (part * alpha).to(part.dtype)
    if x.dtype.kind == "b":
        found = index_reduce(x.byte(), axis, i, part.byte(), "amax")
        return reshape(found.bool(), sizes_of(input))
    found = row_major(apply(OPS["take_add"], (x, i, part), {"axis": axis}))
    return reshape(found, sizes_of(input))


@public(inplace=True, out=True)
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Slices of `source` written at `index` along `dim`."""
    x, axis, i, part = _slices("index_copy", input, dim, index, source)
    params = {"axes": (axis,), "accumulate": False}
    return reshape(row_major(apply(OPS["index_put"], (x, part, i), params)), sizes_of(input))


@public(inplace=True)
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """`value` written in the slices at `index` along `dim`."""
    if isinstance(value, Tensor) and value._array.ndim:
        raise RuntimeError(at_user_line("index_fill: value must be a number or 0-d"))
    if index._array.ndim > 1:
        raise IndexError(at_user_line("index_fill: the index must be 0-d or 1-d"))
    x = input if input._array.ndim else reshape(input, 1)
    axis = axis_of(dim, x._array.ndim, "index_fill")
    i = index if index._array.ndim else reshape(index, 1)
    i = checked_index(i, sizes_of(x)[axis], "index_fill")
    touched = x.new_zeros(sizes_of(x)[axis], dtype=dtypes.bool_)
    touched = _scattered("index_fill", "scatter", touched, 0, i, True)
    spread = [1] * x._array.ndim
    spread[axis] = sizes_of(x)[axis]
    return reshape(where_of(reshape(touched, *spread), value, x, x.dtype), sizes_of(input))


@public(inplace=True, out=True)
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *,
    include_self: bool = True,
) -> Tensor:  # fmt: skip
    """Slices of `source` combined at `index` along `dim`: prod, mean, amax or amin."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(at_user_line(f"index_reduce: unknown reduction {reduce!r}"))
    x, axis, i, part = _slices("index_reduce", input, dim, index, source)
    spread = [1] * x._array.ndim
    spread[axis] = sizes_of(i)[0]
    where = expand(reshape(i, *spread), *sizes_of(part))
    result = scatter_reduce(x, axis, where, part, reduce, include_self=include_self)
    return reshape(result, sizes_of(input))
