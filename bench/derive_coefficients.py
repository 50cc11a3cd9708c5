"""Derives the polynomial coefficients of tracejit/codegen/mathlib.

Run `python bench/derive_coefficients.py [GROUP ...]`, groups being the functions of GROUPS.

Each entry names the constant it gives, prints it with its minimax error, and takes seconds to a
minute. Needs mpmath. Where a constant term is held as two floats (`C`), the fit is of
(f(t) - C) / t, so that its rounding does not limit the result. Trailing digits of the high
coefficients depend on the grid; what counts is the error beside them and the tests in ulp.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import mpmath as mp
from minimax import Real, fit, show

Function = Callable[[Real], Real]
LN2_HALF = float(mp.log(2) / 2) * 1.001
QUARTER_PI_SQUARED = float(mp.pi / 4 * 1.0005) ** 2
TAN_EIGHTH_SQUARED = float(mp.tan(mp.pi / 8) * 1.0005) ** 2
ROOT = mp.findroot(lambda x: mp.psi(0, x), 1.4616)
TINY = mp.mpf(10) ** -12


def polynomial(
    name: str,
    f: Function,
    a: float,
    b: float,
    degree: int,
    weight: Function = lambda x: mp.mpf(1),
    single: bool = False,
    count: int = 200,
) -> None:
    """Fit and print sum c_k x**k, k = 0..degree."""
    show(name, fit(f, a, b, range(degree + 1), weight, single, count=count), single)


def after_constant(
    name: str, f: Function, constant: Real, a: float, b: float, degree: int, weight: Function
) -> None:
    """Fit and print (f(t) - C)/t for the two-part constant C."""
    high = float(constant)
    low = float(constant - mp.mpf(high))
    c = mp.mpf(high) + mp.mpf(low)
    print(f"{name}: C = {high!r} + {low!r}")
    polynomial(name, lambda t: (f(t) - c) / t if abs(t) > 1e-9 else mp.diff(f, 0), a, b, degree,
               lambda t: t * weight(t), count=100)  # fmt: skip


def odd_tail(f: Function, third: Real, fifth: Real) -> tuple[Function, Function]:
    """(f(s) - s) / s**3 in z = s*s and the weight that makes its error relative to f."""

    def tail(z: Real) -> Real:
        s = mp.sqrt(z)
        return (f(s) - s) / s**3 if z > TINY else third + fifth * z

    return tail, lambda z: z * mp.sqrt(z) / f(mp.sqrt(z)) if z > 0 else mp.mpf(0)


def exponential() -> None:
    """EXP: (e**r - 1 - r) / r**2, relative to e**r - 1."""

    def f(r: Real) -> Real:
        return (mp.expm1(r) - r) / r**2 if abs(r) > TINY else mp.mpf(1) / 2 + r / 6

    def weight(r: Real) -> Real:
        return r**2 / mp.expm1(r) if abs(r) > TINY else mp.mpf(0)

    polynomial("EXP f32", f, -LN2_HALF, LN2_HALF, 4, weight, single=True)
    polynomial("EXP f64", f, -LN2_HALF, LN2_HALF, 10, weight)
    polynomial("EXP2_MID", lambda r: (mp.mpf(2) ** r - 1) / r if abs(r) > TINY else mp.log(2),
               -0.5, 0.5, 6, lambda r: r / mp.mpf(2) ** r)  # fmt: skip


def logarithm() -> None:
    """LOG32, LOG_MID: (log(1+f) - f + f*f/2) / f**3; LOG64, ATANH_TAIL: series in s = f/(2+f)."""

    def f(x: Real) -> Real:
        return (mp.log1p(x) - x + x * x / 2) / x**3 if abs(x) > 1e-8 else mp.mpf(1) / 3 - x / 4

    def weight(x: Real) -> Real:
        return x**3 / mp.log1p(x) if x else mp.mpf(0)

    polynomial("LOG32", f, -1 / 3, 1 / 3, 8, weight, single=True, count=300)
    polynomial("LOG_MID", f, -1 / 3, 1 / 3, 10, weight, count=150)
    polynomial("LOG64", lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z if z > TINY
               else mp.mpf(2) / 3 + z * 2 / 5, 0, 0.04, 7, lambda z: z / 2)  # fmt: skip
    polynomial("ATANH_TAIL",
               lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1 - z / 3 - z * z / 5) / z**3
               if z > 1e-6 else mp.mpf(1) / 7 + z / 9 + z * z / 11,
               0, 0.0401, 6, lambda z: z**3)  # fmt: skip


def trigonometric() -> None:
    """SIN, COS for f32, f64 and "mid"; ASIN, ATAN and their shorter forms for f32; SINH."""
    sine, sine_weight = odd_tail(mp.sin, -mp.mpf(1) / 6, mp.mpf(1) / 120)
    for name, degree, single in (("f32", 3, True), ("f64", 6, False), ("mid", 3, False)):
        polynomial(f"SIN {name}", sine, 0, QUARTER_PI_SQUARED, degree, sine_weight, single)
    for name, degree, single in (("f32", 2, True), ("f64", 5, False), ("mid", 3, False)):
        polynomial(f"COS {name}", lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2 if z > TINY
                   else mp.mpf(1) / 24 - z / 720, 0, QUARTER_PI_SQUARED, degree,
                   lambda z: z * z / mp.cos(mp.sqrt(z)), single)  # fmt: skip
    for name, function, top, degrees in (
        ("ASIN", odd_tail(mp.asin, mp.mpf(1) / 6, mp.mpf(3) / 40), 0.25, (12, 5)),
        ("ATAN", odd_tail(mp.atan, -mp.mpf(1) / 3, mp.mpf(1) / 5), TAN_EIGHTH_SQUARED, (11, 5)),
    ):
        for suffix, degree in zip(("", "_MID"), degrees):
            polynomial(name + suffix, function[0], 0, top, degree, function[1], count=250)
    tail, weight = odd_tail(mp.sinh, mp.mpf(1) / 6, mp.mpf(1) / 120)
    polynomial("SINH f32", tail, 0, 1.01, 3, weight, single=True)
    polynomial("SINH f64", tail, 0, 1.01, 6, weight)


def error_function() -> None:
    """ERF32, ERF64, ERFC32, ERFC64."""
    c0 = -2 / mp.sqrt(mp.pi)
    polynomial("ERF32", lambda x: (mp.log(mp.erfc(x)) / x - c0) / x if x > TINY else -2 / mp.pi,
               0, 4.0, 8, lambda x: x * x * mp.erfc(x) / mp.erf(x) if x > TINY else mp.mpf(0),
               single=True, count=300)  # fmt: skip
    polynomial("ERF64", lambda z: (mp.erf(mp.sqrt(z)) / mp.sqrt(z) + c0) / z if z > TINY
               else c0 / 3, 0, 1.0, 11,
               lambda z: z * mp.sqrt(z) / mp.erf(mp.sqrt(z)) if z > 0 else mp.mpf(0), count=250
    )  # fmt: skip

    def f(t: Real) -> Real:
        x = 3 * (1 + t) / (1 - t)
        return mp.exp(x * x) * mp.erfc(x) * (1 + 2 * x)

    for name, degree, low, high in (("ERFC32", 10, 0.0, 11.0), ("ERFC64", 21, 0.5, 28.0)):
        after_constant(name, f, f(mp.mpf(0)), (low - 3) / (low + 3), (high - 3) / (high + 3),
                       degree, lambda t: 1 / f(t))  # fmt: skip


def inverse_error_function() -> None:
    """ERFINV_NEAR, ERFINV_FAR32, ERFINV_FAR64: erfinv(x)/x by w = -log(1 - x*x)."""

    def ratio(w: Real) -> Real:
        if w < mp.mpf(10) ** -25:
            return mp.sqrt(mp.pi) / 2
        x, rest = mp.sqrt(-mp.expm1(-w)), mp.exp(-w) / (1 + mp.sqrt(-mp.expm1(-w)))
        y = x * mp.sqrt(mp.pi) / 2 if rest > 0.5 else mp.sqrt(w) * 0.8
        for _ in range(9):
            error = mp.erf(y) - x if rest > 0.3 else rest - mp.erfc(y)
            step = error / (2 / mp.sqrt(mp.pi) * mp.exp(-y * y))
            y -= step / (1 + y * step)
        return y / x

    for name, f, a, b, degree in (
        ("ERFINV_NEAR", lambda v: ratio(v + mp.mpf(3.125)), -3.125, 3.125, 12),
        ("ERFINV_FAR32", lambda v: ratio((v + mp.mpf(3.25)) ** 2), -0.75, 0.85, 11),
        ("ERFINV_FAR64", lambda v: ratio((v + 4) ** 2), -1.764, 2.1, 11),
    ):
        polynomial(name, f, a, b, degree, lambda v, f=f: 1 / f(v), count=100)


def gamma() -> None:
    """LGAMMA_AT_2, DIGAMMA_AT_2, DIGAMMA_AT_ROOT, LGAMMA_TAIL, DIGAMMA_TAIL."""

    def at_two(u: Real) -> Real:
        return mp.loggamma(2 + u) / (u * (1 + u)) if abs(u) > 1e-18 else 1 - mp.euler

    def at_root(d: Real) -> Real:
        return mp.psi(0, ROOT + d) / d if abs(d) > 1e-15 else mp.psi(1, ROOT)

    def lgamma_tail(z: Real) -> Real:
        x = 1 / mp.sqrt(z) if z > 1e-9 else mp.inf
        main = (x - mp.mpf(1) / 2) * mp.log(x) - x + mp.log(2 * mp.pi) / 2
        return (mp.loggamma(x) - main) * x if z > 1e-9 else mp.mpf(1) / 12 - z / 360

    def digamma_tail(z: Real) -> Real:
        x = 1 / mp.sqrt(z) if z > 1e-9 else mp.inf
        rest = mp.psi(0, x) - mp.log(x) + 1 / (2 * x)
        return rest * x * x if z > 1e-9 else -mp.mpf(1) / 12 + z / 120

    after_constant("LGAMMA_AT_2", at_two, 1 - mp.euler, -0.5, 0.5, 18, lambda t: 1 / at_two(t))
    after_constant("DIGAMMA_AT_2", lambda u: mp.psi(0, 2 + u), 1 - mp.euler, -0.5, 0.503, 18,
                   lambda t: mp.mpf(2))  # fmt: skip
    after_constant("DIGAMMA_AT_ROOT", at_root, mp.psi(1, ROOT), -0.2616, 0.2884, 15,
                   lambda d: 1 / at_root(d))  # fmt: skip
    polynomial("LGAMMA_TAIL", lgamma_tail, 0, 1 / 64, 6, lambda z: mp.mpf(12) / 90, count=80)
    polynomial("DIGAMMA_TAIL", digamma_tail, 0, 1 / 64, 6, lambda z: mp.mpf(1) / 128, count=80)


GROUPS = (exponential, logarithm, trigonometric, error_function, inverse_error_function, gamma)


def main(names: Sequence[str]) -> None:
    """Run the named groups, or all."""
    for group in GROUPS:
        if not names or group.__name__ in names:
            group()


if __name__ == "__main__":
    main(sys.argv[1:])
