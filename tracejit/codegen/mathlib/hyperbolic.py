"""Hyperbolic functions and their inverses.

The functions use the reduction of exp_log, the inverses the logarithm of a sum in double words.
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
    through_f64,
)
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.double_word import (
    Pair,
    add,
    divide,
    square_root,
    two_product,
    two_sum,
)
from tracejit.codegen.mathlib.exp_log import (
    INF,
    LN2_PAIR,
    NAN,
    divide_by_sum,
    expm1_pair,
    half_exp,
    log_edges,
    log_sum,
)

ONE: Pair = (1.0, 0.0)
LARGE = 2.0**30  # above, sqrt(x*x + 1) rounds to x
TINY = 2.0**-28  # below, the odd functions round to x

# (sinh(x) - x) / x**3 in x*x on [0, 1], highest power first
SINH = {
    "f32": (2.7843487e-06, 0.00019842602, 0.008333311, 0.16666667),
    "f64": (7.77654559356564e-13, 1.6056660528660533e-10, 2.5052130986606775e-08,
            2.7557319106801946e-06, 0.0001984126984159335, 0.008333333333332912,
            0.16666666666666669),
}  # fmt: skip


@math_function()
def tanh(x: Scalar) -> Scalar:
    """Return the hyperbolic tangent."""
    kind = kind_of(x)
    limit = number(-20.0 if kind == "f32" else -44.0, kind)
    twice = fabs(x) * -2.0
    t, t_low = expm1_pair(select(twice < limit, limit, twice))
    return copysign(divide_by_sum(t, 2.0, t, t_low if kind == "f64" else None), x)


@math_function()
def sinh(x: Scalar) -> Scalar:
    """Return the hyperbolic sine."""
    a, square = fabs(x), x * x
    half = half_exp(a)
    inner = fma(a * square, poly(square, *SINH[kind_of(x)]), a)
    return copysign(select(a < 1.0, inner, half - 0.25 / half), x)


@math_function()
def cosh(x: Scalar) -> Scalar:
    """Return the hyperbolic cosine."""
    half = half_exp(fabs(x))
    return half + 0.25 / half


def _in_f64(body: Callable[[Scalar], Scalar], x: Scalar) -> Scalar:
    return body(x) if kind_of(x) == "f64" else through_f64(body, x)


def _log_of_sum(x: Scalar, root: Pair) -> Scalar:
    """Return log(x + root), for a large x log(2*x)."""
    large = x > LARGE
    high, low = add((x, number(0.0, "f64")), root)
    high, low = select(large, x, high), select(large, number(0.0, "f64"), low)
    y = log_edges(high, log_sum(high, low))
    return y + select(large, number(LN2_PAIR["f64"][0], "f64"), 0.0)


def _asinh(x: Scalar) -> Scalar:
    a = fabs(x)
    y = _log_of_sum(a, square_root(add(two_product(a, a), ONE)))
    return select(a < TINY, x, copysign(y, x))


def _acosh(x: Scalar) -> Scalar:
    y = _log_of_sum(x, square_root(add(two_product(x, x), (-1.0, 0.0))))
    return select(x <= 1.0, select(x == 1.0, number(0.0, "f64"), NAN), y)


def _atanh(x: Scalar) -> Scalar:
    a = fabs(x)
    high, low = divide(two_sum(a, 1.0), two_sum(1.0, -a))
    y = 0.5 * log_edges(high, log_sum(high, low))
    return select(a < TINY, x, copysign(select(a == 1.0, number(INF, "f64"), y), x))


@math_function()
def asinh(x: Scalar) -> Scalar:
    """Return the inverse hyperbolic sine."""
    return _in_f64(_asinh, x)


@math_function()
def acosh(x: Scalar) -> Scalar:
    """Return the inverse hyperbolic cosine; NaN below 1."""
    return _in_f64(_acosh, x)


@math_function()
def atanh(x: Scalar) -> Scalar:
    """Return the inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond."""
    return _in_f64(_atanh, x)
