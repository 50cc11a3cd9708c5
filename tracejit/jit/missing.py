"""Attributes that a captured run looked for in a tensor and did not find (``hasattr(x, "tag")``).

That they are missing steers the run as a value would, so it becomes a guard. Invariant: outside of
captures `Tensor` has no ``__getattr__``, which would make every look-up of an attribute slow.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

from tracejit.eager.capture import Capture
from tracejit.eager.modes import state
from tracejit.jit.names import names_of
from tracejit.jit.readset import Entry, ReadSet, Refusal
from tracejit.jit.source import is_own_file, own_names
from tracejit.tensor import Tensor

_lock = threading.Lock()
_watching = [0]


class MissingNames:
    """``with MissingNames(readset, capture) as missing:`` notes (tensor, name) of failed look-ups.

    Only where some code of the read set could go on after one.
    """

    def __init__(self, readset: ReadSet, capture: Capture):
        self.readset = readset
        self.capture = capture
        self.names = [names_of(code) for code in readset.codes]
        self.is_wanted = any(names.may_miss for names in self.names)

    def __enter__(self) -> MissingNames:
        if self.is_wanted:
            with _lock:
                _watching[0] += 1
                if _watching[0] == 1:
                    type.__setattr__(Tensor, "__getattr__", _look_up)  # unseen by who watches
        return self

    def __exit__(self, *exc: object) -> None:
        if self.is_wanted:
            with _lock:
                _watching[0] -= 1
                if _watching[0] == 0:
                    type.__delattr__(Tensor, "__getattr__")

    def entries(self) -> Iterator[Entry]:
        """The guards that what was missing is still missing; Refusal where none can be made."""
        known: set[tuple[int, str]] = set()
        for tensor, name in self.capture.missed:
            if (id(tensor), name) in known or self.capture.owns(tensor):
                continue
            known.add((id(tensor), name))
            source = self.readset.seen.get(id(tensor))
            if source is None:
                raise Refusal(f"looks for the attribute {name!r} of a tensor that cannot be traced "
                              "back")  # fmt: skip
            yield Entry(source.then("dict").then("item", name), "absent", None)
        if any(names.lists_attributes for names in self.names):
            for source, tensor, _ in self.readset.tensor_attributes:
                yield Entry(source.then("own names"), "equal", own_names(tensor))


def _look_up(self: Tensor, name: str) -> Any:
    """What Python asks after it has found no attribute of this name."""
    if state.capture is not None and not is_own_file(sys._getframe(1).f_code.co_filename):
        state.capture.missed.append((self, name))
    return object.__getattribute__(self, name)  # raises what it raised
