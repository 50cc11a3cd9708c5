"""Math functions for kernels, `m.exp(x)` and so on, in float32 and float64.

Every function is branch-free, vectorises, honours NaN, infinities, signed zeros and subnormals,
and is within 2 ulp. Called from Python it is its own reference twin, bit for bit. To add one, write
the scalar body over `core`'s operations, decorate it with `define.math_function`, export it here;
the tests of twins find it by themselves, its reference goes into `tests/codegen/test_mathlib.py`.

    >>> import numpy as np
    >>> exp(np.array([0.0, -np.inf, np.nan], np.float32))
    array([ 1.,  0., nan], dtype=float32)
"""

from tracejit.codegen.mathlib import core, define
from tracejit.codegen.mathlib.bits import (
    abs,
    ceil,
    copysign,
    floor,
    fmax,
    fmin,
    isfinite,
    isinf,
    isnan,
    maximum,
    minimum,
    nextafter,
    round,
    rsqrt,
    sign,
    signbit,
    sqrt,
    trunc,
)
from tracejit.codegen.mathlib.exp_log import exp, exp2, expm1, log, log1p, log2, log10, sigmoid
from tracejit.codegen.mathlib.gamma import digamma, lgamma
from tracejit.codegen.mathlib.hyperbolic import acosh, asinh, atanh, cosh, sinh, tanh
from tracejit.codegen.mathlib.integer import (
    floor_divide,
    fmod,
    gcd,
    remainder,
    shift_left,
    shift_right,
)
from tracejit.codegen.mathlib.inverse_trig import acos, asin, atan, atan2
from tracejit.codegen.mathlib.power import hypot, pow
from tracejit.codegen.mathlib.special import erf, erfc, erfinv
from tracejit.codegen.mathlib.trig import cos, sin, tan

__all__ = ["abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign",
           "core", "cos", "cosh", "define", "digamma", "erf", "erfc", "erfinv", "exp", "exp2",
           "expm1", "floor", "floor_divide", "fmax", "fmin", "fmod", "gcd", "hypot", "isfinite",
           "isinf", "isnan", "lgamma", "log", "log10", "log1p", "log2", "maximum", "minimum",
           "nextafter", "pow", "remainder", "round", "rsqrt", "shift_left", "shift_right",
           "sigmoid", "sign", "signbit", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"]  # fmt: skip
