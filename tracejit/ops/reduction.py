"""Reductions: sums, products, extremes, any/all, the index of an extreme, logsumexp and softmax.

Invariant: `axes` is sorted and non-negative, and the reduced axes disappear from the shape.
Sums of float16 accumulate in float32. The order of a float sum is fixed by its length alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType, accumulator, bool_, int64
from tracejit.errors import ShapeError
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import NONDIFF, Op
from tracejit.ir.sizes import is_zero
from tracejit.ir.types import TensorType
from tracejit.ops.declare import (
    ANY,
    FLOAT,
    NUMERIC,
    check_arity,
    check_domain,
    uniform,
)
from tracejit.ops.elementwise import cast, eq, exp, log, sub, where
from tracejit.ops.movement import broadcast_to, reshape


def expand_reduced(g: Node, like: Node, axes: tuple[int, ...]) -> Node:
    """A reduced value spread over the reduced axes again."""
    kept = tuple(1 if i in axes else n for i, n in enumerate(like.shape))
    return broadcast_to(reshape(g, shape=kept), shape=like.shape)


def _reduced(t: TensorType, axes: tuple[int, ...]) -> tuple[Any, ...]:
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < t.ndim for a in axes):
        raise ShapeError(f"reduction axes {axes} do not fit {t}")
    return tuple(n for i, n in enumerate(t.shape) if i not in axes)


def reduction(
    name: str,
    doc: str,
    *,
    numpy: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    domain: str = ANY,
    result: DType | None = None,
    decompose: Callable[..., Any] | None = None,
    needs_elements: bool = False,
) -> Op:
    """An op over `axes`; `needs_elements` refuses to reduce an empty axis."""

    def infer(types: Sequence[TensorType], *, axes: tuple[int, ...]) -> TensorType:
        check_arity(name, types, 1)
        check_domain(name, types, domain)
        shape = _reduced(types[0], axes)
        if needs_elements and any(is_zero(types[0].shape[a]) for a in axes):
            raise IndexError(f"{name}: no elements along a reduced axis of {types[0]}")
        reduced = types[0].with_shape(shape)
        return reduced if result is None else reduced.with_dtype(result)

    return Op(name, "reduction", infer, numpy, vjp, doc, decompose=decompose, sample=uniform(-3, 3))


def _numpy_sum(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    return np.sum(x, axes, dtype=wide).astype(x.dtype)


def _numpy_prod(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    return np.prod(x, axes, dtype=wide).astype(x.dtype)


reduce_sum = reduction(
    "reduce_sum", "The sum over `axes`.", domain=NUMERIC, numpy=_numpy_sum,
    vjp=lambda g, out, x, *, axes: (expand_reduced(g, x, axes),),
)  # fmt: skip


def _prod_vjp(g: Node, out: Node, x: Node, *, axes: tuple[int, ...]) -> tuple[Node]:
    """g times the product of the others: exact where x has zeros, unlike out / x."""
    zero, one = full_like(x, 0.0), full_like(x, 1.0)
    is_zero = eq(x, zero)
    zeros = reduce_sum(cast(is_zero, dtype=x.dtype), axes=axes)
    nonzero = reduce_prod(where(is_zero, one, x), axes=axes)
    count = expand_reduced(zeros, x, axes)
    spread = expand_reduced(nonzero, x, axes)
    others = where(is_zero, where(eq(count, one), spread, zero),
                   where(eq(count, zero), expand_reduced(out, x, axes) / where(is_zero, one, x),
                         zero))  # fmt: skip
    return (expand_reduced(g, x, axes) * others,)


reduce_prod = reduction(
    "reduce_prod", "The product over `axes`.", domain=NUMERIC, numpy=_numpy_prod, vjp=_prod_vjp
)


def _extreme_vjp(g: Node, out: Node, x: Node, *, axes: tuple[int, ...]) -> tuple[Node]:
    """Shared evenly among ties, as torch's amax and amin do."""
    hit = cast(eq(x, expand_reduced(out, x, axes)), dtype=x.dtype)
    share = g / reduce_sum(hit, axes=axes)
    return (expand_reduced(share, x, axes) * hit,)


def _numpy_max(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    """0.0 is larger than -0.0, as IEEE 754-2019 says; NumPy takes the one it meets first."""
    top = np.max(x, axes)
    if x.dtype.kind != "f":
        return top
    positive = np.any((x == 0) & ~np.signbit(x), axes)
    return np.where((top == 0) & positive, x.dtype.type(0.0), top)


def _numpy_min(x: np.ndarray, axes: tuple[int, ...]) -> Any:
    return -_numpy_max(-x, axes) if x.dtype.kind == "f" else np.min(x, axes)


reduce_max = reduction(
    "reduce_max", "The largest over `axes`; NaN if any is.", numpy=_numpy_max, vjp=_extreme_vjp,
    needs_elements=True,
)  # fmt: skip
reduce_min = reduction(
    "reduce_min", "The smallest over `axes`; NaN if any is.", numpy=_numpy_min, vjp=_extreme_vjp,
    needs_elements=True,
)  # fmt: skip
reduce_any = reduction(
    "reduce_any", "Whether any is true over `axes`.", domain="b", result=bool_,
    numpy=lambda x, axes: np.any(x, axes), vjp=NONDIFF,
)  # fmt: skip
reduce_all = reduction(
    "reduce_all", "Whether all are true over `axes`.", domain="b", result=bool_,
    numpy=lambda x, axes: np.all(x, axes), vjp=NONDIFF,
)  # fmt: skip
argmax = reduction(
    "argmax", "The index of the first largest (the first NaN) along the one axis.",
    result=int64, numpy=lambda x, axes: np.argmax(x, axes[0]), vjp=NONDIFF, needs_elements=True,
)  # fmt: skip
argmin = reduction(
    "argmin", "The index of the first smallest (the first NaN) along the one axis.",
    result=int64, numpy=lambda x, axes: np.argmin(x, axes[0]), vjp=NONDIFF, needs_elements=True,
)  # fmt: skip

# --- softmax family: ops, because their fused gradients are numerically better ----------------


def _finite_max(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    top = np.max(x, axes, keepdims=True)
    return np.where(np.isinf(top), 0, top).astype(x.dtype)


def _numpy_logsumexp(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    if wide.size == 0:
        return np.log(np.sum(np.exp(wide), axes)).astype(x.dtype)
    top = _finite_max(wide, axes)
    total = np.log(np.sum(np.exp(wide - top), axes)) + np.squeeze(top, axes)
    return total.astype(x.dtype)


def shifted_exp(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """(exp(x - max), max) with the maximum of an all-infinite row taken as 0."""
    top = reduce_max(x, axes=axes)
    infinite = eq(top, full_like(top, float("inf"))) | eq(top, full_like(top, float("-inf")))
    top = where(infinite, full_like(top, 0.0), top)
    return exp(sub(x, expand_reduced(top, x, axes))), top


def _wide(x: Node) -> Node:
    return x if accumulator(x.dtype) is x.dtype else cast(x, dtype=accumulator(x.dtype))


def _narrow(y: Node, dtype: DType) -> Node:
    return y if y.dtype is dtype else cast(y, dtype=dtype)


def _decompose_logsumexp(x: Node, *, axes: tuple[int, ...]) -> Node:
    wide = _wide(x)
    if any(is_zero(x.shape[a]) for a in axes):
        return _narrow(log(reduce_sum(exp(wide), axes=axes)), x.dtype)
    powers, top = shifted_exp(wide, axes)
    return _narrow(log(reduce_sum(powers, axes=axes)) + top, x.dtype)


logsumexp = reduction(
    "logsumexp", "log(sum(exp(x))) over `axes`, without overflow.", domain=FLOAT,
    numpy=_numpy_logsumexp, decompose=_decompose_logsumexp,
    vjp=lambda g, out, x, *, axes: (
        expand_reduced(g, x, axes) * exp(sub(x, expand_reduced(_finite(out), x, axes))),
    ),
)  # fmt: skip


def _finite(x: Node) -> Node:
    infinite = eq(x, full_like(x, float("inf"))) | eq(x, full_like(x, float("-inf")))
    return where(infinite, full_like(x, 0.0), x)


def _infer_softmax(types: Sequence[TensorType], *, axis: int) -> TensorType:
    check_arity("softmax", types, 1)
    check_domain("softmax", types, FLOAT)
    _reduced(types[0], (axis,))
    return types[0]


def _numpy_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    if x.size == 0:
        return x
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    e = np.exp(wide - np.max(wide, axis, keepdims=True))
    return (e / np.sum(e, axis, keepdims=True)).astype(x.dtype)


def _decompose_softmax(x: Node, *, axis: int) -> Node:
    if is_zero(x.shape[axis]):
        return x
    wide = _wide(x)
    e = exp(sub(wide, expand_reduced(reduce_max(wide, axes=(axis,)), wide, (axis,))))
    inverse = 1.0 / reduce_sum(e, axes=(axis,))
    return _narrow(e * expand_reduced(inverse, wide, (axis,)), x.dtype)


def _softmax_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node]:
    inner = reduce_sum(g * out, axes=(axis,))
    return (out * (g - expand_reduced(inner, x, (axis,))),)


softmax = Op(
    "softmax", "composite", _infer_softmax, _numpy_softmax, _softmax_vjp,
    "exp(x) / sum(exp(x)) along `axis`.", decompose=_decompose_softmax, sample=uniform(-3, 3),
)  # fmt: skip


def _numpy_log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    if x.size == 0:
        return x
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    shifted = wide - np.max(wide, axis, keepdims=True)
    return (shifted - np.log(np.sum(np.exp(shifted), axis, keepdims=True))).astype(x.dtype)


def _decompose_log_softmax(x: Node, *, axis: int) -> Node:
    if is_zero(x.shape[axis]):
        return x
    wide = _wide(x)
    shifted = sub(wide, expand_reduced(reduce_max(wide, axes=(axis,)), wide, (axis,)))
    total = log(reduce_sum(exp(shifted), axes=(axis,)))
    return _narrow(sub(shifted, expand_reduced(total, wide, (axis,))), x.dtype)


def _log_softmax_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node]:
    total = expand_reduced(reduce_sum(g, axes=(axis,)), x, (axis,))
    return (g - exp(out) * total,)


log_softmax = Op(
    "log_softmax", "composite", _infer_softmax, _numpy_log_softmax, _log_softmax_vjp,
    "log(softmax(x)) along `axis`, without overflow.", decompose=_decompose_log_softmax,
    sample=uniform(-3, 3),
)  # fmt: skip
