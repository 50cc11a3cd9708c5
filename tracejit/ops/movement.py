"""Ops that only move elements. The compiler folds them into access maps where it can.

Invariant: shapes are given in full (no -1), axes are non-negative and sorted as the op says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.errors import ShapeError
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import product
from tracejit.ir.types import TensorType
from tracejit.ops.declare import check_arity, check_same
from tracejit.ops.source import full


def _infer_reshape(types: Sequence[TensorType], *, shape: tuple[Any, ...]) -> TensorType:
    check_arity("reshape", types, 1)
    if types[0].size != product(shape):
        raise ShapeError(f"reshape: {types[0]} cannot have shape {list(shape)}")
    return types[0].with_shape(shape)


reshape = Op(
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


def _infer_broadcast_to(types: Sequence[TensorType], *, shape: tuple[Any, ...]) -> TensorType:
    check_arity("broadcast_to", types, 1)
    own = types[0].shape
    extra = len(shape) - len(own)
    if extra < 0 or any(a != b and a != 1 for a, b in zip(own, shape[max(extra, 0) :])):
        raise ShapeError(f"broadcast_to: {types[0]} does not broadcast to {list(shape)}")
    return types[0].with_shape(shape)


def unbroadcast(g: Node, shape: tuple[Any, ...]) -> Node:
    """The sum of `g` over the axes along which `shape` was broadcast."""
    extra = g.ndim - len(shape)
    axes = tuple(
        i for i in range(g.ndim) if i < extra or (shape[i - extra] == 1 and g.shape[i] != 1)
    )
    if axes:
        g = OPS["reduce_sum"](g, axes=axes)
    return g if g.shape == shape else reshape(g, shape=shape)


broadcast_to = Op(
    "broadcast_to", "movement", _infer_broadcast_to,
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g, out, x, *, shape: (unbroadcast(g, x.shape),),
    "Axes of size 1 (and missing leading ones) repeated to `shape`.",
)  # fmt: skip


def _infer_slice(
    types: Sequence[TensorType], *, starts: Any, stops: Any, steps: Any
) -> TensorType:
    check_arity("slice", types, 1)
    shape = []
    for size, low, high, step in zip(types[0].shape, starts, stops, steps, strict=True):
        if not (0 <= low and low <= high and high <= size and step >= 1):
            raise ShapeError(f"slice: {low}:{high}:{step} does not fit {types[0]}")
        shape.append(high - low if step == 1 else (high - low + step - 1) // step)
    return types[0].with_shape(tuple(shape))


def _slices(starts: Any, stops: Any, steps: Any) -> tuple[slice, ...]:
    return tuple(map(slice, starts, stops, steps))


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


slice_scatter = Op(
    "slice_scatter", "movement", _infer_slice_scatter, _numpy_slice_scatter,
    lambda g, out, x, y, **where: (
        slice_scatter(g, zeros(y.type), **where), slice_(g, **where),
    ),
    "x with the elements that `slice` would take replaced by y.", names=("x", "y"),
)  # fmt: skip


def _infer_flip(types: Sequence[TensorType], *, axes: tuple[int, ...]) -> TensorType:
    check_arity("flip", types, 1)
    return types[0]


flip = Op(
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


pad = Op(
    "pad", "movement", _infer_pad,
    lambda x, low, high, value: np.pad(x, tuple(zip(low, high)), constant_values=value),
    _pad_vjp, "`low` and `high` elements of `value` added before and after, per axis.",
)  # fmt: skip


def _infer_concatenate(types: Sequence[TensorType], *, axis: int) -> TensorType:
    if not types:
        raise ShapeError("concatenate: needs at least one tensor")
    total: Any = 0
    for t in types:
        rest = t.with_shape(t.shape[:axis] + (0,) + t.shape[axis + 1 :])
        check_same("concatenate", (types[0].with_shape(rest.shape), rest))
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
    lambda *xs, axis: np.concatenate(xs, axis), _concatenate_vjp, "Joined along `axis`.",
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


def window_view(x: np.ndarray, axes: Any, sizes: Any, steps: Any, dilations: Any) -> np.ndarray:
    """The windows of `x` as a view; the window axes come last."""
    shape, strides = list(x.shape), list(x.strides)
    extra_strides = []
    for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
        shape[axis] = (shape[axis] - (size - 1) * dilation - 1) // step + 1
        extra_strides.append(strides[axis] * dilation)
        strides[axis] *= step
    return np.lib.stride_tricks.as_strided(x, (*shape, *sizes), (*strides, *extra_strides))


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


windows_add = Op(
    "windows_add", "movement", _infer_windows_add, _numpy_windows_add,
    lambda g, out, x, *, shape, **how: (windows(g, **how),),
    "Each element the sum over the windows that hold it (the transpose of `windows`).",
)  # fmt: skip
