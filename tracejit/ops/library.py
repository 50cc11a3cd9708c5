"""Ops that a library computes on whole arrays, and no kernel does: rare pointwise functions.

Invariant: inputs have one type; the result is what NumPy gives, eager and compiled alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.op import NONDIFF, Op
from tracejit.ir.types import TensorType
from tracejit.ops.declare import FLOAT, INTEGER, check_arity, check_domain, check_same, uniform


def library(
    name: str,
    doc: str,
    *,
    numpy: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    sample: Callable[..., Any],
    domain: str = FLOAT,
    arity: int = 2,
) -> Op:
    """A pointwise op without a kernel: all inputs and the result of one type."""

    def infer(types: Sequence[TensorType]) -> TensorType:
        check_arity(name, types, arity)
        check_domain(name, types, domain)
        check_same(name, types)
        return types[0]

    names = ("x", "y", "z")[:arity]
    return Op(name, "library", infer, numpy, vjp, doc, exact=True, names=names, sample=sample)


nextafter = library(
    "nextafter", "The next representable number after x towards y.", numpy=np.nextafter,
    vjp=NONDIFF, sample=uniform(-3, 3),
)  # fmt: skip
gcd = library(
    "gcd", "The greatest common divisor.", numpy=np.gcd, vjp=NONDIFF, domain=INTEGER,
    sample=uniform(0, 40),
)  # fmt: skip
