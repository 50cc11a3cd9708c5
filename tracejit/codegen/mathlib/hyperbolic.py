"""Hyperbolic functions, on the shared expm1 core."""

from __future__ import annotations

from tracejit.codegen.mathlib.core import Scalar, copysign, fabs, kind_of, number, select
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.exp_log import divide_by_sum, expm1_pair


@math_function()
def tanh(x: Scalar) -> Scalar:
    """Return the hyperbolic tangent."""
    kind = kind_of(x)
    limit = number(-20.0 if kind == "f32" else -44.0, kind)
    twice = fabs(x) * -2.0
    t, t_low = expm1_pair(select(twice < limit, limit, twice))
    return copysign(divide_by_sum(t, 2.0, t, t_low if kind == "f64" else None), x)
