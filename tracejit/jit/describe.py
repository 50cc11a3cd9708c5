"""Why a call found no trace: the guards that it does not meet, in words.

Invariant: nothing here changes a trace; a comparison may run user code only as a guard would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.methods import hooks_of
from tracejit.eager.modes import state
from tracejit.eager.tape import type_of
from tracejit.jit.effects import entry_holds
from tracejit.jit.guards import ModuleGuard, TensorInput, failing_line, fits
from tracejit.jit.layouts import order_of
from tracejit.jit.naming import GONE, Describer, kind_of, short
from tracejit.jit.readset import Entry
from tracejit.jit.snapshot import module_snapshot, same
from tracejit.tensor import Tensor

_MOST_GROUPS = 8
"""Traces that a miss is compared with: the comparison must stay cheap beside the capture."""


class Miss:
    """Why no trace fitted a call, and what it cost: shown by ``explain()``."""

    def __init__(self, reason: str, milliseconds: float):
        self.reason = reason
        self.milliseconds = milliseconds


def why_missed(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], group: Any) -> str:
    """Why a call of a compiled function must be captured, from the trace that comes closest.

    To be asked before the function runs: a run may change the very state that differs.
    """
    if group is not None:
        return "a branch went a new way"
    signature = function.signatures.get((len(args), *kwargs))
    if signature is None:
        return "first call" if not function.signatures else "first call with these arguments"
    flat = (*args, *kwargs.values())
    found = [unmet(g, flat, signature.names) for g in signature.groups[:_MOST_GROUPS]]
    closest = min(found, key=len, default=[])
    more = f" (and {len(closest) - 1} more)" if len(closest) > 1 else ""
    return closest[0] + more if closest else "no trace"


def unmet(group: Any, args: tuple[Any, ...], names: Sequence[str]) -> list[str]:
    """The guards of a trace that a call does not meet, in words."""
    words = Describer(group.readset, names)
    found = _unmet_modes(group.modes)
    found += _unmet_inputs(group.inputs.tensors, args, words)
    if group.modules is not None:
        found += _unmet_modules(group.modules, words)
    reads = {id(t.source) for t in group.inputs.tensors}
    for entry in group.readset.entries:
        if not entry.kind.startswith("module ") and id(entry.source) not in reads:
            found += _unmet_entry(entry, args, words)
    if not found and not all(_comes_out(read, value, args) for read, value in group.conditions):
        found = ["a number that varies steers another way"]
    if not found:
        line = failing_line(group.guard, args)
        shared = line is not None and "are_apart" in line
        found = ["two tensors share memory through NumPy"] if shared else [] if line is None else [
            f"a fact about sizes does not hold: {line}"
        ]  # fmt: skip
    return found


def _comes_out(read: Any, value: Any, args: tuple[Any, ...]) -> bool:
    """Whether a decision on numbers that are inputs has the same outcome."""
    try:
        return same(read(args), value)
    except (*GONE, ArithmeticError):
        return False


def _unmet_modes(modes: dict[str, Any]) -> list[str]:
    found = []
    if modes["grad"] != state.grad:
        found.append(f"gradients are {'on' if state.grad else 'off'}, were "
                     f"{'on' if modes['grad'] else 'off'}")  # fmt: skip
    default = dtypes.get_default_dtype()
    if modes["default_dtype"] is not default:
        found.append(f"the default dtype is {default}, was {modes['default_dtype']}")
    return found


def _unmet_inputs(wanted: Sequence[TensorInput], args: Any, words: Describer) -> list[str]:
    found = []
    for item in wanted:
        name = words.source(item.source)
        try:
            now = item.source.read(args)
        except GONE:
            found.append(f"{name} is gone")
            continue
        if not isinstance(now, Tensor):
            found.append(f"{name} is {short(now)}, was a tensor")
        elif not fits(now, item):
            found.append(_unfit(name, now, item))
        elif item.chain is not None and now._view != item.chain:
            found.append(f"{name} is another view")
    return found


def _unfit(name: str, now: Tensor, item: TensorInput) -> str:
    if now._requires_grad != item.requires_grad:
        needs = "requires grad" if now._requires_grad else "requires no grad"
        return f"{name} {needs}, did{' not' if now._requires_grad else ''} before"
    if hooks_of(now) != item.hooks:
        return f"the hooks of {name} have changed"
    if item.order is not None and order_of(now._array) != item.order:
        return f"the axes of {name} lie in another order in memory"
    return f"{name}: {type_of(now)}, was {item.type}"


def _unmet_modules(guard: ModuleGuard, words: Describer) -> list[str]:
    found = []
    for module, before in guard.modules:
        now = module_snapshot(module)
        path = words.source(words.readset.seen[id(module)])
        for name in guard.changes(module, before):
            found.append(f"{path}.{name} {_change(before.get(name), now.get(name))}")
    if not found and guard.are_other_tensors():
        found = ["tensors of the modules are tied otherwise, or have another dtype or rank"]
    return sorted(found)


def _change(before: Any, now: Any) -> str:
    shown = (bool, float, str, type(None))
    if isinstance(before, shown) and isinstance(now, shown):
        return f"is {now!r}, was {before!r}"
    return "has changed"


def _unmet_entry(entry: Entry, args: Any, words: Describer) -> list[str]:
    what = words.source(entry.source)
    try:
        now = entry.source.read(args)
        holds = entry_holds(entry, now) if entry.kind != "tensor" else isinstance(now, Tensor)
    except GONE:
        return [] if entry.kind == "absent" else [f"{what} is gone"]
    if holds:
        return []
    if entry.kind == "absent":
        return [f"{what} is {short(now)}, there was none"]
    if entry.kind == "equal":
        return [f"{what} is {short(now)}, was {short(entry.value)}"]
    if entry.kind == "length" and entry.source.step == "dict":
        return [f"{what} has {len(now)} attributes, had {entry.value}"]
    if entry.kind == "length":
        return [f"len({what}) is {len(now)}, was {entry.value}"]
    if entry.kind == "outline":
        return [f"{what} is {short(now)}, was {words.outline(entry.value)}"]
    if entry.kind == "keys":
        return [f"the keys of {what} have changed"]
    if entry.source.step == "type":
        return [f"{what} is {short(now)}, was {short(entry.value)}"]
    return [f"{what} is another {kind_of(entry.value)}"]
