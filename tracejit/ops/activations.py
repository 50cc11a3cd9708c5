"""Activations that are ops of their own, so that a gradient keeps their input and nothing else.

Written with a few primitives each, `x * Phi(x)` would keep five values of its size for the
backward pass. Compiled code takes them apart as it does all composites. Invariant: the primitives,
and their order, are those that the definition spells.
"""

from __future__ import annotations

import math

from tracejit.ir.node import Node
from tracejit.ops.declare import uniform
from tracejit.ops.elementwise import erf, exp, tanh
from tracejit.ops.special import special

_CUBIC, _SCALE = 0.044715, math.sqrt(2.0 / math.pi)


def _erf_part(x: Node) -> Node:
    """Twice the normal distribution function."""
    return erf(x * (1 / math.sqrt(2.0))) + 1.0


def _gelu_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    density = exp(x * x * -0.5) * (1 / math.sqrt(2.0 * math.pi))
    return (g * (_erf_part(x) * 0.5 + x * density),)


gelu = special(
    "gelu", "x times the normal distribution function of x (Hendrycks and Gimpel, 2016).",
    lambda x: x * 0.5 * _erf_part(x), _gelu_vjp, uniform(-3, 3),
)  # fmt: skip


def _tanh_part(x: Node) -> Node:
    return tanh((x + x * x * x * _CUBIC) * _SCALE)


def _gelu_tanh_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    t = _tanh_part(x)
    slope = (x * x * (3 * _CUBIC) + 1.0) * _SCALE
    return (g * ((t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * slope),)


gelu_tanh = special(
    "gelu_tanh", "As gelu, with a tanh in place of the distribution function (the same authors).",
    lambda x: x * 0.5 * (_tanh_part(x) + 1.0), _gelu_tanh_vjp, uniform(-3, 3),
)  # fmt: skip
