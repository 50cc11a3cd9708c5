"""Math functions for kernels, `m.exp(x)` and so on, in float32 and float64.

Every function is branch-free, vectorises, honours NaN, infinities, signed zeros and subnormals,
and is within 2 ulp. Called from Python it is its own reference twin, bit for bit.
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
    round,
    rsqrt,
    sign,
    signbit,
    sqrt,
    trunc,
)
from tracejit.codegen.mathlib.exp_log import exp, log, sigmoid
from tracejit.codegen.mathlib.hyperbolic import tanh
from tracejit.codegen.mathlib.special import erf

__all__ = ["abs", "ceil", "copysign", "core", "define", "erf", "exp", "floor", "fmax", "fmin",
           "isfinite", "isinf", "isnan", "log", "maximum", "minimum", "round", "rsqrt", "sigmoid",
           "sign", "signbit", "sqrt", "tanh", "trunc"]
