"""Operands for tests of matrix products, and whether a product is near enough to float64.

Invariant: what is random comes from a seed.
"""

import numpy as np

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)


def random(shape, dtype=F4, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def transposed(x):
    """The same values, each matrix stored column by column."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def padded(x):
    """The same values in rows that lie apart, NaN between them."""
    wide = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, x.dtype)
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


def close(result, a, b):
    exact = np.matmul(a.astype(np.float64), b.astype(np.float64))
    scale = np.matmul(np.abs(a).astype(np.float64), np.abs(b).astype(np.float64))
    error = np.abs(result - exact)
    bound = (a.shape[-1] + 2) * np.finfo(result.dtype).eps * scale
    return result.shape == exact.shape and bool((error <= bound).all())
