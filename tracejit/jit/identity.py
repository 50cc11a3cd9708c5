"""Which objects a run told apart: tensors used as keys, and numbers that `id` gave.

Invariant: a trace in which the identity of a tensor mattered is replayed for that very tensor only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracejit.eager.capture import Capture
from tracejit.jit.readset import Entry, ReadSet, Refusal
from tracejit.jit.source import Source, is_own_file

_LEAST_ADDRESS = 1 << 24


def identity_entries(capture: Capture, readset: ReadSet) -> Iterator[Entry]:
    """Guards that tensors which the user's code used as keys (``state[p]``, ``seen.add(p)``) are
    the same ones.

    Refusal for arguments, which are others at the next call, and where the `id` of an object could
    be compared with a number that is kept.
    """
    if readset.asks_ids:
        _check_numbers(readset)
    for tensor, code in capture.keys.values():
        if is_own_file(code.co_filename) or capture.owns(tensor):
            continue
        source = readset.seen.get(id(tensor))
        if source is None:
            raise Refusal("uses a tensor as a key that cannot be traced back")
        if _root(source).step == "arg":
            raise Refusal("uses a tensor that is an argument as a key of a dict or a set")
        yield Entry(source, "is", tensor)


def _check_numbers(readset: ReadSet) -> None:
    for entry in readset.entries:
        if any(type(n) is int and n >= _LEAST_ADDRESS for n in _numbers(entry)):
            raise Refusal(f"asks for the id() of objects and can read {entry.source.describe()}")


def _numbers(entry: Entry) -> Iterator[Any]:
    value = entry.value
    if entry.kind == "keys" or isinstance(value, (set, frozenset, list, tuple)):
        yield from value
    elif entry.kind == "equal":
        yield value


def _root(source: Source) -> Source:
    while source.parent is not None:
        source = source.parent
    return source
