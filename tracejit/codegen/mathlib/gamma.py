"""The logarithm of the gamma function and its derivative.

Both: Stirling's series from 8 up, below that a minimax polynomial about 2 shifted by the recurrence
for Gamma, reflection for negative arguments; sums in double words. digamma has a polynomial of its
own about its positive zero. f32 goes through f64, lgamma without double words. Near the zeros on
the negative axis, which are irrational, the f64 error is bounded in absolute terms (2**-58 for
lgamma, 2**-53 for digamma) and not in ulp of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, pi

from tracejit.codegen.mathlib.core import (
    Scalar,
    fabs,
    floor,
    fma,
    kind_of,
    number,
    poly,
    rint,
    select,
    through_f64,
)
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.double_word import (
    Pair,
    add,
    divide,
    fast_two_sum,
    multiply,
    two_sum,
)
from tracejit.codegen.mathlib.exp_log import INF, NAN, log_sum
from tracejit.codegen.mathlib.inverse_trig import PI
from tracejit.codegen.mathlib.power import log_pair
from tracejit.codegen.mathlib.trig import sin_cos_pair

STIRLING_FROM = 8.0
SLOTS = 6  # the recurrence runs at most from 2.5 to 8.5
HALF_LOG_TWO_PI: Pair = (0.9189385332046728, -3.8782941580672414e-17)
# 1 - Euler's constant: digamma(2), and log(Gamma(2+u)) / (u*(1+u)) at u = 0
ONE_LESS_GAMMA: Pair = (0.42278433509846713, 4.942915152430645e-18)
# (f(u) - f(0)) / u on |u| <= 1/2 for f = log(Gamma(2+u)) / (u*(1+u)) and f = digamma(2+u)
LGAMMA_AT_2 = (-7.748682293482868e-08, 1.237868151476116e-07, -1.6083032272621714e-07,
               3.845348291955182e-07, -8.665823152528947e-07, 1.8141915280643628e-06,
               -3.843879172869234e-06, 8.221034151384758e-06, -1.76622034088545e-05,
               3.816902421657828e-05, -8.309507725639062e-05, 0.00018255262955052317,
               -0.0004057074001873081, 0.0009153769226334779, -0.0021081308338772122,
               0.004998641164689757, -0.012384192193372301, 0.03296500062115588,
               -0.10031730167435392)  # fmt: skip
DIGAMMA_AT_2 = (1.492282731890385e-06, -2.656317966835077e-06, 3.406059153071561e-06,
                -7.20140147109017e-06, 1.5445950993762368e-05, -3.072430289444327e-05,
                6.120965839527226e-05, -0.00012268804778129967, 0.00024609212469360863,
                -0.0004941914859868709, 0.0009945746317508062, -0.0020083926284006006,
                0.0040773562240272775, -0.00834927738958149, 0.017343061983711206,
                -0.03692775514322457, 0.08232323371114741, -0.20205690315959524,
                0.6449340668482264)  # fmt: skip
# digamma(ROOT + d) / d on [1.2, 1.75]: constant term, then (f(d) - f(0)) / d
ROOT: Pair = (1.4616321449683622, 9.549995429965697e-17)
DIGAMMA_SLOPE: Pair = (0.9676722454476212, -3.387874303038943e-17)
DIGAMMA_AT_ROOT = (0.001096609289178967, -0.0018183741201157739, 0.0023247817315102054,
                   -0.00333894451542541, 0.00492363718829717, -0.007206607666190231,
                   0.010539001734806814, -0.015424686701010356, 0.022597641006303505,
                   -0.03316112818983247, 0.0488042882931738, -0.07219956123684824,
                   0.10782405069018694, -0.16394270544250547, 0.258499760955654,
                   -0.44276316898359197)  # fmt: skip
# Stirling's remainders in 1/x**2: lgamma's times x, digamma's times x**2
LGAMMA_TAIL = (0.004424478330109433, -0.00186062902258322, 0.000840953690715555,
               -0.0005952324666638053, 0.0007936507749762595, -0.002777777777754728,
               0.08333333333333333)  # fmt: skip
DIGAMMA_TAIL = (-0.06376137813508712, 0.020704868207858808, -0.00757181877414919,
                0.004166645973204133, -0.003968253916842402, 0.00833333333328726,
                -0.08333333333333333)  # fmt: skip

# sin(pi * r) / r in r**2 for |r| <= 1/2: pi**(2k+1) / (2k+1)! with changing signs
SINE_OF_PI = tuple((-1) ** k * pi ** (2 * k + 1) / factorial(2 * k + 1) for k in range(11))[::-1]


def _zero() -> Scalar:
    return number(0.0, "f64")


def _shift(x: Scalar) -> tuple[Scalar, Scalar, list[tuple[Scalar, Pair]]]:
    """Return n = rint(x), u = x - n, and which factors lead from 2 + u to x (down for n < 2).

    Each slot is (whether it is used, factor as a pair).
    """
    n = rint(x)
    up = n > 2.0
    start = select(up, x - (n - 2.0), x)
    count = fabs(n - 2.0)
    return n, x - n, [(count > float(j), two_sum(start, float(j))) for j in range(SLOTS)]


def _choose(condition: Scalar, a: Pair, b: Pair) -> Pair:
    return select(condition, a[0], b[0]), select(condition, a[1], b[1])


def _signed_by(n: Scalar, value: Pair) -> Pair:
    """Return value for n > 2, -value below."""
    return _choose(n > 2.0, value, (-value[0], -value[1]))


def _lgamma_near(x: Scalar) -> Pair:
    """Return lgamma(x) for x in [-1/2, 8]."""
    n, u, slots = _shift(x)
    ratio = two_sum(ONE_LESS_GAMMA[0], fma(u, poly(u, *LGAMMA_AT_2), ONE_LESS_GAMMA[1]))
    base = multiply(multiply((u, _zero()), two_sum(1.0, u)), ratio)
    product: Pair = (number(1.0, "f64"), _zero())
    for used, factor in slots:
        product = _choose(used, multiply(product, factor), product)
    size = fabs(product[0])
    logarithm = log_pair(size)
    logarithm = (logarithm[0], logarithm[1] + product[1] / product[0])
    return add(_signed_by(n, logarithm), base)


def _lgamma_far(x: Scalar) -> Pair:
    """Return lgamma(x) for x >= 8 by Stirling's series as x*(log(x) - 1) - log(x)/2 + ..."""
    logarithm = log_pair(x)
    main = multiply((x, _zero()), add(logarithm, (number(-1.0, "f64"), _zero())))
    inverse = 1.0 / x
    tail = inverse * poly(inverse * inverse, *LGAMMA_TAIL)
    rest = add((logarithm[0] * -0.5, logarithm[1] * -0.5), two_sum(HALF_LOG_TWO_PI[0], tail))
    total = add(main, rest)
    overflows = x > 2.5e305  # from here the product's error term is not finite
    plain = x * (logarithm[0] - 1.0)
    return select(overflows, plain, total[0]), select(overflows, _zero(), total[1])


def _sin_cos_of_pi(x: Scalar) -> tuple[Pair, Pair, Scalar]:
    """Return sin and cos of r*pi/2 as pairs and whether to swap them, for pi*x = pi*m + ..."""
    quarters = 2.0 * (x - rint(x))
    n = rint(quarters)
    sine, cosine = sin_cos_pair((quarters - n, _zero()))
    return sine, cosine, n != 0.0


def _lgamma64(x: Scalar) -> Scalar:
    a = fabs(x)
    reflected = x < -0.5
    positive = select(reflected, a, x)
    near = positive < STIRLING_FROM
    value = _choose(near, _lgamma_near(select(near, positive, number(2.0, "f64"))),
                    _lgamma_far(select(near, number(8.0, "f64"), positive)))  # fmt: skip
    sine, cosine, swap = _sin_cos_of_pi(a)
    size = _choose(swap, cosine, sine)
    area = divide(PI, multiply((a, _zero()), size))
    area_log = log_pair(fabs(area[0]))
    area_log = (area_log[0], area_log[1] + area[1] / area[0])
    mirror = add(area_log, (-value[0], -value[1]))
    high, low = _choose(reflected, mirror, value)
    pole = (x <= 0.0) & (floor(x) == x)
    result = select(pole | (a == INF), number(INF, "f64"), high + low)
    return select(x == x, result, number(NAN, "f64"))


def _lgamma32(x: Scalar) -> Scalar:
    """lgamma of a float in doubles without pairs, with two logarithms in all.

    With V the part that is no logarithm and s the shift's product (its inverse below 2), it is
    V + log(s), and by reflection log(pi / (a * |sin(pi*a)|) / s) - V. Errors stay near 2**-50.
    """
    a = fabs(x)
    reflected = x < -0.5
    positive = select(reflected, a, x)
    near = positive < STIRLING_FROM
    small = select(near, positive, number(2.0, "f64"))
    n = rint(small)
    u, up = small - n, n > 2.0
    start, count = select(up, small - (n - 2.0), small), fabs(n - 2.0)
    product = number(1.0, "f64")
    for j in range(SLOTS):
        product = select(count > float(j), product * (start + float(j)), product)
    size = fabs(product)
    size = select(up, size, 1.0 / size)
    base = u * (1.0 + u) * fma(u, poly(u, *LGAMMA_AT_2), ONE_LESS_GAMMA[0])
    large = select(near, number(8.0, "f64"), positive)
    logarithm, inverse = log_sum(large), 1.0 / large
    tail = inverse * poly(inverse * inverse, *LGAMMA_TAIL)
    far = fma(large, logarithm - 1.0, fma(logarithm, -0.5, HALF_LOG_TWO_PI[0] + tail))
    value = select(near, base, far)
    r = a - rint(a)
    sine = r * poly(r * r, *SINE_OF_PI)
    mirror = PI[0] / (a * fabs(sine) * size)
    whole = log_sum(select(reflected, mirror, size))
    result = whole + select(reflected, -value, value)
    pole = (x <= 0.0) & (floor(x) == x)
    result = select(pole | (a == INF), number(INF, "f64"), result)
    return select(x == x, result, number(NAN, "f64"))


def _reciprocals(slots: list[tuple[Scalar, Pair]]) -> Pair:
    """Return the sum of 1/factor over the used slots."""
    one: Pair = (number(1.0, "f64"), _zero())
    top: Pair = (_zero(), _zero())
    bottom = one
    for used, factor in slots:
        top = _choose(used, add(multiply(top, factor), bottom), top)
        bottom = _choose(used, multiply(bottom, factor), bottom)
    return divide(top, bottom)


def _digamma_near(x: Scalar) -> Pair:
    """Return digamma(x) for x in [-1/2, 8], by its own polynomial from 1.2 to 1.75."""
    n, u, slots = _shift(x)
    base = two_sum(ONE_LESS_GAMMA[0], fma(u, poly(u, *DIGAMMA_AT_2), ONE_LESS_GAMMA[1]))
    value = add(base, _signed_by(n, _reciprocals(slots)))
    d = two_sum(x - ROOT[0], -ROOT[1])
    slope = two_sum(DIGAMMA_SLOPE[0], fma(d[0], poly(d[0], *DIGAMMA_AT_ROOT), DIGAMMA_SLOPE[1]))
    return _choose((x > 1.2) & (x < 1.75), multiply(d, slope), value)


def _digamma_far(x: Scalar) -> Pair:
    """Return digamma(x) for x >= 8 by its asymptotic series."""
    logarithm = log_pair(x)
    inverse = 1.0 / x
    square = inverse * inverse
    rest = fma(square, poly(square, *DIGAMMA_TAIL), inverse * -0.5)
    return fast_two_sum(logarithm[0], logarithm[1] + rest)


def _digamma64(x: Scalar) -> Scalar:
    a = fabs(x)
    reflected = x < -0.25
    positive = select(reflected, a, x)
    near = positive < STIRLING_FROM
    value = _choose(near, _digamma_near(select(near, positive, number(2.0, "f64"))),
                    _digamma_far(select(near, number(8.0, "f64"), positive)))  # fmt: skip
    # digamma(-a) = digamma(a) + 1/a + pi / tan(pi*a)
    sine, cosine, swap = _sin_cos_of_pi(a)
    minus_sine = (-sine[0], -sine[1])
    cotangent = divide(_choose(swap, minus_sine, cosine), _choose(swap, cosine, sine))
    whole: Pair = (number(1.0, "f64"), _zero())
    mirror = add(add(value, divide(whole, (a, _zero()))), multiply(PI, cotangent))
    high, low = _choose(reflected, mirror, value)
    tiny = a < 2.0**-200
    result = select(tiny, -1.0 / x, high + low)
    undefined = (x < 0.0) & (floor(x) == x)
    result = select(undefined, number(NAN, "f64"), result)
    return select(x == INF, number(INF, "f64"), select(x == x, result, number(NAN, "f64")))


def _in_f64(body: Callable[[Scalar], Scalar], x: Scalar) -> Scalar:
    return body(x) if kind_of(x) == "f64" else through_f64(body, x)


@math_function()
def lgamma(x: Scalar) -> Scalar:
    """Return log(|Gamma(x)|); inf at 0, -1, -2, ... and both infinities."""
    return _lgamma64(x) if kind_of(x) == "f64" else through_f64(_lgamma32, x)


@math_function()
def digamma(x: Scalar) -> Scalar:
    """Return the logarithmic derivative of Gamma; infinite at zeros, NaN at -1, -2, ..."""
    return _in_f64(_digamma64, x)
