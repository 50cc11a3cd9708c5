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
    fabs,
    fma,
    kind_of,
    number,
    poly,
    select,
    unbits,
)
from tracejit.codegen.mathlib.define import math_function

INF = float("inf")
NAN = float("nan")
LOG2E = 1.4426950408889634
# ln 2 = HI + LO: HI has trailing zeros enough for n*HI to be exact for every exponent n.
LN2 = {"f32": (0.693359375, -2.12194440e-4), "f64": (0.6931471803691238, 1.9082149292705877e-10)}
# Adding then subtracting 1.5 * 2**mantissa_bits rounds to an integer, held in the low bits.
ROUNDER = {"f32": 12582912.0, "f64": 6755399441055744.0}
MANTISSA = {"f32": 23, "f64": 52}
BIAS = {"f32": 127, "f64": 1023}
# (e**r - 1 - r) / r**2 on |r| <= ln(2)/2, highest power first
EXP = {
    "f32": (0.00014933609, 0.0013930523, 0.008341606, 0.04166651, 0.16666636, 0.5),
    "f64": (2.089409423732311e-09, 2.510871390798224e-08, 2.7557329171109326e-07,
            2.755724509358342e-06, 2.4801587279186875e-05, 0.00019841269885380756,
            0.0013888888888893662, 0.008333333333321789, 0.041666666666666685,
            0.16666666666666677, 0.5),
}
EXP_LOWEST = {"f32": -104.0, "f64": -745.2}  # e**x rounds to 0 below
EXP_NORMAL = {"f32": -87.0, "f64": -708.0}  # e**x is normal above
EXP_HIGHEST = {"f32": 88.72283, "f64": 709.782712893384}  # e**x is finite up to here
LOG32 = (0.11722369, -0.12885138, 0.108227246, -0.12187549, 0.14298937, -0.16680095, 0.19999765,
         -0.24999811, 0.33333334)
LOG64 = (0.13842527287042905, 0.1317366713713839, 0.15391108322249591, 0.1818166597540731,
         0.22222224294991874, 0.2857142855583929, 0.40000000000056646, 0.666666666666666)


def scale_by_power(y: Scalar, power_bits: Scalar) -> Scalar:
    """Return y * 2**n for normal y and normal result; n is an integer of y's width."""
    return unbits(bits(y) + (power_bits << MANTISSA[kind_of(y)]))


def reduce_exp(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Split x = n*ln2 + r with |r| <= ln(2)/2: return n, r and the bits whose low part is n."""
    kind = kind_of(x)
    shifted = fma(x, LOG2E, ROUNDER[kind])
    n = shifted - ROUNDER[kind]
    r = fma(n, -LN2[kind][0], x)
    return n, fma(n, -LN2[kind][1], r), bits(shifted)


def exp_body(x: Scalar) -> Scalar:
    """Compute e**x for any x."""
    kind = kind_of(x)
    bounded = select(x < EXP_LOWEST[kind], number(EXP_LOWEST[kind], kind), x)
    _, r, n = reduce_exp(bounded)
    y = fma(r * r, poly(r, *EXP[kind]), r) + 1.0
    # A subnormal result is formed 2**lift too large, then rounded once by the multiplication.
    lift = 64 if kind == "f32" else 512
    low = x < EXP_NORMAL[kind]
    zero = n - n
    n = n + select(low, zero + lift, zero)
    y = scale_by_power(y, n) * select(low, number(2.0 ** -lift, kind), number(1.0, kind))
    return select(x <= EXP_HIGHEST[kind], y, x + INF)


@math_function()
def exp(x: Scalar) -> Scalar:
    """Return e**x; inf above about 88.72 (f32) or 709.78 (f64), 0 for -inf."""
    return exp_body(x)


def expm1_core(x: Scalar) -> Scalar:
    """Compute e**x - 1 for x in about [-50, 80], NaN kept in the quiet form."""
    kind = kind_of(x)
    _, r, n = reduce_exp(x)
    p = fma(r * r, poly(r, *EXP[kind]), r)
    power = unbits((n + BIAS[kind]) << MANTISSA[kind])
    return fma(power, p, power - 1.0)


@math_function()
def sigmoid(x: Scalar) -> Scalar:
    """Return 1 / (1 + e**-x), relative precision kept down to subnormal results."""
    z = exp_body(-fabs(x))
    one = z - z + 1.0
    return select(x < 0.0, z, one) / (1.0 + z)


def split_log(x: Scalar) -> tuple[Scalar, Scalar]:
    """Split x > 0 into e and f with x = 2**e * (1 + f), 1 + f in [2/3, 4/3)."""
    kind = kind_of(x)
    tiny = x < 2.0 ** (2 - BIAS[kind] - 1)
    lift = MANTISSA[kind] + 2
    i = bits(select(tiny, x * 2.0 ** lift, x))
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


@math_function()
def log(x: Scalar) -> Scalar:
    """Return the natural logarithm; -inf at 0, NaN below."""
    kind = kind_of(x)
    e, f = split_log(x)
    half, rest = _log1p_terms(f)
    y = fma(e, LN2[kind][1], rest) - half
    return log_edges(x, fma(e, LN2[kind][0], y + f))
