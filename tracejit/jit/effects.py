"""What a run changed in the Python state that others can see, and whether a replay can repeat it.

Invariant: a change that is not among the tensors to store again raises Refusal.
"""

from __future__ import annotations

from typing import Any

from tracejit.jit.objects import own_attributes
from tracejit.jit.readset import Entry, ReadSet, Refusal, Source, constant_source
from tracejit.jit.snapshot import Snapshot, changed_names, module_snapshot, outline_of, same
from tracejit.tensor import Tensor

_SETTABLE = (bool, str, type(None))
"""Kinds of values that a replay may set again: where the guards hold it is the same value (numbers
may come from traced ones, and counting would need a trace for each)."""


class Effects:
    """tensors    (entry, tensor) stored where others see it.
    constants  (source, value) of flags and the like that were given another value.
    counters   (source, read) of ints, and how a call computes what they are afterwards.
    """

    def __init__(self, readset: ReadSet):
        self.counters = [(source, number.read) for source, number in readset.counters]
        self.tensors: list[tuple[Entry, Any]] = []
        self.constants: list[tuple[Source, Any]] = []
        self.readset = readset
        for entry, now in differences(readset):
            self._entry(entry, now)
        for module, before in readset.modules:
            self._module(module, before)
        for source, tensor, names in readset.tensor_attributes:
            if own_attributes(tensor).keys() != names:
                raise Refusal(f"changes the attributes of {source.describe()}")

    def _entry(self, entry: Entry, now: Any) -> None:
        source = entry.source
        stores_tensor = entry.kind in ("tensor", "module tensor") and isinstance(now, Tensor)
        is_flag = entry.kind in ("is", "equal") and _are_flags(entry.value, now)
        if not (stores_tensor or is_flag):
            raise _unrepeatable(source.describe())
        if not source.is_assignable(self.readset.args):
            raise Refusal(f"assigns to {source.describe()}")
        if stores_tensor:
            self.tensors.append((entry, now))
        else:
            self.constants.append((source, now))

    def _module(self, module: Any, before: Snapshot) -> None:
        now = module_snapshot(module)
        for name in changed_names(before, now):
            if (id(module), name) in self.readset.free_numbers:
                continue  # one of the counters
            if name not in before or name not in now or not _are_flags(before[name], now[name]):
                raise _unrepeatable(f"{self.readset.seen[id(module)].describe()}.{name}")
            place = constant_source(module).then("dict").then("item", name)
            self.constants.append((place, now[name]))


def _are_flags(before: Any, now: Any) -> bool:
    return type(before) in _SETTABLE and type(now) in _SETTABLE


def _unrepeatable(what: str) -> Refusal:
    return Refusal(f"changes {what}, which a replay could not repeat")


def differences(readset: ReadSet) -> list[tuple[Entry, Any]]:
    """Entries whose value is no longer what it was, with the value now (or None if gone)."""
    changed = []
    for entry in readset.entries:
        if entry.kind == "outline":  # what a run does to tensors, the capture has noted
            continue
        try:
            now = entry.source.read(readset.args)
            holds = entry_holds(entry, now)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            if entry.kind != "absent":
                changed.append((entry, None))
            continue
        if not holds:
            changed.append((entry, now))
    return changed


def entry_holds(entry: Entry, now: Any) -> bool:
    """Whether the value of an entry is still what it was."""
    if entry.kind in ("is", "tensor", "alias", "module tensor"):
        return now is entry.value
    if entry.kind == "absent":
        return False
    if entry.kind in ("equal", "module number"):
        return now is entry.value or same(now, entry.value)
    if entry.kind == "length":
        return bool(len(now) == entry.value)
    if entry.kind == "keys":
        return tuple(now) == entry.value
    if entry.kind == "outline":
        return outline_of(now) == entry.value
    return (now.dtype, now.shape, now.tobytes()) == entry.value
