"""Sine, cosine and tangent, exact in the argument reduction for every finite input.

Reduction in the manner of Payne and Hanek (1983): x times the bits of 2/pi that still matter, those
that only add whole turns left out, so no branch on the size of x is needed. Polynomials are minimax
fits from `bench/derive_coefficients.py` on |r| <= pi/4.
"""

from __future__ import annotations

import numpy as np

from tracejit.codegen.mathlib.core import (
    Scalar,
    bits,
    convert,
    fabs,
    fma,
    kind_of,
    lookup,
    number,
    poly,
    rint,
    select,
    unbits,
)
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.double_word import (
    Pair,
    divide,
    fast_two_sum,
    multiply,
    two_product,
    two_sum,
)
from tracejit.codegen.mathlib.exp_log import ROUNDER

# (sin(r) - r) / r**3 and (cos(r) - 1 + r*r/2) / r**4 in r*r, highest power first
SIN = {
    "f32": (2.8325467e-06, -0.00019853066, 0.008333379, -0.16666667),
    "f64": (-7.389514660781065e-13, 1.6054312435787976e-10, -2.5052070928060676e-08,
            2.755731907399576e-06, -0.0001984126984096248, 0.008333333333333042,
            -0.16666666666666666),
    "mid": (2.718084088631017e-06, -0.00019839308349877056, 0.008333329292717772,
            -0.16666666640692995),
}  # fmt: skip
COS = {
    "f32": (2.4432351e-05, -0.001388731, 0.041666646),
    "f64": (-1.1358683281348432e-11, 2.087570427052762e-09, -2.755731421007433e-07,
            2.4801587288983682e-05, -0.0013888888888873325, 0.041666666666666595),
    "mid": (-2.720540276762671e-07, 2.4799455907889817e-05, -0.0013888883484020178,
            0.04166666661930585),
}  # fmt: skip
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
# the binary fraction of 2/pi, 1216 bits
TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561"
    "b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
    "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
    "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)
FRACTION_BITS = 1216


def _pieces(lowest_exponent: int, mantissa: int, count: int, scale: int = 0) -> list[float]:
    """Split 2/pi into `count` floats of 53 bits, less the bits that give multiples of 4.

    Those are the bits of weight 4 / ulp(x) and above, for x >= 2**lowest_exponent with `mantissa`
    bits after the leading one. The result is multiplied by 2**scale.
    """
    rest, weight = TWO_OVER_PI, FRACTION_BITS - scale
    if lowest_exponent > mantissa + 2:
        rest &= (1 << (FRACTION_BITS + 2 + mantissa - lowest_exponent)) - 1
    pieces = []
    for _ in range(count):
        shift = max(rest.bit_length() - 53, 0)
        pieces.append(float(np.ldexp(float(rest >> shift), shift - weight)))
        rest &= (1 << shift) - 1
    return pieces


# f32: one row up to each step and one above; steps so close that the product with a row's second
# piece stays below 1/64. f64: one row for every 32 exponents.
STEPS32 = (46, 67, 88, 109)
PIECES32 = [_pieces(e, 23, 2) for e in (0, *STEPS32)]
TABLES64 = [np.array(column) for column in
            zip(*(_pieces(32 * row - 1023, 52, 4, 200 if row >= 40 else 0) for row in range(64)))
]  # fmt: skip


def _quarter_turns32(x: Scalar) -> tuple[Scalar, Scalar]:
    """Reduce an f32: x = (n + r) * pi/2, |r| <= 1/2 as f64, n in the low bits of an i64."""
    a, wide = fabs(x), convert(x, "f64")
    high, low = (number(v, "f64") for v in PIECES32[-1])
    for step, row in zip(STEPS32[::-1], PIECES32[-2::-1]):
        inside = a < 2.0**step
        high, low = select(inside, row[0], high), select(inside, row[1], low)
    p, p_low = two_product(wide, high)
    shifted = p + ROUNDER["f64"]
    r = (p - (shifted - ROUNDER["f64"])) + p_low
    return fma(wide, low, r), bits(shifted)


def _modulo4(x: Scalar) -> Scalar:
    """Take a multiple of 4 off x exactly, leaving at most 2 in magnitude."""
    return fma(rint(x * 0.25), -4.0, x)


def _quarter_turns64(x: Scalar) -> tuple[Pair, Scalar]:
    """Reduce an f64: x = (n + r) * pi/2, |r| <= 1/2 as a pair, n in the low bits of an i64."""
    row = (bits(x) >> 57) & 63
    t1, t2, t3, t4 = (lookup(column, row) for column in TABLES64)
    x = select(row >= 40, x * 2.0**-200, x)  # the pieces for a huge x would be subnormal
    h1, l1 = two_product(x, t1)
    h2, l2 = two_product(x, t2)
    h3, l3 = two_product(x, t3)
    s, e1 = two_sum(_modulo4(h1), _modulo4(l1))
    s, e2 = two_sum(s, _modulo4(h2))
    shifted = s + ROUNDER["f64"]
    s = s - (shifted - ROUNDER["f64"])
    e, low = two_sum(e1, e2)
    low = low + fma(x, t4, l3)
    for term in (e, l2, h3):
        s, error = two_sum(s, term)
        low = low + error
    return fast_two_sum(s, low), bits(shifted)


def _sin_cos32(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Return sin(r), cos(r) and the i32 quadrant n for x = n*pi/2 + r."""
    turns, n = _quarter_turns32(x)
    r = convert(turns * HALF_PI[0], "f32")
    z = r * r
    sine = fma(r * z, poly(z, *SIN["f32"]), r)
    cosine = fma(z * z, poly(z, *COS["f32"]), fma(z, -0.5, 1.0))
    return sine, cosine, convert(n, "i32")


def sin_cos_pair(turns: Pair) -> tuple[Pair, Pair]:
    """Return the sine and cosine of turns * pi/2 in f64 as pairs, for |turns| <= 1/2."""
    r, low = multiply(turns, HALF_PI)
    z = r * r
    half = z * 0.5
    one_less = 1.0 - half
    rest = fma(r * z, poly(z, *SIN["f64"]), low * one_less)
    correction = ((1.0 - one_less) - half) - fma(r, low, fma(r, r, -z) * 0.5)
    cosine = fast_two_sum(one_less, fma(z * z, poly(z, *COS["f64"]), correction))
    return fast_two_sum(r, rest), cosine


def _sin_cos64(x: Scalar) -> tuple[Pair, Pair, Scalar]:
    """Return sin(r), cos(r) as pairs and the i64 quadrant n for x = n*pi/2 + r."""
    turns, n = _quarter_turns64(x)
    return (*sin_cos_pair(turns), n)


def _turned(sine: Scalar, cosine: Scalar, n: Scalar) -> Scalar:
    """Return sin(r + n*pi/2)."""
    kind = kind_of(n)
    value = select((n & 1) == 0, sine, cosine)
    top = 31 if kind == "i32" else 63
    return unbits(bits(value) ^ ((n >> 1) << top))


@math_function()
def sin(x: Scalar) -> Scalar:
    """Return the sine; NaN at infinities."""
    if kind_of(x) == "f32":
        sine, cosine, n = _sin_cos32(x)
        return select(fabs(x) < 2.0**-13, x, _turned(sine, cosine, n))
    sine, cosine, n = _sin_cos64(x)
    return select(fabs(x) < 2.0**-27, x, _turned(sine[0], cosine[0], n))


@math_function()
def cos(x: Scalar) -> Scalar:
    """Return the cosine; NaN at infinities."""
    if kind_of(x) == "f32":
        sine, cosine, n = _sin_cos32(x)
        return _turned(sine, cosine, n + 1)
    sine, cosine, n = _sin_cos64(x)
    return _turned(sine[0], cosine[0], n + 1)


def _tan32(x: Scalar) -> Scalar:
    turns, n = _quarter_turns32(x)
    r = turns * HALF_PI[0]
    z = r * r
    sine = fma(r * z, poly(z, *SIN["mid"]), r)
    cosine = fma(z * z, poly(z, *COS["mid"]), fma(z, -0.5, 1.0))
    odd = (n & 1) != 0
    return convert(select(odd, -cosine, sine) / select(odd, sine, cosine), "f32")


@math_function()
def tan(x: Scalar) -> Scalar:
    """Return the tangent; NaN at infinities."""
    if kind_of(x) == "f32":
        return select(fabs(x) < 2.0**-13, x, _tan32(x))
    sine, cosine, n = _sin_cos64(x)
    odd = (n & 1) != 0
    above = tuple(select(odd, -c, s) for s, c in zip(sine, cosine))
    below = tuple(select(odd, s, c) for s, c in zip(sine, cosine))
    return select(fabs(x) < 2.0**-27, x, divide(above, below)[0])
