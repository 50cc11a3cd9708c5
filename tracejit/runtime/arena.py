"""Buffers of a frame and the arena they share: lifetimes, then addresses.

Invariant: two buffers share bytes only if no launch between the first and the last use of one
touches the other.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit.runtime.buffers import empty, empty_cache, memory_stats
from tracejit.runtime.device_array import address_of_array
from tracejit.runtime.recorded import at, plain

ALIGNMENT = 64
LARGE = 1 << 24  # bytes of an arena that is worth giving others back for


class Buffer:
    """Memory of a frame: an 'argument' of the call, a 'constant', the 'arena', or an 'index'.

    `index` is the argument's position or the number among the arena's, `array` the constant;
    `offset` the place in the arena.
    """

    __slots__ = ("kind", "index", "nbytes", "array", "first", "last", "offset", "arena")

    def __init__(self, kind: str, index: int, nbytes: Any, array: Any = None):
        self.kind = kind
        self.index = index
        self.nbytes = nbytes
        self.array = array
        self.first = -1
        self.last = -1
        self.offset = 0
        self.arena: Arena | None = None

    def touch(self, time: int) -> None:
        """Note a use at `time`."""
        if self.first < 0:
            self.first = time
        self.last = max(self.last, time)

    @property
    def address(self) -> int:
        """The address; 0 for arguments, which are patched at every call, and for indices."""
        if self.kind == "constant":
            return address_of_array(self.array)
        if self.kind == "arena":
            assert self.arena is not None
            return self.arena.address + self.offset
        return 0


class Room(NamedTuple):
    """Memory for the temporaries of one frame; `places` are offsets, by the buffers' numbers."""

    memory: Any
    nbytes: int
    address: int
    places: np.ndarray[Any, np.dtype[np.int64]]


def reserved(nbytes: int) -> tuple[np.ndarray[Any, Any], int]:
    """Memory from the pool (a frame for new sizes gets pages that are in use), and its address.

    Large arenas are powers of two, so that those of different sizes take each other's place: fresh
    pages, which the system has to clear, cost more than anything else of a new size.
    If a large one gets new pages, what the pool still keeps of a capture's eager results goes back
    to the system, so that both are not held at once.
    """
    misses = memory_stats()["misses"]
    wanted = nbytes + ALIGNMENT
    if nbytes >= LARGE:
        wanted = 1 << (wanted - 1).bit_length()
    memory = empty((wanted,), np.dtype(np.uint8))
    if nbytes >= LARGE and memory_stats()["misses"] > misses:
        empty_cache()
    start = int(memory.ctypes.data)
    return memory, (start + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


class Arena:
    """One block of memory for all temporaries of a frame."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.nbytes = 0
        self.memory: np.ndarray[Any, Any] = np.empty(0, np.uint8)
        self.address = 0

    def new(self, nbytes: Any) -> Buffer:
        """A temporary of `nbytes`, which may be a recorded number."""
        rounded = (nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        buffer = Buffer("arena", len(self.buffers), rounded)
        buffer.arena = self
        self.buffers.append(buffer)
        return buffer

    def plan(self) -> None:
        """Give every buffer its offset: first fit among those alive at the same time."""
        alive: list[tuple[int, int, Buffer]] = []
        for buffer in sorted(self.buffers, key=lambda b: b.first):
            size = plain(buffer.nbytes)
            alive = [held for held in alive if held[2].last >= buffer.first]
            at = 0
            for low, high, _ in alive:
                if at + size <= low:
                    break
                at = max(at, high)
            buffer.offset = at
            insort(alive, (at, at + size, buffer), key=lambda held: held[0])
            self.nbytes = max(self.nbytes, at + size)

    def reserve(self) -> None:
        """Memory for all of it."""
        self.memory, self.address = reserved(self.nbytes)

    def room(self) -> Room:
        """The memory and the offsets that were planned."""
        places = np.array([b.offset for b in self.buffers], np.int64)
        return Room(self.memory, self.nbytes, self.address, places)

    def view(self, buffer: Buffer) -> np.ndarray[Any, Any]:
        """The bytes of a buffer."""
        first = self.address - int(self.memory.ctypes.data) + buffer.offset
        return self.memory[first : first + buffer.nbytes]


class Stack:
    """A planned arena for other sizes: each buffer lies on top of the same ones as planned.

    For the sizes that were planned the offsets are the planned ones; others may waste some bytes.
    """

    def __init__(self, arena: Arena):
        self._sizes = [b.nbytes for b in arena.buffers]
        self._order: list[tuple[int, list[int]]] = []
        lower: list[Buffer] = []
        for buffer in sorted(arena.buffers, key=lambda b: b.offset):
            under: list[Buffer] = []
            for other in reversed(lower):
                meets = _meet(other, buffer)
                if meets and not any(_meet(other, between) for between in under):
                    under.append(other)
            self._order.append((buffer.index, [b.index for b in under]))
            lower.append(buffer)

    def room(self, values: Sequence[Any]) -> Room:
        """Memory for the sizes of a replay (see `Record`)."""
        sizes = [at(n, values) for n in self._sizes]
        ends = [0] * len(sizes)
        for number, under in self._order:
            start = max([ends[i] for i in under]) if under else 0
            ends[number] = start + sizes[number]
        nbytes = max(ends, default=0)
        memory, address = reserved(nbytes)
        return Room(memory, nbytes, address, np.array(ends, np.int64) - np.array(sizes, np.int64))


def _meet(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers are alive at the same time."""
    return a.first <= b.last and b.first <= a.last
