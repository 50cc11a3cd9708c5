"""The error function, its complement and its inverse.

erf in f32 is 1 - exp(x*P(x)), evaluated as -expm1 so that one formula serves all x. In f64 erf is a
polynomial below 1; beyond, and for erfc, exp(-x*x) * F(t) / (1 + 2x) with t = (x - 3)/(x + 3), the
form of Schonfelder (1978), its factors in double words. Fits from `bench/derive_coefficients.py`.
"""

from __future__ import annotations

from tracejit.codegen.mathlib.core import (
    Scalar,
    convert,
    copysign,
    fabs,
    fma,
    kind_of,
    number,
    poly,
    select,
    sqrt,
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
from tracejit.codegen.mathlib.exp_log import INF, exp_body, expm1_core, log_edges, log_sum
from tracejit.codegen.mathlib.power import exp_pair, scale

# log(erfc(x)) / x = C0 + x*Q(x) on [0, 4]; C0 = -2/sqrt(pi) in two parts
ERF32 = (-1.1538755e-06, 2.0945274e-05, -0.00016574329, 0.0007367788, -0.0017943156, 0.0002492921,
         0.01911927, -0.10277161, -0.6366198)  # fmt: skip
ERF32_C0 = (-1.1283792, 5.863538e-08)
# (erf(x)/x - 2/sqrt(pi)) / x**2 in x*x on [0, 1]
ERF64 = (5.903767318307033e-11, -1.1341356917382617e-09, 1.4651689038612218e-08,
         -1.6349126871188512e-07, 1.6460891033404162e-06, -1.492558866225592e-05,
         0.00012055330849667904, -0.0008548326974149197, 0.005223977624714203,
         -0.026866170645068077, 0.1128379167095485, -0.3761263890318375)  # fmt: skip
TWO_OVER_SQRT_PI: Pair = (1.1283791670955126, 1.533545961316588e-17)
# F(t) = C + t*Q(t) = exp(x*x) * erfc(x) * (1 + 2x): f32 for x >= 0, f64 for x >= 1/2
ERFC_C: Pair = (1.2530080582697296, 4.5276203702746546e-17)
ERFC32 = (4.062784826570865e-05, -0.00016877037970233836, -0.0007331910125934419,
          0.0019441417975306742, 0.002523208498333747, -0.023787154521436815, 0.06830744493816993,
          -0.11927163813909378, 0.12964528249751112, -0.04756237408971898, -0.13562110901254606
)  # fmt: skip
ERFC64 = (-4.104445376955759e-09, -1.0861631584030418e-08, 3.358261857350582e-08,
          9.937886595068759e-08, -1.3351301394888128e-07, -6.154040150773994e-07,
          3.5213733321018894e-07, 3.4721610796889515e-06, -7.298265399331556e-07,
          -2.0100610815821737e-05, 4.9491144699846805e-06, 0.0001250993910760155,
          -0.00010515975192501222, -0.0007798322821817562, 0.001888690355860494,
          0.0025293918174078196, -0.023770514918541964, 0.06830802734388586, -0.11927366341530905,
          0.12964515870276347, -0.04756229435345081, -0.1356211061245812)  # fmt: skip
# erfinv(x)/x by w = -log(1 - x*x): in w - 3.125 below 6.25, beyond in sqrt(w) - 3.25 (enough for
# f32) or sqrt(w) - 4 (a first guess to 21 bits, for f64)
ERFINV_NEAR = (-1.3104342994671419e-11, 5.282281985474667e-12, 1.0520391362460247e-09,
               -4.7418033028469254e-09, -2.9131110376150914e-08, 4.2687789965323993e-07,
               -1.3649491592074784e-06, -1.38916817120504e-05, 0.0001867326616310115,
               -0.0007406918353369924, -0.00603366935756276, 0.24015817883932208,
               1.653654562455516)  # fmt: skip
ERFINV_FAR32 = (3.5185140024413826e-06, -3.8188622976089986e-05, 7.559390906098248e-05,
                1.6737456560585798e-05, -0.0003575742613410547, 0.0009556729852263845,
                -0.0016880006795814766, 0.0024911327471160145, -0.0037511818166397403,
                0.005370926168941963, 1.005258963388189, 3.083885610357338)  # fmt: skip
ERFINV_FAR64 = (1.221137676212412e-07, -1.712666671208877e-06, -1.68393623218164e-06,
                3.522615327179645e-05, -6.935938902389281e-05, 2.9533181362214536e-05,
                -5.3660676547405424e-05, 0.0003418297163470278, -0.0009120733342827325,
                0.0012522702554712806, 1.0095011108270002, 3.8397843544445855)  # fmt: skip
HALF_SQRT_PI: Pair = (0.886226925452758, -3.8332932499128993e-17)


def _erf32(x: Scalar) -> Scalar:
    a = fabs(x)
    a = select(a > 4.0, number(4.0, "f32"), a)
    rest = fma(a, poly(a, *ERF32), ERF32_C0[1])
    return copysign(expm1_core(fma(a, ERF32_C0[0], a * rest)), x)


def _erf_inner(x: Scalar) -> Pair:
    """Return erf(x) for |x| < 1 in f64 as an unevaluated sum."""
    p, p_low = two_product(x, number(TWO_OVER_SQRT_PI[0], "f64"))
    z = x * x
    return p, fma(x, fma(z, poly(z, *ERF64), TWO_OVER_SQRT_PI[1]), p_low)


def _erfc_outer(a: Scalar) -> Pair:
    """Return erfc(a) for a >= 1/2 in f64 as a pair."""
    a = select(a > 28.0, number(28.0, "f64"), a)
    square = two_product(a, a)
    power, n = exp_pair((-square[0], -square[1]))
    t = (a - 3.0) / (a + 3.0)
    factor = fast_two_sum(number(ERFC_C[0], "f64"), fma(t, poly(t, *ERFC64), ERFC_C[1]))
    value = divide(multiply(power, factor), two_sum(2.0 * a, 1.0))
    return scale(value[0], n), scale(value[1], n)


@math_function()
def erf(x: Scalar) -> Scalar:
    """Return the error function."""
    if kind_of(x) == "f32":
        return _erf32(x)
    a = fabs(x)
    inner, inner_low = _erf_inner(x)
    outer, outer_low = _erfc_outer(a)
    outer = copysign((1.0 - outer) - outer_low, x)
    return select(a < 1.0, select(a < 2.0**-1000, inner, inner + inner_low), outer)


def _erfc32(x: Scalar) -> Scalar:
    wide = convert(x, "f64")
    a = fabs(wide)
    t = (a - 3.0) / (a + 3.0)
    factor = fma(t, poly(t, *ERFC32), ERFC_C[0])
    y = exp_body(-(a * a)) * factor / fma(a, 2.0, 1.0)
    y = select(a > 12.0, number(0.0, "f64"), y)
    return convert(select(wide < 0.0, 2.0 - y, y), "f32")


@math_function()
def erfc(x: Scalar) -> Scalar:
    """Return 1 - erf(x), with full relative precision as it falls to 0 for large x."""
    if kind_of(x) == "f32":
        return _erfc32(x)
    a = fabs(x)
    inner, inner_low = _erf_inner(x)
    near, near_low = two_sum(1.0, -inner)
    outer, outer_low = _erfc_outer(a)
    far, far_low = two_sum(2.0, -outer)
    below = far + (far_low - outer_low)
    return select(a < 0.5, near + (near_low - inner_low), select(x < 0.0, below, outer))


def _erfinv_guess(x: Scalar, far: tuple[float, ...], center: float) -> Scalar:
    """Return erfinv of an f64 |x| < 1 to the accuracy of the fits; inf at 1, NaN beyond."""
    rest = (1.0 - x) * (1.0 + x)
    w = -log_edges(rest, log_sum(rest))
    root = sqrt(w)
    ratio = select(w < 6.25, poly(w - 3.125, *ERFINV_NEAR), poly(root - center, *far))
    return select(fabs(x) == 1.0, x * INF, x * ratio)


def _erfinv64(x: Scalar) -> Scalar:
    a = fabs(x)
    y = _erfinv_guess(a, ERFINV_FAR64, 4.0)
    # One Halley step. The residual erf(y) - a is taken from erfc near 1, where 1 - a is exact.
    inner, inner_low = _erf_inner(y)
    outer, outer_low = _erfc_outer(y)
    small = a < 0.5
    residual = select(small, (inner - a) + inner_low, ((1.0 - a) - outer) - outer_low)
    slope = exp_body(-(y * y)) * TWO_OVER_SQRT_PI[0]
    step = residual / slope
    y = select(y < INF, y - step / fma(y, step, 1.0), y)
    tiny = fma(a, HALF_SQRT_PI[0], a * HALF_SQRT_PI[1])
    return copysign(select(a < 2.0**-30, tiny, y), x)


@math_function()
def erfinv(x: Scalar) -> Scalar:
    """Return the inverse of erf; infinite at -1 and 1, NaN beyond."""
    if kind_of(x) == "f64":
        return _erfinv64(x)
    return convert(_erfinv_guess(convert(x, "f64"), ERFINV_FAR32, 3.25), "f32")
