"""A Python int that a trace does not fix: an argument, attribute or item that varies.

Arithmetic on a `LiftedInt` is done anew by every call, in Python, so it is exact; where a number
meets a tensor it becomes a scalar input of the trace. A decision on it is a guard on the decision;
whatever needs the number itself (a shape, a range, a format) makes it a guard on the number, and
the number is not lifted again. Invariant: outside its capture it behaves as the int it had.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from tracejit.eager.scalars import CallNumber, SymFloat, plain_number
from tracejit.ir.node import Node
from tracejit.ir.sizes import SymInt, prefers_symbols

Read = Callable[[tuple[Any, ...]], Any]

LIMIT = 1 << 63
_PARTIAL = {"floordiv", "mod", "truediv", "pow", "lshift", "rshift"}
"""Operations that may raise, or change their type, with the numbers of another call."""


def fits(value: Any) -> bool:
    """Whether a number is an int that a scalar input (int64) can hold."""
    return type(value) is int and -LIMIT <= value < LIMIT


class LiftedInt:
    """An int with the value it has in this run, and how a call computes it from its arguments.

    label  tells numbers of one capture apart: equal labels mean equal computations.
    roots  the lifted numbers that it is computed from.
    """

    __slots__ = ("capture", "hint", "read", "label", "roots")

    def __init__(self, capture: Any, hint: int, read: Read, label: str, roots: frozenset[Hashable]):
        self.capture = capture
        self.hint = hint
        self.read = read
        self.label = label
        self.roots = roots

    # isinstance(number, int) must hold for the user
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return int

    def scalar_node(self) -> Node:
        """The node of the number as an input of the trace (``i64[]``)."""
        return self.capture.number_input(self)

    # --- arithmetic -----------------------------------------------------------------------------

    def _binary(self, name: str, other: Any, swap: bool) -> Any:
        apply = _APPLY[name]
        if type(other) in (SymFloat, SymInt) or hasattr(other, "_array"):
            return NotImplemented  # a tensor, a float of the trace, a size: they know what to do
        if self.capture.env.closed or type(other) not in (int, float, bool, LiftedInt):
            return apply(other, self.pinned()) if swap else apply(self.pinned(), other)
        label = other.label if type(other) is LiftedInt else repr(other)
        label = f"({label} {name} {self.label})" if swap else f"({self.label} {name} {label})"
        read, value = _reader(other), getattr(other, "hint", other)
        mine = self.read
        if swap:
            hint = apply(value, self.hint)
            return self._result(name, hint, lambda a: apply(read(a), mine(a)), label, other)
        hint = apply(self.hint, value)
        return self._result(name, hint, lambda a: apply(mine(a), read(a)), label, other)

    def _result(self, name: str, hint: Any, read: Read, label: str, other: Any) -> Any:
        """A number computed from this one, an int or a float."""
        capture = self.capture
        roots = self.roots | getattr(other, "roots", frozenset())
        kind = type(hint)
        if kind not in (int, float):
            self.pinned()
            return hint
        if name in _PARTIAL:
            capture.conditions.append((lambda a: type(read(a)) is kind, True))
        if kind is int:
            return LiftedInt(capture, hint, read, label, roots)
        node = capture.add_scalar(CallNumber(read), hint, label)
        return SymFloat(capture, node, hint, read, label)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __neg__(self) -> Any:
        return self._binary("mul", -1, False)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return -self if self._compare(0, operator.lt) else self

    def __invert__(self) -> Any:
        return -self - 1

    # --- decisions ------------------------------------------------------------------------------

    def _compare(self, other: Any, apply: Callable[[Any, Any], bool]) -> Any:
        if type(other) is SymInt or hasattr(other, "_array"):
            return NotImplemented
        if type(other) is SymFloat and other.read is None:
            return NotImplemented
        if not isinstance(other, (int, float)):
            return apply(self.pinned(), other)
        outcome = apply(self.hint, getattr(other, "hint", other))
        mine, read = self.read, _reader(other)
        self.capture.steer(self, lambda a: apply(mine(a), read(a)), outcome)
        return outcome

    def is_one_of(self, values: tuple[float, ...]) -> bool:
        """Whether the number is among `values`: one decision."""
        outcome, mine = self.hint in values, self.read
        self.capture.steer(self, lambda args: mine(args) in values, outcome)
        return outcome

    def __bool__(self) -> bool:
        return self._compare(0, operator.ne)

    def pinned(self) -> int:
        """The number itself: from here on the trace depends on it."""
        self.capture.pin_int(self)
        return self.hint

    def pinned_here(self) -> int:
        """The number itself, for this trace alone: at other values it may vary again."""
        if not self.capture.env.closed:
            self.capture.conditions.append((self.read, self.hint))
        return self.hint

    def __index__(self) -> int:
        return self.pinned()

    __int__ = __trunc__ = __floor__ = __ceil__ = __index__

    def __complex__(self) -> complex:
        return complex(self.pinned())

    def __float__(self) -> float:
        return float(self.pinned())

    def __round__(self, digits: int | None = None) -> int:
        return self.pinned() if digits is None else round(self.pinned(), digits)

    def __hash__(self) -> int:
        if not self.capture.env.closed and prefers_symbols():
            raise TypeError("unhashable type: a number of a trace")
        return hash(self.pinned())

    def __repr__(self) -> str:
        return repr(self.pinned())

    def __format__(self, spec: str) -> str:
        return format(self.pinned(), spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.pinned(), dtype)

    def __getattr__(self, name: str) -> Any:  # bit_length and the other methods of int
        if not hasattr(int, name):
            raise AttributeError(f"'int' object has no attribute {name!r}")
        return getattr(self.pinned(), name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*map(plain_number, inputs), **kwargs)

    def __copy__(self) -> LiftedInt:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> int:
        return self.pinned()

    def __reduce__(self) -> Any:
        return int, (self.pinned(),)


def _reader(value: Any) -> Read:
    """Reads a number of a call: one of the trace, or a constant."""
    if type(value) in (LiftedInt, SymFloat):
        return value.read
    return lambda args: value


_APPLY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow,
    "lshift": operator.lshift, "rshift": operator.rshift, "and": operator.and_,
    "or": operator.or_, "xor": operator.xor,
}  # fmt: skip


def _power(number: LiftedInt, other: Any, modulus: Any = None) -> Any:
    if modulus is not None:
        return pow(number.pinned(), plain_number(other), plain_number(modulus))
    return number._binary("pow", other, False)


def _install() -> None:
    for name in _APPLY:
        setattr(LiftedInt, f"__{name}__", lambda s, o, n=name: s._binary(n, o, False))
        setattr(LiftedInt, f"__r{name}__", lambda s, o, n=name: s._binary(n, o, True))
    setattr(LiftedInt, "__pow__", _power)
    LiftedInt.__name__ = LiftedInt.__qualname__ = "int"  # in Python's messages
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        apply = getattr(operator, name)
        setattr(LiftedInt, f"__{name}__", lambda s, o, f=apply: s._compare(o, f))


_install()
