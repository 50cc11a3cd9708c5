"""Sums and maxima over sliding windows, with the position of a maximum, and the way back to it.

Positions of a window are numbered in row-major order. Invariant: of equal elements the first is the
maximum, of NaNs the last, as in torch's pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType, float32, int64, uint8
from tracejit.errors import ShapeError
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import product
from tracejit.ir.types import TensorType, TupleType
from tracejit.ops.declare import FLOAT, NUMERIC, check_arity, check_domain, check_same, uniform
from tracejit.ops.movement import window_view


def _number_dtype(sizes: Any) -> DType:
    """The dtype of positions within a window."""
    return uint8 if product(sizes) <= 256 else int64


def _window_count(x: TensorType, how: dict[str, Any]) -> TensorType:
    """The type of one value for each window of `x`."""
    windows: TensorType = OPS["windows"].infer((x,), **how)
    return windows.with_shape(windows.shape[: x.ndim])


def _infer_max(types: Sequence[TensorType], **how: Any) -> TupleType:
    check_arity("window_max", types, 1)
    check_domain("window_max", types, NUMERIC)
    values = _window_count(types[0], how)
    return TupleType((values, values.with_dtype(_number_dtype(how["sizes"]))))


def _numpy_max(x: np.ndarray, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    parts = window_view(x, **how)
    first: Any = (..., *(0 for _ in how["sizes"]))
    best = np.array(parts[first])
    places = np.zeros(best.shape, _number_dtype(how["sizes"]).numpy)
    for number, offset in enumerate(np.ndindex(*how["sizes"])):
        part = parts[(..., *offset)]
        better = (part > best) | (part != part)
        np.copyto(best, part, where=better)
        np.copyto(places, places.dtype.type(number), where=better)
    return best, places


window_max = Op(
    "window_max", "library", _infer_max, _numpy_max,
    lambda g, out, x, **how: (window_put(g[0], out[1], shape=x.shape, **how),),
    "The maximum of each sliding window (see `windows`) and the number of its position.",
    multiple=True, sample=uniform(-3, 3),
)  # fmt: skip


def _infer_sum(types: Sequence[TensorType], **how: Any) -> TensorType:
    check_arity("window_sum", types, 1)
    check_domain("window_sum", types, FLOAT)
    return _window_count(types[0], how)


def _numpy_sum(x: np.ndarray, **how: Any) -> np.ndarray:
    parts = window_view(x.astype(np.float32) if x.dtype == np.float16 else x, **how)
    total = np.zeros(parts.shape[: x.ndim], parts.dtype)
    for offset in np.ndindex(*how["sizes"]):
        total += parts[(..., *offset)]
    return total.astype(x.dtype, copy=False)


def _sum_in_primitives(x: Node, **how: Any) -> Node:
    parts = OPS["windows"](x, **how)
    return OPS["reduce_sum"](parts, axes=tuple(range(x.ndim, parts.ndim)))


def _wide_sum(x: Node, **how: Any) -> Node | None:
    """Halves add up in float32."""
    if x.dtype.short != "f16":
        return None
    return OPS["cast"](window_sum(OPS["cast"](x, dtype=float32), **how), dtype=x.dtype)


def _sum_vjp(g: Node, out: Node, x: Node, **how: Any) -> tuple[Node]:
    column = OPS["reshape"](g, shape=(*g.shape, *(1 for _ in how["sizes"])))
    spread = OPS["broadcast_to"](column, shape=(*g.shape, *how["sizes"]))
    return (OPS["windows_add"](spread, shape=x.shape, **how),)


window_sum: Op = Op(
    "window_sum", "library", _infer_sum, _numpy_sum, _sum_vjp,
    "The sum of each sliding window (see `windows`).", sample=uniform(-3, 3),
    decompose=_wide_sum,
    on_devices=_sum_in_primitives,
)  # fmt: skip


def _check_index(op: str, value: TensorType, index: TensorType, how: dict[str, Any]) -> None:
    check_same(op, (value, index), dtypes=False)
    if index.dtype is not _number_dtype(how["sizes"]):
        raise ShapeError(f"{op}: {index} does not number the positions of {how['sizes']}")


def _infer_put(types: Sequence[TensorType], *, shape: Any, **how: Any) -> TensorType:
    check_arity("window_put", types, 2)
    check_domain("window_put", types[:1], NUMERIC)
    whole = types[0].with_shape(shape)
    check_same("window_put", (_window_count(whole, how), types[0]))
    _check_index("window_put", types[0], types[1], how)
    return whole


def _numpy_put(g: np.ndarray, index: np.ndarray, shape: Any, **how: Any) -> np.ndarray:
    total = np.zeros(shape, g.dtype)
    parts = window_view(total, **how)
    for number, offset in enumerate(np.ndindex(*how["sizes"])):
        parts[(..., *offset)] += np.where(index == number, g, g.dtype.type(0))
    return total


window_put: Op = Op(
    "window_put", "library", _infer_put, _numpy_put,
    lambda g, out, x, index, *, shape, **how: (window_pick(g, index, **how), None),
    "Zeros with each window's value added at the position that `index` numbers.",
    names=("x", "index"), sample=uniform(-3, 3),
)  # fmt: skip


def _infer_pick(types: Sequence[TensorType], **how: Any) -> TensorType:
    check_arity("window_pick", types, 2)
    check_domain("window_pick", types[:1], NUMERIC)
    values = _window_count(types[0], how)
    _check_index("window_pick", values, types[1], how)
    return values


def _numpy_pick(x: np.ndarray, index: np.ndarray, **how: Any) -> np.ndarray:
    parts = window_view(x, **how)
    flat = parts.reshape((*index.shape, product(how["sizes"])))
    return np.take_along_axis(flat, index[..., None].astype(np.int64), -1)[..., 0]


def _pick_in_primitives(x: Node, index: Node, **how: Any) -> Node:
    """The windows in rows, of which `gather` takes an element each."""
    rows = OPS["reshape"](OPS["windows"](x, **how), shape=(*index.shape, product(how["sizes"])))
    column = OPS["reshape"](OPS["cast"](index, dtype=int64), shape=(*index.shape, 1))
    return OPS["reshape"](OPS["gather"](rows, column, axis=index.ndim), shape=index.shape)


window_pick: Op = Op(
    "window_pick", "library", _infer_pick, _numpy_pick,
    lambda g, out, x, index, **how: (window_put(g, index, shape=x.shape, **how), None),
    "Of each sliding window the element at the position that `index` numbers.",
    names=("x", "index"), sample=uniform(-3, 3), decompose=_pick_in_primitives,
)  # fmt: skip
