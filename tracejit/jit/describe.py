"""Human words for what a trace depends on: paths, guards, and the guard that a call does not meet.

Invariant: nothing here changes a trace; a description may run user code only as a guard would.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.eager.tape import type_of
from tracejit.jit.guards import TensorInput, failing_line, fits, same
from tracejit.jit.guards import _module_snapshot as module_snapshot
from tracejit.jit.readset import Entry, ReadSet, Source
from tracejit.jit.trace import entry_holds
from tracejit.tensor import Tensor

_SILENT = ("_parameters", "_buffers", "_modules", "__closure__", "__func__", "__self__")
GONE = (KeyError, IndexError, AttributeError, TypeError, ValueError)
_MOST_GROUPS = 8
"""Traces that a miss is compared with: the comparison must stay cheap beside the capture."""


class Describer:
    """Names the paths of one read set: ``x``, ``model.0.weight``, ``scale``."""

    def __init__(self, readset: ReadSet, names: Sequence[str]):
        self.readset = readset
        self.names = names
        self.parameters = {
            id(e.value): e.source for e in readset.entries if e.kind == "module tensor"
        }

    def source(self, source: Source) -> str:
        """The path in the words of the user's code."""
        above = source.parent
        if above is None:
            return self._root(source)
        if source.step == "type":
            return f"the type of {self.source(above)}"
        if source.step == "dict" or source.key in _SILENT:
            return self.source(above)
        if source.step == "cell" or (above.parent is None and above.step == "globals"):
            return str(source.key)
        if source.step == "item" and not self._is_attribute(above):
            return f"{self.source(above)}[{self._key(source.key)}]"
        return f"{self.source(above)}.{source.key}"

    def _is_attribute(self, above: Source) -> bool:
        return above.step == "dict" or above.key in _SILENT[:3]

    def _root(self, source: Source) -> str:
        if source.step == "arg":
            return self.names[source.key] if source.key < len(self.names) else f"x{source.key}"
        known = self.readset.seen.get(id(source.key))
        if known is not None and known.parent is not None and known is not source:
            return self.source(known)
        return short(source.key)

    def _key(self, key: Any) -> str:
        return self.tensor(key) if isinstance(key, Tensor) else repr(key)

    def tensor(self, tensor: Tensor) -> str:
        """A tensor's path: by way of the module that holds it, if one does."""
        known = self.parameters.get(id(tensor)) or self.readset.seen.get(id(tensor))
        return "a tensor" if known is None else self.source(known)

    def input(self, wanted: TensorInput) -> str:
        """``x: f32[32,64], requires grad``."""
        grad = ", requires grad" if wanted.requires_grad else ""
        try:
            name = self.tensor(wanted.source.read(self.readset.args))
        except GONE:
            name = self.source(wanted.source)
        return f"{name}: {wanted.type}{grad}"

    def number(self, label: str) -> str:
        """A number that every call reads: ``opt.param_groups[0]['lr']``."""
        holder, _, key = label.rpartition("#")[0].partition("[")
        known = self.readset.seen.get(int(holder)) if holder.isdigit() else None
        return label.rpartition("#")[0] if known is None else f"{self.source(known)}[{key}"

    def entry(self, entry: Entry) -> str:
        """One guard, as a statement about the state."""
        what = self.source(entry.source)
        above = entry.source.parent
        if above is not None and above.parent is None and above.step == "globals":
            what = f"global {what}"
        if entry.kind == "absent":
            return f"there is no {what}"
        if entry.kind == "equal":
            return f"{what} == {short(entry.value)}"
        if entry.kind == "length" and entry.source.step == "dict":
            return f"{what} has {entry.value} attributes"
        if entry.kind == "length":
            return f"len({what}) == {entry.value}"
        if entry.kind == "keys":
            return f"the keys of {what} are {short(entry.value)}"
        if entry.kind == "array":
            return f"the NumPy array {what} has the same contents"
        if entry.kind in ("tensor", "module tensor"):
            return f"{what} is a tensor"
        if entry.source.step == "type":
            return f"{what} is {short(entry.value)}"
        return f"{what} is the same {_kind_of(entry.value)}"


def short(value: Any) -> str:
    """A value in at most 60 characters; objects by their names."""
    if isinstance(value, dict) and "__name__" in value:
        return f"module {value['__name__']}"
    if isinstance(value, (type, types.FunctionType, types.ModuleType, types.BuiltinFunctionType)):
        return str(getattr(value, "__qualname__", value.__name__))
    if isinstance(value, Tensor):
        return f"a tensor {type_of(value)}"
    text = repr(value) if _is_plain(value) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, (int, float, str, bytes, bool, complex, type(None), dtypes.DType))


def _kind_of(value: Any) -> str:
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
        return "function"
    if isinstance(value, types.ModuleType):
        return "Python module"
    if isinstance(value, types.CodeType):
        return "code"
    return "class" if isinstance(value, type) else type(value).__name__


# --- misses ------------------------------------------------------------------------------------


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
        found += _unmet_modules(group.modules.modules, words)
    reads = {id(t.source) for t in group.inputs.tensors}
    for entry in group.readset.entries:
        if entry.kind != "module tensor" and id(entry.source) not in reads:
            found += _unmet_entry(entry, args, words)
    if not found:
        line = failing_line(group.guard, args)
        found = [f"a fact about sizes does not hold: {line}"] if line is not None else []
    return found


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
    return f"{name}: {type_of(now)}, was {item.type}"


def _unmet_modules(modules: Sequence[tuple[Any, Any]], words: Describer) -> list[str]:
    found = []
    for module, before in modules:
        now = module_snapshot(module)
        for name in before.keys() | now.keys():
            if not _same_item(now.get(name), before.get(name)):
                path = words.source(words.readset.seen[id(module)])
                found.append(f"{path}.{name} {_change(before.get(name), now.get(name))}")
    return sorted(found)


def _same_item(a: Any, b: Any) -> bool:
    return a is b or same(a, b)


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
    if entry.kind == "length":
        return [f"len({what}) is {len(now)}, was {entry.value}"]
    if entry.kind == "keys":
        return [f"the keys of {what} have changed"]
    if entry.source.step == "type":
        return [f"{what} is {short(now)}, was {short(entry.value)}"]
    return [f"{what} is another {_kind_of(entry.value)}"]
