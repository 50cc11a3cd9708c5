"""Reading and writing at computed indices.

Invariant: indices are int64, already non-negative and in range: the front end wraps negative ones
and checks bounds (it raises, never clamps), in eager mode and as a check of the compiled trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType
from tracejit.ops.declare import check_arity, check_same, uniform
from tracejit.ops.elementwise import bitwise_and, cast, eq, where
from tracejit.ops.movement import zeros


def _check_index(op: str, index: TensorType) -> None:
    if index.dtype is not int64:
        raise DTypeError(f"{op}: an index must be int64, not {index}")


def _infer_gather(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("gather", types, 2)
    x, index = types
    _check_index("gather", index)
    if x.ndim != index.ndim:
        raise ShapeError(f"gather: {x} and index {index} have different ranks")
    for i, (a, b) in enumerate(zip(index.shape, x.shape, strict=True)):
        if i != axis and a > b:
            raise ShapeError(f"gather: index {index} reaches beyond {x} along axis {i}")
    return x.with_shape(index.shape)


def _corner(x: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    return x[tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(shape))]


def _numpy_gather(x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    return np.take_along_axis(_corner(x, index.shape, axis), index, axis)


gather = Op(
    "gather", "indexing", _infer_gather, _numpy_gather,
    lambda g, out, x, index, *, axis: (scatter_add(zeros(x.type), index, g, axis=axis), None),
    "x at `index` along `axis`, the other indices their own (torch.gather).",
    names=("x", "index"), sample=uniform(-3, 3),
)  # fmt: skip


def _infer_scatter(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("scatter", types, 3)
    x, index, source = types
    _infer_gather((x, index), axis=axis)
    if source.dtype is not x.dtype:
        raise DTypeError(f"scatter: dtypes differ: {x}, {source}")
    if source.shape != index.shape:
        raise ShapeError(f"scatter: index {index} and source {source} differ in shape")
    return x


def _numpy_scatter(x: np.ndarray, index: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    result = np.array(x, order="C")
    np.put_along_axis(_corner(result, index.shape, axis), index, y, axis)
    return result


def _grid(index: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    grid: list[np.ndarray] = list(np.indices(index.shape, sparse=True))
    grid[axis] = index
    return tuple(grid)


def _numpy_scatter_add(x: np.ndarray, index: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    result = np.array(x, np.float32 if x.dtype == np.float16 else x.dtype)
    np.add.at(result, _grid(index, axis), y)
    return result.astype(x.dtype, order="C")


scatter: Op = Op(
    "scatter", "indexing", _infer_scatter, _numpy_scatter,
    lambda g, out, x, index, y, *, axis: (
        scatter(g, index, zeros(y.type), axis=axis), None, gather(g, index, axis=axis),
    ),
    "x with y written at `index` along `axis` (the last writer wins).",
    names=("x", "index", "y"), sample=uniform(-3, 3),
)  # fmt: skip

scatter_add: Op = Op(
    "scatter_add", "indexing", _infer_scatter, _numpy_scatter_add,
    lambda g, out, x, index, y, *, axis: (g, None, gather(g, index, axis=axis)),
    "x with y added at `index` along `axis`, in index order.",
    names=("x", "index", "y"), sample=uniform(-3, 3),
)  # fmt: skip


def _infer_take(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("take", types, 2)
    x, index = types
    _check_index("take", index)
    return x.with_shape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


take = Op(
    "take", "indexing", _infer_take, lambda x, index, axis: np.take(x, index, axis),
    lambda g, out, x, index, *, axis: (take_add(zeros(x.type), index, g, axis=axis), None),
    "Slices of x at `index` along `axis` (rows of an embedding).",
    names=("x", "index"), sample=uniform(-3, 3),
)  # fmt: skip


def _infer_take_add(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("take_add", types, 3)
    check_same("take_add", (_infer_take(types[:2], axis=axis), types[2]))
    return types[0]


def _numpy_take_add(x: np.ndarray, index: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    result = np.array(x, np.float32 if x.dtype == np.float16 else x.dtype)
    where: Any = (slice(None),) * axis + (index,)
    np.add.at(result, where, y)
    return result.astype(x.dtype)


take_add: Op = Op(
    "take_add", "indexing", _infer_take_add, _numpy_take_add,
    lambda g, out, x, index, y, *, axis: (g, None, take(g, index, axis=axis)),
    "x with slices y added at `index` along `axis`, in index order.",
    names=("x", "index", "y"), sample=uniform(-3, 3),
)  # fmt: skip


def _index_shape(
    x: TensorType, indices: Sequence[TensorType], axes: tuple[int, ...]
) -> tuple[Any, ...]:
    """Shape of x[..., i0, i1, ...] where the index arrays stand at `axes` (NumPy's rule)."""
    for index in indices:
        _check_index("index", index)
        if index.shape != indices[0].shape:
            raise ShapeError(f"index: index shapes differ: {', '.join(map(str, indices))}")
    together = list(axes) == list(range(axes[0], axes[0] + len(axes)))
    kept_before = [n for i, n in enumerate(x.shape) if i not in axes and i < axes[0]]
    kept_after = [n for i, n in enumerate(x.shape) if i not in axes and i > axes[0]]
    middle = list(indices[0].shape)
    if together:
        return (*kept_before, *middle, *kept_after)
    return (*middle, *kept_before, *kept_after)


def _key(axes: tuple[int, ...], indices: Sequence[np.ndarray]) -> tuple[Any, ...]:
    key: list[Any] = [slice(None)] * (max(axes) + 1)
    for axis, index in zip(axes, indices, strict=True):
        key[axis] = index
    return tuple(key)


def _infer_index(types: Sequence[TensorType], *, axes: tuple[int, ...]) -> TensorType:
    check_arity("index", types, 1 + len(axes))
    return types[0].with_shape(_index_shape(types[0], types[1:], axes))


def _index_vjp(g: Node, out: Node, x: Node, *indices: Node, axes: Any) -> tuple[Any, ...]:
    spread = index_put(zeros(x.type), g, *indices, axes=axes, accumulate=True)
    return (spread, *(None for _ in indices))


index = Op(
    "index", "indexing", _infer_index, lambda x, *i, axes: x[_key(axes, i)], _index_vjp,
    "x at arrays of indices, one for each of `axes` (advanced indexing).",
    names=("x", "*indices"), sample=uniform(-3, 3),
)  # fmt: skip


def _infer_index_put(
    types: Sequence[TensorType], *, axes: tuple[int, ...], accumulate: bool
) -> TensorType:
    check_arity("index_put", types, 2 + len(axes))
    part = types[0].with_shape(_index_shape(types[0], types[2:], axes))
    check_same("index_put", (part, types[1]))
    return types[0]


def _numpy_index_put(
    x: np.ndarray, y: np.ndarray, *indices: np.ndarray, axes: Any, accumulate: bool
) -> np.ndarray:
    if not accumulate:
        result = np.array(x)
        result[_key(axes, indices)] = y
        return result
    result = np.array(x, np.float32 if x.dtype == np.float16 else x.dtype)
    np.add.at(result, _key(axes, indices), y)
    return result.astype(x.dtype)


def _index_put_vjp(
    g: Node, out: Node, x: Node, y: Node, *indices: Node, axes: Any, accumulate: bool
) -> tuple[Any, ...]:
    none = tuple(None for _ in indices)
    kept = g
    if not accumulate:
        kept = index_put(g, zeros(y.type), *indices, axes=axes, accumulate=False)
    return (kept, index(g, *indices, axes=axes), *none)


index_put = Op(
    "index_put", "indexing", _infer_index_put, _numpy_index_put, _index_put_vjp,
    "x with y written (or added) at arrays of indices.", names=("x", "y", "*indices"),
    sample=uniform(-3, 3),
)  # fmt: skip


_COMBINE: dict[str, Any] = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _infer_scatter_reduce(types: Sequence[TensorType], *, axis: int, reduce: str) -> TensorType:
    if reduce not in _COMBINE:
        raise ShapeError(f"scatter_reduce: unknown reduction {reduce!r}")
    return _infer_scatter(types, axis=axis)


def _numpy_scatter_reduce(
    x: np.ndarray, index: np.ndarray, y: np.ndarray, axis: int, reduce: str
) -> np.ndarray:
    result = np.array(x, np.float32 if x.dtype == np.float16 else x.dtype)
    _COMBINE[reduce].at(result, _grid(index, axis), y)
    return result.astype(x.dtype)


def _scatter_reduce_vjp(
    g: Node, out: Node, x: Node, index: Node, y: Node, *, axis: int, reduce: str
) -> tuple[Any, ...]:
    if reduce == "prod":
        by_x, by_y = _scatter_prod_vjp(g, out, x, index, y, axis)
        return by_x, None, by_y
    hit_x = cast(eq(x, out), dtype=x.dtype)  # an extreme shares its gradient among ties
    hit_y = cast(eq(y, gather(out, index, axis=axis)), dtype=x.dtype)
    share = g / scatter_add(hit_x, index, hit_y, axis=axis)
    return hit_x * share, None, hit_y * gather(share, index, axis=axis)


def _scatter_prod_vjp(
    g: Node, out: Node, x: Node, index: Node, y: Node, axis: int
) -> tuple[Node, Node]:
    """g times the product of the other factors, also where one of them is zero."""
    zero_x, zero_y = eq(x, full_like(x, 0.0)), eq(y, full_like(y, 0.0))
    one_x, one_y = full_like(x, 1.0), full_like(y, 1.0)
    others = scatter_reduce(where(zero_x, one_x, x), index, y, axis=axis, reduce="prod")
    by_x = g * others / where(zero_x, one_x, x)
    zeros_at = scatter_add(zeros(x.type), index, cast(zero_y, dtype=x.dtype), axis=axis)
    single = bitwise_and(zero_y, eq(gather(zeros_at, index, axis=axis), one_y))
    filled = scatter_reduce(x, index, where(single, one_y, y), axis=axis, reduce="prod")
    by_y = where(
        single, gather(g * filled, index, axis=axis),
        gather(g * out, index, axis=axis) / where(zero_y, one_y, y),
    )  # fmt: skip
    return by_x, by_y


scatter_reduce = Op(
    "scatter_reduce", "indexing", _infer_scatter_reduce, _numpy_scatter_reduce,
    _scatter_reduce_vjp,
    "x combined with y at `index` along `axis`: `reduce` is prod, amax or amin.",
    names=("x", "index", "y"), sample=uniform(0.5, 2),
)  # fmt: skip
