"""What Python code could read: the values that a trace depends on, with a way to read them again.

The walk starts at the function and its arguments and follows globals, closure cells, defaults,
attributes and containers, limited to names that occur in the code that can run, or, where that
reaches what cannot be guarded, in the code that did run (which the `Watcher` of every capture
holds it to). Invariant: what is reached is either guarded by value, or is a tensor (read afresh
at every call), or refused.
"""

from __future__ import annotations

import collections
import contextvars
import enum
import functools
import sys
import types
import weakref
from abc import ABCMeta
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.eager.methods import hooks_of
from tracejit.eager.watched import WatchedClass
from tracejit.ir.types import Device
from tracejit.jit.caches import CacheState, cache_state, has_int_keys
from tracejit.jit.names import imported_module, names_of, with_inner
from tracejit.jit.objects import (
    CHANGING,
    CONTAINERS,
    OWN_ITERATION,
    REGISTRATIONS,
    UNSEEN,
    is_inert,
    is_library_container,
    is_library_module,
    is_user_class,
    is_users_container,
    looks_up_plainly,
    own_attributes,
    own_dict,
    slots_of,
    watch_library,
)
from tracejit.jit.snapshot import Snapshot, module_snapshot, outline_of
from tracejit.jit.source import (
    KNOWN_LIBRARIES,
    STDLIB,
    UNSET,
    Entry,
    Refusal,
    Source,
    constant_source,
    is_user_file,
    source_key,
)
from tracejit.jit.standins import module_takes_stand_ins, takes_stand_ins
from tracejit.random import Generator
from tracejit.tensor import Size, Tensor

__all__ = ["KNOWN_LIBRARIES", "STDLIB", "Entry", "ReadSet", "Refusal", "Source", "constant_source",
           "is_user_file"]  # fmt: skip

_PLAIN = (int, float, str, bytes, bool, complex, type(None), type(Ellipsis), range, slice)
_CONSTANT = (DType, Device, np.dtype, np.generic, enum.Enum, types.CodeType)
_READ_CELLS = {"__closure__", "getclosurevars"}
"""By these names, code reads the closure of a function without running it."""
_MAX_ENTRIES = 50_000


class ReadSet:
    """Everything reachable that the code could read (of `ran`, or of all that could run)."""

    def __init__(
        self, function: Any, args: tuple[Any, ...], extra: Any = (),
        ran: set[types.CodeType] | None = None,
    ):  # fmt: skip
        self.args = args
        self.ran = ran
        self.names: set[str] = set()
        self.looked_up: set[str] = set()  # of the names, those that are not only assigned
        self.any_name = False  # code looks up attributes by names made at run time
        self.codes: set[types.CodeType] = set()
        self.extra = list(extra)  # (code, globals) that ran before without being foreseen
        self.counters: list[tuple[Source, Any]] = []  # ints that the run replaced: `lift`
        self.tells_identity = self.asks_ids = False
        self.stand_ins = True  # whether numbers of a trace may stand for numbers: `standins`
        self.free_numbers: set[tuple[int, str]] = set()  # attributes of modules that are inputs
        while True:
            before = len(self.names), len(self.codes)
            self.entries: list[Entry] = []
            self.modules: list[tuple[Any, Snapshot]] = []
            self.seen: dict[int, Source] = {}
            self.tensor_attributes: list[tuple[Source, Tensor, Any]] = []  # names of users' own
            self.aliases: dict[int, Source] = {}  # id of a tensor's source -> where it was first
            self.caches: list[CacheState] = []
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

    def absorb(self, other: ReadSet) -> None:
        """Add what another capture under the same guards could read besides."""
        known = {(source_key(e.source), e.kind) for e in self.entries}
        for entry in other.entries:
            if (source_key(entry.source), entry.kind) in known:
                continue
            self.entries.append(entry)
            if entry.kind == "alias":
                self.aliases[id(entry.source)] = other.aliases[id(entry.source)]
        held = {id(module) for module, _ in self.modules}
        self.modules += [found for found in other.modules if id(found[0]) not in held]
        self.codes |= other.codes
        self.free_numbers &= other.free_numbers

    # --- code -----------------------------------------------------------------------------------

    def reads(self, name: Any) -> bool:
        """Whether some code that can run may look up an attribute of this name."""
        return name in self.names or (self.any_name and not str(name).startswith("__"))

    def _is_only_stored(self, owner: Any, name: Any, item: Any) -> bool:
        """Whether code may put another container in this attribute but never looks into it."""
        made_up = self.any_name and not str(name).startswith("__")
        return not made_up and name not in self.looked_up and is_users_container(owner, item)

    def _code(self, code: types.CodeType, global_names: dict[str, Any]) -> None:
        if not is_user_file(code.co_filename):
            return
        for inner in with_inner(code):
            if self.ran is not None and inner not in self.ran:
                continue
            names = names_of(inner)
            self.stand_ins &= not names.tells_types
            self.tells_identity |= names.tells_identity
            self.asks_ids |= names.asks_ids
            if inner not in self.codes:
                self.codes.add(inner)
                self.names |= names.attributes
                self.looked_up |= names.attributes - names.stored
                self.any_name |= names.any_attribute
            self._globals(names.globals, global_names)
            if names.any_global:
                self._globals([n for n in global_names if not n.startswith("__")], global_names)
            if names.imports_any:
                raise Refusal(f"{inner.co_name} imports a module by a name made at run time")
            for name, level in names.modules:
                self._import(imported_module(name, level, global_names))

    def _globals(self, names: Any, global_names: dict[str, Any]) -> None:
        source = constant_source(global_names)
        for name in sorted(names):
            mark = (id(global_names), name)
            if mark in self.globals_done:
                continue
            self.globals_done.add(mark)
            if name in global_names:
                self.value(source.then("item", name), global_names[name])
            elif name not in ("__file__", "__name__", "__debug__", "__class__"):
                self.add(source.then("item", name), "absent", None)

    def _import(self, name: str | None) -> None:
        """A module that the code imports when it runs."""
        if name is None:
            return
        self.stand_ins = self.stand_ins and module_takes_stand_ins(name)
        if is_library_module(name):
            watch_library(sys.modules.get(name, sys), self.names)
            return
        source = constant_source(sys.modules).then("item", name)
        if name in sys.modules:
            self.value(source, sys.modules[name])
        else:
            self.add(source, "absent", None)

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
            if first is source:
                self.add(source, "outline", outline_of(value))
                self._with_tensor(source, value)
        else:
            self._object(source, value)

    def _with_tensor(self, source: Source, tensor: Tensor) -> None:
        """The attributes that a user gave a tensor, and what its hooks read."""
        own = own_attributes(tensor)
        if is_user_class(type(tensor)):
            self.class_attributes(type(tensor))
            self.add(source.then("own names"), "equal", tuple(own))  # one may hide the class's
        self.tensor_attributes.append((source, tensor, own.keys()))
        for name in own:
            if self.reads(name):
                self.value(source.then("dict").then("item", name), own[name])
        for hook in hooks_of(tensor):
            self.value(constant_source(hook), hook)

    def _object(self, source: Source, value: Any) -> None:
        if id(value) in self.seen and not isinstance(value, (tuple, Size)):
            self.add(source, "is", value)
            return
        self.seen[id(value)] = source
        self.stand_ins = self.stand_ins and takes_stand_ins(value)
        for kinds, walk in _WALKS:
            if isinstance(value, kinds):
                walk(self, source, value)
                if isinstance(value, CONTAINERS) and is_user_class(type(value)):
                    self.class_attributes(type(value))
                    self._attributes(source, value)
                return
        held = own_dict(value) or {}
        if "_modules" in held and "_parameters" in held:
            self._module(source, value)
        elif "param_groups" in held and not is_user_class(type(value)):
            self._library_object(source, value)
        else:
            self._instance(source, value)

    def _function(self, source: Source, value: types.FunctionType) -> None:
        if not is_user_file(value.__code__.co_filename):  # its registry: functools.singledispatch
            self.add(source, "is", value)
            self._parts(source, value, *sorted(value.__dict__.keys() & {"__wrapped__", "registry"}))
            return
        if source.parent is not None or source.step == "arg":  # the trace holds its own function
            self.add(source.then("attr", "__code__"), "is", value.__code__)
        self._code(value.__code__, value.__globals__)
        if value.__defaults__:
            self.value(source.then("attr", "__defaults__"), value.__defaults__)
        if value.__kwdefaults__:
            self.value(source.then("attr", "__kwdefaults__"), value.__kwdefaults__)
        asked = self.names & _READ_CELLS
        if self.ran is None or value.__code__ in self.ran or asked:
            self._cells(source, value)
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

    def _parts(self, source: Source, value: Any, *names: str) -> None:
        for name in names:
            self.value(source.then("attr", name), getattr(value, name))

    def _sequence(self, source: Source, value: Any) -> None:
        self.add(source.then("type"), "is", type(value))
        self.add(source, "length", len(value))
        if len(value) > 64 and type(value) in CONTAINERS and {*_PLAIN}.issuperset(map(type, value)):
            self.add(source, "equal", type(value)(value))  # a copy, which stays as it is
            return
        for i, item in enumerate(value):
            self.value(source.then("item", i), item)

    def _dict(self, source: Source, value: dict[Any, Any]) -> None:
        if getattr(type(value), "__iter__", None) not in OWN_ITERATION:
            self._odd_dict(source, value)
            return
        self.add(source.then("type"), "is", type(value))
        self.add(source, "keys", tuple(value))
        plain = looks_up_plainly(type(value))
        for key, item in value.items() if plain else dict.items(value):
            self.value(source.then("item" if plain else "raw item", key), item)

    def _odd_dict(self, source: Source, value: dict[Any, Any]) -> None:
        """A subclass that lists its keys by code of its own, which is not run to look at it."""
        if dict.__len__(value) or not is_user_class(type(value)):
            name = f"{source.describe()} is a dict whose class {type(value).__qualname__}"
            raise Refusal(f"{name} has its own __iter__")
        self.add(source.then("type"), "is", type(value))

    def _set(self, source: Source, value: Any) -> None:
        self.add(source.then("type"), "is", type(value))
        self.add(source, "equal", type(value)(value))

    def _array(self, source: Source, value: np.ndarray) -> None:
        if value.nbytes > 1 << 16 or value.dtype.hasobject:
            raise Refusal(f"{source.describe()} is a large NumPy array; make it a tensor")
        self.add(source, "array", (value.dtype, value.shape, value.tobytes()))

    def _python_module(self, source: Source, value: types.ModuleType) -> None:
        self.add(source, "is", value)
        if is_library_module(value.__name__):
            watch_library(value, self.names)
            self._globals(self.names & CHANGING.get(value.__name__, set()), value.__dict__)
            return
        inner = constant_source(value.__dict__)
        if "__getattr__" in value.__dict__ or any(names_of(c).may_miss for c in self.codes):
            self.add(inner, "length", len(value.__dict__))  # what is missing may appear
        names = value.__dict__.keys() if self.any_name else self.names & value.__dict__.keys()
        for name in sorted(n for n in names if not n.startswith("__")):
            mark = (id(value.__dict__), name)
            if mark not in self.globals_done:
                self.globals_done.add(mark)
                self.value(inner.then("item", name), value.__dict__[name])

    def _weak(self, source: Source, value: Any) -> None:
        """A weak reference: what it gives now, which may become None."""
        self.add(source, "is", value)
        self.value(source.then("deref"), value())

    def _context_variable(self, source: Source, value: contextvars.ContextVar[Any]) -> None:
        """What it holds in the context of this call; its default if it holds nothing."""
        self.add(source, "is", value)
        held = value.get(UNSET)
        self.value(source.then("context"), held)
        if held is UNSET:
            try:
                default = value.get()
            except LookupError:
                return
            self.value(constant_source(default), default)

    def _class(self, source: Source, value: type) -> None:
        self.add(source, "is", value)
        self.class_attributes(value)
        if isinstance(value, ABCMeta) and not isinstance(value, WatchedClass):
            token = constant_source(REGISTRATIONS).then("attr", "token")
            self.add(token, "equal", REGISTRATIONS.token)  # of what `isinstance` may ask for

    def class_attributes(self, kind: type) -> None:
        """Methods and attributes of a user's class that the code names."""
        if (id(kind), "") not in self.globals_done and is_user_class(kind):
            self.add(constant_source(kind).then("attr", "__mro__"), "is", kind.__mro__)
        if is_user_class(type(kind)):
            self.class_attributes(type(kind))
        for base in kind.__mro__:
            if not is_user_class(base) or (id(base), "") in self.globals_done:
                continue
            self.globals_done.add((id(base), ""))
            inner = constant_source(base).then("dict")
            self.add(inner, "length", len(base.__dict__))  # a new attribute may hide another
            for name, item in list(base.__dict__.items()):
                dunder = name.startswith("__") and isinstance(item, types.FunctionType)
                if self.reads(name) or dunder or name == "forward":
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
        kind = type(value)
        self.add(source.then("type"), "is", kind)
        if is_user_class(kind) and not issubclass(kind, UNSEEN):
            self.class_attributes(kind)
            self._attributes(source, value, every=is_library_container(kind))
            return
        held = own_dict(value)
        wrapped = None if held is None else held.get("__wrapped__")
        if callable(wrapped):  # a compiled function, functools.cache
            self.value(source.then("dict").then("item", "__wrapped__"), wrapped)
            if isinstance(value, functools._lru_cache_wrapper):
                self._cached(value)
        elif is_inert(value):
            self.add(source, "is", value)
        elif isinstance(value, Iterator):
            raise Refusal(f"{source.describe()} is an iterator, which changes as it is read")
        elif held is None and all("__slots__" in base.__dict__ for base in kind.__mro__[:-1]):
            for name, item in slots_of(value):
                self.value(source.then("slot", name), item)
        elif held is None or any(b.__module__ == "_ctypes" or b in UNSEEN for b in kind.__mro__):
            raise Refusal(f"{source.describe()} is a {kind.__module__}.{kind.__qualname__}, "
                          "whose changes cannot be seen")  # fmt: skip
        else:
            self._attributes(source, value, every=True)

    def answered(self) -> list[Entry]:
        """Guards of the caches (functools.cache) that gave a value from before since the walk."""
        return [entry for state in self.caches for entry in state.answered()]

    def _cached(self, cached: Any) -> None:
        """A function with a cache: the values in it that may change."""
        state = cache_state(cached)
        if state is not None:
            self.stand_ins = self.stand_ins and not has_int_keys(cached)
            self.caches.append(state)
            for result in state.results or ():
                self.value(constant_source(result), result)

    def _attributes(self, source: Source, value: Any, every: bool = False) -> None:
        """Those that code may read: `every` one where methods of a library's class may."""
        held = own_dict(value)
        if held is not None and held is not value:
            inner = source.then("dict")
            self.add(inner, "length", len(held))
            for name, item in list(held.items()):
                if every or self.reads(name):
                    only_stored = not every and self._is_only_stored(value, name, item)
                    note = functools.partial(self.add, kind="is") if only_stored else self.value
                    note(inner.then("item", name), value=item)
        for name, item in slots_of(value):
            if self.reads(name):
                self.value(source.then("slot", name), item)

    def _builtin(self, source: Source, value: Any) -> None:
        self.add(source, "is", value)
        owner = getattr(value, "__self__", None)  # of a method bound to an object
        if owner is not None and not isinstance(owner, (types.ModuleType, type)):
            self.value(source.then("attr", "__self__"), owner)

    def _library_object(self, source: Source, value: Any) -> None:
        """An optimizer: all it holds steers its step, hooks and methods set on it too."""
        self.add(source, "is", value)
        inner = constant_source(value)
        self.add(inner.then("dict"), "length", len(value.__dict__))
        for name, item in list(value.__dict__.items()):
            if name != "defaults":  # read when a group is added, never by a step
                self.value(inner.then("attr", name), item)

    def _module(self, source: Source, value: Any) -> None:
        """An nn.Module: identity, then its own state through the module version counter."""
        self.add(source, "is", value)
        self.modules.append((value, module_snapshot(value)))
        self.class_attributes(type(value))
        held = value.__dict__
        inner = constant_source(value).then("dict")
        for store in ("_parameters", "_buffers"):
            for name, tensor in held[store].items():
                if tensor is not None:
                    at = inner.then("item", store).then("item", name)
                    first = self.seen.setdefault(id(tensor), at)
                    self.add(at, "module tensor", tensor)
                    if first is at:
                        self._with_tensor(at, tensor)
        for name, child in held["_modules"].items():
            if child is not None:
                self.value(inner.then("item", "_modules").then("item", name), child)
        for name, item in list(held.items()):
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            if isinstance(item, dict) and name.endswith("hooks"):
                if item:
                    self.value(inner.then("item", name), item)
            elif type(item) in (int, float) and self.reads(name):
                self.add(inner.then("item", name), "module number", item)
            elif isinstance(item, _PLAIN) or not self.reads(name):
                continue
            elif not self._is_only_stored(value, name, item):  # which one it is: the snapshot knows
                self.value(inner.then("item", name), item)


_WALKS: list[tuple[Any, Callable[[ReadSet, Source, Any], None]]] = [
    (types.FunctionType, ReadSet._function),
    (types.MethodType, lambda r, s, v: r._parts(s, v, "__func__", "__self__")),
    (functools.partial, lambda r, s, v: r._parts(s, v, "func", "args", "keywords")),
    (types.ModuleType, ReadSet._python_module),
    (type, ReadSet._class),
    ((list, tuple, collections.deque), ReadSet._sequence),
    ((dict, types.MappingProxyType), ReadSet._dict),
    (weakref.ref, ReadSet._weak),
    (contextvars.ContextVar, ReadSet._context_variable),
    ((set, frozenset), ReadSet._set),
    (np.ndarray, ReadSet._array),
    (types.BuiltinFunctionType, ReadSet._builtin),
    ((np.ufunc, Generator), lambda r, s, v: r.add(s, "is", v)),
]
