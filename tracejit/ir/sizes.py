"""Symbolic sizes: whole numbers that stand for "the size of this dimension, whatever it is".

A `SymInt` is a polynomial over symbols and over ``//`` and ``%`` of such polynomials. It carries
the value it has in the run being traced (`hint`). Invariant: every decision taken on a hint that
does not hold for all values is recorded as a fact in the `SizeEnv`, and facts become guards; once
the guards stand, what compiles a trace may take no others (`all_sizes_alike`).
"""

from __future__ import annotations

import itertools
import operator
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Union

import numpy as np

from tracejit.errors import CompileError
from tracejit.ir.polynomials import (
    ONE,
    Poly,
    add,
    always_alike,
    evaluate_polynomial,
    exact_quotient,
    freeze,
    multiply,
    source_of,
)

Size = Union[int, "SymInt"]


class SizeEnv:
    """The symbols of one trace, the values they had, and the facts that were used."""

    def __init__(self) -> None:
        self.hints: dict[str, int] = {}
        self.facts: dict[tuple[str, tuple[Any, ...]], bool] = {}
        self.reserved: set[str] = set()  # names that mean sizes which the trace may not meet
        self.closed = False  # the trace is finished: sizes that escaped it are plain numbers
        self.as_float: Callable[[SymInt], Any] | None = None  # a traced float of a size

    def symbol(self, hint: int, name: str | None = None) -> SymInt:
        """A new symbol (one of the `reserved`, if named) that has the value `hint` in this run."""
        if name is None:
            free = (f"s{i}" for i in itertools.count(len(self.hints)))
            name = next(s for s in free if s not in self.reserved and s not in self.hints)
        self.hints[name] = hint
        return SymInt(self, {(("sym", name),): 1}, hint)

    def decide(self, relation: str, poly: Poly, outcome: bool) -> bool:
        """Note that ``poly relation 0`` had `outcome`: the trace holds only where it has again."""
        if not self.closed:
            self.facts[relation, freeze(poly)] = outcome
        elif _compiling.depth and not (
            self._is_fact(relation, poly) or always_alike(relation, poly)
        ):
            asked = f"{source_of(poly)} {relation} 0"
            raise CompileError(f"a decision on a size that varies: {asked}")
        return outcome

    def _is_fact(self, relation: str, poly: Poly) -> bool:
        """Whether the decision was taken before; ``a == b`` is ``b == a``."""
        if (relation, freeze(poly)) in self.facts:
            return True
        return relation == "==" and ("==", freeze(add({}, poly, -1))) in self.facts

    def fix(self) -> None:
        """The trace holds only for the sizes of this run."""
        for name, hint in self.hints.items():
            difference = add({(("sym", name),): 1}, {ONE: hint} if hint else {}, -1)
            self.facts["==", freeze(difference)] = True

    def guards(self) -> list[str]:
        """The facts as Python expressions over the symbols."""
        lines = []
        for (relation, frozen), outcome in self.facts.items():
            text = f"{source_of(dict(frozen))} {relation} 0"
            lines.append(text if outcome else f"not ({text})")
        return lines


class _Compiling(threading.local):
    depth = 0


_compiling = _Compiling()


@contextmanager
def all_sizes_alike() -> Iterator[None]:
    """While what is made must hold for all sizes that meet the facts: another decision on a size
    that varies raises CompileError, since no guard would know of it.
    """
    _compiling.depth += 1
    try:
        yield
    finally:
        _compiling.depth -= 1


_TRIES_HASHING = frozenset({("einops.einops", "_apply_recipe")})
"""Functions (module, name) that keep results by size, and that compute them afresh, leaving the
sizes open, when a size says it is unhashable."""


def prefers_symbols() -> bool:
    """Whether ``hash(size)`` was called by a function that can do without."""
    caller = sys._getframe(2)
    return (caller.f_globals.get("__name__"), caller.f_code.co_name) in _TRIES_HASHING


class SymInt:
    """A size that a trace does not fix. Behaves as an int; using it as one fixes it (a fact)."""

    __slots__ = ("env", "poly", "hint", "_key", "_source")

    def __init__(self, env: SizeEnv, poly: Poly, hint: int):
        self.env = env
        self.poly = poly
        self.hint = hint
        self._key: Any = None
        self._source: str | None = None

    # isinstance(size, int) must hold in the user's code
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return int

    def __add__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: add(a, b), lambda a, b: a + b)

    def __sub__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: add(a, b, -1), lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: add(b, a, -1), lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return self._combine(other, multiply, lambda a, b: a * b)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Size:
        return make_size(self.env, add({}, self.poly, -1), -self.hint)

    def __pos__(self) -> Size:
        return self

    def __abs__(self) -> Size:
        return self if self >= 0 else -self

    def __floordiv__(self, other: Any) -> Any:
        return _divide(self, other, "div")

    def __mod__(self, other: Any) -> Any:
        return _divide(self, other, "mod")

    def __rfloordiv__(self, other: Any) -> Any:
        return _divide(other, self, "div")

    def __rmod__(self, other: Any) -> Any:
        return _divide(other, self, "mod")

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        return self._as_float() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._as_float()

    def _as_float(self) -> Any:
        """The size as a number that the trace need not fix."""
        if self.env.closed or self.env.as_float is None:
            return float(self.__index__())
        return self.env.as_float(self)

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if type(other) is int and 0 <= other <= 4 and modulus is None:
            result: Size = 1
            for _ in range(other):
                result = result * self
            return result
        if (modulus is None and isinstance(other, float)) or (type(other) is int and other < 0):
            return self._as_float() ** other
        return pow(int(self), other, modulus)

    def __rpow__(self, other: Any) -> Any:
        return other ** int(self)

    def __eq__(self, other: object) -> Any:
        return self._compare(other, "==")

    def __ne__(self, other: object) -> Any:
        equal = self._compare(other, "==")
        return equal if equal is NotImplemented else not equal

    def __lt__(self, other: object) -> Any:
        return self._compare(other, "<")

    def __le__(self, other: object) -> Any:
        return self._compare(other, "<=")

    def __gt__(self, other: object) -> Any:
        return self._compare(other, ">")

    def __ge__(self, other: object) -> Any:
        return self._compare(other, ">=")

    def __bool__(self) -> bool:
        return not self._compare(0, "==")

    def __index__(self) -> int:
        self.env.decide("==", add(self.poly, {ONE: self.hint} if self.hint else {}, -1), True)
        return self.hint

    __int__ = __trunc__ = __floor__ = __ceil__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __hash__(self) -> int:
        if not self.env.closed and prefers_symbols():
            raise TypeError("unhashable type: a size of a trace")
        return hash(self.__index__())

    def __repr__(self) -> str:  # users print shapes; `size_source` shows the symbols
        return str(self.__index__())

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self.__index__(), spec)

    def __getattr__(self, name: str) -> Any:  # bit_length and the other methods of int
        if not hasattr(int, name):
            raise AttributeError(f"'int' object has no attribute {name!r}")
        return getattr(self.__index__(), name)

    def __copy__(self) -> SymInt:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SymInt:
        return self

    def __reduce__(self) -> Any:
        return int, (self.__index__(),)

    def __round__(self, digits: int | None = None) -> Any:
        return self if digits is None else round(self.__index__(), digits)

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __invert__(self) -> Any:
        return -self - 1

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.__index__(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        values = [v.__index__() if type(v) is SymInt else v for v in inputs]
        return getattr(ufunc, method)(*values, **kwargs)

    def __complex__(self) -> complex:
        return complex(self.__index__())

    def _combine(
        self, other: Any, polys: Callable[[Poly, Poly], Poly], hints: Callable[[int, int], int]
    ) -> Any:
        poly = _poly_of(other)
        if poly is None:
            return _apply_to_ints(self, other, hints)
        return make_size(self.env, polys(self.poly, poly), hints(self.hint, hint_of(other)))

    def _compare(self, other: object, relation: str) -> Any:
        poly = _poly_of(other)
        if poly is None:
            if isinstance(other, float):
                return _RELATIONS[relation](self.__index__(), other)
            return NotImplemented
        difference = add(self.poly, poly, -1)
        if all(m == ONE for m in difference):  # whatever the hints: captures differ in those
            return _RELATIONS[relation](difference.get(ONE, 0), 0)
        holds = _RELATIONS[relation](self.hint, hint_of(other))
        return self.env.decide(relation, difference, holds)


def _install_bits() -> None:
    """The operators on bits take the size as it is, which fixes it."""
    for name in ("lshift", "rshift", "and", "or", "xor"):
        apply = getattr(operator, f"__{name}__")
        setattr(SymInt, f"__{name}__", lambda s, o, f=apply: _on_bits(f, s, o, False))
        setattr(SymInt, f"__r{name}__", lambda s, o, f=apply: _on_bits(f, s, o, True))
    SymInt.__name__ = SymInt.__qualname__ = "int"  # in Python's messages


def _on_bits(apply: Callable[[Any, Any], Any], size: SymInt, other: Any, swap: bool) -> Any:
    if not isinstance(other, int):
        return NotImplemented
    left, right = (other, size) if swap else (size, other)
    return apply(left.__index__(), right.__index__())


_install_bits()

_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _apply_to_ints(size: SymInt, other: Any, op: Callable[[Any, Any], Any]) -> Any:
    return op(size.__index__(), other) if isinstance(other, float) else NotImplemented


def _poly_of(value: Any) -> Poly | None:
    if type(value) is SymInt:
        return value.poly
    if isinstance(value, int):
        return {ONE: int(value)} if value else {}
    return None


def make_size(env: SizeEnv, poly: Poly, hint: int) -> Size:
    """The size with this polynomial: a plain int when it is constant."""
    if all(m == ONE for m in poly):
        return poly.get(ONE, 0)
    return SymInt(env, poly, hint)


def _divide(a: Any, b: Any, kind: str) -> Any:
    pa, pb = _poly_of(a), _poly_of(b)
    if pa is None or pb is None:
        return NotImplemented
    env = a.env if type(a) is SymInt else b.env
    value = hint_of(a) // hint_of(b) if kind == "div" else hint_of(a) % hint_of(b)
    quotient = exact_quotient(pa, pb)
    if quotient is not None:
        return make_size(env, quotient, value) if kind == "div" else 0
    return SymInt(env, {((kind, freeze(pa), freeze(pb)),): 1}, value)


def is_zero(size: Any) -> bool:
    """Whether `size` is 0: a decision while its trace is open, afterwards only if it always is."""
    if type(size) is SymInt and size.env.closed:
        return False
    return bool(size == 0)


def is_negative(size: Any) -> bool:
    """Whether `size` is below 0: a decision, unless it never is."""
    if type(size) is SymInt and all(
        factor >= 0 and all(atom[0] == "sym" for atom in mono) for mono, factor in size.poly.items()
    ):
        return False
    return bool(size < 0)


def is_one(size: Any) -> bool:
    """Whether `size` is the literal 1 (not merely 1 in this run)."""
    return type(size) is not SymInt and size == 1


def hint_of(size: Any) -> int:
    """The value of `size` in the run being traced, without fixing it."""
    return size.hint if type(size) is SymInt else int(size)


def hints_of(sizes: Iterable[Any]) -> tuple[int, ...]:
    """`hint_of` of each of `sizes`."""
    return tuple(s.hint if type(s) is SymInt else int(s) for s in sizes)


def size_key(size: Any) -> Any:
    """A hashable key: equal keys mean equal sizes for all values of the symbols."""
    if type(size) is not SymInt:
        return size
    key = size._key
    if key is None:
        key = size._key = ("sym", freeze(size.poly))
    return key


def size_source(size: Any) -> str:
    """`size` as a Python expression over the symbols."""
    if type(size) is not SymInt:
        return str(size)
    text = size._source
    if text is None:
        text = size._source = source_of(size.poly)
    return text


def symbol_name(size: Any) -> str | None:
    """The name of the symbol that `size` is; None for a number or an expression."""
    if type(size) is SymInt and len(size.poly) == 1:
        ((mono, factor),) = size.poly.items()
        if factor == 1 and len(mono) == 1 and mono[0][0] == "sym":
            return str(mono[0][1])
    return None


def symbols_of(size: Any) -> set[str]:
    """The names of the symbols that `size` is made of."""
    if type(size) is not SymInt:
        return set()
    found: set[str] = set()
    stack: list[Any] = [size.poly]
    while stack:
        for mono in stack.pop():
            for atom in mono:
                if atom[0] == "sym":
                    found.add(atom[1])
                else:
                    stack += [dict(atom[1]), dict(atom[2])]
    return found


def product(sizes: Iterable[Any]) -> Any:
    """The product of `sizes`; 1 if there are none."""
    total: Any = 1
    for size in sizes:
        total = total * size
    return total


def evaluate(size: Any, values: dict[str, int]) -> int:
    """`size` for the given values of the symbols."""
    if type(size) is not SymInt:
        return int(size)
    return evaluate_polynomial(size.poly, values)
