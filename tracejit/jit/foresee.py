"""Which code the next capture of a function is expected to run: that code's state is guarded.

At first all code that is reachable counts. Invariant: a capture in which other code runs is void,
so what is followed may be too little for one call, never for a trace that is kept.
"""

from __future__ import annotations

import types
from typing import Any

from tracejit.errors import Location
from tracejit.jit.readset import ReadSet, Refusal
from tracejit.jit.watch import Watcher

_MAX_LOOKS = 2
"""Calls that are watched for what code runs: the first may set up what later ones use."""


class Foresight:
    """What is known of the code that a function runs."""

    def __init__(self, function: Any):
        self.function = function
        self.extra: dict[types.CodeType, dict[str, Any]] = {}  # ran without being reachable
        self.ran: set[types.CodeType] | None = None  # follow this code alone
        self.looks = 0

    def read_set(self, args: tuple[Any, ...]) -> ReadSet | None:
        """What a call could read; None if that cannot be told before a `look` at what code runs.

        Code that is reachable but never runs (a library's other models) may name state that cannot
        be guarded. Then the code that ran in one call is followed alone. Raises Refusal where that
        could not help, as the function's own code names such state.
        """
        extra = self.extra.items()
        try:
            return ReadSet(self.function, args, extra, self.ran)
        except Refusal:
            if self.looks == _MAX_LOOKS:
                raise
            place = first_line(self.function)
            own = set() if place is None or place.code is None else {place.code}
            ReadSet(self.function, args, extra, own | self.extra.keys())
            return None

    def look(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function and note what code runs."""
        self.looks += 1
        with Watcher() as watcher:
            value = self.function(*args, **kwargs)
        self.ran = set(watcher.codes)
        return value

    def note(self, unforeseen: dict[types.CodeType, dict[str, Any]]) -> None:
        """Code ran in a capture that its read set did not follow."""
        self.extra.update(unforeseen)
        if self.ran is not None:
            self.ran.update(unforeseen)


def first_line(function: Any) -> Location | None:
    """Where a function (or the forward of a Module) begins."""
    function = getattr(function, "__func__", getattr(type(function), "forward", function))
    code = getattr(function, "__code__", None)
    return None if code is None else Location(code)
