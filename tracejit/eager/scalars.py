"""A Python float that a trace does not fix: a lifted hyper-parameter, or the number of `.item()`.

Arithmetic on a `SymFloat` stays in the trace; whatever needs the number itself (a comparison, a
format, a C function) asks the capture, which makes it a branch point or a guard. Invariant:
outside its capture it behaves as the plain number it had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.dtypes import float64
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt
from tracejit.ir.types import TensorType

_SCALAR = TensorType(float64, ())


class SymFloat:
    """A number with its node (``f64[]``) and the value it has in this run.

    `read`, if not None, gives the number of a call without running the trace: it follows from
    numbers that are inputs. Then a decision on it is a guard rather than a branch point.
    """

    __slots__ = ("capture", "node", "hint", "read")

    def __init__(
        self, capture: Any, node: Node, hint: float, read: Callable[[], float] | None = None
    ):
        self.capture = capture
        self.node = node
        self.hint = hint
        self.read = read

    @property
    def __class__(self) -> type:  # isinstance(number, float) must hold in the user's code
        return float

    def scalar_node(self) -> Node:
        """The node of the number."""
        return self.node

    def _binary(self, name: str, other: Any, apply: Callable[[Any, Any], Any], swap: bool) -> Any:
        node = _node_of_number(other)
        if node is None:
            return NotImplemented
        value = other.hint if type(other) in (SymFloat, SymInt) else other
        left, right = (value, self.hint) if swap else (self.hint, value)
        hint = apply(left, right)
        if not isinstance(hint, float):  # a complex power, say: outside what nodes can hold
            return apply(*((other, self._pin()) if swap else (self._pin(), other)))
        nodes = (node, self.node) if swap else (self.node, node)
        read = _reader(other, self, apply) if swap else _reader(self, other, apply)
        return SymFloat(self.capture, OPS[name](*nodes), hint, read)

    def __neg__(self) -> SymFloat:
        return self._binary("mul", -1.0, lambda a, b: a * b, False)  # type: ignore[no-any-return]

    def __pos__(self) -> SymFloat:
        return self

    def __abs__(self) -> SymFloat:
        read = self.read
        held = None if read is None else lambda: abs(read())
        return SymFloat(self.capture, OPS["abs"](self.node), abs(self.hint), held)

    def _pin(self) -> float:
        """The number itself: from here on the trace depends on it."""
        if self.capture.env.closed:
            return self.hint
        return self.capture.pin(self)  # type: ignore[no-any-return]

    def _compare(self, other: Any, name: str, apply: Callable[[Any, Any], bool]) -> Any:
        node = _node_of_number(other)
        if node is None:
            return NotImplemented
        value = other.hint if type(other) in (SymFloat, SymInt) else other
        outcome = apply(self.hint, value)
        if self.capture.env.closed:
            return outcome
        read = _reader(self, other, apply)
        return self.capture.decide(OPS[name](self.node, node), outcome, read)

    def __bool__(self) -> bool:
        return self._compare(0.0, "ne", lambda a, b: a != b)  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return self._pin()

    def __int__(self) -> int:
        return int(self._pin())

    def __hash__(self) -> int:
        return hash(self._pin())

    def __repr__(self) -> str:
        return repr(self._pin())

    def __format__(self, spec: str) -> str:
        return format(self._pin(), spec)

    def __getattr__(self, name: str) -> Any:  # is_integer and the other methods of float
        if not hasattr(float, name):
            raise AttributeError(f"'float' object has no attribute {name!r}")
        return getattr(self._pin(), name)

    def __deepcopy__(self, memo: dict[int, Any]) -> float:
        return self._pin()


def _reader(a: Any, b: Any, apply: Callable[[Any, Any], Any]) -> Callable[[], Any] | None:
    """Reads both numbers and applies the operation; None if one is known only to the trace."""
    first, second = (
        (v.read if type(v) is SymFloat else (None if type(v) is SymInt else (lambda v=v: v)))
        for v in (a, b)
    )
    if first is None or second is None:
        return None
    return lambda: apply(first(), second())


def _node_of_number(value: Any) -> Node | None:
    if type(value) is SymFloat:
        return value.node
    if type(value) is SymInt:
        return OPS["cast"](OPS["size"](value=value), dtype=float64)
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
    }
    for python, (name, apply) in arithmetic.items():
        setattr(SymFloat, f"__{python}__", lambda s, o, n=name, f=apply: s._binary(n, o, f, False))
        setattr(SymFloat, f"__r{python}__", lambda s, o, n=name, f=apply: s._binary(n, o, f, True))
    pinned: dict[str, Callable[[Any, Any], Any]] = {
        "floordiv": lambda a, b: a // b,
        "mod": lambda a, b: a % b,
        "divmod": divmod,
    }
    for python, apply in pinned.items():
        setattr(SymFloat, f"__{python}__", lambda s, o, f=apply: f(s._pin(), o))
        setattr(SymFloat, f"__r{python}__", lambda s, o, f=apply: f(o, s._pin()))
    comparisons: dict[str, Callable[[Any, Any], bool]] = {
        "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    }  # fmt: skip
    for name, apply in comparisons.items():
        setattr(SymFloat, f"__{name}__", lambda s, o, n=name, f=apply: s._compare(o, n, f))


_install()
