"""Ops that a library computes on whole arrays, and no kernel does: rare pointwise functions.

Invariant: inputs have one type; the result is what NumPy gives, eager and compiled alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.node import full_like
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
    names: tuple[str, ...] = ("x", "y"),
) -> Op:
    """A pointwise op without a kernel: all inputs and the result of one type."""

    def infer(types: Sequence[TensorType]) -> TensorType:
        check_arity(name, types, len(names))
        check_domain(name, types, domain)
        check_same(name, types)
        return types[0]

    return Op(name, "library", infer, numpy, vjp, doc, exact=True, names=names, sample=sample)


nextafter = library(
    "nextafter", "The next representable number after x towards y.", numpy=np.nextafter,
    vjp=lambda g, out, x, y: (g, full_like(y, 0.0)), sample=uniform(-3, 3),
)  # fmt: skip
gcd = library(
    "gcd", "The greatest common divisor.", numpy=np.gcd, vjp=NONDIFF, domain=INTEGER,
    sample=uniform(0, 40),
)  # fmt: skip


def _infer_searchsorted(types: Sequence[TensorType], *, right: bool) -> TensorType:
    check_arity("searchsorted", types, 2)
    rows, x = types
    if rows.dtype is not x.dtype:
        raise DTypeError(f"searchsorted: dtypes differ: {rows}, {x}")
    if rows.ndim != 1 and rows.shape[:-1] != x.shape[:-1]:
        raise ShapeError(f"searchsorted: rows of {rows} do not fit {x}")
    return x.with_dtype(int64)


def _numpy_searchsorted(rows: np.ndarray, x: np.ndarray, right: bool) -> np.ndarray:
    side: Any = "right" if right else "left"
    if rows.ndim == 1:
        return np.asarray(np.searchsorted(rows, x, side), np.int64)
    found = np.empty(x.shape, np.int64)
    for where in np.ndindex(*x.shape[:-1]):
        found[where] = np.searchsorted(rows[where], x[where], side)
    return found


searchsorted = Op(
    "searchsorted", "library", _infer_searchsorted, _numpy_searchsorted, NONDIFF,
    "Where each x goes in a sorted row: before (`right`: after) equal elements.",
    names=("rows", "x"), sample=uniform(-3, 3),
)  # fmt: skip
