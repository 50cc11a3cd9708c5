"""Double-word arithmetic: a number as an unevaluated sum high + low of two floats.

Error-free transformations after Dekker (1971) and Knuth, products by fused multiply-add; see
Joldes, Muller and Popescu, "Tight and rigorous error bounds for basic building blocks of
double-word arithmetic" (2017). Invariant: in every returned pair |low| is at most about an ulp of
high.
"""

from __future__ import annotations

from tracejit.codegen.mathlib.core import Scalar, fma, sqrt

Pair = tuple[Scalar, Scalar]


def fast_two_sum(a: Scalar, b: Scalar) -> Pair:
    """Return a + b exactly, for |a| >= |b| or a = 0."""
    s = a + b
    return s, b - (s - a)


def two_sum(a: Scalar, b: Scalar) -> Pair:
    """Return a + b exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Scalar, b: Scalar) -> Pair:
    """Return a * b exactly."""
    p = a * b
    return p, fma(a, b, -p)


def add(x: Pair, y: Pair) -> Pair:
    """Return x + y; low words of opposite signs may cancel to a few ulp of the low word."""
    s, e = two_sum(x[0], y[0])
    return fast_two_sum(s, e + (x[1] + y[1]))


def multiply(x: Pair, y: Pair) -> Pair:
    """Return x * y."""
    p, e = two_product(x[0], y[0])
    return fast_two_sum(p, fma(x[1], y[0], fma(x[0], y[1], e)))


def divide(x: Pair, y: Pair) -> Pair:
    """Return x / y."""
    q = x[0] / y[0]
    rest = fma(-q, y[0], x[0]) + x[1]
    return fast_two_sum(q, fma(-q, y[1], rest) / y[0])


def square_root(x: Pair) -> Pair:
    """Return sqrt(x) for x > 0."""
    s = sqrt(x[0])
    return fast_two_sum(s, (fma(-s, s, x[0]) + x[1]) / (s + s))
