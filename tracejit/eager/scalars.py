"""A Python float that a trace does not fix: a lifted hyper-parameter, or the number of `.item()`.

Arithmetic on a `SymFloat` stays in the trace; whatever needs the number itself (a comparison, a
format, a C function) asks the capture, which makes it a branch point or a guard. Invariant:
outside its capture it behaves as the plain number it had.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.dtypes import float64
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt
from tracejit.ir.types import TensorType

_SCALAR = TensorType(float64, ())


class CallNumber:
    """How a call computes a number from its arguments, when the number is an input of the trace."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[tuple[Any, ...]], Any]):
        self.read = read


class SymFloat:
    """A number with its node (``f64[]``) and the value it has in this run.

    `read`, if not None, gives the number of a call from its arguments without running the trace:
    it follows from numbers that are inputs. Then a decision on it is a guard, not a branch point.
    """

    __slots__ = ("capture", "node", "hint", "read", "label")

    def __init__(
        self, capture: Any, node: Node, hint: float,
        read: Callable[[tuple[Any, ...]], float] | None = None, label: str = "",
    ):  # fmt: skip
        self.capture = capture
        self.node = node
        self.hint = hint
        self.read = read
        self.label = label  # equal labels mean equal computations; only where `read` is known

    # isinstance(number, float) must hold in the user's code
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return float

    def scalar_node(self) -> Node:
        """The node of the number."""
        return self.node

    def _binary(self, name: str, other: Any, apply: Callable[[Any, Any], Any], swap: bool) -> Any:
        node = _node_of_number(other)
        if node is None:
            return NotImplemented
        value = getattr(other, "hint", other)
        left, right = (value, self.hint) if swap else (self.hint, value)
        hint = apply(left, right)
        if not isinstance(hint, float):  # a complex power, say: outside what nodes can hold
            return apply(*((other, self.pinned()) if swap else (self.pinned(), other)))
        read = _reader(other, self, apply) if swap else _reader(self, other, apply)
        label = getattr(other, "label", repr(getattr(other, "hint", other)))
        label = f"({label} {name} {self.label})" if swap else f"({self.label} {name} {label})"
        if name not in OPS or (name == "pow" and read is not None):
            return self._in_python(other, hint, apply, swap, read, label)
        nodes = (node, self.node) if swap else (self.node, node)
        return SymFloat(self.capture, OPS[name](*nodes), hint, read, label)

    def _in_python(
        self, other: Any, hint: float, apply: Callable[[Any, Any], Any], swap: bool, read: Any,
        label: str,
    ) -> Any:  # fmt: skip
        """A number that each call works out in Python, as eager does; if it can, else pinned."""
        if read is None or self.capture.env.closed:
            return apply(*((other, self.pinned()) if swap else (self.pinned(), other)))
        self.capture.conditions.append((lambda args: type(read(args)) is float, True))
        node = self.capture.add_scalar(CallNumber(read), hint, label)
        return SymFloat(self.capture, node, hint, read, label)

    def __neg__(self) -> SymFloat:
        return self._binary("mul", -1.0, lambda a, b: a * b, False)

    def __pos__(self) -> SymFloat:
        return self

    def __abs__(self) -> SymFloat:
        read = self.read
        held = None if read is None else lambda args: abs(read(args))
        return SymFloat(
            self.capture, OPS["abs"](self.node), abs(self.hint), held, f"abs({self.label})"
        )

    def pinned(self) -> float:
        """The number itself: from here on the trace depends on it."""
        if self.capture.env.closed:
            return self.hint
        return self.capture.pin(self)

    def _compare(self, other: Any, name: str, apply: Callable[[Any, Any], bool]) -> Any:
        node = _node_of_number(other)
        if node is None:
            return NotImplemented
        value = getattr(other, "hint", other)
        outcome = apply(self.hint, value)
        if self.capture.env.closed:
            return outcome
        read = _reader(self, other, apply)
        return self.capture.decide(OPS[name](self.node, node), outcome, read)

    def is_one_of(self, values: tuple[float, ...]) -> bool:
        """Whether the number is among `values`: one decision."""
        outcome = self.hint in values
        if self.capture.env.closed:
            return outcome
        read, found = self.read, None
        for value in values:
            equal = OPS["eq"](self.node, OPS["full"](value=float(value), type=_SCALAR))
            found = equal if found is None else OPS["bitwise_or"](found, equal)
        held = None if read is None else lambda args: read(args) in values
        return self.capture.decide(found, outcome, held)

    def pinned_here(self) -> float:
        """`pinned`, as a traced int has it."""
        return self.pinned()

    def __bool__(self) -> bool:
        return self._compare(0.0, "ne", lambda a, b: a != b)

    def __float__(self) -> float:
        return self.pinned()

    def __int__(self) -> int:
        return int(self.pinned())

    __trunc__ = __int__

    def __floor__(self) -> int:
        return math.floor(self.pinned())

    def __ceil__(self) -> int:
        return math.ceil(self.pinned())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.pinned(), digits)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.pinned(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*map(plain_number, inputs), **kwargs)

    def __copy__(self) -> SymFloat:
        return self

    def __reduce__(self) -> Any:
        return float, (self.pinned(),)

    def __hash__(self) -> int:
        return hash(self.pinned())

    def _as_text(self) -> float:
        """The number itself, to be shown."""
        if self.capture.env.closed:
            return self.hint
        return self.capture.pin(self, "text")

    def __repr__(self) -> str:
        return repr(self._as_text())

    def __format__(self, spec: str) -> str:
        return format(self._as_text(), spec)

    def __getattr__(self, name: str) -> Any:  # is_integer and the other methods of float
        if not hasattr(float, name):
            raise AttributeError(f"'float' object has no attribute {name!r}")
        return getattr(self.pinned(), name)

    def __deepcopy__(self, memo: dict[int, Any]) -> float:
        return self.pinned()


def as_float(value: Any) -> Any:
    """``float(value)``; a number of a trace stays one."""
    return value * 1.0 if hasattr(value, "scalar_node") else float(value)


def plain_number(value: Any) -> Any:
    """The number itself of a number of a trace, which then depends on it; else `value`."""
    return value.pinned() if hasattr(value, "scalar_node") else value


def _power(number: SymFloat, other: Any, modulus: Any = None) -> Any:
    if modulus is not None:
        return pow(number.pinned(), plain_number(other), modulus)
    return number._binary("pow", other, lambda a, b: a**b, False)


def _reader(
    a: Any, b: Any, apply: Callable[[Any, Any], Any]
) -> Callable[[tuple[Any, ...]], Any] | None:
    """Reads both numbers and applies the operation; None if one is known only to the trace."""
    first, second = (
        (v.read if hasattr(v, "scalar_node") else
         None if type(v) is SymInt else (lambda args, v=v: v))
        for v in (a, b)
    )  # fmt: skip
    if first is None or second is None:
        return None
    return lambda args: apply(first(args), second(args))


def _node_of_number(value: Any) -> Node | None:
    if type(value) is SymFloat:
        return value.node
    if type(value) is SymInt:
        return OPS["cast"](OPS["size"](value=value), dtype=float64)
    if hasattr(value, "scalar_node"):
        return OPS["cast"](value.scalar_node(), dtype=float64)
    if isinstance(value, (int, float)):
        return OPS["full"](value=float(value), type=_SCALAR)
    return None


def _install() -> None:
    arithmetic: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
        "add": ("add", lambda a, b: a + b),
        "sub": ("sub", lambda a, b: a - b),
        "mul": ("mul", lambda a, b: a * b),
        "truediv": ("div", lambda a, b: a / b),
        "pow": ("pow", lambda a, b: a**b),
        "floordiv": ("//", lambda a, b: a // b),
        "mod": ("%", lambda a, b: a % b),
    }
    for python, (name, apply) in arithmetic.items():
        setattr(SymFloat, f"__{python}__", lambda s, o, n=name, f=apply: s._binary(n, o, f, False))
        setattr(SymFloat, f"__r{python}__", lambda s, o, n=name, f=apply: s._binary(n, o, f, True))
    setattr(SymFloat, "__pow__", _power)
    SymFloat.__name__ = SymFloat.__qualname__ = "float"  # in Python's messages
    setattr(SymFloat, "__divmod__", lambda s, o: (s // o, s % o))
    setattr(SymFloat, "__rdivmod__", lambda s, o: (o // s, o % s))
    comparisons: dict[str, Callable[[Any, Any], bool]] = {
        "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    }  # fmt: skip
    for name, apply in comparisons.items():
        setattr(SymFloat, f"__{name}__", lambda s, o, n=name, f=apply: s._compare(o, n, f))


_install()
