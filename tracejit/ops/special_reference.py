"""NumPy meanings of zeta and the incomplete gamma functions, in float64.

Sources: Euler-Maclaurin summation (Johansson, 2015); Temme and Gautschi's series and continued
fraction (DLMF 8.7, 8.9). Invariant: results are rounded once, to the dtype of the operands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.ops.reference import lgamma

Array = np.ndarray[Any, Any]

# B(2j) / (2j)!
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
              1 / 74724249600, -3617 / 10670622842880000)  # fmt: skip


def zeta(x: Array, q: Array) -> Array:
    """The sum of (q + k) ** -x: terms up to q + k = 12, then the Euler-Maclaurin tail."""
    s, a = np.broadcast_arrays(x.astype(np.float64), q.astype(np.float64))
    s, a = s.copy(), a.copy()
    whole = s == np.floor(s)
    start, total = a.copy(), np.zeros_like(s)
    valid = np.isfinite(a) & (s > 1)
    with np.errstate(all="ignore"):
        while True:
            early = valid & (a < 12)
            if not early.any():
                break
            total = np.where(early, total + np.power(a, -s), total)
            a = np.where(early, a + 1, a)
        power = np.power(a, -s)
        total = total + power * (a / (s - 1) + 0.5)
        factor = s
        for j, b in enumerate(_BERNOULLI):
            power = power / a
            total = total + b * factor * power
            power = power / a
            factor = factor * (s + 2 * j + 1) * (s + 2 * j + 2)
        total = np.where(start == np.inf, np.where(s > 1, 0.0, np.nan), total)
        poles = (start <= 0) & (start == np.floor(start))
        total = np.where((start < 0) & ~whole & ~poles, np.nan, total)
        total = np.where(poles, np.inf, total)
        total = np.where(s == 1, np.inf, np.where(s < 1, np.nan, total))
        total = np.where(np.isnan(start) | np.isnan(s), np.nan, total)
    return total.astype(x.dtype)


def _series(a: Array, x: Array) -> Array:
    """P(a, x) = x**a exp(-x) / gamma(a + 1) * (1 + x/(a+1) + x**2/((a+1)(a+2)) + ...)."""
    total, term, n = np.ones_like(x), np.ones_like(x), a.copy()
    for _ in range(5000):
        n = n + 1
        term = term * x / n
        total = total + term
        if not (np.abs(term) > np.abs(total) * 1e-17).any():
            break
    return total * np.exp(a * np.log(x) - x - lgamma(a + 1))


def _fraction(a: Array, x: Array) -> Array:
    """Q(a, x) by Lentz's evaluation of its continued fraction."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = np.full_like(x, 1 / tiny), 1 / np.where(b == 0, tiny, b)
    h = d.copy()
    for i in range(1, 5000):
        step = -i * (i - a)
        b = b + 2
        d = step * d + b
        d = 1 / np.where(np.abs(d) < tiny, tiny, d)
        c = b + step / c
        c = np.where(np.abs(c) < tiny, tiny, c)
        h = h * d * c
        if not (np.abs(d * c - 1) > 1e-16).any():
            break
    return h * np.exp(a * np.log(x) - x - lgamma(a))


def _both(a: Array, x: Array) -> tuple[Array, Array]:
    """(P, Q) for a > 0, x > 0: each from the side where it loses no digits."""
    by_series = x <= a + 1
    low = np.where(by_series, _series(a, np.where(by_series, x, 1.0)), 0.0)
    high = np.where(by_series, 0.0, _fraction(a, np.where(by_series, a + 2, x)))
    return np.where(by_series, low, 1 - high), np.where(by_series, 1 - low, high)


def _incomplete(a: Array, x: Array) -> tuple[Array, Array]:
    a, x = np.broadcast_arrays(a.astype(np.float64), x.astype(np.float64))
    with np.errstate(all="ignore"):
        plain = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
        p, q = _both(np.where(plain, a, 1.0), np.where(plain, x, 1.0))
        bad = (a < 0) | (x < 0) | np.isnan(a) | np.isnan(x)
        bad |= ((a == 0) & (x == 0)) | (np.isinf(a) & np.isinf(x))
        zero = (x == 0) | np.isinf(a)  # nothing of the mass lies below x
        one = (a == 0) | np.isinf(x)
        p = np.where(plain, p, np.where(bad, math.nan, np.where(zero, 0.0, np.where(one, 1.0, p))))
        q = np.where(plain, q, np.where(bad, math.nan, np.where(zero, 1.0, np.where(one, 0.0, q))))
    return p, q


def igamma(a: Array, x: Array) -> Array:
    """The regularised lower incomplete gamma function."""
    return _incomplete(a, x)[0].astype(a.dtype)


def igammac(a: Array, x: Array) -> Array:
    """The regularised upper incomplete gamma function."""
    return _incomplete(a, x)[1].astype(a.dtype)
