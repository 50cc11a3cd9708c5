"""Numbers worked out from the sizes of a call, and how: the record of a frame's builder.

A frame for new sizes replays the record instead of walking the plan again. Invariant: whatever the
builder decided by comparing such numbers is a fact of the record, and a replay whose facts differ
gives nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_NEARBY = 2  # what is large enough for threads or bundles is so at half and at double the size
_Step = tuple[Callable[..., Any], int, int, Any]  # function, result, two numbers or -1 and many


class Record:
    """A straight-line program over the numbers that a builder was given (`leaves`).

    `values` are those of the run that was recorded: leaves, constants and results, by index. A step
    computes one of them from two others, or calls a function of any number of them.
    """

    def __init__(self, leaves: Sequence[int]):
        self.values: list[Any] = list(leaves)
        self.leaves = [Recorded(self, i) for i in range(len(leaves))]
        self.is_fixed = False  # some number had to be exactly what it was
        self._open = True
        self._steps: list[_Step] = []
        self._facts: list[int] = []
        self._known: dict[Any, Any] = {}

    def close(self) -> None:
        """The builder is done: from now on the numbers are those of its run."""
        self._open = False
        self._known = {}
        self._outcomes = [self.values[i] for i in self._facts]

    def replay(self, leaves: Sequence[int]) -> list[Any] | None:
        """The values for other leaves; None if a decision of the builder would be another, or if
        a leaf is more than `_NEARBY` times as large or as small.
        """
        values = self.values.copy()
        for n, own in zip(leaves, values, strict=False):
            if abs(n) > _NEARBY * abs(own) or abs(own) > _NEARBY * abs(n):
                return None
        values[: len(leaves)] = leaves
        try:
            for function, to, a, b in self._steps:
                if a >= 0:
                    values[to] = function(values[a], values[b])
                else:
                    values[to] = function(*_resolved(b, values))
        except ZeroDivisionError:  # what would divide had been compared with 0
            return None
        return values if [values[i] for i in self._facts] == self._outcomes else None

    # what numbers ask for ----------------------------------------------------------------------

    def apply(self, function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        """`function` of two numbers, one of which may be an int."""
        if not self._open:
            return function(plain(a), plain(b))
        key = (function, self._index(a), self._index(b))
        found = self._known.get(key)
        if found is None:
            result = function(self.values[key[1]], self.values[key[2]])
            found = self._known[key] = self._step(function, result, key[1], key[2])
        return found

    def decide(self, function: Callable[[Any, Any], bool], a: Any, b: Any) -> bool:
        """The outcome of a comparison, now a fact."""
        if not self._open:
            return function(plain(a), plain(b))
        found = self.apply(function, a, b)
        if type(found) is Recorded:  # compared for the first time
            self._facts.append(found.index)
            found = self._known[function, self._index(a), self._index(b)] = self.values[found.index]
        return bool(found)

    def fix(self, number: Recorded) -> int:
        """The number itself: the record holds for this value only."""
        if self._open:
            self.is_fixed = True
            self.decide(operator.eq, number, self.values[number.index])
        return int(self.values[number.index])

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """`function` of numbers and tuples of numbers: a number, a tuple of them, or an array,
        which is a new one at every replay.
        """
        given = _indexed(arguments, self)
        key = (function, given)
        if key in self._known:
            return self._known[key]
        result = function(*_resolved(given, self.values))
        made: Any = self._step(function, result, -1, given)
        if isinstance(result, np.ndarray):
            return made
        if isinstance(result, tuple):
            made = tuple(self.apply(operator.getitem, made, i) for i in range(len(result)))
        self._known[key] = made
        return made

    def _step(self, function: Callable[..., Any], result: Any, a: int, b: Any) -> Recorded:
        self.values.append(result)
        self._steps.append((function, len(self.values) - 1, a, b))
        return Recorded(self, len(self.values) - 1)

    def _index(self, number: Any) -> int:
        """Where a number's value is."""
        if type(number) is Recorded:
            return number.index
        key = ("constant", int(number))
        found: int | None = self._known.get(key)
        if found is None:
            self.values.append(int(number))
            found = self._known[key] = len(self.values) - 1
        return found


def _indexed(arguments: tuple[Any, ...], record: Record) -> tuple[Any, ...]:
    """The arguments as indices of values."""
    return tuple(
        _indexed(x, record) if isinstance(x, tuple) else record._index(x) for x in arguments
    )


def _resolved(arguments: tuple[Any, ...], values: Sequence[Any]) -> list[Any]:
    """The arguments that `_indexed` stands for."""
    return [tuple(_resolved(x, values)) if type(x) is tuple else values[x] for x in arguments]


class Recorded:
    """A number of a record. Behaves as an int; comparing it is a fact, and so is its exact value
    where an int is needed.
    """

    __slots__ = ("record", "index")
    __array_ufunc__ = None  # NumPy's numbers leave arithmetic to this class

    def __init__(self, record: Record, index: int):
        self.record = record
        self.index = index

    def __add__(self, other: Any) -> Any:
        return self if _is(other, 0) else self.record.apply(operator.add, self, other)

    def __mul__(self, other: Any) -> Any:
        if _is(other, 1):
            return self
        return 0 if _is(other, 0) else self.record.apply(operator.mul, self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return self if _is(other, 0) else self.record.apply(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.record.apply(operator.sub, other, self)

    def __neg__(self) -> Any:
        return self.record.apply(operator.sub, 0, self)

    def __floordiv__(self, other: Any) -> Any:
        return self if _is(other, 1) else self.record.apply(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self.record.apply(operator.floordiv, other, self)

    def __mod__(self, other: Any) -> Any:
        return 0 if _is(other, 1) else self.record.apply(operator.mod, self, other)

    def __rmod__(self, other: Any) -> Any:
        return self.record.apply(operator.mod, other, self)

    def __eq__(self, other: object) -> Any:
        return self._compare(operator.eq, other)

    def __ne__(self, other: object) -> Any:
        equal = self._compare(operator.eq, other)
        return equal if equal is NotImplemented else not equal

    def __lt__(self, other: Any) -> Any:
        return self._compare(operator.lt, other)

    def __le__(self, other: Any) -> Any:
        return self._compare(operator.le, other)

    def __gt__(self, other: Any) -> Any:
        return self._compare(operator.gt, other)

    def __ge__(self, other: Any) -> Any:
        return self._compare(operator.ge, other)

    def _compare(self, relation: Callable[[Any, Any], bool], other: Any) -> Any:
        if type(other) is Recorded and other.index == self.index:
            return relation(0, 0)
        if not isinstance(other, int | np.integer | Recorded):
            return NotImplemented
        return self.record.decide(relation, self, other)

    def __bool__(self) -> bool:
        return not self.record.decide(operator.eq, self, 0)

    def __index__(self) -> int:
        return self.record.fix(self)

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.record.fix(self))

    def __hash__(self) -> int:
        return hash(self.record.fix(self))

    def __repr__(self) -> str:
        return f"<{self.record.values[self.index]}>"


def _is(other: Any, number: int) -> bool:
    return type(other) is int and other == number


def plain(number: Any) -> int:
    """The number in the run that is recorded, which is no fact: for choices that change how fast a
    frame is and nothing else. They hold for sizes nearby (see `Record.replay`).
    """
    if type(number) is Recorded:
        return int(number.record.values[number.index])
    return int(number)


def at(number: Any, values: Sequence[Any]) -> Any:
    """The number for the values of a replay."""
    return values[number.index] if type(number) is Recorded else number


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, recorded if one of them is: a pure function of ints and tuples of
    ints, which takes any.
    """
    for x in arguments:
        for number in x if isinstance(x, tuple) else (x,):
            if type(number) is Recorded:
                return number.record.call(function, arguments)
    return function(*arguments)
