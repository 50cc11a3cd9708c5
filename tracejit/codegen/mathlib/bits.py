"""Functions of one or two floats that IEEE defines exactly: rounding, signs, order, classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.codegen.mathlib import core
from tracejit.codegen.mathlib.core import (
    Scalar,
    Value,
    intrinsic,
    is_float,
    kind_of,
    number,
    select,
)
from tracejit.codegen.mathlib.define import Kinds, common, math_function, predicate


def _same(kinds: Kinds) -> tuple[Kinds, str] | None:
    return (kinds, kinds[0]) if len(kinds) == 1 and kinds[0] != "b1" else None


def _rounding(name: str, operation: Callable[[Scalar], Scalar], doc: str) -> Any:
    """Make a function that is the identity on integers."""

    def body(x: Scalar) -> Scalar:
        return operation(x) if is_float(kind_of(x)) else x

    body.__name__, body.__doc__ = name, doc
    return math_function(_same)(body)


floor = _rounding("floor", core.floor, "Return the largest integer not above x, in x's dtype.")
ceil = _rounding("ceil", core.ceil, "Return the smallest integer not below x, in x's dtype.")
trunc = _rounding("trunc", core.trunc, "Return x without its fraction, in x's dtype.")
round = _rounding("round", core.rint, "Return the nearest integer, halves to even, in x's dtype.")


@math_function()
def sqrt(x: Scalar) -> Scalar:
    """Return the correctly rounded square root; NaN below -0.0."""
    return core.sqrt(x)


@math_function()
def rsqrt(x: Scalar) -> Scalar:
    """Return 1 / sqrt(x) from two correctly rounded steps; inf at 0, NaN below."""
    return 1.0 / core.sqrt(x)


@math_function(_same)
def abs(x: Scalar) -> Scalar:
    """Return |x|; the lowest integer wraps to itself."""
    kind = kind_of(x)
    if is_float(kind):
        return core.fabs(x)
    return x if kind[0] == "u" else select(x < 0, -x, x)


@math_function(_same)
def sign(x: Scalar) -> Scalar:
    """Return -1, 0 or 1 in x's dtype; NaN gives 0 as in torch."""
    zero, one = number(0, kind_of(x)), number(1, kind_of(x))
    positive = select(x > 0, one, zero)
    return positive if kind_of(x)[0] == "u" else select(x < 0, -one, positive)


@math_function()
def copysign(x: Scalar, s: Scalar) -> Scalar:
    """Return |x| with the sign bit of s."""
    return core.copysign(x, s)


@math_function(predicate)
def isnan(x: Scalar) -> Scalar:
    """Say whether x is NaN."""
    return x != x


@math_function(predicate)
def isinf(x: Scalar) -> Scalar:
    """Say whether x is +inf or -inf."""
    return core.fabs(x) == float("inf")


@math_function(predicate)
def isfinite(x: Scalar) -> Scalar:
    """Say whether x is neither infinite nor NaN."""
    return core.fabs(x) < float("inf")


@math_function(predicate)
def signbit(x: Scalar) -> Scalar:
    """Say whether x's sign bit is set (true for -0.0)."""
    return core.bits(x) < 0


def _extremum(a: Scalar, b: Scalar, larger: bool) -> Scalar:
    """Return max or min: NaN if either is NaN, -0.0 below +0.0 (IEEE 754-2019 maximum)."""
    kind = kind_of(a)
    if not is_float(kind):
        return select(a > b if larger else a < b, a, b)
    if isinstance(a, Value):
        # LLVM knows these as reductions, which compare-and-select is only with nnan.
        return intrinsic("llvm.maximum" if larger else "llvm.minimum", a, a.like(b))
    tie = core.bits(a) & core.bits(b) if larger else core.bits(a) | core.bits(b)
    pick = select(a > b if larger else a < b, a, b)
    pick = select(a == b, tie.view(a.dtype), pick)
    return select(np.isnan(a) | np.isnan(b), a + b, pick)


@math_function(common)
def maximum(a: Scalar, b: Scalar) -> Scalar:
    """Return the larger operand; NaN if either is NaN; +0.0 is above -0.0."""
    return _extremum(a, b, True)


@math_function(common)
def minimum(a: Scalar, b: Scalar) -> Scalar:
    """Return the smaller operand; NaN if either is NaN; -0.0 is below +0.0."""
    return _extremum(a, b, False)


def _known(a: Scalar, b: Scalar, larger: bool) -> Scalar:
    """Return the extremum of the operands that are not NaN."""
    both = _extremum(a, b, larger)
    return select(b != b, a, select(a != a, b, both)) if is_float(kind_of(a)) else both


@math_function(common)
def fmax(a: Scalar, b: Scalar) -> Scalar:
    """Return the larger operand, or the one that is not NaN."""
    return _known(a, b, True)


@math_function(common)
def fmin(a: Scalar, b: Scalar) -> Scalar:
    """Return the smaller operand, or the one that is not NaN."""
    return _known(a, b, False)


@math_function()
def nextafter(x: Scalar, y: Scalar) -> Scalar:
    """Return the float next to x in the direction of y."""
    kind = kind_of(x)
    smallest = core.copysign(number(2.0 ** (-149 if kind == "f32" else -1074), kind), y)
    word = core.bits(x)
    outward = (y > x) == (x > 0.0)
    near = core.unbits(select(outward, word + 1, word - 1))
    near = select(x == y, y, select(x == 0.0, smallest, near))
    return select((x == x) & (y == y), near, x + y)
