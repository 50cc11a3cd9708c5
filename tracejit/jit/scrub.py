"""Traced numbers that a captured run left in the user's objects become plain numbers again.

Invariant: after a capture nothing that the function's state can reach, and nothing it returned,
holds a `SymInt`, `SymFloat` or `LiftedInt`.
"""

from __future__ import annotations

import types
from typing import Any

from tracejit.eager.integers import LiftedInt
from tracejit.eager.scalars import SymFloat
from tracejit.ir.sizes import SymInt
from tracejit.jit.effects import differences
from tracejit.jit.objects import is_user_class, own_dict
from tracejit.jit.readset import ReadSet
from tracejit.tensor import Tensor

_LEAVES = (Tensor, str, bytes, bool, int, float, type(None), type, types.ModuleType)


def plain(value: Any) -> Any:
    """`value` with plain numbers in it; containers and objects are changed in place."""
    return _Scrub().walk(value)


def scrub_state(readset: ReadSet) -> None:
    """Clean whatever the function changed of the state that it could reach."""
    scrub = _Scrub()
    for entry, _ in differences(readset):
        holder = entry.source if entry.kind in ("length", "keys") else entry.source.parent
        if holder is None:
            continue
        try:
            scrub.walk(holder.read(readset.args))
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            continue  # the holder itself is gone


class _Scrub:
    def __init__(self) -> None:
        self.done: dict[int, Any] = {}

    def walk(self, value: Any) -> Any:
        """The value to put in the place of `value`."""
        if type(value) in (SymInt, SymFloat, LiftedInt):
            return value.hint
        if isinstance(value, _LEAVES) or id(value) in self.done:
            return value
        self.done[id(value)] = value  # keeps it alive, so that the id stays its own
        if isinstance(value, tuple):
            return self._tuple(value)
        if isinstance(value, list):
            for i, item in enumerate(value):
                self._put(value, i, item)
        elif isinstance(value, dict):
            for key in list(value):
                self._put(value, key, value[key])
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self.walk(value.__self__)
        elif is_user_class(type(value)):
            self.walk(own_dict(value) or {})
        return value

    def _put(self, holder: Any, key: Any, item: Any) -> None:
        new = self.walk(item)
        if new is not item:
            holder[key] = new

    def _tuple(self, value: Any) -> Any:
        items = [self.walk(v) for v in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    def _function(self, value: types.FunctionType) -> None:
        for cell in value.__closure__ or ():
            try:
                item = cell.cell_contents
            except ValueError:
                continue  # not bound yet
            new = self.walk(item)
            if new is not item:
                cell.cell_contents = new
        if value.__defaults__:
            value.__defaults__ = self.walk(value.__defaults__)
