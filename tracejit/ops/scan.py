"""Ops whose element depends on those before it (cumulative), and sorting.

Invariant: along one non-negative `axis`; sorting is stable and puts NaN last (first if descending).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import ShapeError
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType, TupleType
from tracejit.ops.declare import ANY, NUMERIC, check_arity, check_domain, uniform
from tracejit.ops.elementwise import bitwise_and, cast, eq, exp, gt, log, mul, where
from tracejit.ops.movement import flip, zeros


def _infer_scan(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("scan", types, 1)
    check_domain("scan", types, NUMERIC)
    if not 0 <= axis < types[0].ndim:
        raise ShapeError(f"axis {axis} does not fit {types[0]}")
    return types[0]


def _numpy_cumsum(x: np.ndarray, axis: int) -> np.ndarray:
    wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    total = np.cumsum(x, axis, dtype=wide)
    if wide.kind == "f":  # a sum starts at 0.0: of -0.0 alone it is 0.0
        total += 0.0
    return total.astype(x.dtype, order="C")


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


def _cumprod_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node]:
    """Before the first zero: sum(g * out) / x; at it: the products without it; after it: 0."""
    zero, one = full_like(x, 0.0), full_like(x, 1.0)
    is_zero = eq(x, zero)
    count = cumsum(cast(is_zero, dtype=int64), axis=axis)
    before = eq(count, full_like(count, 0))
    first = bitwise_and(is_zero, eq(count, full_like(count, 1)))
    others = cumprod(where(first, one, x), axis=axis)
    by_others = reversed_cumsum(mul(g, others), axis)
    by_ratio = reversed_cumsum(mul(g, out), axis) / where(is_zero, one, x)
    return (where(before, by_ratio, where(first, by_others, zero)),)


cumprod = Op(
    "cumprod", "scan", _infer_scan, _numpy_cumprod, _cumprod_vjp,
    "The running product along `axis`.", sample=uniform(0.5, 2),
)  # fmt: skip


def _numpy_logcumsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    return np.logaddexp.accumulate(wide, axis).astype(x.dtype) if x.size else x


def _part(g: Node, positive: bool) -> Node:
    """log |g| where g has the sign, else -inf."""
    g = g if positive else -g
    chosen = gt(g, full_like(g, 0.0))
    return where(chosen, log(where(chosen, g, full_like(g, 1.0))), full_like(g, float("-inf")))


def _logcumsumexp_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node]:
    """exp(x) * sum of g / exp(out) from here on, in logarithms so that nothing overflows."""
    empty = eq(out, full_like(out, float("-inf")))
    out = where(empty, full_like(out, 0.0), out)

    def side(positive: bool) -> Node:
        later = logcumsumexp(flip(_part(g, positive) - out, axes=(axis,)), axis=axis)
        return exp(flip(later, axes=(axis,)) + x)

    return (side(True) - side(False),)


logcumsumexp = Op(
    "logcumsumexp", "scan", _infer_scan, _numpy_logcumsumexp, _logcumsumexp_vjp,
    "log(cumsum(exp(x))) along `axis`, without overflow.", sample=uniform(-3, 3),
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


def _rank_bits(x: np.ndarray) -> np.ndarray | None:
    """int32 numbers in the order of the elements: 0.0 and -0.0 alike, NaN behind all others.

    None for dtypes of more bits.
    """
    if x.dtype in (np.float32, np.float16):
        bits = (x.astype(np.float32) + np.float32(0)).view(np.int32)  # -0.0 + 0 is 0.0
        bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        return np.where(np.isnan(x), 0x7FFFFFFF, bits)
    return x.astype(np.int32) if np.can_cast(x.dtype, np.int32) else None


def _first(x: np.ndarray, axis: int, count: int) -> np.ndarray:
    return x[tuple(slice(count) if i == axis else slice(None) for i in range(x.ndim))]


def _stable_order(
    x: np.ndarray, axis: int, descending: bool, count: int | None = None
) -> np.ndarray:
    """The indices that sort, equal elements in the order of their positions; only the first `count`
    of them are asked for.

    Where rank and position fit into 64 bits, these numbers are sorted: NumPy has vector code for
    that (3 times faster), and none for a stable sort.
    """
    bits = _rank_bits(x) if x.ndim else None
    if bits is not None:
        packed = (~bits if descending else bits).astype(np.int64) << 32
        shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        packed |= np.arange(x.shape[axis], dtype=np.int64).reshape(shape)
        if count is not None and 0 < count < x.shape[axis]:
            packed.partition(count - 1, axis)
            packed = _first(packed, axis, count)
        packed.sort(axis)
        packed &= 0xFFFFFFFF
        return packed
    if not descending:
        return np.argsort(x, axis, kind="stable")
    # sort the reversed array upwards, then reverse: equal elements keep order
    order = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - order


def _infer_topk(types: Sequence[TensorType], *, axis: int, k: int, largest: bool) -> TupleType:
    check_arity("topk", types, 1)
    check_domain("topk", types, ANY)
    shape = types[0].shape
    values = types[0].with_shape((*shape[:axis], k, *shape[axis + 1 :]))
    return TupleType((values, values.with_dtype(int64)))


def _numpy_topk(
    x: np.ndarray, axis: int, k: int, largest: bool
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    order = _first(_stable_order(x, axis, largest, k), axis, k)
    return np.take_along_axis(x, order, axis), order


def _numpy_sort(x: np.ndarray, axis: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    order = _stable_order(x, axis, descending)
    return np.take_along_axis(x, order, axis), order


sort = Op(
    "sort", "scan", _infer_sort, _numpy_sort,
    lambda g, out, x, *, axis, descending: (
        OPS["scatter_add"](zeros(x.type), out[1], g[0], axis=axis),
    ),
    "Sorted along `axis`, stably, and the indices of the elements.", multiple=True,
    sample=uniform(-3, 3),
)  # fmt: skip

topk = Op(
    "topk", "scan", _infer_topk, _numpy_topk,
    lambda g, out, x, *, axis, k, largest: (
        OPS["scatter_add"](zeros(x.type), out[1], g[0], axis=axis),
    ),
    "The first k elements of `sort` along `axis` and their indices.", multiple=True,
    sample=uniform(-3, 3),
)  # fmt: skip
