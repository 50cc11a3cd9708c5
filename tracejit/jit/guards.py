"""Guards as generated Python: one straight-line function per tree, that tells whether it applies.

The function takes the call's arguments and gives ``(tensors, sizes)`` of the tree's inputs, or
MISS. Invariant: user strings never reach the source; they go through a table of constants.
"""

from __future__ import annotations

import functools
import linecache
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.eager.methods import hooks_of
from tracejit.eager.modes import MODULE_VERSION, state
from tracejit.ir.sizes import SymInt, size_source
from tracejit.ir.types import TensorType
from tracejit.jit.layouts import order_of
from tracejit.jit.readset import Entry, ReadSet, Source
from tracejit.jit.snapshot import Snapshot, changed_names, module_snapshot, outline_of, same
from tracejit.jit.standins import identities
from tracejit.runtime.device_array import DeviceArray
from tracejit.tensor import Tensor

MISS: Any = type("Miss", (), {"__repr__": lambda self: "MISS"})()
_count = [0]


class TensorInput:
    """A tensor that every call reads from `source`, and the type it must have."""

    __slots__ = (
        "source", "type", "requires_grad", "is_module", "is_held", "tensor_class", "chain",
        "layout", "order", "is_written", "hooks",
    )  # fmt: skip

    def __init__(self, source: Source, kind: TensorType, tensor: Tensor, is_module: bool):
        self.source = source
        self.type = kind
        self.requires_grad = tensor._requires_grad
        self.is_module = is_module
        self.is_held = _is_held(source)
        self.tensor_class = type(tensor)
        self.chain: Any = None
        self.layout: Any = None
        """What the trace needs of the order in memory: nothing (None), row-major order (True),
        or these strides."""
        self.order: Any = None
        """The order of its axes in memory (`layouts.order_of`) that results may have from it."""
        self.is_written = False
        self.hooks = hooks_of(tensor)


def _is_held(source: Source) -> bool:
    """Whether the tensor is reached from an object that the trace holds, and stays there."""
    here: Source | None = source
    while here is not None:
        if here.step in ("arg", "globals", "cell") or here.key == "_grad":
            return False
        here = here.parent
    return True


class ModuleGuard:
    """The structure of modules, compared only when some module changed since the last call."""

    def __init__(
        self, modules: Sequence[tuple[Any, Snapshot]], tensors: Sequence[TensorInput],
        free: set[tuple[int, str]] | frozenset[Any] = frozenset(), places: Sequence[Source] = (),
    ):  # fmt: skip
        self.free = free  # (id of module, name) of numbers that are inputs of the trace
        self.modules = list(modules)
        self.inputs = list(tensors)
        self.places = places  # of all their tensors
        self.facts = self._facts()
        self.version = -1  # what the captured run met is compared with the first call
        self.tensors = tuple(t.source.read(()) for t in tensors)

    def verify(self) -> bool:
        """Whether all modules are as they were; then their tensors are read again."""
        version = MODULE_VERSION[0]
        if any(self.changes(module, before) for module, before in self.modules):
            return False
        try:
            tensors = tuple(t.source.read(()) for t in self.inputs)
            if self.are_other_tensors():
                return False
        except (KeyError, AttributeError):
            return False
        for tensor, wanted in zip(tensors, self.inputs, strict=True):
            if type(tensor) is not wanted.tensor_class or not fits(tensor, wanted):
                return False
        self.tensors = tensors
        self.version = version
        return True

    def _facts(self) -> tuple[Any, ...]:
        """Which of the tensors are one and the same, and the outline of each."""
        tensors = [place.read(()) for place in self.places]
        return identities(tensors), [outline_of(t) for t in tensors]

    def are_other_tensors(self) -> bool:
        """Whether what may be asked of the modules' tensors has another answer than it had."""
        return self._facts() != self.facts

    def changes(self, module: Any, before: Snapshot) -> list[str]:
        """The attributes of a module that are not as the trace needs them."""
        now = module_snapshot(module)
        return [
            name for name in changed_names(before, now)
            if (id(module), name) not in self.free or type(now.get(name)) is not type(before[name])
        ]  # fmt: skip


def fits(tensor: Tensor, wanted: TensorInput) -> bool:
    """Whether a tensor has the dtype, (concrete) shape and requires_grad that a trace expects."""
    kind = wanted.type
    shape = tensor._array.shape
    return (
        tensor._array.dtype == kind.dtype.numpy
        and len(shape) == len(kind.shape)
        and all(type(w) is SymInt or n == w for n, w in zip(shape, kind.shape, strict=True))
        and tensor._requires_grad == wanted.requires_grad
        and hooks_of(tensor) == wanted.hooks
        and tensor._device == kind.device
        and lies_as(tensor._array, wanted.layout)
        and (wanted.order is None or order_of(tensor._array) == wanted.order)
    )


def layout_of(array: np.ndarray[Any, Any], exact: bool) -> Any:
    """What a trace that depends on the order of an input's elements asks of later calls."""
    return True if array.flags.c_contiguous and not exact else array.strides


def lies_as(array: np.ndarray[Any, Any], layout: Any) -> bool:
    """Whether the elements lie as a trace needs them; see `TensorInput.layout`."""
    if layout is None:
        return True
    return bool(array.flags.c_contiguous if layout is True else array.strides == layout)


def overlaps_itself(array: np.ndarray[Any, Any]) -> bool:
    """Whether several elements (may) share one place in memory, as in an expanded tensor."""
    if array.flags.c_contiguous or array.size <= 1:
        return False
    reach = array.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape) if n > 1):
        if stride < reach:
            return True
        reach = stride * n
    return False


class GuardWriter:
    """Writes the source of one guard function."""

    def __init__(self, argument_count: int):
        self.lines: list[str] = []
        self.table: dict[str, Any] = {"MISS": MISS, "same": same, "state": state,
                                      "VERSION": MODULE_VERSION, "Tensor": Tensor}  # fmt: skip
        self.names: dict[int, str] = {}
        self.count = argument_count
        self.symbols: dict[str, None] = {}
        self.after: list[str] = []  # lines between the guards and the return
        self.tensor_names: list[str] = []
        self.checked_later: frozenset[str] = frozenset()  # names of tensors: see `tensor`
        self.held: dict[str, str] = {}  # names of values on the way to others, by expression

    def constant(self, value: Any) -> str:
        """The name of a constant in the function's globals."""
        name = self.names.get(id(value))
        if name is None:
            name = self.names[id(value)] = f"K{len(self.names)}"
            self.table[name] = value
        return name

    def require(self, condition: str, comment: str = "") -> None:
        """A line that misses unless `condition` holds."""
        note = f"  # {comment}" if comment else ""
        self.lines.append(f"        if not ({condition}): return MISS{note}")

    def read(self, source: Source) -> str:
        """The expression of a value; what lies on the way to it is read once."""
        parent = source.parent
        if parent is None or parent.parent is None:
            return source.expression(self.constant)
        whole = parent.expression(self.constant)
        name = self.held.get(whole)
        if name is None:
            inner = self.read(parent)
            name = self.held[whole] = f"h{len(self.held)}"
            self.lines.append(f"        {name} = {inner}")
        return source.step_from(name, self.constant)

    def entry(self, entry: Entry, readset: ReadSet) -> None:
        """The check of one entry of the read set."""
        if entry.kind == "absent":
            self.absent(entry.source)
            return
        expression = self.read(entry.source)
        value = self.constant(entry.value) if not isinstance(entry.value, (int, bool)) else (
            repr(entry.value) if type(entry.value) in (int, bool) else self.constant(entry.value)
        )  # fmt: skip
        if entry.kind == "is":
            self.require(f"{expression} is {self.constant(entry.value)}")
        elif entry.kind == "equal":
            held = self.constant(entry.value)
            self.require(f"(v := {expression}) is {held} or same(v, {held})")
        elif entry.kind == "length":
            self.require(f"len({expression}) == {value}")
        elif entry.kind == "keys":
            self.require(f"tuple({expression}) == {value}")
        elif entry.kind == "array":
            self.require(
                f"((v := {expression}).dtype, v.shape, v.tobytes()) == {self.constant(entry.value)}"
            )
        elif entry.kind == "alias":
            first = self.read(readset.aliases[id(entry.source)])
            self.require(f"{expression} is {first}")
        elif entry.kind == "outline":
            self.table["outline_of"] = outline_of
            self.require(f"outline_of({expression}) == {value}")
        elif entry.kind == "tensor":
            self.require(f"type({expression}) is {self.constant(type(entry.value))}")

    def absent(self, source: Source) -> None:
        """Nothing has this name (yet)."""
        assert source.parent is not None
        holder = self.read(source.parent)
        self.require(f"{self.constant(source.key)} not in {holder}")

    def tensor(self, name: str, wanted: TensorInput, like: Tensor | None = None) -> None:
        """Reads a tensor and checks its type; symbols are bound or compared.

        With `like`, shape and strides must be exactly those of that tensor (which is checked in
        the native call if that reads it); one that is no argument must be that very tensor (its
        layout changes only with the version of modules).
        """
        kind = wanted.type
        if like is not None and wanted.is_held:
            self.lines.append(f"        {name} = {self.constant(like)}")
            self.require(f"{self.read(wanted.source)} is {name}")
            return
        self.lines.append(f"        {name} = {self.read(wanted.source)}")
        self.require(f"type({name}) is {self.constant(wanted.tensor_class)}")
        if name not in self.checked_later:
            self.lines.append(f"        d = {name}._array")
            self.require(f"d.dtype is {self.dtype(kind.dtype)}")
        if like is None:
            self._shape(kind.shape)
        elif name not in self.checked_later:
            self.require(f"d.shape == {self.constant(like._array.shape)}")
            self.require(f"d.strides == {self.constant(like._array.strides)}")
        grad = f"{name}._requires_grad"
        self.require(grad if wanted.requires_grad else f"not {grad}")
        if wanted.requires_grad:
            self.table["hooks_of"] = hooks_of
            hooks = f"hooks_of({name}) == {self.constant(wanted.hooks)}"
            self.require(hooks if wanted.hooks else f"{name}._hooks is None or {hooks}")
        if like is None:
            self._memory(wanted)
        if kind.device.type != "cpu":
            self.require(f"{name}.device == {self.constant(kind.device)}")
        elif name not in self.checked_later:
            self.require(f"type(d) is not {self.constant(DeviceArray)}")
        if wanted.chain is not None:
            self.require(f"{name}._view == {self.constant(wanted.chain)}")

    def _memory(self, wanted: TensorInput) -> None:
        """How the elements of ``d`` must lie."""
        if wanted.layout is not None:
            is_flat = "d.flags.c_contiguous"
            self.require(is_flat if wanted.layout is True else f"d.strides == {wanted.layout!r}")
        if wanted.order is not None:
            self.table["order_of"] = order_of
            is_same = f"order_of(d) == {wanted.order!r}"
            self.require(is_same if wanted.order else f"d.flags.c_contiguous or {is_same}")
        if wanted.is_written:
            self.table["overlaps_itself"] = overlaps_itself
            self.require("not overlaps_itself(d)")

    def dtype(self, dtype: DType) -> str:
        return self.constant(dtype.numpy)

    def _shape(self, shape: tuple[Any, ...]) -> None:
        if not any(type(n) is SymInt for n in shape):
            self.require(f"d.shape == {tuple(shape)!r}")
            return
        self.require(f"d.ndim == {len(shape)}")
        for i, size in enumerate(shape):
            if type(size) is not SymInt:
                self.require(f"d.shape[{i}] == {size}")
            elif (name := size_source(size)) in self.symbols:
                self.require(f"d.shape[{i}] == {name}")
            else:
                self.symbols[name] = None
                self.lines.append(f"        {name} = d.shape[{i}]")

    def build(self, result: str) -> Callable[..., Any]:
        """The function; its source is kept in linecache for tracebacks."""
        arguments = "".join(f"a{i}=MISS, " for i in range(self.count))
        wrong_count = f"rest or a{self.count - 1} is MISS" if self.count else "rest"
        source = "\n".join([
            f"def guard({arguments}*rest):",
            f"    if {wrong_count}: return MISS",
            "    try:",
            *self.lines,
            "    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError):",
            "        return MISS",
            *self.after,
            f"    return {result}",
        ])  # fmt: skip
        guard = _compile_guard(source, self.table)
        guard.source = source
        guard.table = self.table
        return guard


def _compile_guard(source: str, table: dict[str, Any]) -> Any:
    namespace = dict(table)
    exec(_code_of(source), namespace)
    return namespace["guard"]


@functools.lru_cache(maxsize=256)
def _code_of(source: str) -> Any:
    """The code of a guard's source: traces of one function that differ in sizes only share it."""
    _count[0] += 1
    filename = f"<tracejit guard {_count[0]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    code = compile(source, filename, "exec")  # our own source, no user strings in it
    weakref.finalize(code, linecache.cache.pop, filename, None).atexit = False
    return code


def failing_line(guard: Any, args: tuple[Any, ...]) -> str | None:
    """The condition of a guard that a call does not meet, as source; None if all hold."""
    lines = guard.source.splitlines()
    numbered = "\n".join(line.replace("return MISS", f"return {i}") for i, line in enumerate(lines))
    outcome = _compile_guard(numbered, guard.table)(*args)
    if type(outcome) is not int:
        return None
    return str(lines[outcome].strip())


def write_guards(
    readset: ReadSet,
    inputs: Sequence[TensorInput],
    modes: dict[str, Any],
    facts: Sequence[str],
    like: Sequence[Tensor] | None = None,
    distinct: Sequence[Tensor] = (),
    conditions: Sequence[tuple[Callable[[tuple[Any, ...]], Any], Any]] = (),
    checked_later: Sequence[int] = (),
) -> tuple[GuardWriter, ModuleGuard | None]:
    """The guards of a tree, ready to be built into a function, and its modules' slow check.

    With `like`, the inputs must have exactly the layouts of these tensors; those of the positions
    `checked_later` are not checked here.
    """
    writer = GuardWriter(len(readset.args))
    writer.checked_later = frozenset(f"t{i}" for i in checked_later)
    writer.require("state.capture is None")
    writer.require("state.grad" if modes["grad"] else "not state.grad")
    writer.table["DEFAULT"] = modes["default_cell"]
    writer.require(f"DEFAULT[0] is {writer.constant(modes['default_dtype'])}")
    modules = _require_modules(writer, readset, inputs, like is not None)
    used = {id(t.source) for t in inputs}
    position = 0
    for i, wanted in enumerate(inputs):
        if wanted.is_module:
            writer.tensor_names.append(f"p[{position}]")
            position += 1
        else:
            writer.tensor_names.append(f"t{i}")
            writer.tensor(f"t{i}", wanted, None if like is None else like[i])
    for entry in readset.entries:
        read = entry.kind in ("tensor", "outline") and id(entry.source) in used
        if entry.kind != "module tensor" and not read:
            writer.entry(entry, readset)
    for condition, value in conditions:
        arguments = "".join(f"a{i}, " for i in range(writer.count))
        asked, held = f"{writer.constant(condition)}(({arguments}))", writer.constant(value)
        writer.require(f"{asked} is {held}" if type(value) is bool else f"same({asked}, {held})")
    if distinct:
        _require_distinct(writer, inputs, distinct)
    for fact in facts if like is None else ():  # exact layouts meet the facts by construction
        writer.require(fact)
    return writer, modules


def _require_modules(
    writer: GuardWriter, readset: ReadSet, inputs: Sequence[TensorInput], exact: bool
) -> ModuleGuard | None:
    """The modules are as they were; `exact`: nothing at all has changed in any module."""
    if exact and (readset.modules or any(t.is_held for t in inputs)):
        writer.require(f"VERSION[0] == {MODULE_VERSION[0]}")
    if not readset.modules:
        return None
    places = [e.source for e in readset.entries if e.kind == "module tensor"]
    read = [t for t in inputs if t.is_module]
    modules = ModuleGuard(readset.modules, read, readset.free_numbers, places)
    held = writer.constant(modules)
    if not exact:
        writer.require(f"VERSION[0] == {held}.version or {held}.verify()")
    writer.lines.append(f"        p = {held}.tensors")
    return modules


def _require_distinct(
    writer: GuardWriter, inputs: Sequence[TensorInput], tensors: Sequence[Tensor]
) -> None:
    """Inputs share memory exactly where the captured ones (`tensors`) did.

    Those that the trace holds cannot change which memory they have; the others are compared with
    them and with each other.
    """
    roots = [t if t._base is None else t._base for t in tensors]
    held = {id(r) for r, wanted in zip(roots, inputs, strict=True) if wanted.is_held}
    free = [i for i, wanted in enumerate(inputs) if not wanted.is_held]
    names = writer.tensor_names
    for i in free:
        name = names[i]
        writer.lines.append(f"        b{i} = {name} if {name}._base is None else {name}._base")
        inside = "in" if id(roots[i]) in held else "not in"
        writer.require(f"id(b{i}) {inside} {writer.constant(frozenset(held))}")
    roots_now = [f"b{i}" if i in free else writer.constant(roots[i]) for i in range(len(roots))]
    flags = " or ".join(f"b{i}._is_foreign" for i in free) or "False"
    if any(r._is_foreign for r, wanted in zip(roots, inputs, strict=True) if wanted.is_held):
        flags = "True"
    if flags != "False":
        writer.table["are_apart"] = are_apart
        writer.require(f"not ({flags}) or are_apart(({''.join(f'{r}, ' for r in roots_now)}))")
    for position, i in enumerate(free):
        for j in free[:position]:
            writer.require(f"b{i} {'is' if roots[i] is roots[j] else 'is not'} b{j}")


def are_apart(roots: Sequence[Tensor]) -> bool:
    """Whether no memory that came from outside is that of two different tensors."""
    different = list({id(r): r for r in roots}.values())
    return not any(
        (a._is_foreign or b._is_foreign) and np.may_share_memory(a._array, b._array)
        for i, a in enumerate(different) for b in different[:i]
    )  # fmt: skip


def build_guard(writer: GuardWriter) -> Callable[..., Any]:
    """The guard function: gives ``(tensors, sizes)`` or MISS."""
    tensors = "".join(f"{n}, " for n in writer.tensor_names)
    sizes = "".join(f"{s!r}: {s}, " for s in writer.symbols)
    return writer.build(f"(({tensors}), {{{sizes}}})")
