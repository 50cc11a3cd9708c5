"""Powers and the Euclidean norm of two numbers.

pow is exp(y * log|x|) with C's table of special cases. f32 goes through f64, which leaves room
enough; f64 takes the logarithm as a double word good to about 2**-68 (series of 2*atanh(f/(2+f)),
its first terms in double words), so that a product of 700 still gives a result within an ulp.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.codegen.mathlib.core import (
    Scalar,
    bits,
    fabs,
    floor,
    fma,
    kind_of,
    number,
    poly,
    select,
    sqrt,
    through_f64,
    unbits,
)
from tracejit.codegen.mathlib.define import Kinds, common, math_function
from tracejit.codegen.mathlib.double_word import (
    Pair,
    add,
    divide,
    fast_two_sum,
    multiply,
    two_product,
    two_sum,
)
from tracejit.codegen.mathlib.exp_log import (
    EXP,
    INF,
    LN2,
    LOG2E,
    NAN,
    ROUNDER,
    split_log,
)
from tracejit.codegen.mathlib.integer import integer_power

ROUNDER_BITS = 0x4338000000000000  # of ROUNDER["f64"]
THIRD: Pair = (0.3333333333333333, 1.850371707708594e-17)
FIFTH: Pair = (0.2, -1.1102230246251566e-17)
# (atanh(s)/s - 1 - z/3 - z*z/5) / z**3 in z = s*s
ATANH_TAIL = (0.062324116369425085, 0.0580573233227548, 0.06669863676228727, 0.07692231350180871,
              0.09090910129572481, 0.1111111110372171, 0.1428571428573521)  # fmt: skip
# (log(1+f) - f + f*f/2) / f**3 and (2**r - 1) / r to about 35 bits, for f32
LOG_MID = (0.1078277131611626, -0.11359343900889694, 0.08612435525251526, -0.09578360857268156,
           0.11145830752567946, -0.12526431630467888, 0.14284488359190017, -0.16665925225143874,
           0.20000018800214842, -0.25000007193191626, 0.3333333324964047)  # fmt: skip
EXP2_MID = (1.5196106826964375e-05, 0.0001546675845622788, 0.0013333935286666638,
            0.009618038128339189, 0.05550410365863798, 0.24022651066543338, 0.693147180704222
)  # fmt: skip


def log_pair(x: Scalar) -> Pair:
    """Return log(x) for a positive finite f64, with a relative error of about 2**-68."""
    e, f = split_log(x)
    s = divide((f, number(0.0, "f64")), two_sum(2.0, f))
    z = multiply(s, s)
    tail = add(FIFTH, (z[0] * poly(z[0], *ATANH_TAIL), number(0.0, "f64")))
    series = multiply(z, add(THIRD, multiply(z, tail)))
    series = multiply(s, series)
    logarithm = add((2.0 * s[0], 2.0 * s[1]), (2.0 * series[0], 2.0 * series[1]))
    scaled = add((e * LN2["f64"][0], number(0.0, "f64")), (e * LN2["f64"][1], number(0.0, "f64")))
    return add(scaled, logarithm)


def scale(y: Scalar, n: Scalar) -> Scalar:
    """Return y * 2**n for an f64 y and an i64 n of magnitude below 2000, rounded once."""
    half = n >> 1
    return y * unbits((half + 1023) << 52) * unbits((n - half + 1023) << 52)


def exp_pair(t: Pair) -> tuple[Pair, Scalar]:
    """Return e**(t[0] + t[1]) in f64 as a pair times 2**n, n an i64; 0 and inf beyond the range."""
    high = select(t[0] > 720.0, number(720.0, "f64"), t[0])
    high = select(high < -760.0, number(-760.0, "f64"), high)
    low = select(high == t[0], t[1], number(0.0, "f64"))
    shifted = fma(high, LOG2E, ROUNDER["f64"])
    n = shifted - ROUNDER["f64"]
    first = fma(n, -LN2["f64"][0], high)
    r = fma(n, -LN2["f64"][1], first)
    low = low + fma(n, -LN2["f64"][1], first - r)
    q = fma(r * r, poly(r, *EXP["f64"]), r)
    return fast_two_sum(number(1.0, "f64"), q + fma(low, q, low)), bits(shifted) - ROUNDER_BITS


def _power64(a: Scalar, y: Scalar) -> Scalar:
    """Return a**y for a >= 0 and any y, 0 and infinities included."""
    high, low = log_pair(a)
    edge = (a == INF) | (a == 0.0)
    high = select(edge, select(a == 0.0, number(-INF, "f64"), INF), high)
    p, p_low = two_product(y, high)
    t, t_low = fast_two_sum(p, fma(y, low, p_low))
    beyond = edge | (fabs(p) > 1e4)  # the low word matters no more, and it may be NaN
    y, n = exp_pair((select(beyond, p, t), select(beyond, number(0.0, "f64"), t_low)))
    return scale(y[0], n)


def _power32(a: Scalar, y: Scalar) -> Scalar:
    """Return a**y for f32 values a >= 0 and y held in f64, good to about 30 bits."""
    e, f = split_log(a)
    square = f * f
    logarithm = f - fma(square, 0.5, -(square * f * poly(f, *LOG_MID)))
    t = y * fma(logarithm, LOG2E, e)
    t = select(a == 0.0, y * -INF, select(a == INF, y * INF, t))
    t = select(t > 200.0, number(200.0, "f64"), select(t < -200.0, number(-200.0, "f64"), t))
    shifted = t + ROUNDER["f64"]
    r = t - (shifted - ROUNDER["f64"])
    power = unbits((bits(shifted) + 1023) << 52)
    return fma(r * poly(r, *EXP2_MID), power, power)


def _with_special_cases(power: Callable[..., Scalar], x: Scalar, y: Scalar) -> Scalar:
    """Return x**y from power(|x|, y) by C's rules for signs, 1, 0, infinities and NaN."""
    one, a = number(1.0, "f64"), fabs(x)
    result = select(a == 1.0, one, power(a, y))
    whole = floor(y) == y
    odd = whole & (floor(y * 0.5) != y * 0.5)
    result = select((bits(x) < 0) & odd, -result, result)
    result = select((x < 0.0) & (a < INF) & ~whole, number(NAN, "f64"), result)
    result = select((x == x) & (y == y), result, number(NAN, "f64"))
    return select((y == 0.0) | (x == 1.0), one, result)


def _pow_rule(kinds: Kinds) -> tuple[Kinds, str] | None:
    outcome = common(kinds)
    return None if outcome is None or outcome[1] == "b1" else outcome


@math_function(_pow_rule)
def pow(x: Scalar, y: Scalar) -> Scalar:
    """Return x**y: floats as in C; integers wrap, for a negative y 1/x**-y cut to an integer."""
    kind = kind_of(x)
    if kind == "f64":
        return _with_special_cases(_power64, x, y)
    if kind == "f32":
        return through_f64(lambda *wide: _with_special_cases(_power32, *wide), x, y)
    return integer_power(x, y)


def _hypot64(x: Scalar, y: Scalar) -> Scalar:
    a, b = fabs(x), fabs(y)
    largest = select(a > b, a, b)
    one = number(1.0, "f64")
    scale = select(largest > 2.0**500, number(2.0**-600, "f64"), one)
    scale = select(largest < 2.0**-450, number(2.0**600, "f64"), scale)
    a, b = a * scale, b * scale
    return sqrt(fma(a, a, b * b)) * (one / scale)


@math_function()
def hypot(x: Scalar, y: Scalar) -> Scalar:
    """Return sqrt(x*x + y*y) without overflow on the way; inf if either is infinite."""
    kind = kind_of(x)
    if kind == "f64":
        length = _hypot64(x, y)
    else:
        length = through_f64(lambda a, b: sqrt(fma(a, a, b * b)), x, y)
    return select((fabs(x) == INF) | (fabs(y) == INF), number(INF, kind), length)
