"""Bessel functions of the first and second kind, modified ones of the second kind, and Airy's Ai.

NumPy computes them in float64, each region by a method that loses no digits there: recurrence
downwards and Neumann's series (DLMF 10.74, 10.23), Hankel's expansion (10.17), the trapezoidal rule
on an integral that falls doubly exponentially (10.32.9), Taylor's series of Airy's equation.
Infinite arguments give NaN, as in torch (but for K). Invariant: no derivative is known (as in
torch), so asking for one raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.op import UNKNOWN, Op
from tracejit.ops.declare import uniform
from tracejit.ops.library import library

Array = np.ndarray[Any, Any]

_EULER = 0.57721566490153286061
_FAR = 25.0  # from here on Hankel's expansion has all digits
_TOP = 70  # an order whose function vanishes for all arguments up to _FAR


def _orders(x: Array) -> list[Array]:
    """J_0(x) .. J_top(x) for 0 < x <= _FAR, by Miller's recurrence from the top down."""
    values = [np.zeros_like(x)] * (_TOP + 2)
    values[_TOP] = np.full_like(x, 1e-300)
    for n in range(_TOP, 0, -1):
        values[n - 1] = 2 * n / x * values[n] - values[n + 1]
        large = np.abs(values[n - 1]) > 1e200
        if large.any():
            scale = np.where(large, 1e-200, 1.0)
            values = [v * scale for v in values]
    norm = values[0] + 2 * sum(values[2::2])
    return [v / norm for v in values[: _TOP + 1]]


def _near(x: Array, order: int, second: bool) -> Array:
    """J or Y of order 0 or 1 for 0 < x <= _FAR; Y by Neumann's series over the J."""
    small = x < 1e-3  # the recurrence would overflow; two terms have all digits there
    j = _orders(np.where(small, 1.0, x))
    h = x * x / 4
    starts = (1 - h + h * h / 4, x / 2 * (1 - h / 2 + h * h / 12))
    first = [np.where(small, a, b) for a, b in zip(starts, j, strict=False)]
    if not second:
        return np.asarray(first[order])
    log = np.log(x / 2) + _EULER
    if order == 0:
        series = sum((-1) ** k * j[2 * k] / k for k in range(1, _TOP // 2))
        series = np.where(small, -h / 2, series)
        return np.asarray(2 / math.pi * log * first[0] - 4 / math.pi * series)
    series = sum((-1) ** k * (2 * k + 1) / (k * (k + 1)) * j[2 * k + 1]
                 for k in range(1, _TOP // 2))  # fmt: skip
    series = np.where(small, -3 / 2 * x**3 / 48, series)
    return np.asarray(2 / math.pi * ((log - 1) * first[1] - first[0] / x - series))


def _distant(x: Array, order: int, second: bool) -> Array:
    """Hankel's expansion for large x."""
    mu = 4.0 * order * order
    p, q, term = np.ones_like(x), np.zeros_like(x), np.ones_like(x)
    for k in range(1, 26):
        term = term * (mu - (2 * k - 1) ** 2) / (8 * k * x)
        part = (q, p)[k % 2 == 0]
        part += (-1) ** (k // 2) * term
    # cos and sin of x - (order / 2 + 1 / 4) pi, without a difference of large numbers
    s, c = np.sin(x), np.cos(x)
    near, far = (c + s, s - c) if order == 0 else (s - c, -s - c)
    phase = near * q + far * p if second else near * p - far * q
    return np.asarray(phase / np.sqrt(math.pi * x))


def _cylinder(order: int, second: bool) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        a = np.abs(np.asarray(x, np.float64))
        plain = (a > 0) & np.isfinite(a)
        with np.errstate(all="ignore"):
            near = _near(np.where(plain & (a <= _FAR), a, 1.0), order, second)
            far = _distant(np.where(plain & (a > _FAR), a, 2 * _FAR), order, second)
            result = np.where(a <= _FAR, near, far)
            at_zero = -math.inf if second else 1.0 - order
            result = np.where(a == 0, at_zero, result)
            if second:
                result = np.where(np.asarray(x) < 0, math.nan, result)
            elif order:
                result = np.where(np.asarray(x) < 0, -result, result)
        return np.asarray(np.where(np.isfinite(a), result, math.nan)).astype(x.dtype)

    return run


def _scaled_k(x: Array, order: float) -> Array:
    """exp(x) K(x) for x > 0: the integral of exp(-x (cosh t - 1)) cosh(order t)."""
    total = np.full_like(x, 0.5)
    width = 1 / np.sqrt(np.maximum(x, 1.0))
    # below 1 the integrand reaches as far as t = log(1500 / x), and needs no finer steps
    steps = 12.0 * np.maximum(1.0, np.log(1500 / np.minimum(x, 1.0)) / 8)
    step = np.where(x < 1, np.log(1500 / np.minimum(x, 1.0)) / (steps * 8), width / 8)
    count = int(max(100, float(np.max(steps * 8, initial=0.0)) + 1))
    for k in range(1, count):
        t = step * k
        half = np.sinh(t / 2)
        total = total + np.exp(-2 * x * half * half) * np.cosh(order * t)
    return np.asarray(total * step)


def _modified(order: int, scaled: bool) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        a = np.asarray(x, np.float64)
        plain = (a > 0) & np.isfinite(a)
        with np.errstate(all="ignore"):
            safe = np.where(plain, a, 1.0)
            tiny = safe < 1e-8
            result = _scaled_k(np.where(tiny, 1.0, safe), order)
            limit = 1 / safe if order else -(np.log(safe / 2) + _EULER)
            result = np.where(tiny, limit * (1 + safe), result)
            if not scaled:
                result = result * np.exp(-safe)
            result = np.where(a == 0, math.inf, np.where(a == math.inf, 0.0, result))
        return np.asarray(np.where((a < 0) | np.isnan(a), math.nan, result)).astype(x.dtype)

    return run


def _airy_values(first: tuple[float, float], last: int) -> list[tuple[float, float]]:
    """(Ai, Ai') at 0, -1/4, -1/2 ... by Taylor's series of y'' = x y."""
    found = [first]
    for k in range(last):
        found.append(_taylor(np.float64(-k / 4), np.float64(-0.25), *found[-1]))
    return found


def _taylor(at: Any, off: Any, value: Any, slope: Any) -> tuple[Any, Any]:
    """A solution of Airy's equation and its slope at ``at + off``."""
    a, b, c = value, slope, at * value / 2
    total, change = a + b * off + c * off * off, b + 2 * c * off
    power = off * off
    for n in range(3, 24):
        a, b, c = b, c, (at * b + a) / (n * (n - 1))
        change = change + n * c * power
        power = power * off
        total = total + c * power
    return total, change


_AT_ZERO = (0.355028053887817239, -0.258819403792806798)
_NODES = np.array(_airy_values(_AT_ZERO, 40))


def _airy_left(x: Array) -> Array:
    """Ai for x < -10: both of Hankel's sums at once (DLMF 9.7.9)."""
    z = 2 / 3 * np.abs(x) ** 1.5
    p, q, term = np.ones_like(z), np.zeros_like(z), np.ones_like(z)
    for k in range(1, 20):
        term = term * (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / (216 * k * (2 * k - 1) * z)
        part = (q, p)[k % 2 == 0]
        part += (-1) ** (k // 2) * term
    phase = z - math.pi / 4
    return np.asarray((np.cos(phase) * p + np.sin(phase) * q)
                      / (math.sqrt(math.pi) * np.abs(x) ** 0.25))  # fmt: skip


def airy_ai(x: Array) -> Array:
    """Airy's function Ai."""
    a = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        middle = np.clip(np.where(np.isnan(a), 0.0, a), -10, 1)
        k = np.clip(np.rint(-4 * middle), 0, 40).astype(np.int64)
        near = _taylor(-k / 4, middle + k / 4, _NODES[k, 0], _NODES[k, 1])[0]
        right = np.where(a > 1, a, 1.0)
        z = 2 / 3 * right**1.5
        decayed = np.sqrt(right / 3) / math.pi * np.exp(-z) * _scaled_k(z, 1 / 3)
        left = _airy_left(np.where(a < -10, a, -11.0))
        result = np.where(a > 1, decayed, np.where(a < -10, left, near))
    return np.asarray(np.where(np.isfinite(a), result, math.nan)).astype(x.dtype)


def _define(name: str, doc: str, numpy: Callable[[Array], Array], low: float) -> Op:
    return library(name, doc, numpy=numpy, names=("x",), sample=uniform(low, 12),
                   vjp=lambda g, out, x: (UNKNOWN,))  # fmt: skip


BESSEL = [_define("airy_ai", "Airy's function Ai.", airy_ai, -6)]
for _n in (0, 1):
    BESSEL += [
        _define(f"bessel_j{_n}", f"The Bessel function of the first kind, order {_n}.",
                _cylinder(_n, False), -6.0),
        _define(f"bessel_y{_n}", f"The Bessel function of the second kind, order {_n}.",
                _cylinder(_n, True), 0.5),
        _define(f"modified_bessel_k{_n}",
                f"The modified Bessel function of the second kind, order {_n}.",
                _modified(_n, False), 0.5),
        _define(f"scaled_modified_bessel_k{_n}", f"exp(x) times `modified_bessel_k{_n}`.",
                _modified(_n, True), 0.5),
    ]  # fmt: skip
