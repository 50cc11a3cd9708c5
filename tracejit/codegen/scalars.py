"""Kernel text of one op on one element: literals, rounding, wrap-around, casts.

Invariant: float16 is computed in float32 and rounded after every op, integers wrap after every op,
and no text depends on the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tracejit.dtypes import DType, bool_, float16, float64, int64
from tracejit.ir.node import Node

# Ops whose result is one of their operands, or exact in half: no rounding, no wrapping needed.
_KEEPS = frozenset({"where", "maximum", "minimum", "fmax", "fmin", "relu", "copysign", "sign",
                    "floor", "ceil", "trunc", "round", "bitwise_and", "bitwise_or",
                    "bitwise_xor"})  # fmt: skip
ORDER = frozenset({"lt", "le", "gt", "ge"})
_COMPARE = ORDER | {"eq", "ne"}


def literal(value: Any, dtype: DType) -> str:
    """A constant of `dtype` as kernel text, in the dtype that kernels compute in."""
    if isinstance(value, (bool, int, float)):
        return _literal(repr(value), value, dtype)  # -0.0 is 0.0, and 1 is True and 1.0
    return _text_of(value, dtype)


@lru_cache(4096)
def _literal(written: str, value: Any, dtype: DType) -> str:
    return _text_of(value, dtype)


def _text_of(value: Any, dtype: DType) -> str:
    if dtype.kind == "b":
        return str(bool(value))
    if dtype.kind in "iu":
        number = int(np.asarray(value).astype(dtype.numpy))
        return f"np.{dtype.name}({number})"
    with np.errstate(all="ignore"):
        number_ = float(np.asarray(value, np.float64).astype(dtype.numpy))
    if math.isnan(number_):
        text = "np.nan"
    elif math.isinf(number_):
        text = "np.inf" if number_ > 0 else "-np.inf"
    else:
        text = repr(number_) if dtype is float64 else str(np.float32(number_))
    return f"np.float64({text})" if dtype is float64 else f"np.float32({text})"


def cast_text(x: str, source: DType, target: DType) -> str:
    """`x` of dtype `source` converted to `target`."""
    if target is float16:
        if source is float16:
            return x
        return f"round_f16({x})" if source.kind == "f" else f"round_f16(to_f32({x}))"
    if source is float16 and target.short == "f32":
        return x
    return f"to_{target.short}({x})"


def finish(text: str, op: str, dtype: DType) -> str:
    """Round or wrap the result of an op into its dtype."""
    if op in _KEEPS or dtype is bool_ or dtype is int64:
        return text
    if dtype is float16:
        return text if op in ("neg", "abs") else f"round_f16({text})"
    return f"to_{dtype.short}({text})" if dtype.kind in "iu" else text


def zero_name(dtype: DType) -> str:
    """The name in the kernel of a 0.0 of which LLVM does not know that it is 0."""
    return "zero_f64" if dtype is float64 else "zero_f32"


def op_text(node: Node, operands: Sequence[str], mixed: bool = False) -> str:
    """The kernel text of a pointwise node on operands given as text.

    mixed  whether the kernel has floats of several widths (float16 is computed in float32). Where
           LLVM 22 narrows `x > y ? y : x` it compares the other way round, and so takes 0.0 for
           -0.0. It must not see that what is compared is what is chosen: x + 0.0 orders as x does.
    """
    op, dtype = node.op, node.dtype
    source = node.inputs[-1].dtype
    if op.name == "cast":
        return cast_text(operands[0], source, dtype)
    if op.name in _COMPARE and source is bool_:
        operands = [f"to_u8({x})" for x in operands]
    if op.name in ORDER and mixed and source.kind == "f":
        operands = [f"({operands[0]} + {zero_name(source)})", operands[1]]
    text = op.scalar_text(source.kind, node.params)
    for name, operand in zip(op.names, operands, strict=True):
        if "zero(" in text or "one(" in text:
            text = text.replace(f"zero({{{name}}})", literal(0, source))
            text = text.replace(f"one({{{name}}})", literal(1, source))
        text = text.replace(f"{{{name}}}", operand)
    if source is bool_ and op.name == "where":
        return text
    return finish(text, op.name, dtype)


def comment(text: str) -> str:
    """`text` as the inside of a one-line comment."""
    return "".join(c if c.isprintable() else " " for c in text)
