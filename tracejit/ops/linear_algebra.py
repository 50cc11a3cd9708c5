"""Matrix factorisations and solvers, computed by NumPy's LAPACK on whole arrays.

Invariant: matrices are the last two axes, all leading axes are batch axes and agree among inputs.
float16 is not taken. Gradient rules as in Giles, "Collected matrix derivative results" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import float16, int64
from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import NONDIFF, OPS, Op
from tracejit.ir.types import TensorType, TupleType
from tracejit.ops import matrix_reference as reference
from tracejit.ops.contraction import matmul, swap_last
from tracejit.ops.declare import FLOAT, check_arity, check_domain, uniform
from tracejit.ops.elementwise import add, eq, mul, where
from tracejit.ops.movement import broadcast_to, diagonal, diagonal_scatter, reshape, slice_, zeros
from tracejit.ops.reduction import reduce_sum


def _check(name: str, types: Sequence[TensorType], square: bool = True, count: int = 1) -> None:
    check_arity(name, types, count)
    check_domain(name, types, FLOAT)
    first = types[0]
    for t in types:
        if t.dtype is float16 or t.dtype is not first.dtype:
            raise DTypeError(f"{name}: needs float32 or float64, all of one dtype, got {t}")
        if t.ndim < 2 or t.shape[:-2] != first.shape[:-2]:
            raise ShapeError(f"{name}: expects stacks of matrices with equal batch axes, got {t}")
    if square and first.shape[-1] != first.shape[-2]:
        raise ShapeError(f"{name}: expects square matrices, got {first}")


def _square_rule(name: str) -> Callable[..., TensorType]:
    def infer(types: Sequence[TensorType], **params: Any) -> TensorType:
        _check(name, types)
        return types[0]

    return infer


# --- pieces of gradient rules -----------------------------------------------------------------


def _part(x: Node, lower: bool, offset: int = 0) -> Node:
    """The triangle of a matrix: elements with column - row <= offset (lower) or >= offset."""
    square = x.type.with_shape(x.shape[-2:]).with_dtype(int64)
    iota = OPS["iota"]
    distance = iota(type=square, axis=1) - iota(type=square, axis=0)
    limit = full_like(distance, offset)
    keep = OPS["le" if lower else "ge"](distance, limit)
    return where(broadcast_to(keep, shape=x.shape), x, full_like(x, 0.0))


def _diag(x: Node) -> Node:
    """Vectors as diagonal matrices."""
    n = x.shape[-1]
    blank = zeros(x.type.with_shape((*x.shape, n)))
    axes = {"offset": 0, "axis1": x.ndim - 1, "axis2": x.ndim}
    return diagonal_scatter(blank, x, **axes)


def _diagonal(x: Node) -> Node:
    return diagonal(x, offset=0, axis1=x.ndim - 2, axis2=x.ndim - 1)


def _columns(v: Node, like: Node) -> Node:
    """A vector along the columns of a matrix: element (i, j) is v[j]."""
    return broadcast_to(reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1])), shape=like.shape)


def _rows(v: Node, like: Node) -> Node:
    """A vector along the rows of a matrix: element (i, j) is v[i]."""
    return broadcast_to(reshape(v, shape=(*v.shape, 1)), shape=like.shape)


def _safe_ratio(x: Node, y: Node) -> Node:
    """x / y, but 0 where x is 0: an unused part of a gradient never makes NaN."""
    nothing = eq(x, full_like(x, 0.0))
    return where(nothing, full_like(x, 0.0), x / where(nothing, full_like(y, 1.0), y))


def _spread(g: Node, like: Node) -> Node:
    """A number for each matrix, over all its elements."""
    return broadcast_to(reshape(g, shape=(*g.shape, 1, 1)), shape=like.shape)


def _first_columns(x: Node, count: Any) -> Node:
    stops = (*x.shape[:-1], count)
    return slice_(x, starts=(0,) * x.ndim, stops=stops, steps=(1,) * x.ndim)


def _first_rows(x: Node, count: Any) -> Node:
    stops = (*x.shape[:-2], count, x.shape[-1])
    return slice_(x, starts=(0,) * x.ndim, stops=stops, steps=(1,) * x.ndim)


# --- solving ---------------------------------------------------------------------------------


def _infer_solve(types: Sequence[TensorType], **params: Any) -> TensorType:
    _check("solve", types, count=2)
    if types[1].shape[-2] != types[0].shape[-1]:
        raise ShapeError(f"solve: {types[0]} and {types[1]} do not fit")
    return types[1]


def _solve_vjp(g: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    by_b = solve(swap_last(a), g)
    return -matmul(by_b, swap_last(out)), by_b


solve = Op(
    "solve", "library", _infer_solve, reference.solve, _solve_vjp,
    "X with A X = B.", names=("a", "b"), sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _triangular_vjp(
    g: Node, out: Node, a: Node, b: Node, *, lower: bool, unit: bool
) -> tuple[Node, Node]:
    by_b = triangular_solve(swap_last(a), g, lower=not lower, unit=unit)
    offset = (-1 if lower else 1) if unit else 0
    return _part(-matmul(by_b, swap_last(out)), lower, offset), by_b


triangular_solve = Op(
    "triangular_solve", "library", _infer_solve, reference.triangular_solve, _triangular_vjp,
    "X with A X = B where only one triangle of A counts (`unit`: its diagonal is 1).",
    names=("a", "b"), sample=uniform(0.5, 2), cost=500,
)  # fmt: skip

# --- determinants ----------------------------------------------------------------------------


def _infer_det(types: Sequence[TensorType]) -> TensorType:
    _check("det", types)
    return types[0].with_shape(types[0].shape[:-2])


det = Op(
    "det", "library", _infer_det, lambda a: np.linalg.det(a).astype(a.dtype),
    lambda g, out, a: (mul(_spread(g, a), cofactor(a)),),
    "The determinant.", sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _cofactor_vjp(g: Node, out: Node, a: Node) -> tuple[Node]:
    """d(det * inv^T), for invertible matrices."""
    inverse = swap_last(solve(a, _diag(full_like(_diagonal(a), 1.0))))
    axes = (a.ndim - 2, a.ndim - 1)
    total = reduce_sum(mul(g, inverse), axes=axes)
    twisted = matmul(inverse, matmul(swap_last(g), inverse))
    return (mul(_spread(det(a), a), mul(_spread(total, a), inverse) - twisted),)


cofactor: Op = Op(
    "cofactor", "library", _square_rule("cofactor"), reference.cofactor, _cofactor_vjp,
    "The matrix of cofactors: the derivative of the determinant, singular or not.",
    sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _infer_slogdet(types: Sequence[TensorType]) -> TupleType:
    t = _infer_det(types)
    return TupleType((t, t))


def _slogdet_vjp(g: Any, out: Any, a: Node) -> tuple[Node]:
    identity = _diag(full_like(_diagonal(a), 1.0))
    return (mul(_spread(g[1], a), solve(swap_last(a), identity)),)


slogdet = Op(
    "slogdet", "library", _infer_slogdet,
    lambda a: tuple(r.astype(a.dtype) for r in np.linalg.slogdet(a)), _slogdet_vjp,
    "The sign and the logarithm of the determinant's size.", multiple=True,
    sample=uniform(-2, 2), cost=1000,
)  # fmt: skip

# --- factorisations --------------------------------------------------------------------------


def _cholesky_vjp(g: Node, out: Node, a: Node) -> tuple[Node]:
    low = _part(matmul(swap_last(out), g), True)
    low = low - _diag(mul(_diagonal(low), full_like(_diagonal(low), 0.5)))
    left = triangular_solve(swap_last(out), low, lower=False, unit=False)
    both = swap_last(triangular_solve(swap_last(out), swap_last(left), lower=False, unit=False))
    return (mul(add(both, swap_last(both)), full_like(both, 0.5)),)


cholesky = Op(
    "cholesky", "library", _square_rule("cholesky"), np.linalg.cholesky, _cholesky_vjp,
    "The lower triangular L with L L^T = A.", sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _infer_qr(types: Sequence[TensorType], *, complete: bool) -> TupleType:
    _check("qr", types, square=False)
    (*batch, m, n) = types[0].shape
    k = m if complete or m < n else n
    return TupleType((types[0].with_shape((*batch, m, k)), types[0].with_shape((*batch, k, n))))


def _qr_vjp(g: Any, out: Any, a: Node, *, complete: bool) -> tuple[Node]:
    """For m >= n, reduced: (gQ + Q sym(triu(gR R^T - Q^T gQ))) R^-T."""
    q, r = out[0], out[1]
    top = _part(matmul(g[1], swap_last(r)) - matmul(swap_last(q), g[0]), False)
    both = add(top, swap_last(top)) - _diag(_diagonal(top))
    right = add(g[0], matmul(q, both))
    return (swap_last(triangular_solve(r, swap_last(right), lower=False, unit=False)),)


qr = Op(
    "qr", "library", _infer_qr,
    lambda a, complete: tuple(np.linalg.qr(a, "complete" if complete else "reduced")), _qr_vjp,
    "Q R = A with orthonormal columns in Q (gradient: at least as many rows as columns).",
    multiple=True, sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _infer_geqrf(types: Sequence[TensorType]) -> TupleType:
    _check("geqrf", types, square=False)
    (*batch, m, n) = types[0].shape
    return TupleType((types[0], types[0].with_shape((*batch, m if m <= n else n))))


geqrf = Op(
    "geqrf", "library", _infer_geqrf, reference.geqrf, NONDIFF,
    "R (upper triangle) and the Householder vectors of Q (below); the vectors' factors.",
    multiple=True, sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _infer_svd(types: Sequence[TensorType], *, full: bool) -> TupleType:
    _check("svd", types, square=False)
    (*batch, m, n) = types[0].shape
    k = m if m <= n else n
    shapes = ((m, m if full else k), (k,), (n if full else k, n))
    return TupleType(tuple(types[0].with_shape((*batch, *s)) for s in shapes))


def _svd_vjp(g: Any, out: Any, a: Node, *, full: bool) -> tuple[Node]:
    """U [skew(U^T gU)/E S + S skew(V^T gV)/E + diag(gS)] V^T, and what leaves those spaces."""
    s = out[1]
    k = s.shape[-1]
    u, gu = _first_columns(out[0], k), _first_columns(g[0], k)
    vt, gvt = _first_rows(out[2], k), _first_rows(g[2], k)
    ut, gv = swap_last(u), swap_last(gvt)
    inner_u, inner_v = matmul(ut, gu), matmul(vt, gv)
    square = mul(s, s)
    gap = _columns(square, inner_u) - _rows(square, inner_u)
    twist_u = _safe_ratio(inner_u - swap_last(inner_u), gap)
    twist_v = _safe_ratio(inner_v - swap_last(inner_v), gap)
    core = add(mul(twist_u, _columns(s, twist_u)), mul(_rows(s, twist_v), twist_v))
    core = add(core, _diag(g[1]))
    outside_u = gu - matmul(u, inner_u)
    outside_v = gvt - matmul(swap_last(inner_v), vt)
    left = add(matmul(u, core), _safe_ratio(outside_u, _columns(s, outside_u)))
    return (add(matmul(left, vt), matmul(u, _safe_ratio(outside_v, _rows(s, outside_v)))),)


svd = Op(
    "svd", "library", _infer_svd,
    lambda a, full: tuple(np.linalg.svd(a, full_matrices=full)), _svd_vjp,
    "U diag(S) Vh = A with orthonormal U and V, S falling.", multiple=True,
    sample=uniform(-2, 2), cost=2000,
)  # fmt: skip


def _infer_eigh(types: Sequence[TensorType], *, lower: bool) -> TupleType:
    _check("eigh", types)
    return TupleType((types[0].with_shape(types[0].shape[:-1]), types[0]))


def _eigh_vjp(g: Any, out: Any, a: Node, *, lower: bool) -> tuple[Node]:
    values, vectors = out[0], out[1]
    inner = matmul(swap_last(vectors), g[1])
    gap = _columns(values, inner) - _rows(values, inner)
    skew = mul(inner - swap_last(inner), full_like(inner, 0.5))
    core = add(_safe_ratio(skew, gap), _diag(g[0]))
    return (matmul(vectors, matmul(core, swap_last(vectors))),)


eigh = Op(
    "eigh", "library", _infer_eigh,
    lambda a, lower: tuple(np.linalg.eigh(a, "L" if lower else "U")), _eigh_vjp,
    "Eigenvalues (rising) and eigenvectors of symmetric matrices; one triangle is read.",
    multiple=True, sample=uniform(-2, 2), cost=2000,
)  # fmt: skip


def _infer_pivots(types: Sequence[TensorType]) -> TensorType:
    _check("lu_pivots", types, square=False)
    (*batch, m, n) = types[0].shape
    return TensorType(int64, (*batch, m if m <= n else n), types[0].device)


lu_pivots = Op(
    "lu_pivots", "library", _infer_pivots, reference.lu_pivots, NONDIFF,
    "The row exchanged with each row in turn by LU with partial pivoting (0-based).",
    sample=uniform(-2, 2), cost=1000,
)  # fmt: skip


def _lu_vjp(g: Node, out: Node, a: Node) -> tuple[Node]:
    """L^-T [strict_lower(L^T gL) + upper(gU U^T)] U^-T, with L and U in one matrix."""
    low = add(_part(out, True, -1), _diag(full_like(_diagonal(out), 1.0)))
    up = _part(out, False)
    inner = add(
        _part(matmul(swap_last(low), _part(g, True, -1)), True, -1),
        _part(matmul(_part(g, False), swap_last(up)), False),
    )
    left = triangular_solve(swap_last(low), inner, lower=False, unit=True)
    return (swap_last(triangular_solve(up, swap_last(left), lower=False, unit=False)),)


lu = Op(
    "lu", "library", _square_rule("lu"), reference.lu, _lu_vjp,
    "L and U (in one matrix, the unit diagonal of L left out) with L U = A; no row exchanges.",
    sample=uniform(-2, 2), cost=1000,
)  # fmt: skip

# --- functions of a matrix ---------------------------------------------------------------------


def _infer_pinv(types: Sequence[TensorType], *, atol: float, rtol: float) -> TensorType:
    _check("pinv", types, square=False)
    (*batch, m, n) = types[0].shape
    return types[0].with_shape((*batch, n, m))


def _pinv_vjp(g: Node, out: Node, a: Node, *, atol: float, rtol: float) -> tuple[Node]:
    """Golub and Pereyra (1973): the derivative for constant rank."""
    gt, pt = swap_last(g), swap_last(out)
    k = matmul(gt, out)
    inside = -swap_last(matmul(out, matmul(gt, out)))
    rows = matmul(k, pt) - matmul(matmul(a, out), matmul(k, pt))
    columns = matmul(pt, matmul(out, gt - matmul(k, a)))
    return (add(inside, add(rows, columns)),)


pinv = Op(
    "pinv", "library", _infer_pinv, reference.pinv, _pinv_vjp,
    "The pseudo-inverse; singular values up to max(atol, rtol * largest) count as 0.",
    sample=uniform(-2, 2), cost=2000,
)  # fmt: skip


def _matrix_exp_vjp(g: Node, out: Node, a: Node) -> tuple[Node]:
    """The upper right block of exp([[A^T, G], [0, A^T]]) (Mathias, 1996)."""
    join, axis, n = OPS["concatenate"], a.ndim - 1, a.shape[-1]
    at = swap_last(a)
    top = join(at, g, axis=axis)
    bottom = join(zeros(a.type), at, axis=axis)
    whole = matrix_exp(join(top, bottom, axis=axis - 1))
    starts = (0,) * (a.ndim - 1) + (n,)
    stops = (*a.shape[:-1], n + n)
    return (slice_(whole, starts=starts, stops=stops, steps=(1,) * a.ndim),)


matrix_exp = Op(
    "matrix_exp", "library", _square_rule("matrix_exp"), reference.matrix_exp, _matrix_exp_vjp,
    "The exponential of a matrix.", sample=uniform(-1, 1), cost=2000,
)  # fmt: skip

__all__ = [
    "cholesky", "cofactor", "det", "eigh", "geqrf", "lu", "lu_pivots", "matrix_exp", "pinv",
    "qr", "slogdet", "solve", "svd", "triangular_solve",
]  # fmt: skip
