"""Special functions: erf."""

from __future__ import annotations

from tracejit.codegen.mathlib.core import Scalar, copysign, fabs, fma, kind_of, number, poly, select
from tracejit.codegen.mathlib.define import math_function
from tracejit.codegen.mathlib.exp_log import expm1_core

# log(erfc(x)) / x = C0 + x*Q(x) on [0, 4]; C0 = -2/sqrt(pi) in two parts
ERF32 = (-1.1538755e-06, 2.0945274e-05, -0.00016574329, 0.0007367788, -0.0017943156, 0.0002492921,
         0.01911927, -0.10277161, -0.6366198)
ERF32_C0 = (-1.1283792, 5.863538e-08)


@math_function()
def erf(x: Scalar) -> Scalar:
    """Return the error function."""
    kind = kind_of(x)
    a = fabs(x)
    a = select(a > 4.0, number(4.0, kind), a)
    rest = fma(a, poly(a, *ERF32), ERF32_C0[1])
    t = expm1_core(fma(a, ERF32_C0[0], a * rest))
    return copysign(t, x)
