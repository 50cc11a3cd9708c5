"""Python floats that vary become inputs of the trace: arguments, globals, attributes, items.

The first value of a number is guarded; when another one comes, the number is put into the next
capture as a `SymFloat`, which stands in its place while the function runs. Invariant: when the run
is over every place holds a plain number again, and one that the function wrote to is refused.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.capture import Capture
from tracejit.eager.scalars import SymFloat
from tracejit.jit.guards import same
from tracejit.jit.readset import Entry, ReadSet, Refusal
from tracejit.jit.trace import SourceNumber, source_key


class Numbers:
    """What is known of the floats that a compiled function reads."""

    def __init__(self) -> None:
        self.last: dict[Any, float] = {}
        self.varying: set[Any] = set()
        self.written: set[Any] = set()  # changed by the function itself: never lifted

    def note(self, key: Any, value: float) -> bool:
        """Whether the number at `key` has varied, this value included."""
        if not same(self.last.setdefault(key, value), value):
            self.varying.add(key)
        return key in self.varying and key not in self.written


class LiftedCall:
    """One capture's arguments and state with the varying floats replaced by traced numbers."""

    def __init__(
        self, numbers: Numbers, capture: Capture, readset: ReadSet, args: Any, kwargs: Any
    ):
        self.numbers = numbers
        self.places: list[tuple[Any, Entry, SymFloat]] = []
        self.readset = readset
        flat = [*args, *kwargs.values()]
        signature = (len(args), *kwargs)
        for entry in readset.entries:
            if entry.kind != "equal" or type(entry.value) is not float:
                continue
            source = entry.source
            key = (signature, source_key(source))
            is_argument = source.parent is None and source.step == "arg"
            if not (is_argument or _is_place(source, readset.args)) or not numbers.note(key, entry.value):
                continue
            number = self._number(capture, entry)
            if is_argument:
                flat[source.key] = number
            else:
                self.places.append((key, entry, number))
            entry.source, entry.kind, entry.value = source.then("type"), "is", float
        self.args = tuple(flat[: len(args)])
        self.kwargs = dict(zip(kwargs, flat[len(args) :], strict=True))

    def _number(self, capture: Capture, entry: Entry) -> SymFloat:
        read: Any = SourceNumber(entry.source)
        node = capture.add_scalar(read, entry.value, f"number {source_key(entry.source)}")
        source = entry.source
        held = None if _root(source).step == "arg" else lambda: float(source.read(()))
        return SymFloat(capture, node, entry.value, held)

    def __enter__(self) -> LiftedCall:
        for _, entry, number in self.places:
            _source(entry).write(self.readset.args, number)
        return self

    def __exit__(self, *exc: object) -> None:
        self.changed: list[str] = []
        for key, entry, number in self.places:
            source = _source(entry)
            now = source.read(self.readset.args)
            if now is number:
                source.write(self.readset.args, number.hint)
                continue
            self.numbers.written.add(key)
            self.changed.append(source.describe())
            if type(now) is SymFloat:
                source.write(self.readset.args, now.hint)

    def check(self) -> None:
        """Raise Refusal if the function wrote to a number that was lifted."""
        if self.changed:
            raise Refusal(f"changes {self.changed[0]}, which a replay could not repeat")


def _root(source: Any) -> Any:
    """Where a path starts: an argument, or an object that the trace holds."""
    while source.parent is not None:
        source = source.parent
    return source


def _source(entry: Entry) -> Any:
    """Where the number is (the entry itself now checks its type)."""
    return entry.source.parent


def _is_place(source: Any, args: Any) -> bool:
    """Whether a value can be put there: an item of a dict or list, a closure cell."""
    if source.step == "cell":
        return True
    if source.step != "item" or source.parent is None:
        return False
    return type(source.parent.read(args)) in (dict, list)  # no tuple, no class, no own __setitem__
