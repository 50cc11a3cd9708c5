"""Nested results taken apart and put together again: tuples, lists, dicts, dataclasses, ...

Invariant: `rebuild(spec, leaves)` gives what `flatten` was given, with new leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tracejit.eager.integers import LiftedInt
from tracejit.eager.scalars import SymFloat
from tracejit.ir.sizes import SymInt
from tracejit.tensor import Tensor

Build = Callable[[list[Any]], Any]


class Structure:
    """The shape of a nested value and its leaves (tensors and traced numbers, each once)."""

    def __init__(self, value: Any, is_known: Callable[[Any], bool]):
        self.leaves: list[Any] = []
        self.positions: dict[int, int] = {}
        self.is_known = is_known
        self.problem: str | None = None
        self.build = self._walk(value)

    def _leaf(self, value: Any) -> Build:
        position = self.positions.get(id(value))
        if position is None:
            position = self.positions[id(value)] = len(self.leaves)
            self.leaves.append(value)
        return lambda leaves, p=position: leaves[p]  # type: ignore[misc]

    def _walk(self, value: Any) -> Build:
        if isinstance(value, Tensor) or type(value) in (SymFloat, SymInt, LiftedInt):
            return self._leaf(value)
        if value is None or isinstance(value, (bool, int, float, str, bytes, complex, type)):
            return lambda leaves: value
        if self.is_known(value):  # an object from outside is returned as it is
            return lambda leaves: value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            parts = [self._walk(v) for v in value]
            return lambda leaves: type(value)(*[p(leaves) for p in parts])
        if type(value) in (list, tuple, set, frozenset) or isinstance(value, tuple):
            parts, kind = [self._walk(v) for v in value], type(value)
            return lambda leaves: kind([p(leaves) for p in parts])
        if isinstance(value, dict) and type(value).__module__ in ("builtins", "collections"):
            items = [(k, self._walk(v)) for k, v in value.items()]
            empty = value.copy()
            empty.clear()
            return lambda leaves: _fill(empty.copy(), items, leaves)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: self._walk(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return lambda leaves: _remake(type(value), {n: p(leaves) for n, p in fields.items()})
        self.problem = f"returns a new {type(value).__name__}, which a replay cannot make again"
        return lambda leaves: value


def _fill(target: Any, items: list[tuple[Any, Build]], leaves: list[Any]) -> Any:
    for key, part in items:
        target[key] = part(leaves)
    return target


def _remake(kind: type, values: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made
