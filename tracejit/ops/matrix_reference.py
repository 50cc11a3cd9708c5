"""Matrix functions that NumPy lacks or spells differently, for stacks of matrices.

Invariant: results have the dtype of the matrices; exactly singular input raises LinAlgError or
gives infinities where torch does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def solve(a: Array, b: Array) -> Array:
    """X with A X = B; `b` holds matrices."""
    if a.shape[-1] == 0 or b.size == 0:
        return np.zeros(b.shape, b.dtype)
    return np.linalg.solve(a, b)


def triangular_solve(a: Array, b: Array, lower: bool, unit: bool) -> Array:
    """Substitution, row by row, over all matrices of the stack at once."""
    x = np.array(b)
    n = a.shape[-1]
    for i in range(n) if lower else reversed(range(n)):
        known = slice(0, i) if lower else slice(i + 1, n)
        row = a[..., i : i + 1, known]
        x[..., i : i + 1, :] -= row @ x[..., known, :]
        if not unit:
            x[..., i, :] /= a[..., i, i, None]
    return x


def cofactor(a: Array) -> Array:
    """det(U V) U diag(products of the other singular values) Vh."""
    if a.size == 0:
        return a.copy()
    u, s, vh = np.linalg.svd(a)
    n = s.shape[-1]
    others = np.ones_like(s)
    for i in range(n):
        others[..., i] = np.prod(np.delete(s, i, -1), -1)
    sign = (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]
    return (sign * (u * others[..., None, :]) @ vh).astype(a.dtype)


def geqrf(a: Array) -> tuple[Array, Array]:
    """LAPACK's geqrf: R above, Householder vectors below the diagonal, and their factors."""
    if a.size == 0:
        return a.copy(), np.zeros((*a.shape[:-2], min(a.shape[-2:])), a.dtype)
    h, tau = np.linalg.qr(a, mode="raw")
    return np.swapaxes(h, -1, -2).astype(a.dtype), tau.astype(a.dtype)


def _eliminate(work: Array, i: int) -> None:
    """Subtract multiples of row i from the rows below; the multipliers stay in column i."""
    pivot = work[i, i]
    if pivot != 0:
        work[i + 1 :, i] /= pivot
    work[i + 1 :, i + 1 :] -= np.outer(work[i + 1 :, i], work[i, i + 1 :])


def lu_pivots(a: Array) -> Array:
    """For each row in turn, the row (from there on) with the largest pivot, exchanged with it."""
    m, n = a.shape[-2:]
    k = min(m, n)
    pivots = np.zeros((*a.shape[:-2], k), np.int64)
    for where in np.ndindex(*a.shape[:-2]):
        work = np.array(a[where])
        for i in range(k):
            at = i + int(np.argmax(np.abs(work[i:, i])))
            pivots[(*where, i)] = at
            work[[i, at]] = work[[at, i]]
            _eliminate(work, i)
    return pivots


def lu(a: Array) -> Array:
    """Gaussian elimination without row exchanges: L (below) and U in one matrix."""
    result = np.array(a)
    for where in np.ndindex(*a.shape[:-2]):
        for i in range(a.shape[-1]):
            _eliminate(result[where], i)
    return result


def pinv(a: Array, atol: float, rtol: float) -> Array:
    """The pseudo-inverse from the singular values above the tolerance."""
    if a.size == 0:
        return np.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    keep = s > np.maximum(atol, rtol * s[..., :1])
    inverse = np.where(keep, 1 / np.where(keep, s, 1), 0)
    return np.swapaxes((u * inverse[..., None, :]) @ vh, -1, -2).astype(a.dtype)


_PADE = (64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800,
         129060195264000, 10559470521600, 670442572800, 33522128640, 1323241920, 40840800,
         960960, 16380, 182, 1)  # fmt: skip


def matrix_exp(a: Array) -> Array:
    """Scaling and squaring with the [13/13] Pade approximant (Higham, 2005)."""
    if a.size == 0:
        return a.copy()
    wide = a.astype(np.float64)
    size = np.abs(wide).sum(-2).max()
    squarings = max(0, int(np.ceil(np.log2(size / 5.37)))) if 0 < size < np.inf else 0
    x = wide / 2.0**squarings
    powers = [np.broadcast_to(np.eye(a.shape[-1]), x.shape), x]
    for _ in range(12):
        powers.append(powers[-1] @ x)
    odd = sum(c * p for c, p in zip(_PADE[1::2], powers[1::2], strict=True))
    even = sum(c * p for c, p in zip(_PADE[0::2], powers[0::2], strict=True))
    result = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        result = result @ result
    return result.astype(a.dtype)
