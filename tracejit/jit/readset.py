"""What Python code could read: the values that a trace depends on, with a way to read them again.

The walk starts at the function and its arguments and follows globals, closure cells, defaults,
attributes and containers, limited to names that occur in the code that can run. Invariant: what
is reached is either guarded by value, or is a tensor (read afresh at every call), or refused.
"""

from __future__ import annotations

import enum
import functools
import os
import sysconfig
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.ir.types import Device
from tracejit.random import Generator
from tracejit.tensor import Size, Tensor

_PLAIN = (int, float, str, bytes, bool, complex, type(None), type(Ellipsis), range, slice)
_CONSTANT = (DType, Device, np.dtype, np.generic, enum.Enum, types.CodeType)
_MAX_ENTRIES = 50_000


class ReadSet:
    """Everything reachable that the code could read, as it is now."""

    def __init__(self, function: Any, args: tuple[Any, ...], extra: Any = ()):
        self.args = args
        self.names: set[str] = set()
        self.codes: set[types.CodeType] = set()
        self.extra = list(extra)  # (code, globals) that ran before without being foreseen
        while True:
            before = len(self.names), len(self.codes)
            self.entries: list[Entry] = []
            self.modules: list[Any] = []
            self.seen: dict[int, Source] = {}
            self.aliases: dict[int, Source] = {}  # id of a tensor's source -> where it was first
            self.globals_done: set[tuple[int, str]] = set()
            self._walk_all(function)
            if (len(self.names), len(self.codes)) == before:
                break

    def _walk_all(self, function: Any) -> None:
        for code, global_names in self.extra:
            self._code(code, global_names)
        self.value(constant_source(function), function)
        for i, value in enumerate(self.args):
            self.value(Source(None, "arg", i), value)

    def add(self, source: Source, kind: str, value: Any) -> None:
        """Note an entry; refuses when there are absurdly many."""
        if len(self.entries) >= _MAX_ENTRIES:
            raise Refusal("the function can reach more Python state than can be guarded")
        self.entries.append(Entry(source, kind, value))

    # --- code -----------------------------------------------------------------------------------

    def _code(self, code: types.CodeType, global_names: dict[str, Any]) -> None:
        if not is_user_file(code.co_filename):
            return
        self._collect(code)
        source = constant_source(global_names)
        for name in _all_names(code):
            mark = (id(global_names), name)
            if name in global_names and mark not in self.globals_done:
                self.globals_done.add(mark)
                self.value(source.then("item", name), global_names[name])

    def _collect(self, code: types.CodeType) -> None:
        if code in self.codes:
            return
        self.codes.add(code)
        self.names.update(code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._collect(constant)

    # --- values ---------------------------------------------------------------------------------

    def value(self, source: Source, value: Any) -> None:
        """Note a value and whatever can be read through it."""
        kind = type(value)
        if kind in (int, float, str, bytes, complex) or isinstance(value, _CONSTANT):
            self.add(source, "equal", value)
        elif isinstance(value, _PLAIN):
            self.add(source, "equal" if kind in (range, slice) else "is", value)
        elif isinstance(value, Tensor):
            first = self.seen.setdefault(id(value), source)
            self.add(source, "tensor" if first is source else "alias", value)
            self.aliases[id(source)] = first
        else:
            self._object(source, value)

    def _object(self, source: Source, value: Any) -> None:
        if id(value) in self.seen and not isinstance(value, (tuple, Size)):
            self.add(source, "is", value)
            return
        self.seen[id(value)] = source
        for kinds, walk in _WALKS:
            if isinstance(value, kinds):
                walk(self, source, value)
                return
        if hasattr(value, "_modules") and hasattr(value, "_parameters"):
            self._module(source, value)
        elif hasattr(value, "param_groups") and not is_user_class(type(value)):
            self._library_object(source, value)
        elif isinstance(value, Iterator):
            raise Refusal(f"{source.describe()} is an iterator, which changes as it is read")
        else:
            self._instance(source, value)

    def _function(self, source: Source, value: types.FunctionType) -> None:
        if not is_user_file(value.__code__.co_filename):
            self.add(source, "is", value)
            wrapped = getattr(value, "__wrapped__", None)
            if wrapped is not None:
                self.value(source.then("attr", "__wrapped__"), wrapped)
            return
        if source.parent is None and source.step != "arg":
            pass  # the compiled function itself: held by the trace
        else:
            self.add(source.then("attr", "__code__"), "is", value.__code__)
        self._code(value.__code__, value.__globals__)
        if value.__defaults__:
            self.value(source.then("attr", "__defaults__"), value.__defaults__)
        if value.__kwdefaults__:
            self.value(source.then("attr", "__kwdefaults__"), value.__kwdefaults__)
        self._cells(source, value)
        if value.__dict__:
            self._attributes(source, value)

    def _cells(self, source: Source, value: types.FunctionType) -> None:
        names = value.__code__.co_freevars
        for i, cell in enumerate(value.__closure__ or ()):
            at = source.then("attr", "__closure__").then("item", i)
            if source.parent is None and source.step != "arg":
                at = constant_source(cell)
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # not yet bound: reading it raises in Python too
            self.value(at.then("cell", names[i]), content)

    def _method(self, source: Source, value: types.MethodType) -> None:
        self.value(source.then("attr", "__func__"), value.__func__)
        self.value(source.then("attr", "__self__"), value.__self__)

    def _partial(self, source: Source, value: functools.partial[Any]) -> None:
        for name in ("func", "args", "keywords"):
            self.value(source.then("attr", name), getattr(value, name))

    def _sequence(self, source: Source, value: Any) -> None:
        self.add(source.then("type"), "is", type(value))
        self.add(source, "length", len(value))
        if len(value) > 64 and all(type(v) in (int, float, str, bool) for v in value):
            self.add(source, "equal", type(value)(value) if type(value) in (list, tuple) else value)
            return
        for i, item in enumerate(value):
            self.value(source.then("item", i), item)

    def _dict(self, source: Source, value: dict[Any, Any]) -> None:
        self.add(source.then("type"), "is", type(value))
        self.add(source, "keys", tuple(value))
        for key, item in value.items():
            self.value(source.then("item", key), item)

    def _set(self, source: Source, value: Any) -> None:
        self.add(source.then("type"), "is", type(value))
        self.add(source, "equal", type(value)(value))

    def _array(self, source: Source, value: np.ndarray) -> None:
        if value.nbytes > 1 << 16 or value.dtype.hasobject:
            raise Refusal(f"{source.describe()} is a large NumPy array; make it a tensor")
        self.add(source, "array", (value.dtype, value.shape, value.tobytes()))

    def _python_module(self, source: Source, value: types.ModuleType) -> None:
        self.add(source, "is", value)
        filename = getattr(value, "__file__", None)
        if filename is None or not is_user_file(filename):
            return
        if os.path.abspath(filename).startswith(_SITE):  # installed code: its globals stay
            return
        inner = constant_source(value.__dict__)
        for name in self.names & value.__dict__.keys():
            mark = (id(value.__dict__), name)
            if mark not in self.globals_done:
                self.globals_done.add(mark)
                self.value(inner.then("item", name), value.__dict__[name])

    def _class(self, source: Source, value: type) -> None:
        self.add(source, "is", value)
        self.class_attributes(value)

    def class_attributes(self, kind: type) -> None:
        """Methods and attributes of a user's class that the code names."""
        for base in kind.__mro__:
            if not is_user_class(base) or (id(base), "") in self.globals_done:
                continue
            self.globals_done.add((id(base), ""))
            inner = constant_source(base).then("dict")
            for name, item in list(base.__dict__.items()):
                dunder = name.startswith("__") and isinstance(item, types.FunctionType)
                if name in self.names or dunder or name == "forward":
                    self._class_item(inner.then("item", name), item)

    def _class_item(self, source: Source, item: Any) -> None:
        if isinstance(item, (staticmethod, classmethod)):
            self.add(source, "is", item)
            self.value(constant_source(item.__func__), item.__func__)
        elif isinstance(item, property):
            self.add(source, "is", item)
            for part in (item.fget, item.fset):
                if part is not None:
                    self.value(constant_source(part), part)
        elif isinstance(item, types.FunctionType):
            self.add(source, "is", item)
            self._function(constant_source(item), item)
        elif not isinstance(item, (types.GetSetDescriptorType, types.MemberDescriptorType)):
            self.value(source, item)

    def _instance(self, source: Source, value: Any) -> None:
        self.add(source.then("type"), "is", type(value))
        if callable(getattr(value, "__wrapped__", None)) and not is_user_class(type(value)):
            self.value(source.then("attr", "__wrapped__"), value.__wrapped__)
            return
        if not is_user_class(type(value)):
            self.add(source, "is", value)
            return
        self.class_attributes(type(value))
        self._attributes(source, value)

    def _attributes(self, source: Source, value: Any) -> None:
        held = getattr(value, "__dict__", None)
        if held:
            inner = source.then("dict")
            self.add(inner, "length", len(held))
            for name, item in list(held.items()):
                if name in self.names:
                    self.value(inner.then("item", name), item)
        elif held is not None:
            self.add(source.then("dict"), "length", 0)
        for base in type(value).__mro__:
            for name in getattr(base, "__slots__", ()):
                if name in self.names and hasattr(value, name):
                    self.value(source.then("slot", name), getattr(value, name))

    def _library_object(self, source: Source, value: Any) -> None:
        """An optimizer: everything it holds steers what its step does."""
        self.add(source, "is", value)
        inner = constant_source(value)
        for name in ("param_groups", "state"):
            self.value(inner.then("attr", name), getattr(value, name))

    def _module(self, source: Source, value: Any) -> None:
        """An nn.Module: identity, then its own state through the module version counter."""
        self.add(source, "is", value)
        self.modules.append(value)
        self.class_attributes(type(value))
        held = value.__dict__
        inner = constant_source(value).then("dict")
        for store in ("_parameters", "_buffers"):
            for name, tensor in held[store].items():
                if tensor is not None:
                    at = inner.then("item", store).then("item", name)
                    self.seen.setdefault(id(tensor), at)
                    self.add(at, "module tensor", tensor)
        for name, child in held["_modules"].items():
            if child is not None:
                self.value(inner.then("item", "_modules").then("item", name), child)
        for name, item in list(held.items()):
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            if isinstance(item, dict) and name.endswith("hooks"):
                if item:
                    self.value(inner.then("item", name), item)
            elif not isinstance(item, _PLAIN) and (name in self.names or not name.startswith("_")):
                self.value(inner.then("item", name), item)


def is_user_class(kind: type) -> bool:
    """Whether a class was defined by the user rather than by Python, NumPy or tracejit."""
    module = kind.__module__
    if module in ("builtins", "collections", "functools", "typing", "abc"):
        return False
    if module.partition(".")[0] in ("tracejit", "numpy"):
        return False
    for item in kind.__dict__.values():
        if isinstance(item, types.FunctionType):
            return is_user_file(item.__code__.co_filename)
    import sys

    filename = getattr(sys.modules.get(module), "__file__", None)
    return filename is None or is_user_file(filename)


def _all_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _all_names(constant)
    return names


_WALKS: list[tuple[Any, Callable[[ReadSet, Source, Any], None]]] = [
    (types.FunctionType, ReadSet._function),
    (types.MethodType, ReadSet._method),
    (functools.partial, ReadSet._partial),
    (types.ModuleType, ReadSet._python_module),
    (type, ReadSet._class),
    ((list, tuple), ReadSet._sequence),
    (dict, ReadSet._dict),
    ((set, frozenset), ReadSet._set),
    (np.ndarray, ReadSet._array),
    ((types.BuiltinFunctionType, np.ufunc, Generator), lambda r, s, v: r.add(s, "is", v)),
]
