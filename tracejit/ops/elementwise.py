"""Pointwise ops: arithmetic, comparisons, logic and the elementary functions.

Kernel text: {x} {y} {z} are the operands; `m` is the math library (codegen/mathlib). float16 is
computed in float32 and rounded after every op by the generator, integers wrap by the generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType, bool_
from tracejit.errors import DTypeError
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import NONDIFF, OPS, Op
from tracejit.ir.types import TensorType
from tracejit.ops import reference
from tracejit.ops.declare import (
    ANY,
    BITS,
    INTEGER,
    NUMERIC,
    check_arity,
    check_same,
    comparison,
    elementwise,
    uniform,
)

# --- arithmetic ------------------------------------------------------------------------------

add = elementwise(
    "add", "x + y.", arity=2, domain=ANY, exact=True, numpy=np.add, sample=uniform(-3, 3),
    scalar={"b": "({x} | {y})", "fiu": "({x} + {y})"}, vjp=lambda g, out, x, y: (g, g),
)  # fmt: skip
sub = elementwise(
    "sub", "x - y.", arity=2, domain=NUMERIC, exact=True, numpy=np.subtract,
    sample=uniform(-3, 3), scalar="({x} - {y})", vjp=lambda g, out, x, y: (g, -g),
)  # fmt: skip
mul = elementwise(
    "mul", "x * y.", arity=2, domain=ANY, exact=True, numpy=np.multiply, sample=uniform(-3, 3),
    scalar={"b": "({x} & {y})", "fiu": "({x} * {y})"}, vjp=lambda g, out, x, y: (g * y, g * x),
)  # fmt: skip
div = elementwise(
    "div", "x / y.", arity=2, exact=True, numpy=np.divide, sample=uniform(0.5, 3), cost=4,
    scalar="({x} / {y})", vjp=lambda g, out, x, y: (g / y, -(g * out) / y),
)  # fmt: skip
neg = elementwise(
    "neg", "-x.", domain=NUMERIC, exact=True, numpy=np.negative, sample=uniform(-3, 3),
    scalar="(-{x})", vjp=lambda g, out, x: (-g,),
)  # fmt: skip
floor_divide = elementwise(
    "floor_divide", "The quotient x / y rounded to minus infinity.", arity=2, domain=NUMERIC,
    numpy=reference.floor_divide, sample=uniform(1, 5), cost=6, vjp=NONDIFF,
    scalar="m.floor_divide({x}, {y})",
)  # fmt: skip
remainder = elementwise(
    "remainder", "x - y * floor(x / y): the sign is that of y, as in Python.", arity=2,
    domain=NUMERIC, numpy=np.remainder, sample=uniform(1, 5), cost=6,
    scalar="m.remainder({x}, {y})", vjp=lambda g, out, x, y: (g, -(g * floor(x / y))),
)  # fmt: skip
fmod = elementwise(
    "fmod", "x - y * trunc(x / y): the sign is that of x, as in C.", arity=2, domain=NUMERIC,
    numpy=np.fmod, sample=uniform(1, 5), cost=6, scalar="m.fmod({x}, {y})",
    vjp=lambda g, out, x, y: (g, -(g * trunc(x / y))),
)  # fmt: skip


def _pow_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    zero = full_like(x, 0.0)
    by_x = where(eq(y, zero), zero, g * y * pow(x, y - 1.0))
    by_y = where(eq(x, zero) & ge(y, zero), zero, g * out * log(x))
    return by_x, by_y


pow = elementwise(
    "pow", "x ** y.", arity=2, domain=NUMERIC, numpy=reference.power, sample=uniform(0.5, 2),
    cost=30, scalar="m.pow({x}, {y})", vjp=_pow_vjp,
)  # fmt: skip
square = elementwise(
    "square", "x * x.", domain=NUMERIC, exact=True, numpy=np.square, sample=uniform(-3, 3),
    scalar="({x} * {x})", vjp=lambda g, out, x: (g * (x + x),),
)  # fmt: skip
reciprocal = elementwise(
    "reciprocal", "1 / x.", exact=True, numpy=np.reciprocal, sample=uniform(0.5, 3), cost=4,
    scalar="(one({x}) / {x})", vjp=lambda g, out, x: (-(g * out * out),),
)  # fmt: skip


def _tie_vjp(g: Node, x: Node, y: Node, of_smaller: bool) -> tuple[Node, Node]:
    """Ties share; a NaN result leads to both operands, as in torch."""
    below = gt if of_smaller else lt
    half, zero = full_like(g, 0.5), full_like(g, 0.0)
    by_x = where(eq(x, y), g * half, where(below(x, y), zero, g))
    by_y = where(eq(x, y), g * half, where(below(y, x), zero, g))
    return by_x, by_y


_LARGER = {"f": "m.maximum({x}, {y})", "iu": "select({x} > {y}, {x}, {y})", "b": "({x} | {y})"}
_SMALLER = {"f": "m.minimum({x}, {y})", "iu": "select({x} < {y}, {x}, {y})", "b": "({x} & {y})"}

maximum = elementwise(
    "maximum", "The larger of x and y; NaN if either is.", arity=2, domain=ANY,
    numpy=np.maximum, sample=uniform(-3, 3), scalar=_LARGER,
    vjp=lambda g, out, x, y: _tie_vjp(g, x, y, of_smaller=False),
)  # fmt: skip
minimum = elementwise(
    "minimum", "The smaller of x and y; NaN if either is.", arity=2, domain=ANY,
    numpy=np.minimum, sample=uniform(-3, 3), scalar=_SMALLER,
    vjp=lambda g, out, x, y: _tie_vjp(g, x, y, of_smaller=True),
)  # fmt: skip
clamp_min = elementwise(
    "clamp_min", "x, but y where x is below it; NaN if either is.", arity=2, domain=ANY,
    numpy=np.maximum, sample=uniform(-3, 3), scalar=_LARGER,
    vjp=lambda g, out, x, y: _choose(g, ge(x, y)),
)  # fmt: skip
clamp_max = elementwise(
    "clamp_max", "x, but y where x is above it; NaN if either is.", arity=2, domain=ANY,
    numpy=np.minimum, sample=uniform(-3, 3), scalar=_SMALLER,
    vjp=lambda g, out, x, y: _choose(g, le(x, y)),
)  # fmt: skip
fmax = elementwise(
    "fmax", "The larger of x and y; a NaN gives way.", arity=2, numpy=np.fmax,
    sample=uniform(-3, 3), scalar="m.fmax({x}, {y})",
    vjp=lambda g, out, x, y: _choose(g, ge(x, y) | isnan(y)),
)  # fmt: skip
fmin = elementwise(
    "fmin", "The smaller of x and y; a NaN gives way.", arity=2, numpy=np.fmin,
    sample=uniform(-3, 3), scalar="m.fmin({x}, {y})",
    vjp=lambda g, out, x, y: _choose(g, le(x, y) | isnan(y)),
)  # fmt: skip


def _choose(g: Node, first: Node) -> tuple[Node, Node]:
    zero = full_like(g, 0.0)
    return where(first, g, zero), where(first, zero, g)


abs = elementwise(
    "abs", "The absolute value.", domain=NUMERIC, exact=True, numpy=np.abs,
    sample=uniform(-3, 3), scalar="m.abs({x})", vjp=lambda g, out, x: (g * sign(x),),
)  # fmt: skip
sign: Op = elementwise(
    "sign", "-1, 0 or 1; 0 for NaN.", domain=NUMERIC, exact=True, numpy=reference.sign,
    sample=uniform(-3, 3), scalar="m.sign({x})", vjp=lambda g, out, x: (full_like(x, 0.0),),
)  # fmt: skip
copysign = elementwise(
    "copysign", "The magnitude of x with the sign of y.", arity=2, exact=True, numpy=np.copysign,
    sample=uniform(-3, 3), scalar="m.copysign({x}, {y})",
    vjp=lambda g, out, x, y: (where(eq(x, full_like(x, 0.0)), full_like(x, 0.0), g * out / x),
                              full_like(y, 0.0)),
)  # fmt: skip
relu = elementwise(
    "relu", "x where x > 0, else 0; NaN stays, and so does its gradient.", domain=NUMERIC,
    exact=True,
    numpy=lambda x: np.where(x <= 0, x.dtype.type(0), x), sample=uniform(-3, 3),
    scalar="select({x} <= zero({x}), zero({x}), {x})",
    vjp=lambda g, out, x: (where(le(out, full_like(out, 0.0)), full_like(g, 0.0), g),),
)  # fmt: skip

# --- rounding --------------------------------------------------------------------------------


def _zero_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    return (full_like(x, 0.0),)


floor: Op = elementwise(
    "floor", "Rounded to minus infinity.", exact=True, numpy=np.floor, sample=uniform(-3, 3),
    scalar="m.floor({x})", vjp=_zero_vjp,
)  # fmt: skip
ceil = elementwise(
    "ceil", "Rounded to plus infinity.", exact=True, numpy=np.ceil, sample=uniform(-3, 3),
    scalar="m.ceil({x})", vjp=_zero_vjp,
)  # fmt: skip
trunc: Op = elementwise(
    "trunc", "Rounded to zero.", exact=True, numpy=np.trunc, sample=uniform(-3, 3),
    scalar="m.trunc({x})", vjp=_zero_vjp,
)  # fmt: skip
round = elementwise(
    "round", "Rounded to the nearest whole number, halves to even.", exact=True, numpy=np.rint,
    sample=uniform(-3, 3), scalar="m.round({x})", vjp=_zero_vjp,
)  # fmt: skip

# --- comparisons, logic, selection -----------------------------------------------------------

eq: Op = comparison("eq", "x == y.", "==", np.equal)
ne = comparison("ne", "x != y.", "!=", np.not_equal)
lt = comparison("lt", "x < y.", "<", np.less)
le: Op = comparison("le", "x <= y.", "<=", np.less_equal)
gt: Op = comparison("gt", "x > y.", ">", np.greater)
ge: Op = comparison("ge", "x >= y.", ">=", np.greater_equal)

isnan: Op = elementwise(
    "isnan", "Whether x is NaN.", result=bool_, exact=True, numpy=np.isnan,
    sample=uniform(-3, 3), scalar="m.isnan({x})", vjp=NONDIFF,
)  # fmt: skip
isinf = elementwise(
    "isinf", "Whether x is infinite.", result=bool_, exact=True, numpy=np.isinf,
    sample=uniform(-3, 3), scalar="m.isinf({x})", vjp=NONDIFF,
)  # fmt: skip
signbit = elementwise(
    "signbit", "Whether the sign bit is set.", domain=NUMERIC, result=bool_, exact=True,
    numpy=reference.signbit, sample=uniform(-3, 3),
    scalar={"f": "(m.copysign(one({x}), {x}) < zero({x}))", "iu": "({x} < zero({x}))"},
    vjp=NONDIFF,
)  # fmt: skip
bitwise_and = elementwise(
    "bitwise_and", "x & y.", arity=2, domain=BITS, exact=True, numpy=np.bitwise_and,
    sample=uniform(0, 9), scalar="({x} & {y})", vjp=NONDIFF,
)  # fmt: skip
bitwise_or = elementwise(
    "bitwise_or", "x | y.", arity=2, domain=BITS, exact=True, numpy=np.bitwise_or,
    sample=uniform(0, 9), scalar="({x} | {y})", vjp=NONDIFF,
)  # fmt: skip
bitwise_xor = elementwise(
    "bitwise_xor", "x ^ y.", arity=2, domain=BITS, exact=True, numpy=np.bitwise_xor,
    sample=uniform(0, 9), scalar="({x} ^ {y})", vjp=NONDIFF,
)  # fmt: skip
bitwise_not = elementwise(
    "bitwise_not", "~x.", domain=BITS, exact=True, numpy=np.invert, sample=uniform(0, 9),
    scalar={"b": "(not {x})", "iu": "(~{x})"}, vjp=NONDIFF,
)  # fmt: skip
shift_left = elementwise(
    "shift_left", "x << y.", arity=2, domain=INTEGER, numpy=np.left_shift,
    sample=uniform(0, 6), scalar="m.shift_left({x}, {y})", vjp=NONDIFF,
)  # fmt: skip
shift_right = elementwise(
    "shift_right", "x >> y, keeping the sign.", arity=2, domain=INTEGER,
    numpy=np.right_shift, sample=uniform(0, 6), scalar="m.shift_right({x}, {y})", vjp=NONDIFF,
)  # fmt: skip


def _infer_where(types: Sequence[TensorType]) -> TensorType:
    check_arity("where", types, 3)
    if types[0].dtype is not bool_:
        raise DTypeError(f"where takes a bool condition, not {types[0]}")
    check_same("where", types, dtypes=False)
    check_same("where", types[1:])
    return types[1]


def _where_vjp(g: Node, out: Node, c: Node, x: Node, y: Node) -> tuple[Any, ...]:
    zero = full_like(g, 0.0)
    return None, where(c, g, zero), where(c, zero, g)


where: Op = Op(
    "where", "elementwise", _infer_where, np.where, _where_vjp, "x where the condition, else y.",
    scalar="select({c}, {x}, {y})", exact=True, names=("c", "x", "y"), sample=uniform(-3, 3),
)  # fmt: skip


def _infer_cast(types: Sequence[TensorType], *, dtype: DType) -> TensorType:
    check_arity("cast", types, 1)
    return types[0].with_dtype(dtype)


def _cast_vjp(g: Node, out: Node, x: Node, *, dtype: DType) -> tuple[Any]:
    if x.dtype.kind != "f" or dtype.kind != "f":
        return (None,)
    return (cast(g, dtype=x.dtype),)


cast = Op(
    "cast", "elementwise", _infer_cast, reference.cast, _cast_vjp, "Converted to another dtype.",
    scalar=lambda dtype: f"cast_{dtype.short}({{x}})", exact=True, sample=uniform(-3, 3),
)  # fmt: skip

# --- exponentials and logarithms -------------------------------------------------------------

_LN2, _LN10 = math.log(2.0), math.log(10.0)

exp = elementwise(
    "exp", "e ** x.", numpy=np.exp, sample=uniform(-3, 3), cost=12, scalar="m.exp({x})",
    vjp=lambda g, out, x: (g * out,),
)  # fmt: skip
exp2 = elementwise(
    "exp2", "2 ** x.", numpy=np.exp2, sample=uniform(-3, 3), cost=12, scalar="m.exp2({x})",
    vjp=lambda g, out, x: (g * out * _LN2,),
)  # fmt: skip
expm1 = elementwise(
    "expm1", "e ** x - 1, exact near 0.", numpy=np.expm1, sample=uniform(-3, 3), cost=14,
    scalar="m.expm1({x})", vjp=lambda g, out, x: (g * (out + 1.0),),
)  # fmt: skip
log = elementwise(
    "log", "The natural logarithm.", numpy=np.log, sample=uniform(0.5, 3), cost=14,
    scalar="m.log({x})", vjp=lambda g, out, x: (g / x,),
)  # fmt: skip
log2 = elementwise(
    "log2", "The logarithm to base 2.", numpy=np.log2, sample=uniform(0.5, 3), cost=14,
    scalar="m.log2({x})", vjp=lambda g, out, x: (g / (x * _LN2),),
)  # fmt: skip
log10 = elementwise(
    "log10", "The logarithm to base 10.", numpy=np.log10, sample=uniform(0.5, 3), cost=14,
    scalar="m.log10({x})", vjp=lambda g, out, x: (g / (x * _LN10),),
)  # fmt: skip
log1p = elementwise(
    "log1p", "log(1 + x), exact near 0.", numpy=np.log1p, sample=uniform(-0.5, 3), cost=16,
    scalar="m.log1p({x})", vjp=lambda g, out, x: (g / (x + 1.0),),
)  # fmt: skip
sqrt = elementwise(
    "sqrt", "The square root.", exact=True, numpy=np.sqrt, sample=uniform(0.5, 3), cost=6,
    scalar="m.sqrt({x})", vjp=lambda g, out, x: (g / (out + out),),
)  # fmt: skip
rsqrt = elementwise(
    "rsqrt", "1 / sqrt(x).", numpy=lambda x: 1 / np.sqrt(x), sample=uniform(0.5, 3), cost=8,
    scalar="m.rsqrt({x})", vjp=lambda g, out, x: (g * (out * out * out) * -0.5,),
)  # fmt: skip

# --- trigonometric and hyperbolic ------------------------------------------------------------

sin = elementwise(
    "sin", "The sine.", numpy=np.sin, sample=uniform(-3, 3), cost=16, scalar="m.sin({x})",
    vjp=lambda g, out, x: (g * cos(x),),
)  # fmt: skip
cos: Op = elementwise(
    "cos", "The cosine.", numpy=np.cos, sample=uniform(-3, 3), cost=16, scalar="m.cos({x})",
    vjp=lambda g, out, x: (-(g * sin(x)),),
)  # fmt: skip
tan = elementwise(
    "tan", "The tangent.", numpy=np.tan, sample=uniform(-1, 1), cost=20, scalar="m.tan({x})",
    vjp=lambda g, out, x: (g * (out * out + 1.0),),
)  # fmt: skip
asin = elementwise(
    "asin", "The inverse sine.", numpy=np.arcsin, sample=uniform(-0.9, 0.9), cost=16,
    scalar="m.asin({x})", vjp=lambda g, out, x: (g * rsqrt(1.0 - x * x),),
)  # fmt: skip
acos = elementwise(
    "acos", "The inverse cosine.", numpy=np.arccos, sample=uniform(-0.9, 0.9), cost=16,
    scalar="m.acos({x})", vjp=lambda g, out, x: (-(g * rsqrt(1.0 - x * x)),),
)  # fmt: skip
atan = elementwise(
    "atan", "The inverse tangent.", numpy=np.arctan, sample=uniform(-3, 3), cost=16,
    scalar="m.atan({x})", vjp=lambda g, out, x: (g / (x * x + 1.0),),
)  # fmt: skip
atan2 = elementwise(
    "atan2", "The angle of the point (y, x) = (first, second).", arity=2, numpy=np.arctan2,
    sample=uniform(0.5, 3), cost=20, scalar="m.atan2({x}, {y})",
    vjp=lambda g, out, x, y: (g * y / (x * x + y * y), -(g * x) / (x * x + y * y)),
)  # fmt: skip
sinh = elementwise(
    "sinh", "The hyperbolic sine.", numpy=np.sinh, sample=uniform(-3, 3), cost=18,
    scalar="m.sinh({x})", vjp=lambda g, out, x: (g * cosh(x),),
)  # fmt: skip
cosh: Op = elementwise(
    "cosh", "The hyperbolic cosine.", numpy=np.cosh, sample=uniform(-3, 3), cost=18,
    scalar="m.cosh({x})", vjp=lambda g, out, x: (g * sinh(x),),
)  # fmt: skip
tanh = elementwise(
    "tanh", "The hyperbolic tangent.", numpy=np.tanh, sample=uniform(-3, 3), cost=14,
    scalar="m.tanh({x})", vjp=lambda g, out, x: (g * (1.0 - out * out),),
)  # fmt: skip
asinh = elementwise(
    "asinh", "The inverse hyperbolic sine.", numpy=np.arcsinh, sample=uniform(-3, 3), cost=20,
    scalar="m.asinh({x})", vjp=lambda g, out, x: (g * rsqrt(x * x + 1.0),),
)  # fmt: skip
acosh = elementwise(
    "acosh", "The inverse hyperbolic cosine.", numpy=np.arccosh, sample=uniform(1.5, 3), cost=20,
    scalar="m.acosh({x})", vjp=lambda g, out, x: (g * rsqrt(x * x - 1.0),),
)  # fmt: skip
atanh = elementwise(
    "atanh", "The inverse hyperbolic tangent.", numpy=np.arctanh, sample=uniform(-0.9, 0.9),
    cost=20, scalar="m.atanh({x})", vjp=lambda g, out, x: (g / (1.0 - x * x),),
)  # fmt: skip
hypot = elementwise(
    "hypot", "sqrt(x * x + y * y) without overflow.", arity=2, numpy=np.hypot,
    sample=uniform(0.5, 3), cost=10, scalar="m.hypot({x}, {y})",
    vjp=lambda g, out, x, y: (g * (x / out), g * (y / out)),
)  # fmt: skip

# --- special functions -----------------------------------------------------------------------

_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)

erf = elementwise(
    "erf", "The error function.", numpy=reference.erf, sample=uniform(-2, 2), cost=18,
    scalar="m.erf({x})", vjp=lambda g, out, x: (g * exp(-(x * x)) * _TWO_OVER_SQRT_PI,),
)  # fmt: skip
erfc = elementwise(
    "erfc", "1 - erf(x), exact for large x.", numpy=reference.erfc, sample=uniform(-2, 2),
    cost=20, scalar="m.erfc({x})",
    vjp=lambda g, out, x: (g * exp(-(x * x)) * -_TWO_OVER_SQRT_PI,),
)  # fmt: skip
erfinv = elementwise(
    "erfinv", "The inverse error function.", numpy=reference.erfinv, sample=uniform(-0.9, 0.9),
    cost=24, scalar="m.erfinv({x})",
    vjp=lambda g, out, x: (g * exp(out * out) * (1.0 / _TWO_OVER_SQRT_PI),),
)  # fmt: skip
sigmoid = elementwise(
    "sigmoid", "1 / (1 + e ** -x).", numpy=reference.sigmoid, sample=uniform(-3, 3), cost=14,
    scalar="m.sigmoid({x})", vjp=lambda g, out, x: (g * (out * (1.0 - out)),),
)  # fmt: skip
lgamma = elementwise(
    "lgamma", "The logarithm of |gamma(x)|.", numpy=reference.lgamma, sample=uniform(0.5, 4),
    cost=40, scalar="m.lgamma({x})", vjp=lambda g, out, x: (g * digamma(x),),
)  # fmt: skip
digamma: Op = elementwise(
    "digamma", "The derivative of lgamma.", numpy=reference.digamma, sample=uniform(0.5, 4),
    cost=40, scalar="m.digamma({x})",
    vjp=lambda g, out, x: (g * OPS["zeta"](full_like(x, 2.0), x),),
)  # fmt: skip
