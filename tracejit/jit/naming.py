"""Names of what a trace reads, in the words of the user's code: ``x``, ``model.0.weight``.

Invariant: a name is for people; nothing is ever looked up by it.
"""

from __future__ import annotations

import re
import types
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.tape import type_of
from tracejit.jit.guards import TensorInput
from tracejit.jit.readset import Entry, ReadSet, Source
from tracejit.tensor import Tensor

_SILENT = ("_parameters", "_buffers", "_modules", "__closure__", "__func__")
GONE = (KeyError, IndexError, AttributeError, TypeError, ValueError)
"""What reading a path raises when it leads nowhere any more."""


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
        if source.key == "__self__":
            return "self"
        if source.step == "dict" or source.key in _SILENT:
            return self.source(above)
        if source.step == "cell" or (above.parent is None and above.step == "globals"):
            return str(source.key)
        if source.step == "raw item" or (source.step == "item" and not self._is_attribute(above)):
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
        return _object_name(source.key)

    def _key(self, key: Any) -> str:
        return self.tensor(key) if isinstance(key, Tensor) else repr(key)

    def tensor(self, tensor: Any, source: Source | None = None) -> str:
        """A tensor's path: by way of the module that holds it, if one does; else `source`."""
        known = self.parameters.get(id(tensor)) or self.readset.seen.get(id(tensor)) or source
        return "a tensor" if known is None else self.source(known)

    def input(self, wanted: TensorInput) -> str:
        """``x: f32[32,64], requires grad``."""
        grad = ", requires grad" if wanted.requires_grad else ""
        try:
            tensor = wanted.source.read(self.readset.args)
        except GONE:
            tensor = None
        return f"{self.tensor(tensor, wanted.source)}: {wanted.type}{grad}"

    def number(self, label: str, read: Any) -> str | None:
        """A number that every call reads: ``opt.param_groups[0]['lr']``; None if it has no path.

        label  how the capture tells numbers apart: ``"id of the holder[key]"`` for an item.
        read   how a call reads it; has a `source` if it was lifted because it varies.
        """
        if hasattr(read, "source"):
            return self.source(read.source)
        holder, _, key = label.partition("[")
        known = self.readset.seen.get(int(holder)) if holder.isdigit() else None
        return None if known is None else f"{self.source(known)}[{key}"

    def outline(self, outline: tuple[Any, ...]) -> str:
        """What `snapshot.outline_of` tells of a tensor."""
        dtype, rank, device, requires_grad, _ = outline
        grad = " and requires_grad" if requires_grad else ""
        return f"dtype {dtype}, {rank} dimensions on {device}{grad}"

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
        if entry.kind == "outline":
            return f"{what} has {self.outline(entry.value)}"
        if entry.kind == "array":
            return f"the NumPy array {what} has the same contents"
        if entry.kind in ("tensor", "module tensor"):
            return f"{what} is a tensor"
        if entry.source.step == "type":
            return f"{what} is {short(entry.value)}"
        return f"{what} is the same {kind_of(entry.value)}"


def _object_name(value: Any) -> str:
    if isinstance(value, (dict, type, types.FunctionType, types.ModuleType)):
        return short(value)
    return type(value).__name__


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


def kind_of(value: Any) -> str:
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
        return "function"
    if isinstance(value, types.ModuleType):
        return "Python module"
    if isinstance(value, types.CodeType):
        return "code"
    return "class" if isinstance(value, type) else type(value).__name__


def graph_name(path: str) -> str:
    """A path as a name in IR text: ``model.0.weight``, ``optimizer.state.w.exp_avg``."""
    clean = re.sub(r"[^A-Za-z0-9_]+", ".", path).strip(".")
    return f"x{clean}" if not clean or clean[0].isdigit() else clean
