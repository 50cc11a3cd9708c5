"""``tracejit.linalg``: factorisations, solvers and what is made of them.

Invariant: work happens in ops of `ops.linear_algebra` on stacks of matrices with equal batch axes;
vectors, broadcasting and options are spelled out here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import dtypes
from tracejit.eager.dispatch import apply, broadcast_symbolic
from tracejit.eager.factories import arange, zeros
from tracejit.eager.joining import cat
from tracejit.eager.linalg import matmul
from tracejit.eager.pointwise import check_tensors, where_of
from tracejit.eager.ranges import eye, tril, triu
from tracejit.eager.register import F, public, with_names
from tracejit.eager.results import named
from tracejit.eager.shape import expand, sizes_of, squeeze, unsqueeze
from tracejit.eager.tape import type_of
from tracejit.errors import DTypeError, LinAlgError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor

LINALG: dict[str, Callable[..., Any]] = {}


def linalg_function(**how: Any) -> Callable[[F], F]:
    """`public` for the functions of ``tracejit.linalg``; the first operand is also ``input``."""

    def publish(target: F) -> F:
        first = target.__code__.co_varnames[0]
        shown = target if first == "input" else with_names(target, input=first)
        public(method=False, into=LINALG, **how)(shown)
        return target

    return publish


def check_matrix(name: str, *tensors: Tensor, square: bool = False) -> None:
    """Raise unless all are stacks of (square) float32 or float64 matrices."""
    check_tensors(name, *tensors)
    for x in tensors:
        if x.dtype not in (dtypes.float32, dtypes.float64):
            raise DTypeError(at_user_line(f"{name}: needs float or double, got {x.dtype.name}"))
        if x.ndim < 2:
            raise RuntimeError(at_user_line(
                f"{name}: needs at least 2 dimensions, got {type_of(x)}"))  # fmt: skip
        if square and sizes_of(x)[-1] != sizes_of(x)[-2]:
            raise RuntimeError(at_user_line(f"{name}: needs square matrices, got {type_of(x)}"))


def identity_like(x: Tensor) -> Tensor:
    """Unit matrices for a stack of square matrices."""
    return expand(eye(sizes_of(x)[-1], dtype=x.dtype, device=x.device), *sizes_of(x))


def _no_info(x: Tensor) -> Tensor:
    return zeros(sizes_of(x)[:-2], dtype=dtypes.int32)


def _common_batch(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    try:
        batch = broadcast_symbolic([sizes_of(a)[:-2], sizes_of(b)[:-2]])
    except ShapeError as error:
        raise ShapeError(at_user_line(f"{name}: batch {error}")) from None
    return expand(a, *batch, *sizes_of(a)[-2:]), expand(b, *batch, *sizes_of(b)[-2:])


# --- solving ---------------------------------------------------------------------------------


@linalg_function(out=True)
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with ``A X = B`` (``X A = B`` if not `left`); B is a stack of vectors or of matrices."""
    check_matrix("solve", A, square=True)
    check_tensors("solve", B)
    if A.dtype is not B.dtype:
        raise DTypeError(at_user_line(f"solve: dtypes differ: {type_of(A)}, {type_of(B)}"))
    is_vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and sizes_of(B) == sizes_of(A)[:-1])
    if is_vector:
        if not left:
            raise RuntimeError(at_user_line("solve: left=False needs matrices on the right side"))
        return squeeze(solve(A, unsqueeze(B, -1)), -1)
    if not left:
        return solve(A.mT, B.mT).mT
    a, b = _common_batch("solve", A, B)
    return apply(OPS["solve"], (a, b))


@linalg_function(out=True)
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """(`solve`, info); a singular matrix raises."""
    result = solve(A, B, left=left)
    return named("solve_ex", "result info")(result, _no_info(A))


@linalg_function(out=True)
def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices."""
    check_matrix("inv", A, square=True)
    return apply(OPS["solve"], (A, identity_like(A)))


@public(out=True)
def inverse(input: Tensor) -> Tensor:
    """The inverse of square matrices."""
    return inv(input)


@linalg_function(out=True)
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """(inverse, info); a singular matrix raises."""
    return named("inv_ex", "inverse info")(inv(A), _no_info(A))


@linalg_function(out=True)
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with ``A X = B`` where only one triangle of A counts."""
    check_matrix("solve_triangular", A, square=True)
    check_matrix("solve_triangular", B)
    if not left:
        flipped = solve_triangular(A.mT, B.mT, upper=not upper, unitriangular=unitriangular)
        return flipped.mT
    a, b = _common_batch("solve_triangular", A, B)
    params = {"lower": not upper, "unit": bool(unitriangular)}
    return apply(OPS["triangular_solve"], (a, b), params)


@public(out=True)
def triangular_solve(
    input: Tensor, A: Tensor, upper: bool = True, transpose: bool = False,
    unitriangular: bool = False,
) -> Any:  # fmt: skip
    """(X with ``A X = input``, A) for triangular A."""
    matrix, high = (A.mT, not upper) if transpose else (A, upper)
    found = solve_triangular(matrix, input, upper=high, unitriangular=unitriangular)
    return named("triangular_solve", "solution cloned_coefficient")(found, A.clone())


# --- Cholesky --------------------------------------------------------------------------------


@linalg_function(out=True)
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower (or upper) triangular factor of symmetric positive-definite matrices."""
    check_matrix("cholesky", A, square=True)
    source = A.mT if upper else A  # only one triangle is read
    low: Tensor = apply(OPS["cholesky"], (source,))
    return low.mT if upper else low


@linalg_function(out=True)
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(factor, info): info is 1 where a matrix is not positive definite (its factor is 0)."""
    result = named("cholesky_ex", "L info")
    try:
        return result(cholesky(A, upper=upper), _no_info(A))
    except LinAlgError:
        if check_errors:
            raise
    failed = A.new_zeros(sizes_of(A)[:-2], dtype=dtypes.int32) + 1
    return result(A * 0, failed)


def _cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The lower (or upper) triangular factor of symmetric positive-definite matrices."""
    return cholesky(input, upper=upper)


_cholesky.__name__ = _cholesky.__qualname__ = "cholesky"
public(out=True)(_cholesky)


@public(out=True)
def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False) -> Tensor:
    """X with ``A X = input`` given the Cholesky factor `input2` of A."""
    low = input2.mT if upper else input2
    half = solve_triangular(tril(low), input, upper=False)
    return solve_triangular(tril(low).mT, half, upper=True)


@public(out=True)
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A given its Cholesky factor."""
    check_matrix("cholesky_inverse", input, square=True)
    return cholesky_solve(identity_like(input), input, upper)


# --- determinants ----------------------------------------------------------------------------


@linalg_function(out=True)
def det(A: Tensor) -> Tensor:
    """The determinant."""
    check_matrix("det", A, square=True)
    return apply(OPS["det"], (A,))


@linalg_function(out=True)
def slogdet(A: Tensor) -> Any:
    """(sign, logarithm of the size) of the determinant."""
    check_matrix("slogdet", A, square=True)
    return named("slogdet", "sign logabsdet")(*apply(OPS["slogdet"], (A,)))


@public()
def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant; NaN for a negative one."""
    sign, size = slogdet(input)
    return where_of(sign < 0, float("nan"), size, size.dtype)


public()(with_names(det, input="A"))
public()(with_names(slogdet, input="A"))

# --- QR, singular values, eigenvalues ----------------------------------------------------------


@linalg_function(out=True)
def qr(A: Tensor, mode: str = "reduced") -> Any:
    """(Q, R) with ``Q R = A``; `mode` reduced, complete or r (Q is empty)."""
    check_matrix("qr", A)
    result = named("qr", "Q R")
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(at_user_line(f"qr: mode must be reduced, complete or r, not {mode!r}"))
    m, n = sizes_of(A)[-2:]
    if mode == "r":
        _, r = apply(OPS["qr"], (A.detach(),), {"complete": False})
        return result(A.new_empty(0), r)
    if m < n:  # the first m columns give Q; R follows for the others
        q, r = apply(OPS["qr"], (A[..., :m],), {"complete": False})
        return result(q, cat([r, matmul(q.mT, A[..., m:])], -1))
    complete = mode == "complete" and m != n
    if complete and A._requires_grad:
        raise RuntimeError(
            at_user_line("qr: mode complete is not differentiable for tall matrices")
        )
    return result(*apply(OPS["qr"], (A,), {"complete": complete}))


@linalg_function(out=True)
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with ``U diag(S) Vh = A``; S falls."""
    check_matrix("svd", A)
    return named("svd", "U S Vh")(*apply(OPS["svd"], (A,), {"full": bool(full_matrices)}))


@linalg_function(out=True)
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, falling."""
    return svd(A, False).S


@linalg_function(out=True)
def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """(eigenvalues, eigenvectors) of symmetric matrices, of which one triangle is read."""
    check_matrix("eigh", A, square=True)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(at_user_line(f"eigh: UPLO must be L or U, not {UPLO!r}"))
    params = {"lower": UPLO.upper() == "L"}
    return named("eigh", "eigenvalues eigenvectors")(*apply(OPS["eigh"], (A,), params))


@linalg_function(out=True)
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of symmetric matrices, rising."""
    return eigh(A, UPLO).eigenvalues


def _legacy_svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with ``U diag(S) V^T = input``."""
    u, s, vh = svd(input, not some)
    if not compute_uv:
        (*batch, m, n) = sizes_of(input)
        u, vh = input.new_zeros(*batch, m, m), input.new_zeros(*batch, n, n)
    return named("svd", "U S V")(u, s, vh.mT)


def _legacy_qr(input: Tensor, some: bool = True) -> Any:
    """(Q, R) with ``Q R = input``."""
    return qr(input, "reduced" if some else "complete")


for _function in (_legacy_svd, _legacy_qr):
    _function.__name__ = _function.__qualname__ = _function.__name__.removeprefix("_legacy_")
    public(out=True)(_function)

# --- LU --------------------------------------------------------------------------------------


def _row_order(pivots: Tensor, rows: Any) -> Tensor:
    """The order of rows that exchanging each with its (0-based) pivot in turn gives."""
    order = expand(arange(rows), *sizes_of(pivots)[:-1], rows)
    for i in range(int(sizes_of(pivots)[-1])):
        at, here = pivots[..., i : i + 1], order[..., i : i + 1]
        there = order.gather(-1, at)
        order = order.scatter(-1, at, here).slice_scatter(there, -1, i, i + 1)
    return order


def _factors(A: Tensor, pivot: bool) -> tuple[Tensor, Tensor]:
    """(L and U in one matrix, 0-based pivots); differentiable for any number of rows."""
    check_matrix("lu", A)
    m, n = sizes_of(A)[-2:]
    k = min(int(m), int(n))
    exchanged, pivots = A, None
    if pivot:
        pivots = apply(OPS["lu_pivots"], (A.detach(),))
        index = expand(unsqueeze(_row_order(pivots, m), -1), *sizes_of(A))
        exchanged = A.gather(-2, index)
    core: Tensor = apply(OPS["lu"], (exchanged[..., :k, :k],))
    if m > n:
        rest = solve_triangular(core, exchanged[..., k:, :], upper=True, left=False)
        core = cat([core, rest], -2)
    elif n > m:
        params = {"upper": False, "unitriangular": True}
        core = cat([core, solve_triangular(core, exchanged[..., k:], **params)], -1)
    if pivots is None:
        pivots = expand(arange(k), *sizes_of(A)[:-2], k)
    return core, pivots


@linalg_function(out=True)
def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """(L and U in one matrix, the 1-based row exchanges)."""
    core, pivots = _factors(A, pivot)
    return named("lu_factor", "LU pivots")(core, (pivots + 1).to(dtypes.int32))


@linalg_function(out=True)
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU, pivots, info); info is the 1-based place of the first zero pivot, or 0."""
    core, pivots = lu_factor(A, pivot=pivot)
    zero = core.detach().diagonal(0, -2, -1) == 0
    first = zero.to(dtypes.int64).argmax(-1) + 1 if sizes_of(zero)[-1] else _no_info(A)
    info = where_of(zero.any(-1), first, 0, dtypes.int32)
    if check_errors and bool(info.any()):
        raise LinAlgError(at_user_line("lu_factor_ex: a matrix is singular"))
    return named("lu_factor_ex", "LU pivots info")(core, pivots, info)


@linalg_function(out=True)
def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """(P, L, U) with ``P L U = A``; P is empty without pivoting."""
    core, pivots = _factors(A, pivot)
    p, low, up = _unpacked(core, pivots)
    return named("lu", "P L U")(p if pivot else A.new_empty(0), low, up)


def _unpacked(core: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    m, n = sizes_of(core)[-2:]
    k = min(int(m), int(n))
    low = tril(core[..., :k], -1) + eye(m, k, dtype=core.dtype, device=core.device)
    order = _row_order(pivots.to(dtypes.int64), m)
    unit = eye(m, dtype=core.dtype, device=core.device)
    return unit[order].mT, low, triu(core[..., :k, :])


@public(method=False, out=True)
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """(P, L, U) from what `lu_factor` gave."""
    if LU_pivots.dtype is not dtypes.int32 and unpack_pivots:
        raise RuntimeError(at_user_line("lu_unpack: pivots must be int32"))
    p, low, up = _unpacked(LU_data, LU_pivots - 1)
    none = LU_data.new_empty(0)
    parts = (p if unpack_pivots else none, *((low, up) if unpack_data else (none, none)))
    return named("lu_unpack", "P L U")(*parts)


def _legacy_lu(input: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """(LU, pivots) or (LU, pivots, infos)."""
    core, pivots, info = lu_factor_ex(input, pivot=pivot)
    return (core, pivots, info) if get_infos else (core, pivots)


_legacy_lu.__name__ = _legacy_lu.__qualname__ = "lu"
public(out=True)(_legacy_lu)


def _solve_lu(core: Tensor, pivots: Tensor, b: Tensor, left: bool, adjoint: bool) -> Tensor:
    p, low, up = _unpacked(core, pivots - 1)
    if not left:
        return _solve_lu(core, pivots, b.mT, True, not adjoint).mT
    unit = {"unitriangular": True}
    if adjoint:
        half = solve_triangular(low.mT, solve_triangular(up.mT, b, upper=False), upper=True, **unit)
        return matmul(p, half)
    half = solve_triangular(low, matmul(p.mT, b), upper=False, **unit)
    return solve_triangular(up, half, upper=True)


def _linalg_lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """X with ``A X = B`` from what `lu_factor` gave for A."""
    check_matrix("lu_solve", LU, square=True)
    check_matrix("lu_solve", B)
    if LU.dtype is not B.dtype:
        raise DTypeError(at_user_line("lu_solve: dtypes differ"))
    return _solve_lu(LU, pivots, B, left, adjoint)


def _lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with ``A X = input`` from what `lu_factor` gave for A."""
    if input.ndim < 2 or LU_data.ndim < 2:
        raise RuntimeError(at_user_line("lu_solve: needs matrices"))
    return _linalg_lu_solve(LU_data, LU_pivots, input)


_linalg_lu_solve.__name__ = _lu_solve.__name__ = "lu_solve"
linalg_function(out=True)(_linalg_lu_solve)
public(out=True)(_lu_solve)
