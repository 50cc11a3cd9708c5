"""Exponentials, logarithms, sigmoid and the error-free reduction they share.

Range reduction after Cody and Waite (ln 2 in two parts, fused multiply-add); polynomials are
minimax fits from `bench/derive_coefficients.py`; log in f64 follows fdlibm's formula
log(1+f) = f - (f*f/2 - s*(f*f/2 + R(s*s))), s = f/(2+f).
"""

from __future__ import annotations

from tracejit.codegen.mathlib.core import (
    Scalar,
    bits,
    convert,
    copysign,
    fabs,
    fma,
    kind_of,
    number,
    poly,
    select,
    unbits,
)
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.double_word import fast_two_sum, two_product, two_sum

INF = float("inf")
NAN = float("nan")
LOG2E = 1.4426950408889634
# ln 2 = HI + LO: HI has trailing zeros enough for n*HI to be exact for every exponent n.
LN2 = {"f32": (0.693359375, -2.12194440e-4), "f64": (0.6931471803691238, 1.9082149292705877e-10)}
LN2_PAIR = {"f32": (0.6931472, -1.9046542e-09), "f64": (0.6931471805599453, 2.3190468138462996e-17)}
LOG2E_PAIR = {"f32": (1.442695, 1.925963e-08), "f64": (LOG2E, 2.0355273740931033e-17)}
LOG10E_PAIR = {
    "f32": (0.4342945, -1.010305e-08),
    "f64": (0.4342944819032518, 1.098319650216765e-17),
}
# the high part has trailing zeros enough for its product with an exponent to be exact
LOG10_2_PAIR = {
    "f32": (0.3010254, 4.605039e-06),
    "f64": (0.30102999566383914, 1.42050232272661e-13),
}
# e**x - 1 rounds to -1 below; half of it, or a quarter, is infinite above
EXPM1_RANGE = {"f32": (-20.0, 89.0, 89.5), "f64": (-40.0, 710.0, 710.5)}
# Adding then subtracting 1.5 * 2**mantissa_bits rounds to an integer, held in the low bits.
ROUNDER = {"f32": 12582912.0, "f64": 6755399441055744.0}
MANTISSA = {"f32": 23, "f64": 52}
BIAS = {"f32": 127, "f64": 1023}
# (e**r - 1 - r) / r**2 on |r| <= ln(2)/2, highest power first
EXP = {
    "f32": (0.0013836933, 0.008367139, 0.041667745, 0.16666539, 0.49999997),
    "f64": (2.089409423732311e-09, 2.510871390798224e-08, 2.7557329171109326e-07,
            2.755724509358342e-06, 2.4801587279186875e-05, 0.00019841269885380756,
            0.0013888888888893662, 0.008333333333321789, 0.041666666666666685,
            0.16666666666666677, 0.5),
}  # fmt: skip
# Exponents beyond which the two factors of `scaled_exp` are 0, or their product is infinite.
EXPONENTS = {"f32": (-254.0, 200.0), "f64": (-2046.0, 1500.0)}
LOG32 = (0.11722369, -0.12885138, 0.108227246, -0.12187549, 0.14298937, -0.16680095, 0.19999765,
         -0.24999811, 0.33333334)  # fmt: skip
LOG64 = (0.13842527287042905, 0.1317366713713839, 0.15391108322249591, 0.1818166597540731,
         0.22222224294991874, 0.2857142855583929, 0.40000000000056646, 0.666666666666666
)  # fmt: skip


def reduce_exp(x: Scalar, offset: int) -> tuple[Scalar, Scalar]:
    """Split x = n*ln2 + r, |r| <= ln(2)/2: return r and the bits whose low part is n + offset."""
    kind = kind_of(x)
    shifted = fma(x, LOG2E, ROUNDER[kind] + offset)
    n = shifted - (ROUNDER[kind] + offset)
    r = fma(n, -LN2[kind][0], x)
    return fma(n, -LN2[kind][1], r), bits(shifted)


def scaled_exp(r: Scalar, n: Scalar) -> Scalar:
    """Return e**r * 2**n, rounded once more where that is subnormal; n + 2*BIAS in the low bits.

    The power is the product of two, so that it may lie outside the range of the type. Both are 0
    from n = -2*BIAS on: a product that rounds to 0 would cost a hundred cycles (masked softmax).
    """
    kind = kind_of(r)
    half = n >> 1
    power = unbits(half << MANTISSA[kind])
    p = fma(r * r, poly(r, *EXP[kind]), r)
    return fma(p, power, power) * unbits((n - half) << MANTISSA[kind])


def clamp(x: Scalar, low: float, high: float) -> Scalar:
    """Return x within [low, high]; NaN stays."""
    kind = kind_of(x)
    x = select(x < low, number(low, kind), x)
    return select(x > high, number(high, kind), x)


def exp_body(x: Scalar) -> Scalar:
    """Compute e**x for any x."""
    kind = kind_of(x)
    low, high = (n / LOG2E for n in EXPONENTS[kind])
    return scaled_exp(*reduce_exp(clamp(x, low, high), 2 * BIAS[kind]))


@math_function()
def exp(x: Scalar) -> Scalar:
    """Return e**x; inf above about 88.72 (f32) or 709.78 (f64), 0 for -inf."""
    return exp_body(x)


@math_function()
def exp2(x: Scalar) -> Scalar:
    """Return 2**x, exact for integers."""
    kind = kind_of(x)
    bounded = clamp(x, *EXPONENTS[kind])
    rounder = ROUNDER[kind] + 2 * BIAS[kind]
    shifted = bounded + rounder
    fraction = bounded - (shifted - rounder)
    r = fma(fraction, LN2_PAIR[kind][0], fraction * LN2_PAIR[kind][1])
    return scaled_exp(r, bits(shifted))


def exp_parts(x: Scalar, halvings: int) -> tuple[Scalar, Scalar]:
    """Return power and p, e**x * 2**-halvings = power * (1 + p), for 1 or 2 halvings."""
    kind = kind_of(x)
    r, n = reduce_exp(
        clamp(x, EXPM1_RANGE[kind][0], EXPM1_RANGE[kind][halvings]), BIAS[kind] - halvings
    )
    p = fma(r * r, poly(r, *EXP[kind]), r)
    return unbits(n << MANTISSA[kind]), p


def half_exp(x: Scalar) -> Scalar:
    """Return e**x / 2 for x >= 0, finite wherever sinh and cosh are."""
    power, p = exp_parts(x, 2)
    return 2.0 * fma(power, p, power)


@math_function()
def expm1(x: Scalar) -> Scalar:
    """Return e**x - 1 without cancellation; -1 at -inf, -0.0 at -0.0."""
    power, p = exp_parts(x, 1)  # half of the result: 2**128 would not be finite
    half = fma(power, p, power - 0.5)
    return select(fabs(x) < 2.0**-60, x, half + half)


def expm1_pair(x: Scalar) -> tuple[Scalar, Scalar]:
    """Compute e**x - 1 for x in about [-50, 80] and most of its rounding error."""
    kind = kind_of(x)
    r, n = reduce_exp(x, BIAS[kind])
    p = fma(r * r, poly(r, *EXP[kind]), r)
    power = unbits(n << MANTISSA[kind])
    base = power - 1.0
    t = fma(power, p, base)
    return t, fma(power, p, base - t)


def expm1_core(x: Scalar) -> Scalar:
    """Compute e**x - 1 for x in about [-50, 80]; NaN stays NaN, the sign of zero may be lost."""
    return expm1_pair(x)[0]


def divide_by_sum(x: Scalar, a: Scalar, b: Scalar, x_low: Scalar = None) -> Scalar:
    """Return (x + x_low) / (a + b + x_low), rounded about once, for a sum in [1, 2].

    Needs x and a times the quotient within a factor of 2 of each other: their difference is then
    exact (Sterbenz), so the sum's rounding does not count. In f32, where a division takes as long
    as 15 products, the reciprocal is the quadratic minimax on [1, 2] (relative error 1/99, of
    Chebyshev's T3) and a Newton step; the quotient's residual does the rest.
    """
    total = a + b
    if kind_of(x) == "f32":
        reciprocal = fma(fma(total, 32.0 / 99.0, -144.0 / 99.0), total, 210.0 / 99.0)
        reciprocal = fma(fma(-total, reciprocal, 1.0), reciprocal, reciprocal)
    else:
        reciprocal = 1.0 / total
    y = x * reciprocal
    rest = fma(-y, b, fma(-y, a, x))
    if x_low is not None:
        rest = fma(x_low, 1.0 - y, rest)
    return fma(rest, reciprocal, y)


@math_function()
def sigmoid(x: Scalar) -> Scalar:
    """Return 1 / (1 + e**-x), relative precision kept down to subnormal results."""
    z = exp_body(-fabs(x))
    return divide_by_sum(select(x < 0.0, z, number(1.0, kind_of(x))), 1.0, z)


def split_log(x: Scalar) -> tuple[Scalar, Scalar]:
    """Split x > 0 into e and f with x = 2**e * (1 + f), 1 + f in [2/3, 4/3)."""
    kind = kind_of(x)
    tiny = x < 2.0 ** (2 - BIAS[kind] - 1)
    lift = MANTISSA[kind] + 2
    i = bits(select(tiny, x * 2.0**lift, x))
    base = 0x3F2AAAAB if kind == "f32" else 0x3FE5555555555555
    i = i - base
    mantissa = (i & ((1 << MANTISSA[kind]) - 1)) + base
    e = convert(i >> MANTISSA[kind], kind)
    e = e - select(tiny, number(float(lift), kind), number(0.0, kind))
    return e, unbits(mantissa) - 1.0


def log_edges(x: Scalar, y: Scalar) -> Scalar:
    """Replace y by log's value where x is 0, negative, infinite or NaN."""
    kind = kind_of(x)
    special = select(x == 0.0, number(-INF, kind), number(NAN, kind))
    return select(x > 0.0, select(x == INF, x, y), special)


def _log1p_terms(f: Scalar) -> tuple[Scalar, Scalar]:
    """Return (a, b) with log(1+f) = f - (a - b): a = f*f/2 and b small."""
    square = f * f
    half = square * 0.5
    if kind_of(f) == "f32":
        return half, square * f * poly(f, *LOG32)
    s = f / (f + 2.0)
    z = s * s
    return half, s * (half + z * poly(z, *LOG64))


def log_sum(x: Scalar, low: Scalar = None) -> Scalar:
    """Compute log(x + low) for x > 0 and |low| at most about an ulp of x, or of 1."""
    kind = kind_of(x)
    e, f = split_log(x)
    half, rest = _log1p_terms(f)
    y = fma(e, LN2[kind][1], rest)
    if low is not None:
        y = y + low / x
    return fma(e, LN2[kind][0], (y - half) + f)


@math_function()
def log(x: Scalar) -> Scalar:
    """Return the natural logarithm; -inf at 0, NaN below."""
    return log_edges(x, log_sum(x))


@math_function()
def log1p(x: Scalar) -> Scalar:
    """Return log(1 + x) without cancellation; -inf at -1, NaN below, -0.0 at -0.0."""
    total, low = two_sum(1.0, x)
    return copysign(log_edges(total, log_sum(total, low)), x)


def _log_in_base(x: Scalar, scale: tuple[float, float], unit: tuple[float, float]) -> Scalar:
    """Compute e * unit + log(1 + f) * scale, x = 2**e * (1 + f); both constants in two parts."""
    e, f = split_log(x)
    half, rest = _log1p_terms(f)
    high, low = fast_two_sum(f, -half)
    low = low + rest
    p, p_low = two_product(high, number(scale[0], kind_of(x)))
    p_low = p_low + fma(high, scale[1], low * scale[0])
    s, s_low = fast_two_sum(e * unit[0], p)
    return log_edges(x, s + (s_low + fma(e, unit[1], p_low)))


@math_function()
def log2(x: Scalar) -> Scalar:
    """Return the logarithm to base 2, exact for powers of 2."""
    return _log_in_base(x, LOG2E_PAIR[kind_of(x)], (1.0, 0.0))


@math_function()
def log10(x: Scalar) -> Scalar:
    """Return the logarithm to base 10."""
    kind = kind_of(x)
    return _log_in_base(x, LOG10E_PAIR[kind], LOG10_2_PAIR[kind])
