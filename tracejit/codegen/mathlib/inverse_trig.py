"""Inverse sine, cosine and tangent, and the two-argument arctangent.

Reductions as in fdlibm: asin by the half-angle formula above 1/2, atan about 0, 1 and infinity. The
f32 functions run a shorter polynomial in f64. Polynomials from `bench/derive_coefficients.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.codegen.mathlib.core import (
    Scalar,
    copysign,
    fabs,
    fma,
    kind_of,
    number,
    poly,
    select,
    sqrt,
    through_f64,
)
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.double_word import Pair, divide, two_sum
from tracejit.codegen.mathlib.trig import HALF_PI

INF = float("inf")
PI = (3.141592653589793, 1.2246467991473532e-16)
QUARTER_PI = (0.7853981633974483, 3.061616997868383e-17)
TAN_EIGHTH = 0.4142135623730951  # tan(pi/8)
TAN_THREE_EIGHTHS = 2.414213562373095
# (asin(s) - s) / s**3 on s*s <= 1/4 and (atan(t) - t) / t**3 on |t| <= tan(pi/8)
ASIN = (0.03262234754618198, -0.020989159722646915, 0.021700529286773972, 0.0037092250931707515,
        0.010779513333488538, 0.011399042980343579, 0.013980804757465569, 0.0173516133094386,
        0.022372214916707787, 0.03038194271029899, 0.04464285717455685, 0.07499999999970866,
        0.1666666666666676)  # fmt: skip
ASIN_MID = (0.037516454278206726, 0.014438646781186604, 0.03180769171411794, 0.044516960810868256,
            0.07500504139989368, 0.16666659992214805)  # fmt: skip
ATAN = (0.014903109731592533, -0.03318399984445499, 0.0449094320777146, -0.05215270789073183,
        0.05876529602035332, -0.06666175920887295, 0.07692279275967805, -0.09090907988685842,
        0.11111111083807629, -0.1428571428531709, 0.19999999999997098, -0.33333333333333326
)  # fmt: skip
ATAN_MID = (0.04741856533734756, -0.08475250762198164, 0.11044516972799394, -0.1428199429569457,
            0.19999903460800358, -0.3333333249439115)  # fmt: skip


def _by_precision(body: Callable[..., Scalar], *operands: Scalar) -> Scalar:
    """Run body(precise, *operands) in f64; f32 operands take the imprecise form and round."""
    if kind_of(operands[0]) == "f64":
        return body(True, *operands)
    return through_f64(lambda *wide: body(False, *wide), *operands)


def _asin_parts(precise: bool, x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Return (big, s, t): asin(|x|) is s + t, or pi/2 - 2*(s + t) where big, |x| > 1/2."""
    a = fabs(x)
    big = a > 0.5
    z = select(big, fma(a, -0.5, 0.5), x * x)
    root = sqrt(z)
    s = select(big, root, a)
    t = s * z * poly(z, *(ASIN if precise else ASIN_MID))
    if precise:  # what the square root's rounding lost; the divisor is not 0 where z is
        t = t + select(big, fma(-root, root, z) / (root + root + 1e-300), number(0.0, "f64"))
    return big, s, t


def _asin(precise: bool, x: Scalar) -> Scalar:
    big, s, t = _asin_parts(precise, x)
    return copysign(select(big, (HALF_PI[0] - 2.0 * s) - (2.0 * t - HALF_PI[1]), s + t), x)


def _acos(precise: bool, x: Scalar) -> Scalar:
    big, s, t = _asin_parts(precise, x)
    near = HALF_PI[0] - (copysign(s, x) - (HALF_PI[1] - copysign(t, x)))
    below = 2.0 * (HALF_PI[0] - (s + (t - HALF_PI[1])))
    return select(big, select(x < 0.0, below, 2.0 * (s + t)), near)


@math_function()
def asin(x: Scalar) -> Scalar:
    """Return the arcsine in [-pi/2, pi/2]; NaN outside [-1, 1]."""
    return _by_precision(_asin, x)


@math_function()
def acos(x: Scalar) -> Scalar:
    """Return the arccosine in [0, pi]; NaN outside [-1, 1]."""
    return _by_precision(_acos, x)


def _atan_of_ratio(precise: bool, y: Scalar, x: Scalar) -> Pair:
    """Return atan(y/x) in [0, pi/2] for y, x >= 0, not both 0 or infinite, as (base, rest)."""
    low, high = y <= x * TAN_EIGHTH, y > x * TAN_THREE_EIGHTHS
    zero = number(0.0, "f64")
    difference, total = two_sum(y, -x), two_sum(y, x)
    above = select(low, y, select(high, -x, difference[0]))
    below = select(low, x, select(high, y, total[0]))
    if precise:
        flat = low | high
        above_low = select(flat, zero, difference[1])
        below_low = select(flat, zero, total[1])
        t, t_low = divide((above, above_low), (below, below_low))
    else:
        t, t_low = above / below, zero
    z = t * t
    correction = fma(t * z, poly(z, *(ATAN if precise else ATAN_MID)), t_low)
    base = select(low, zero, select(high, number(HALF_PI[0], "f64"), QUARTER_PI[0]))
    base_low = select(low, zero, select(high, number(HALF_PI[1], "f64"), QUARTER_PI[1]))
    return base, t + (correction + base_low)


def _atan(precise: bool, x: Scalar) -> Scalar:
    a = fabs(x)
    infinite = a == INF
    one, zero = number(1.0, "f64"), number(0.0, "f64")
    base, rest = _atan_of_ratio(precise, select(infinite, one, a), select(infinite, zero, one))
    return copysign(base + rest, x)


@math_function()
def atan(x: Scalar) -> Scalar:
    """Return the arctangent in [-pi/2, pi/2]."""
    return _by_precision(_atan, x)


def _atan2(precise: bool, y: Scalar, x: Scalar) -> Scalar:
    ax, ay = fabs(x), fabs(y)
    one, zero = number(1.0, "f64"), number(0.0, "f64")
    if precise:  # keep sums finite and the rounding errors of products normal
        largest = select(ax > ay, ax, ay)
        scale = select(largest > 2.0**1000, number(0.25, "f64"), one)
        scale = select(largest < 2.0**-400, number(2.0**600, "f64"), scale)
        ax, ay = ax * scale, ay * scale
    x_infinite, y_infinite = ax == INF, ay == INF
    any_infinite = x_infinite | y_infinite
    ay = select(any_infinite, select(y_infinite, one, zero), ay)
    ax = select(any_infinite, select(x_infinite, one, zero), ax)
    ax = select((ax == 0.0) & (ay == 0.0), one, ax)
    base, rest = _atan_of_ratio(precise, ay, ax)
    left = copysign(one, x) < 0.0
    angle = select(left, (PI[0] - base) - (rest - PI[1]), base + rest)
    return select((x == x) & (y == y), copysign(angle, y), x + y)


@math_function()
def atan2(y: Scalar, x: Scalar) -> Scalar:
    """Return the angle of the point (x, y) in [-pi, pi], signs of zeros honoured."""
    return _by_precision(_atan2, y, x)
