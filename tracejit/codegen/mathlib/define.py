"""Registers math functions with Numba: typing rule plus direct emission of LLVM instructions.

A call emits the function's instructions in place, so a kernel pays only for what it calls, no Numba
pipeline runs for a helper, and nothing is left that could keep a loop from vectorising.
Invariant: the registered Python function stays callable and is the twin of what is emitted.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types, typing
from numba.extending import lower_builtin, type_callable

from tracejit.codegen.mathlib.core import BITS, NUMPY_TYPE, Value, is_float

Kinds = tuple[str, ...]
Rule = Callable[[Kinds], tuple[Kinds, "str | Kinds"] | None]
NUMBA_TYPE = {name: getattr(types, {"b": "boolean", "i": "int", "u": "uint", "f": "float"}[name[0]]
                            + ("" if name == "b1" else str(bits)))
              for name, bits in BITS.items()}  # fmt: skip
KIND = {t: name for name, t in NUMBA_TYPE.items()}
FUNCTIONS: dict[str, MathFunction] = {}


class MathFunction:
    """A named scalar function: typing `rule` (kinds -> operand, result kinds) and `body`."""

    def __init__(self, name: str, rule: Rule, body: Callable[..., Any]) -> None:
        self.name, self.rule, self.body = name, rule, body

    def emit(self, builder: ir.IRBuilder, kinds: Kinds, args: Sequence[ir.Value]) -> list[ir.Value]:
        """Emit the body on operands of exactly `kinds`; return the result values in order."""
        result = self.body(*(Value(builder, a, k) for a, k in zip(args, kinds)))
        return [value.ref for value in (result if isinstance(result, tuple) else (result,))]


def floating(kinds: Kinds) -> tuple[Kinds, str] | None:
    """All operands in one float kind: f32 if every operand is f32, else f64; result the same."""
    kind = "f32" if set(kinds) == {"f32"} else "f64"
    return (kind,) * len(kinds), kind


def predicate(kinds: Kinds) -> tuple[Kinds, str] | None:
    """Operands as in `floating`; the result is a b1."""
    outcome = floating(kinds)
    return None if outcome is None else (outcome[0], "b1")


def common(kinds: Kinds) -> tuple[Kinds, str] | None:
    """Operands of one kind, kept; a mixture becomes f64 if a float takes part, else i64."""
    if len(set(kinds)) == 1:
        return kinds, kinds[0]
    if any(is_float(k) for k in kinds):
        return floating(kinds)
    return ("i64",) * len(kinds), "i64"


def register(function: Callable[..., Any], rule: Rule, body: Callable[..., Any]) -> None:
    """Teach Numba to type and lower calls of `function` by `rule` and `body`."""
    math_function = MathFunction(function.__name__, rule, body)
    FUNCTIONS[function.__name__] = math_function

    @type_callable(function)
    def typer(context: Any) -> Any:
        def typed(*args: Any) -> Any:
            kinds = tuple(KIND.get(types.unliteral(a), "") for a in args)
            outcome = None if "" in kinds else rule(kinds)
            if outcome is None:
                return None
            operands = [NUMBA_TYPE[k] for k in outcome[0]]
            if isinstance(outcome[1], str):
                return typing.signature(NUMBA_TYPE[outcome[1]], *operands)
            result = types.Tuple([NUMBA_TYPE[k] for k in outcome[1]])
            return typing.signature(result, *operands)

        # Numba reads the signature; *args would make it pack the operands into a tuple.
        typed.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
        return typed

    @lower_builtin(function, types.VarArg(types.Any))
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        values = math_function.emit(builder, tuple(KIND[t] for t in sig.args), args)
        if isinstance(sig.return_type, types.BaseTuple):
            return context.make_tuple(builder, sig.return_type, values)
        return values[0]


def math_function(rule: Rule = floating) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a branch-free scalar function: its call in a kernel is typed by `rule`.

    Called from Python it takes Python numbers, NumPy scalars or arrays, casts them by `rule` and
    returns what the compiled code returns, bit for bit. The undecorated body, for use inside other
    math functions, is the attribute `.body`.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        @functools.wraps(body)
        def twin(*args: Any) -> Any:
            arrays = [np.asarray(a) for a in args]
            kinds = tuple(KIND[_numba_type(a.dtype)] for a in arrays)
            outcome = rule(kinds)
            if outcome is None:
                raise TypeError(f"{body.__name__} does not take {', '.join(kinds)}")
            with np.errstate(all="ignore"):
                return body(*(a.astype(NUMPY_TYPE[k])[()] for a, k in zip(arrays, outcome[0])))

        twin.body = body  # type: ignore[attr-defined]
        register(twin, rule, body)
        return twin

    return decorate


def _numba_type(dtype: np.dtype[Any]) -> Any:
    for name, candidate in NUMPY_TYPE.items():
        if candidate == dtype:
            return NUMBA_TYPE[name]
    raise TypeError(f"no kernel kind for {dtype}")


__all__ = ["FUNCTIONS", "MathFunction", "common", "floating", "math_function", "predicate",
           "register"]  # fmt: skip
