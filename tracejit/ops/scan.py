"""Ops whose element depends on those before it (cumulative), and sorting.

Invariant: along one non-negative `axis`; sorting is stable and puts NaN last (first if descending).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import ShapeError
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType, TupleType
from tracejit.ops.declare import ANY, NUMERIC, check_arity, check_domain, uniform
from tracejit.ops.elementwise import mul
from tracejit.ops.movement import flip, zeros


def _infer_scan(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("scan", types, 1)
    check_domain("scan", types, NUMERIC)
    if not 0 <= axis < types[0].ndim:
        raise ShapeError(f"axis {axis} does not fit {types[0]}")
    return types[0]


def _numpy_cumsum(x: np.ndarray, axis: int) -> np.ndarray:
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    return np.cumsum(x, axis, dtype=wide).astype(x.dtype)


def reversed_cumsum(g: Node, axis: int) -> Node:
    """The sum of this element and all after it."""
    return flip(cumsum(flip(g, axes=(axis,)), axis=axis), axes=(axis,))


cumsum = Op(
    "cumsum", "scan", _infer_scan, _numpy_cumsum,
    lambda g, out, x, *, axis: (reversed_cumsum(g, axis),),
    "The running sum along `axis`.", sample=uniform(-3, 3),
)  # fmt: skip


def _numpy_cumprod(x: np.ndarray, axis: int) -> np.ndarray:
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    return np.cumprod(x, axis, dtype=wide).astype(x.dtype)


cumprod = Op(
    "cumprod", "scan", _infer_scan, _numpy_cumprod,
    lambda g, out, x, *, axis: (reversed_cumsum(mul(g, out), axis) / x,),
    "The running product along `axis` (its gradient needs nonzero x).", sample=uniform(0.5, 2),
)  # fmt: skip


def _infer_cumextreme(types: Sequence[TensorType], *, axis: int, largest: bool) -> TupleType:
    t = _infer_scan(types, axis=axis)
    return TupleType((t, t.with_dtype(int64)))


def _numpy_cumextreme(x: np.ndarray, axis: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values and the index of the last element that attains each (torch's tie rule)."""
    run = (np.maximum if largest else np.minimum).accumulate(x, axis)
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    index = np.broadcast_to(np.arange(x.shape[axis]).reshape(shape), x.shape)
    hit = (x == run) | (np.isnan(x) if x.dtype.kind == "f" else False)
    return run, np.maximum.accumulate(np.where(hit, index, 0), axis)


cumextreme = Op(
    "cumextreme", "scan", _infer_cumextreme, _numpy_cumextreme,
    lambda g, out, x, *, axis, largest: (
        OPS["scatter_add"](zeros(x.type), out[1], g[0], axis=axis),
    ),
    "The running maximum (or minimum) along `axis` and its index.", multiple=True,
    sample=uniform(-3, 3),
)  # fmt: skip


def _infer_sort(types: Sequence[TensorType], *, axis: int, descending: bool) -> TupleType:
    check_arity("sort", types, 1)
    check_domain("sort", types, ANY)
    return TupleType((types[0], types[0].with_dtype(int64)))


def _numpy_sort(x: np.ndarray, axis: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    if descending:  # sort the reversed array upwards, then reverse: equal elements keep order
        flipped = np.flip(x, axis)
        order = np.flip(np.argsort(flipped, axis, kind="stable"), axis)
        order = x.shape[axis] - 1 - order
    else:
        order = np.argsort(x, axis, kind="stable")
    return np.take_along_axis(x, order, axis), order


sort = Op(
    "sort", "scan", _infer_sort, _numpy_sort,
    lambda g, out, x, *, axis, descending: (
        OPS["scatter_add"](zeros(x.type), out[1], g[0], axis=axis),
    ),
    "Sorted along `axis`, stably, and the indices of the elements.", multiple=True,
    sample=uniform(-3, 3),
)  # fmt: skip
