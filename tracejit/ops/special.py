"""Special functions: composites of a few primitives around Chebyshev tables, and three by NumPy.

Invariant: float16 is computed in float32; float32 drops the terms of a table that it cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import float16, float32, from_numpy
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS, UNKNOWN, Op
from tracejit.ir.types import TensorType
from tracejit.ops import special_reference as reference
from tracejit.ops import special_tables as tables
from tracejit.ops.declare import FLOAT, check_arity, check_domain, uniform
from tracejit.ops.elementwise import (
    abs,
    cast,
    copysign,
    erfc,
    exp,
    le,
    lgamma,
    log,
    log1p,
    lt,
    neg,
    sign,
    sqrt,
    where,
)
from tracejit.ops.library import library


def _by_decomposition(decompose: Callable[[Node], Node]) -> Callable[[np.ndarray], np.ndarray]:
    """The reference meaning of a composite: its primitives, one by one."""

    def run(x: np.ndarray) -> np.ndarray:
        node = OPS["input"](type=TensorType(from_numpy(x.dtype), x.shape), name="x")
        return interpret(Graph("composite", (node,), (decompose(node),)), [x])[0]

    return run


def special(
    name: str, doc: str, formula: Callable[[Node], Node], vjp: Callable[..., Any], sample: Any
) -> Op:
    """A function of one number, given by a formula over nodes and a gradient rule."""

    def infer(types: Sequence[TensorType]) -> TensorType:
        check_arity(name, types, 1)
        check_domain(name, types, FLOAT)
        return types[0]

    def decompose(x: Node) -> Node:
        if x.dtype is not float16:
            return formula(x)
        return cast(formula(cast(x, dtype=float32)), dtype=float16)

    return Op(
        name, "composite", infer, _by_decomposition(decompose), vjp, doc, decompose=decompose,
        sample=sample, cost=60,
    )  # fmt: skip


def chebyshev(t: Node, table: Sequence[float]) -> Node:
    """c0/2 + c1 T1(t) + ... by Clenshaw's recurrence."""
    visible = 1e-9 if t.dtype is float32 else 0.0
    size = max(map(math.fabs, table))
    terms = [c for c in table if math.fabs(c) > visible * size]
    double, last, before = t + t, full_like(t, 0.0), full_like(t, 0.0)
    for c in reversed(terms[1:]):
        last, before = double * last - before + c, last
    return t * last - before + terms[0] / 2


# --- modified Bessel functions -----------------------------------------------------------------


def _scaled_bessel(a: Node, small: Sequence[float], large: Sequence[float], odd: bool) -> Node:
    """exp(-a) I(a) for a >= 0."""
    near = chebyshev(a * 0.25 - 1.0, small)
    near = near * a if odd else near
    far = chebyshev(16.0 / a - 1.0, large) / sqrt(a)
    return where(le(a, full_like(a, 8.0)), near, far)


def _i0e(x: Node) -> Node:
    return _scaled_bessel(abs(x), tables.I0_SMALL, tables.I0_LARGE, False)


def _i1e(x: Node) -> Node:
    return copysign(_scaled_bessel(abs(x), tables.I1_SMALL, tables.I1_LARGE, True), x)


def _unscaled(scaled: Node, x: Node) -> Node:
    half = exp(abs(x) * 0.5)  # in two steps: exp(x) overflows before I(x) does
    endless = OPS["eq"](abs(x), full_like(x, math.inf))
    return where(endless, copysign(full_like(x, math.inf), scaled), scaled * half * half)


def _i1_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    zero = OPS["eq"](x, full_like(x, 0.0))
    safe = where(zero, full_like(x, 1.0), x)
    return (g * where(zero, full_like(x, 0.5), i0(x) - out / safe),)


def _i1e_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    zero = OPS["eq"](x, full_like(x, 0.0))
    safe = where(zero, full_like(x, 1.0), x)
    slope = i0e(x) - out * (sign(x) + 1.0 / safe)
    return (g * where(zero, full_like(x, 0.5), slope),)


i0e = special(
    "i0e", "exp(-|x|) I0(x).", _i0e, lambda g, out, x: (g * (i1e(x) - sign(x) * out),),
    uniform(-9, 9),
)  # fmt: skip
i1e: Op = special("i1e", "exp(-|x|) I1(x).", _i1e, _i1e_vjp, uniform(0.5, 9))
i0 = special(
    "i0", "The modified Bessel function of order 0.", lambda x: _unscaled(_i0e(x), x),
    lambda g, out, x: (g * i1(x),), uniform(-3, 3),
)  # fmt: skip
i1: Op = special(
    "i1", "The modified Bessel function of order 1.", lambda x: _unscaled(_i1e(x), x), _i1_vjp,
    uniform(0.5, 3),
)  # fmt: skip

# --- the normal distribution --------------------------------------------------------------------


def _erfcx(x: Node) -> Node:
    a = abs(x)
    right = chebyshev(1.0 - 7.5 / (a + 3.75), tables.ERFCX) / (a + a + 1.0)
    return where(lt(x, full_like(x, 0.0)), exp(x * x) * 2.0 - right, right)


erfcx = special(
    "erfcx", "exp(x * x) erfc(x).", _erfcx,
    lambda g, out, x: (g * (x * out * 2.0 - 2.0 / math.sqrt(math.pi)),), uniform(-2, 5),
)  # fmt: skip


def _log_ndtr(x: Node) -> Node:
    scaled = x * -math.sqrt(0.5)
    left = log(_erfcx(scaled) * 0.5) - x * x * 0.5
    return where(lt(x, full_like(x, -1.0)), left, log1p(erfc(-scaled) * -0.5))


log_ndtr = special(
    "log_ndtr", "The logarithm of the normal distribution function.", _log_ndtr,
    lambda g, out, x: (g * math.sqrt(2 / math.pi) / erfcx(x * -math.sqrt(0.5)),), uniform(-4, 4),
)  # fmt: skip


def _ndtri(p: Node) -> Node:
    q = p - 0.5
    s = q * q
    middle = q * chebyshev(s * (2 / 0.425**2) - 1.0, tables.NDTRI_CENTRAL)
    left = lt(q, full_like(q, 0.0))
    r = sqrt(-log(where(left, p, 1.0 - p)))
    low, high = 1 / 28, 1 / 1.6
    t = (1.0 / r) * (2 / (high - low)) - (high + low) / (high - low)
    outer = r * chebyshev(t, tables.NDTRI_TAIL)
    return where(le(abs(q), full_like(q, 0.425)), middle, where(left, neg(outer), outer))


ndtri = special(
    "ndtri", "The quantile of the normal distribution.", _ndtri,
    lambda g, out, x: (g * exp(out * out * 0.5) * math.sqrt(2 * math.pi),), uniform(0.05, 0.95),
)  # fmt: skip

# --- zeta and the incomplete gamma functions ------------------------------------------------------

zeta: Op = library(
    "zeta", "Hurwitz's zeta function: the sum of (q + k) ** -x over k >= 0.",
    numpy=reference.zeta, sample=uniform(2, 4),
    names=("x", "q"), vjp=lambda g, out, x, q: (UNKNOWN, -(g * x * zeta(x + 1.0, q))),
)  # fmt: skip


def _density(a: Node, x: Node) -> Node:
    """The derivative of the lower incomplete gamma function by x."""
    return exp((a - 1.0) * log(x) - x - lgamma(a))


igamma = library(
    "igamma", "The regularised lower incomplete gamma function P(a, x).",
    numpy=reference.igamma, sample=uniform(0.5, 4),
    names=("a", "x"), vjp=lambda g, out, a, x: (UNKNOWN, g * _density(a, x)),
)  # fmt: skip
igammac = library(
    "igammac", "The regularised upper incomplete gamma function Q(a, x).",
    numpy=reference.igammac, sample=uniform(0.5, 4),
    names=("a", "x"), vjp=lambda g, out, a, x: (UNKNOWN, -(g * _density(a, x))),
)  # fmt: skip
