"""What a run changed in the Python state that others can see, and whether a replay can repeat it.

Invariant: a change that is not among the tensors to store again raises Refusal.
"""

from __future__ import annotations

from typing import Any

from tracejit.jit.objects import own_attributes
from tracejit.jit.readset import Entry, ReadSet, Refusal
from tracejit.jit.snapshot import changed_names, module_snapshot, same
from tracejit.tensor import Tensor


def stored_tensors(readset: ReadSet) -> list[tuple[Entry, Any]]:
    """Tensors that the function stored where others see them, by the place they are in."""
    found = []
    for entry, now in differences(readset):
        stores_tensor = entry.kind in ("tensor", "module tensor") and isinstance(now, Tensor)
        if entry.kind in ("length", "keys", "is", "equal", "array") or not stores_tensor:
            raise Refusal(f"changes {entry.source.describe()}, which a replay could not repeat")
        if not entry.source.is_assignable(readset.args):
            raise Refusal(f"assigns to {entry.source.describe()}")
        found.append((entry, now))
    for module, before in readset.modules:
        for name in changed_names(before, module_snapshot(module)):
            held = f"{readset.seen[id(module)].describe()}.{name}"
            raise Refusal(f"changes {held}, which a replay could not repeat")
    for source, tensor, names in readset.tensor_attributes:
        if own_attributes(tensor).keys() != names:
            raise Refusal(f"changes the attributes of {source.describe()}")
    return found


def differences(readset: ReadSet) -> list[tuple[Entry, Any]]:
    """Entries whose value is no longer what it was, with the value now (or None if gone)."""
    changed = []
    for entry in readset.entries:
        try:
            now = entry.source.read(readset.args)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            if entry.kind != "absent":
                changed.append((entry, None))
            continue
        if not entry_holds(entry, now):
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
    return (now.dtype, now.shape, now.tobytes()) == entry.value
