"""Tables of words before they have addresses, and how a program's tables become one block.

A word may name an address that is not known yet (another table, a temporary), or a number that
differs from size to size. Invariant: a block holds all tables that its first one reaches, each on a
cache line of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracejit.runtime.device_array import address_of_array
from tracejit.runtime.driver import Words, aligned_words
from tracejit.runtime.recorded import Recorded, at

if TYPE_CHECKING:
    from tracejit.runtime.arena import Buffer, Room

_LINE = 8  # words


class Table:
    """Words that native code reads: ints, recorded numbers, arrays (their address; an array may be
    a recorded number too, see `ArrayAt`), `At` and `Place`.
    """

    __slots__ = ("words",)

    def __init__(self, words: Iterable[Any]):
        self.words = list(words)

    def numbers(self) -> Words:
        """The words as they are in the frame that is being built, for tables of devices."""
        filled = np.zeros(max(1, len(self.words)), np.int64)
        for i, word in enumerate(self.words):
            filled[i] = word.buffer.address + word.offset if type(word) is Place else word
        return filled


class At(NamedTuple):
    """The address of a word of a table."""

    table: Table
    word: int = 0


class Place(NamedTuple):
    """The address of a constant or of a temporary, and bytes from there on."""

    buffer: Buffer
    offset: Any = 0


class ArrayAt(NamedTuple):
    """The address of an array of numbers, or of one that a record computes."""

    array: Any


class Block:
    """How a table and those it reaches lie in one block of memory."""

    def __init__(self, first: Table, same: Table | None = None):
        """`same` is a table that stands for the first one in others."""
        self._starts: dict[int, int] = {id(first): 0}
        self._tables = [first]
        if same is not None:
            self._starts[id(same)] = 0
        self._length = _rounded(len(first.words))
        self._sums: list[tuple[int, Any]] = []  # numbers that are added to words
        self._within: list[tuple[int, int]] = []  # word, byte of this block
        self._temporary: list[tuple[int, int]] = []  # word, number of the buffer
        self._arrays: list[tuple[int, Any]] = []
        words: list[int] = []
        for table in self._tables:  # grows while it is walked
            words += [0] * (self._starts[id(table)] - len(words))
            words += [self._fixed(len(words) + i, word) for i, word in enumerate(table.words)]
        self._words = np.array(words + [0] * (self._length - len(words)), np.int64)
        self._moved = _columns(self._within)
        self._placed = _columns(self._temporary)
        self._added = np.array([place for place, _ in self._sums], np.int64)

    def start_of(self, table: Table) -> int:
        """The word of the block at which a table starts."""
        return self._starts[id(table)]

    def _fixed(self, place: int, word: Any) -> int:
        """The part of a word that is the same in every block."""
        kind = type(word)
        if kind is int:
            return int(word)
        if kind is At:
            self._within.append((place, 8 * (self._start(word.table) + word.word)))
            return 0
        if kind is Recorded:
            self._sums.append((place, word))
            return 0
        if kind is Place:
            offset = self._fixed(place, word.offset)
            if word.buffer.kind != "arena":
                return offset + word.buffer.address
            self._temporary.append((place, word.buffer.index))
            return offset
        if kind is ArrayAt:
            self._arrays.append((place, word.array))
            return 0
        return int(word)

    def _start(self, table: Table) -> int:
        found = self._starts.get(id(table))
        if found is None:
            found = self._starts[id(table)] = self._length
            self._length += _rounded(len(table.words))
            self._tables.append(table)
        return found

    def made(self, values: Sequence[Any], room: Room | None) -> tuple[Words, list[Any]]:
        """A block in memory, and the arrays that it points to."""
        block = aligned_words(self._length)
        block[:] = self._words
        if self._sums:
            block[self._added] += np.array([at(n, values) for _, n in self._sums], np.int64)
        if self._within:
            block[self._moved[0]] += self._moved[1] + address_of_array(block)
        if self._temporary:
            assert room is not None
            block[self._placed[0]] += room.places[self._placed[1]] + room.address
        arrays = [(place, at(array, values)) for place, array in self._arrays]
        for place, array in arrays:
            block[place] = address_of_array(array)
        return block, [array for _, array in arrays]


def _rounded(count: int) -> int:
    return -(-max(1, count) // _LINE) * _LINE


def _columns(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.int64).reshape(-1, 2).T.copy()
