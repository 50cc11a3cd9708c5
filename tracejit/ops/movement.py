"""Ops that only move elements. The compiler folds them into access maps where it can.

Invariant: shapes are given in full (no -1), axes are non-negative and sorted as the op says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import ShapeError
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import SymInt, is_one, product
from tracejit.ir.types import TensorType
from tracejit.ops.declare import check_arity, check_same
from tracejit.ops.source import full


def _infer_reshape(types: Sequence[TensorType], *, shape: tuple[Any, ...]) -> TensorType:
    check_arity("reshape", types, 1)
    if types[0].size != product(shape):
        raise ShapeError(f"reshape: {types[0]} cannot have shape {list(shape)}")
    return types[0].with_shape(shape)


reshape: Op = Op(
    "reshape", "movement", _infer_reshape, lambda x, shape: np.reshape(x, shape),
    lambda g, out, x, *, shape: (reshape(g, shape=x.shape),),
    "The same elements in row-major order with another shape.",
)  # fmt: skip


def _infer_transpose(types: Sequence[TensorType], *, perm: tuple[int, ...]) -> TensorType:
    check_arity("transpose", types, 1)
    if sorted(perm) != list(range(types[0].ndim)):
        raise ShapeError(f"transpose: {perm} does not permute the axes of {types[0]}")
    return types[0].with_shape(tuple(types[0].shape[p] for p in perm))


def _transpose_vjp(g: Node, out: Node, x: Node, *, perm: tuple[int, ...]) -> tuple[Node]:
    return (transpose(g, perm=tuple(perm.index(i) for i in range(len(perm)))),)


transpose = Op(
    "transpose", "movement", _infer_transpose, lambda x, perm: np.transpose(x, perm),
    _transpose_vjp, "The axes in the order `perm`.",
)  # fmt: skip


def _spreads(size: Any, to: Any) -> bool:
    return is_one(size) or bool(size == to or size == 1)


def _infer_broadcast_to(types: Sequence[TensorType], *, shape: tuple[Any, ...]) -> TensorType:
    check_arity("broadcast_to", types, 1)
    own = types[0].shape
    extra = len(shape) - len(own)
    if extra < 0 or not all(map(_spreads, own, shape[max(extra, 0) :])):
        raise ShapeError(f"broadcast_to: {types[0]} does not broadcast to {list(shape)}")
    return types[0].with_shape(shape)


def _was_spread(size: Any, to: Any) -> bool:
    """What `broadcast_to` asked is asked again: of sizes that vary only facts are at hand."""
    return size != to if type(size) is SymInt else size == 1 and not is_one(to)


def unbroadcast(g: Node, shape: tuple[Any, ...]) -> Node:
    """The sum of `g` over the axes along which `shape` was broadcast."""
    extra = g.ndim - len(shape)
    axes = tuple(i for i in range(g.ndim) if i < extra or _was_spread(shape[i - extra], g.shape[i]))
    if axes:
        g = OPS["reduce_sum"](g, axes=axes)
    return g if g.shape == shape else reshape(g, shape=shape)


def _same_access(view: np.ndarray, x: np.ndarray) -> np.ndarray:
    """NumPy marks some views read-only; they are views like any other."""
    if x.flags.writeable:
        view.flags.writeable = True
    return view


def _numpy_broadcast(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return _same_access(np.broadcast_to(x, shape), x)


broadcast_to = Op(
    "broadcast_to", "movement", _infer_broadcast_to,
    _numpy_broadcast,
    lambda g, out, x, *, shape: (unbroadcast(g, x.shape),),
    "Axes of size 1 (and missing leading ones) repeated to `shape`.",
)  # fmt: skip


def _infer_slice(types: Sequence[TensorType], *, starts: Any, stops: Any, steps: Any) -> TensorType:
    check_arity("slice", types, 1)
    shape = []
    for size, low, high, step in zip(types[0].shape, starts, stops, steps, strict=True):
        if not (low >= 0 and low <= high and high <= size and step >= 1):
            raise ShapeError(f"slice: {low}:{high}:{step} does not fit {types[0]}")
        shape.append(high - low if step == 1 else (high - low + step - 1) // step)
    return types[0].with_shape(tuple(shape))


def _slices(starts: Any, stops: Any, steps: Any) -> tuple[Any, ...]:
    return tuple(map(slice, starts, stops, steps)) or (Ellipsis,)  # x[()] would be no array


slice_ = Op(
    "slice", "movement", _infer_slice,
    lambda x, starts, stops, steps: x[_slices(starts, stops, steps)],
    lambda g, out, x, *, starts, stops, steps: (
        slice_scatter(zeros(x.type), g, starts=starts, stops=stops, steps=steps),
    ),
    "Elements start, start + step, ... below stop, along every axis (steps are positive).",
)  # fmt: skip


def _infer_slice_scatter(
    types: Sequence[TensorType], *, starts: Any, stops: Any, steps: Any
) -> TensorType:
    check_arity("slice_scatter", types, 2)
    part = _infer_slice(types[:1], starts=starts, stops=stops, steps=steps)
    check_same("slice_scatter", (part, types[1]))
    return types[0]


def _numpy_slice_scatter(
    x: np.ndarray, y: np.ndarray, starts: Any, stops: Any, steps: Any
) -> np.ndarray:
    result = np.array(x)
    result[_slices(starts, stops, steps)] = y
    return result


def zeros(type: TensorType) -> Node:
    """A constant zero of a type."""
    return full(value=0.0 if type.dtype.kind == "f" else 0, type=type)


slice_scatter: Op = Op(
    "slice_scatter", "movement", _infer_slice_scatter, _numpy_slice_scatter,
    lambda g, out, x, y, **where: (
        slice_scatter(g, zeros(y.type), **where), slice_(g, **where),
    ),
    "x with the elements that `slice` would take replaced by y.", names=("x", "y"),
)  # fmt: skip


def _infer_flip(types: Sequence[TensorType], *, axes: tuple[int, ...]) -> TensorType:
    check_arity("flip", types, 1)
    return types[0]


flip: Op = Op(
    "flip", "movement", _infer_flip, lambda x, axes: np.flip(x, axes),
    lambda g, out, x, *, axes: (flip(g, axes=axes),), "Reversed along `axes`.",
)  # fmt: skip


def _infer_pad(types: Sequence[TensorType], *, low: Any, high: Any, value: Any) -> TensorType:
    check_arity("pad", types, 1)
    if any(n < 0 for n in (*low, *high)):
        raise ShapeError(f"pad: negative padding {low}, {high} (slice instead)")
    sizes = zip(types[0].shape, low, high, strict=True)
    return types[0].with_shape(tuple(n + a + b for n, a, b in sizes))


def _pad_vjp(g: Node, out: Node, x: Node, *, low: Any, high: Any, value: Any) -> tuple[Node]:
    stops = tuple(a + n for a, n in zip(low, x.shape, strict=True))
    return (slice_(g, starts=low, stops=stops, steps=(1,) * len(low)),)


def _numpy_pad(x: np.ndarray, low: Any, high: Any, value: Any) -> np.ndarray:
    if not low:  # np.pad refuses a 0-d array
        return x.copy()
    padded = np.pad(x, tuple(zip(low, high, strict=True)), constant_values=value)
    return np.ascontiguousarray(padded)  # as a kernel's: NumPy keeps a transposed order


pad = Op(
    "pad", "movement", _infer_pad,
    _numpy_pad,
    _pad_vjp, "`low` and `high` elements of `value` added before and after, per axis.",
)  # fmt: skip


def _infer_concatenate(types: Sequence[TensorType], *, axis: int) -> TensorType:
    if not types:
        raise ShapeError("concatenate: needs at least one tensor")
    total: Any = 0
    beside = [t.with_shape(t.shape[:axis] + (0,) + t.shape[axis + 1 :]) for t in types]
    check_same("concatenate", beside)
    for t in types:
        total = total + t.shape[axis]
    first = types[0].shape
    return types[0].with_shape((*first[:axis], total, *first[axis + 1 :]))


def _concatenate_vjp(g: Node, out: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    parts, low = [], 0
    for x in xs:
        starts = tuple(low if i == axis else 0 for i in range(g.ndim))
        low = low + x.shape[axis]
        stops = tuple(low if i == axis else n for i, n in enumerate(g.shape))
        parts.append(slice_(g, starts=starts, stops=stops, steps=(1,) * g.ndim))
    return tuple(parts)


concatenate = Op(
    "concatenate", "movement", _infer_concatenate,
    lambda *xs, axis: np.ascontiguousarray(np.concatenate(xs, axis)), _concatenate_vjp,
    "Joined along `axis`.",
    names=("*xs",),
)  # fmt: skip


def _infer_windows(
    types: Sequence[TensorType], *, axes: Any, sizes: Any, steps: Any, dilations: Any
) -> TensorType:
    check_arity("windows", types, 1)
    shape = list(types[0].shape)
    for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
        span = (size - 1) * dilation + 1
        if span > shape[axis]:
            raise ShapeError(f"windows: a window of {span} does not fit axis {axis} of {types[0]}")
        shape[axis] = (shape[axis] - span) // step + 1
    return types[0].with_shape((*shape, *sizes))


def strided_view(x: np.ndarray, shape: Any, strides: Any) -> np.ndarray:
    """A view with these strides in bytes; arrays of devices make it themselves."""
    if isinstance(x, np.ndarray):
        return np.lib.stride_tricks.as_strided(x, shape, strides)
    return x.strided(shape, strides)


def window_view(x: np.ndarray, axes: Any, sizes: Any, steps: Any, dilations: Any) -> np.ndarray:
    """The windows of `x` as a view; the window axes come last."""
    shape, strides = list(x.shape), list(x.strides)
    extra_strides = []
    for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
        shape[axis] = (shape[axis] - (size - 1) * dilation - 1) // step + 1
        extra_strides.append(strides[axis] * dilation)
        strides[axis] *= step
    return strided_view(x, (*shape, *sizes), (*strides, *extra_strides))


windows = Op(
    "windows", "movement", _infer_windows,
    lambda x, axes, sizes, steps, dilations: window_view(x, axes, sizes, steps, dilations),
    lambda g, out, x, **how: (windows_add(g, shape=x.shape, **how),),
    "Sliding windows along `axes`; the window axes are appended (a convolution's operand).",
)  # fmt: skip


def _infer_windows_add(
    types: Sequence[TensorType], *, shape: Any, axes: Any, sizes: Any, steps: Any, dilations: Any
) -> TensorType:
    check_arity("windows_add", types, 1)
    how = {"axes": axes, "sizes": sizes, "steps": steps, "dilations": dilations}
    check_same("windows_add", (_infer_windows((types[0].with_shape(shape),), **how), types[0]))
    return types[0].with_shape(shape)


def _numpy_windows_add(
    g: np.ndarray, shape: Any, axes: Any, sizes: Any, steps: Any, dilations: Any
) -> np.ndarray:
    total = np.zeros(shape, g.dtype)
    lead = g.ndim - len(axes)
    for offset in np.ndindex(*sizes):
        where: list[slice] = [slice(None)] * lead
        for axis, at, step, dilation in zip(axes, offset, steps, dilations, strict=True):
            low = at * dilation
            where[axis] = slice(low, low + (g.shape[axis] - 1) * step + 1, step)
        total[tuple(where)] += g[(..., *offset)]
    return total


windows_add: Op = Op(
    "windows_add", "movement", _infer_windows_add, _numpy_windows_add,
    lambda g, out, x, *, shape, **how: (windows(g, **how),),
    "Each element the sum over the windows that hold it (the transpose of `windows`).",
)  # fmt: skip


def _diagonal_size(shape: tuple[Any, ...], offset: int, axis1: int, axis2: int) -> Any:
    rows, columns = shape[axis1], shape[axis2]
    rows, columns = (rows + offset, columns) if offset < 0 else (rows, columns - offset)
    shortest = rows if rows <= columns else columns
    return shortest if shortest >= 0 else 0


def _infer_diagonal(
    types: Sequence[TensorType], *, offset: int, axis1: int, axis2: int
) -> TensorType:
    check_arity("diagonal", types, 1)
    shape = types[0].shape
    if axis1 == axis2 or not (0 <= axis1 < len(shape) and 0 <= axis2 < len(shape)):
        raise ShapeError(f"diagonal: axes {axis1} and {axis2} do not fit {types[0]}")
    kept = [n for i, n in enumerate(shape) if i not in (axis1, axis2)]
    return types[0].with_shape((*kept, _diagonal_size(shape, offset, axis1, axis2)))


def _numpy_diagonal(x: np.ndarray, offset: int, axis1: int, axis2: int) -> np.ndarray:
    return _same_access(np.diagonal(x, offset, axis1, axis2), x)


def _infer_diagonal_scatter(
    types: Sequence[TensorType], *, offset: int, axis1: int, axis2: int
) -> TensorType:
    check_arity("diagonal_scatter", types, 2)
    part = _infer_diagonal(types[:1], offset=offset, axis1=axis1, axis2=axis2)
    check_same("diagonal_scatter", (part, types[1]))
    return types[0]


def _numpy_diagonal_scatter(
    x: np.ndarray, y: np.ndarray, offset: int, axis1: int, axis2: int
) -> np.ndarray:
    result = np.array(x)
    _numpy_diagonal(result, offset, axis1, axis2)[...] = y
    return result


diagonal = Op(
    "diagonal", "movement", _infer_diagonal, _numpy_diagonal,
    lambda g, out, x, **where: (diagonal_scatter(zeros(x.type), g, **where),),
    "The diagonal over `axis1` and `axis2`, as the last axis.",
)  # fmt: skip
diagonal_scatter: Op = Op(
    "diagonal_scatter", "movement", _infer_diagonal_scatter, _numpy_diagonal_scatter,
    lambda g, out, x, y, **where: (
        diagonal_scatter(g, zeros(y.type), **where), diagonal(g, **where),
    ),
    "x with the elements that `diagonal` would take replaced by y.", names=("x", "y"),
)  # fmt: skip


def _infer_strided(
    types: Sequence[TensorType], *, shape: Any, steps: Any, offset: int
) -> TensorType:
    check_arity("as_strided", types, 1)
    if types[0].ndim != 1 or len(shape) != len(steps):
        raise ShapeError(f"as_strided: {types[0]} with shape {shape} and steps {steps}")
    last = offset + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
    if 0 not in shape and not (offset >= 0 and last < types[0].size):
        raise ShapeError(f"as_strided: element {last} is beyond the memory of {types[0]}")
    return types[0].with_shape(shape)


def _numpy_strided(x: np.ndarray, shape: Any, steps: Any, offset: int) -> np.ndarray:
    strides = tuple(s * x.strides[0] for s in steps)
    return strided_view(x[offset:], shape, strides)


def strided_index(shape: Any, steps: Any, offset: int) -> Node:
    """Where in memory each element of an `as_strided` result lies."""
    kind = TensorType(int64, tuple(shape))
    where = full(value=int(offset), type=kind)
    for axis, step in enumerate(steps):
        where = where + OPS["iota"](type=kind, axis=axis) * step
    return where


def _strided_vjp(g: Node, out: Node, x: Node, *, shape: Any, steps: Any, offset: int) -> Any:
    index = strided_index(shape, steps, offset)
    return (OPS["index_put"](zeros(x.type), g, index, axes=(0,), accumulate=True),)


as_strided = Op(
    "as_strided", "movement", _infer_strided, _numpy_strided, _strided_vjp,
    "Element (i, j, ...) is element offset + i * steps[0] + j * steps[1] ... of the vector x.",
)  # fmt: skip
