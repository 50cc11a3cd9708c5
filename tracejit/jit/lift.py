"""Python numbers that vary become inputs of the trace: arguments, globals, attributes, items.

The first value of a number is guarded; when another one comes, the number is put into the next
capture as a `SymFloat` or `LiftedInt`, which stands in its place while the function runs. An int
that turns out to steer shapes or control flow is guarded by value from then on. Invariant: when the
run is over every place holds a plain number again. An int that the function replaced by another
made of lifted ints (a counter) is an effect; any other number that it wrote to is refused.
"""

from __future__ import annotations

import collections
from typing import Any

from tracejit.eager.capture import MOST_DECISIONS, Capture
from tracejit.eager.integers import LiftedInt, fits
from tracejit.eager.scalars import SymFloat
from tracejit.jit.readset import Entry, ReadSet, Refusal
from tracejit.jit.snapshot import same
from tracejit.jit.standins import identities
from tracejit.jit.trace import SourceNumber, source_key
from tracejit.tensor import Tensor

_KINDS = ("equal", "module number")


class Numbers:
    """What is known of the numbers that a compiled function reads."""

    def __init__(self) -> None:
        self.last: dict[Any, Any] = {}
        self.varying: set[Any] = set()
        self.fixed: set[Any] = set()  # changed by the function itself, or steers: never lifted

    def note(self, key: Any, value: Any) -> bool:
        """Whether the number at `key` is to be lifted: it has varied, this value included."""
        if not same(self.last.setdefault(key, value), value):
            self.varying.add(key)
        return key in self.varying and key not in self.fixed


class LiftedCall:
    """One capture's arguments and state with the varying numbers replaced by traced numbers."""

    def __init__(
        self, numbers: Numbers, capture: Capture, readset: ReadSet, args: Any, kwargs: Any
    ):
        self.numbers = numbers
        self.capture = capture
        self.places: list[tuple[Any, Entry, Any]] = []
        self.tuples: dict[Any, tuple[Any, Any]] = {}  # (source, tuple) whose items are lifted
        self.readset = readset
        flat = [*args, *kwargs.values()]
        signature = (len(args), *kwargs)
        found = [e for e in readset.entries if e.kind in _KINDS and type(e.value) in (int, float)]
        if readset.tells_identity:
            self._tell_apart([e.source for e in found])
            self._tell_tensors_apart()
        objects = collections.Counter(id(e.value) for e in found)
        for entry in found:
            source = entry.source
            key = (signature, source_key(source))
            is_argument = source.parent is None and source.step == "arg"
            if not (is_argument or _is_place(source, readset.args)):
                continue
            if not numbers.note(key, entry.value) or not readset.stand_ins:
                continue
            kind = type(entry.value)
            if kind is int and not fits(entry.value):
                continue
            if readset.tells_identity and objects[id(entry.value)] > 1:
                continue  # no two stand-ins are one object
            number = self._number(key, entry)
            if is_argument:
                flat[source.key] = number
            else:
                self.places.append((key, entry, number))
            if entry.kind == "module number":
                readset.free_numbers.add((id(_holder(source)), source.key))
            entry.source, entry.kind, entry.value = source.then("type"), "is", kind
        self.args = tuple(flat[: len(args)])
        self.kwargs = dict(zip(kwargs, flat[len(args) :], strict=True))

    def _tell_apart(self, sources: list[Any]) -> None:
        """The function may ask which of these are the same object: a guard on that."""
        if len(sources) < 2:
            return

        def now(args: Any) -> Any:
            return identities([source.read(args) for source in sources])

        self.capture.conditions.append((now, now(self.readset.args)))

    def _tell_tensors_apart(self) -> None:
        """The same for tensors; those of modules are told apart where modules are guarded."""
        tensors = [e for e in self.readset.entries if isinstance(e.value, Tensor)]
        held = frozenset(id(e.value) for e in tensors if e.kind == "module tensor")
        sources = [e.source for e in tensors if e.kind != "module tensor"]
        self._tell_apart(sources)
        if not sources or not held:
            return

        def now(args: Any) -> Any:
            return [id(source.read(args)) in held for source in sources]

        self.capture.conditions.append((now, now(self.readset.args)))

    def _number(self, key: Any, entry: Entry) -> Any:
        source, value = entry.source, entry.value
        label = f"number {source_key(source)}"
        if type(value) is int:
            return LiftedInt(self.capture, value, source.read, label, frozenset([key]))
        node = self.capture.add_scalar(SourceNumber(source), value, label)
        return SymFloat(self.capture, node, value, source.read, label)

    def __enter__(self) -> LiftedCall:
        args = self.readset.args
        for _, entry, number in self.places:
            source = _source(entry)
            holder = source.parent
            if holder is not None and type(held := holder.read(args)) is tuple:
                self.tuples.setdefault(source_key(holder), (holder, held))
            source.write(args, number)
        return self

    def _put_back_tuples(self) -> None:
        """Tuples that were given stand-ins are the objects they were, unless they were replaced."""
        for source, before in reversed(self.tuples.values()):
            now = source.read(self.readset.args)
            if type(now) is tuple and len(now) == len(before) and all(map(same, now, before)):
                source.write(self.readset.args, before)

    def __exit__(self, *exc: object) -> None:
        self.changed: list[str] = []
        for key, entry, number in self.places:
            source = _source(entry)
            now = source.read(self.readset.args)
            if now is number:
                source.write(self.readset.args, number.hint)
                continue
            if type(now) in (SymFloat, LiftedInt):
                source.write(self.readset.args, now.hint)
            if type(now) is LiftedInt and type(number) is LiftedInt:
                self.readset.counters.append((source, now))
                continue
            self.numbers.fixed.add(key)
            self.changed.append(source.describe())
        self._put_back_tuples()
        self.settle()

    def settle(self) -> None:
        """Numbers that turned out to steer are not lifted again."""
        steering = self.capture.steering.items()
        self.numbers.fixed |= {key for key, count in steering if count > MOST_DECISIONS}

    def check(self) -> None:
        """Raise Refusal if the function wrote to a number that was lifted, or caught an error that
        depends on elements.
        """
        if self.capture.caught:
            raise Refusal(f"catches an error ({self.capture.caught[0].splitlines()[0]})")
        if self.changed:
            raise Refusal(f"changes {self.changed[0]}, which a replay could not repeat")


def _holder(source: Any) -> Any:
    """The object whose attribute a path of three steps (object, dict, name) leads to."""
    return source.parent.parent.read(())


def _source(entry: Entry) -> Any:
    """Where the number is (the entry itself now checks its type)."""
    return entry.source.parent


def _is_place(source: Any, args: Any) -> bool:
    """Whether a value can be put there: an item of a dict or list, a closure cell; an item of a
    tuple that lies in such a place."""
    if source.step == "cell":
        return True
    if source.step != "item" or source.parent is None:
        return False
    holder = type(source.parent.read(args))  # no class, no own __setitem__
    return holder in (dict, list) or (holder is tuple and _is_place(source.parent, args))


def drop_lifted(readset: ReadSet, capture: Capture) -> None:
    """Numbers that are inputs of the trace need no guard."""
    lifted = {s.label for s in capture.scalars}
    if not lifted:
        return
    kept = []
    for entry in readset.entries:
        source = entry.source
        if entry.kind == "equal" and source.step == "item" and source.parent is not None:
            holder = source.parent.read(readset.args)
            if f"{id(holder)}[{source.key!r}]" in lifted:
                continue
        kept.append(entry)
    readset.entries = kept
