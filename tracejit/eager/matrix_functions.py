"""``tracejit.linalg``, second part: norms, ranks, pseudo-inverses, powers, chains of products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.decompositions import (
    check_matrix,
    eigh,
    identity_like,
    inv,
    linalg_function,
    qr,
    solve,
    svd,
    svdvals,
)
from tracejit.eager.dispatch import apply, broadcast_symbolic
from tracejit.eager.joining import stack
from tracejit.eager.linalg import cheapest_product, matmul
from tracejit.eager.pointwise import check_tensors, where_of
from tracejit.eager.ranges import tril
from tracejit.eager.ranges import vander as _vander
from tracejit.eager.reduce import amax, amin, sum, to_dtype
from tracejit.eager.reduce import vector_norm as _vector_norm
from tracejit.eager.register import FUNCTIONS, public, with_names
from tracejit.eager.results import named
from tracejit.eager.shape import axis_of, expand, permute, reshape, sizes_of, squeeze, unsqueeze
from tracejit.eager.tape import type_of
from tracejit.eager.views import diagonal as _diagonal
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.tensor import Tensor

# --- norms -----------------------------------------------------------------------------------


def _floating(name: str, x: Tensor, dtype: Any) -> Tensor:
    check_tensors(name, x)
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(f"{name}: needs a floating dtype, got {x.dtype.name}"))
    if dtype is not None and dtypes.as_dtype(dtype).itemsize < x.dtype.itemsize:
        raise DTypeError(at_user_line(f"{name}: {x.dtype.name} would be narrowed"))
    return to_dtype(x, dtype, x.dtype)


@linalg_function(out=True)
def vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The `ord`-norm of vectors along `dim` (of all elements if None)."""
    return _vector_norm(_floating("vector_norm", x, dtype), ord, dim, keepdim)


@linalg_function(out=True)
def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices: fro, nuc, 1, -1, 2, -2, inf, -inf."""
    x = _floating("matrix_norm", A, dtype)
    if x.ndim < 2 or len(dim) != 2:
        raise RuntimeError(at_user_line(f"matrix_norm: needs matrices and two dims, not {dim}"))
    rows, columns = (axis_of(d, x.ndim, "matrix_norm") for d in dim)
    if rows == columns:
        raise RuntimeError(at_user_line(f"matrix_norm: the dims {dim} must differ"))
    if ord == "fro":
        return _vector_norm(x, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        order = [i for i in range(x.ndim) if i not in (rows, columns)]
        values = svdvals(permute(x, *order, rows, columns))
        total = ord == "nuc" or not sizes_of(values)[-1]
        found = sum(values, -1) if total else (amax if ord == 2 else amin)(values, -1)
        if keepdim:
            kept = [1 if i in (rows, columns) else n for i, n in enumerate(sizes_of(x))]
            found = reshape(found, *kept)
        return found
    if ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(at_user_line(f"matrix_norm: unknown order {ord!r}"))
    first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
    totals = sum(x.abs(), first, True)
    if ord > 0 and not sizes_of(x)[second]:
        found = sum(totals, second, True)  # no rows or columns: 0
    else:
        found = (amax if ord > 0 else amin)(totals, second, True)
    return found if keepdim else found.squeeze((rows, columns))


@linalg_function(out=True)
def norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """`vector_norm` or `matrix_norm`, as `ord` and `dim` say."""
    pair = not isinstance(dim, int) and dim is not None and len(dim) == 2
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None and A.ndim not in (1, 2):
        raise RuntimeError(at_user_line(f"norm: with ord, needs 1 or 2 dimensions, got {A.ndim}"))
    if pair or (dim is None and A.ndim == 2):
        return matrix_norm(A, ord, dim if pair else (-2, -1), keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(at_user_line(f"norm: order {ord!r} needs matrices"))
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


@public(method=False)
def nuclear_norm(input: Tensor, dim: Any = (-2, -1), keepdim: bool = False) -> Tensor:
    """The sum of the singular values."""
    return matrix_norm(input, "nuc", dim, keepdim)


@linalg_function(out=True)
def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number: ``norm(A) * norm(inv(A))``; for 2 and -2 from singular values."""
    check_matrix("cond", A)
    if p in (None, 2, -2):
        values = svdvals(A)
        large, small = values[..., 0], values[..., -1]
        return small / large if p == -2 else large / small
    check_matrix("cond", A, square=True)
    return matrix_norm(A, p) * matrix_norm(inv(A), p)


# --- rank, pseudo-inverse, least squares --------------------------------------------------------


def _tolerances(A: Tensor, atol: Any, rtol: Any, largest: Tensor) -> Tensor:
    """max(atol, rtol * largest singular value); rtol defaults to max(m, n) * eps."""
    if rtol is None:
        given = atol is not None and (isinstance(atol, Tensor) or atol > 0)
        rtol = 0.0 if given else max(sizes_of(A)[-2:]) * dtypes.finfo(A.dtype).eps
    limit = largest * rtol
    if atol is None:
        return limit
    return limit.maximum(atol if isinstance(atol, Tensor) else limit * 0 + atol)


def _sizes_of_values(A: Tensor, hermitian: bool) -> Tensor:
    return eigh(A).eigenvalues.abs() if hermitian else svdvals(A)


@linalg_function(out=True)
def matrix_rank(
    A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """How many singular values exceed ``max(atol, rtol * largest)``."""
    check_matrix("matrix_rank", A, square=hermitian)
    if tol is not None:
        atol, rtol = tol, 0.0
    values = _sizes_of_values(A.detach(), hermitian)
    if not sizes_of(values)[-1]:
        return A.new_zeros(sizes_of(A)[:-2], dtype=dtypes.int64)
    limit = _tolerances(A, atol, rtol, amax(values, -1))
    return sum(values > unsqueeze(limit, -1), -1)


@linalg_function(out=True)
def pinv(
    A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """The pseudo-inverse; singular values up to ``max(atol, rtol * largest)`` count as 0.

    hermitian  the matrices are symmetric: only their lower triangles are read.
    """
    check_matrix("pinv", A, square=hermitian)
    rtol = rcond if rtol is None else rtol
    if isinstance(atol, Tensor) or isinstance(rtol, Tensor):
        u, s, vh = svd(A, False)
        return _inverted(A, s, vh.mT, u.mT, atol, rtol)
    if hermitian:  # one triangle is read, the gradient is that of the whole
        mirrored = (tril(A) + tril(A, -1).mT).detach()
        A = apply(OPS["with_value"], (A, mirrored))
    if rtol is None:
        rtol = 0.0 if atol else max(sizes_of(A)[-2:]) * dtypes.finfo(A.dtype).eps
    params = {"atol": float(atol or 0.0), "rtol": float(rtol)}
    return apply(OPS["pinv"], (A,), params)


def _inverted(
    A: Tensor, values: Tensor, left: Tensor, right: Tensor, atol: Any, rtol: Any
) -> Tensor:
    if not sizes_of(values)[-1]:
        return A.mT.clone(memory_format="contiguous_format")
    limit = unsqueeze(_tolerances(A, atol, rtol, amax(values.abs(), -1)), -1)
    keep = values.abs() > limit
    inverse = where_of(keep, 1 / where_of(keep, values, 1.0, A.dtype), 0.0, A.dtype)
    return matmul(left * unsqueeze(inverse, -2), right)


@public()
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The pseudo-inverse."""
    return pinv(input, rcond)


@linalg_function(out=True)
def lstsq(
    input: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> Any:
    """(solution, residuals, rank, singular values) of the least squares ``input X ~ b``.

    driver  'gelsy' (the default, without residuals), 'gels', 'gelsd' or 'gelss'.
    """
    A, B = input, b
    check_matrix("lstsq", A)
    is_vector = B.ndim == 1 or B.ndim == A.ndim - 1
    columns = unsqueeze(B, -1) if is_vector else B
    if sizes_of(columns)[-2] != sizes_of(A)[-2] or A.dtype is not B.dtype:
        raise RuntimeError(at_user_line(f"lstsq: {type_of(A)} and {type_of(B)} do not fit"))
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(at_user_line(f"lstsq: unknown driver {driver!r}"))
    x = matmul(pinv(A, rcond), columns)
    m, n = sizes_of(A)[-2:]
    none = A.new_empty(0)
    values = svdvals(A.detach()) if driver in ("gelsd", "gelss") else none
    rank = none.to(dtypes.int64) if driver == "gels" else matrix_rank(A, rtol=rcond)
    known = driver not in (None, "gelsy")  # torch: that driver, the default, gives none
    full = known and m > n and (driver == "gels" or bool((rank == n).all()))
    residuals = sum((matmul(A, x) - columns).square(), -2) if full else none
    found = squeeze(x, -1) if is_vector else x
    return named("lstsq", "solution residuals rank singular_values")(found, residuals, rank, values)


# --- powers and products -------------------------------------------------------------------------


@linalg_function(out=True)
def matrix_power(A: Tensor, n: int) -> Tensor:
    """A multiplied by itself `n` times; a negative `n` inverts first."""
    check_matrix("matrix_power", A, square=True)
    base = inv(A) if n < 0 else A
    result, n = None, abs(n)
    if n == 0:
        return identity_like(A).clone()
    while True:
        if n & 1:
            result = base if result is None else matmul(result, base)
        n >>= 1
        if not n:
            assert result is not None
            return result
        base = matmul(base, base)


@linalg_function()
def matrix_exp(A: Tensor) -> Tensor:
    """The exponential of square matrices."""
    if isinstance(A, Tensor) and A.dtype is dtypes.float16:
        return matrix_exp(A.to(dtypes.float32)).to(A.dtype)
    check_matrix("matrix_exp", A, square=True)
    return apply(OPS["matrix_exp"], (A,))


public(out=True)(with_names(matrix_power, input="A"))
public()(with_names(matrix_exp, input="A"))


@linalg_function(out=True)
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices (the ends may be vectors) in the best order."""
    items = list(tensors)
    if len(items) < 2:
        raise RuntimeError(at_user_line("multi_dot: needs at least two tensors"))
    row, column = items[0].ndim == 1, items[-1].ndim == 1
    items[0] = unsqueeze(items[0], 0) if row else items[0]
    items[-1] = unsqueeze(items[-1], 1) if column else items[-1]
    if any(t.ndim != 2 for t in items):
        raise RuntimeError(at_user_line("multi_dot: the inner tensors must be matrices"))
    if len({t.dtype for t in items}) > 1:
        raise DTypeError(at_user_line("multi_dot: dtypes differ"))
    for a, b in zip(items, items[1:], strict=False):
        if sizes_of(a)[1] != sizes_of(b)[0]:
            raise ShapeError(at_user_line(
                f"multi_dot: {type_of(a)} and {type_of(b)} cannot be multiplied"))  # fmt: skip
    result = cheapest_product(items)
    result = squeeze(result, 0) if row else result
    return squeeze(result, -1) if column else result


@linalg_function(out=True)
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Inner products along `dim`; the other dimensions broadcast."""
    check_tensors("vecdot", x, y)
    if x.ndim == 0 or y.ndim == 0:
        raise RuntimeError(at_user_line("vecdot: needs at least one dimension"))
    a, b = FUNCTIONS["broadcast_tensors"](x, y)
    at = axis_of(dim, a.ndim, "vecdot")
    if sizes_of(x)[at - a.ndim] != sizes_of(y)[at - a.ndim]:
        raise ShapeError(at_user_line("vecdot: the sizes along dim differ"))
    return sum(a * b, at, dtype=a.dtype)


@linalg_function(out=True)
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross product of 3-vectors along `dim`; the other dimensions broadcast."""
    check_tensors("cross", input, other)
    if input.ndim != other.ndim:
        raise RuntimeError(at_user_line("cross: the tensors must have as many dimensions"))
    at = axis_of(dim, input.ndim, "cross")
    if sizes_of(input)[at] != 3 or sizes_of(other)[at] != 3:
        raise RuntimeError(at_user_line(
            f"cross: dimension {dim} must have size 3, got {type_of(input)}"))  # fmt: skip
    x, y = FUNCTIONS["broadcast_tensors"](input, other)
    a, b = x.unbind(at), y.unbind(at)
    parts = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return stack(parts, at)


def _cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of 3-vectors along `dim` (by default the first dimension of size 3)."""
    if dim is None:
        shape = broadcast_symbolic([sizes_of(input), sizes_of(other)])
        dim = next((i for i, n in enumerate(shape) if n == 3), None)
        if dim is None:
            raise RuntimeError(at_user_line("cross: no dimension has size 3"))
    return cross(input, other, dim=dim)


_cross.__name__ = _cross.__qualname__ = "cross"
public(out=True)(_cross)


@linalg_function()
def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Powers 0 to N - 1 of each element, along a new last dimension."""
    x = x if x.ndim else reshape(x, 1)
    count = sizes_of(x)[-1] if N is None else N
    if count <= 1:
        raise RuntimeError(at_user_line(f"vander: N must be greater than 1, not {count}"))
    flat = _vander(reshape(x, -1), count, True)
    return reshape(flat, *sizes_of(x), count)


@linalg_function()
def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of the last two dimensions, as a view."""
    return _diagonal(A, offset, dim1, dim2)


# --- tensors as matrices -------------------------------------------------------------------------


@linalg_function(out=True)
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse for `tensordot` over `ind` dimensions."""
    if ind <= 0:
        raise RuntimeError(at_user_line(f"tensorinv: ind must be positive, not {ind}"))
    shape = sizes_of(A)
    rows, columns = product(shape[:ind]), product(shape[ind:])
    if rows != columns:
        raise RuntimeError(at_user_line(f"tensorinv: {type_of(A)} is not square at {ind}"))
    return reshape(inv(reshape(A, rows, columns)), *shape[ind:], *shape[:ind])


@linalg_function(out=True)
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with ``tensordot(A, X, X.ndim) = B``; `dims` are moved to the end of A first."""
    if dims is not None:
        chosen = [axis_of(d, A.ndim, "tensorsolve") for d in dims]
        A = permute(A, *(i for i in range(A.ndim) if i not in chosen), *chosen)
    rest = sizes_of(A)[B.ndim :]
    size = product(rest)
    if product(sizes_of(A)[: B.ndim]) != size:
        raise RuntimeError(at_user_line(f"tensorsolve: {type_of(A)} is not square"))
    return reshape(solve(reshape(A, size, size), reshape(B, -1)), *rest)


# --- low rank ----------------------------------------------------------------------------------


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of rank at most `q` by randomised subspace iteration (Halko et al., 2009)."""
    q = 6 if q is None else q
    x = A if M is None else A - expand(M, *sizes_of(A))
    m, n = sizes_of(x)[-2:]
    if m < n:
        u, s, v = svd_lowrank(x.mT, q, niter)
        return v, s, u
    start = FUNCTIONS["randn"](n, q, dtype=x.dtype)
    basis = qr(matmul(x, start)).Q
    for _ in range(niter):
        basis = qr(matmul(x, qr(matmul(x.mT, basis)).Q)).Q
    u, s, vh = svd(matmul(basis.mT, x), False)
    return matmul(basis, u), s, vh.mT


def pca_lowrank(
    A: Tensor, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of the principal components of the rows of A."""
    m, n = sizes_of(A)[-2:]
    q = min(6, int(m), int(n)) if q is None else q
    if not 0 <= q <= min(int(m), int(n)) or niter < 0:
        raise ValueError(at_user_line(f"pca_lowrank: q={q} or niter={niter} is out of range"))
    return svd_lowrank(A - A.mean(-2, keepdim=True) if center else A, q, niter)


FUNCTIONS["svd_lowrank"], FUNCTIONS["pca_lowrank"] = svd_lowrank, pca_lowrank
