"""Buffers of a frame and the arena they share: lifetimes, then addresses.

Invariant: two buffers share bytes only if no launch between the first and the last use of one
touches the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.runtime.buffers import empty, empty_cache, memory_stats
from tracejit.runtime.device_array import address_of_array

ALIGNMENT = 64
LARGE = 1 << 24  # bytes of an arena that is worth giving others back for


class Buffer:
    """Memory of a frame: an 'argument' of the call, a 'constant', the 'arena', or an 'index'.

    `index` is the argument's position, `array` the constant; `offset` the place in the arena.
    """

    __slots__ = ("kind", "index", "nbytes", "array", "first", "last", "offset", "arena")

    def __init__(self, kind: str, index: int, nbytes: int, array: Any = None):
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


class Arena:
    """One block of memory for all temporaries of a frame."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.nbytes = 0
        self.memory: np.ndarray[Any, Any] = np.empty(0, np.uint8)
        self.address = 0

    def new(self, nbytes: int) -> Buffer:
        """A temporary of `nbytes`."""
        rounded = (nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        buffer = Buffer("arena", 0, rounded)
        buffer.arena = self
        self.buffers.append(buffer)
        return buffer

    def plan(self) -> None:
        """Give every buffer its offset: first fit among those alive at the same time."""
        alive: list[Buffer] = []
        for buffer in sorted(self.buffers, key=lambda b: b.first):
            alive = [b for b in alive if b.last >= buffer.first]
            at = 0
            for other in sorted(alive, key=lambda b: b.offset):
                if at + buffer.nbytes <= other.offset:
                    break
                at = max(at, other.offset + other.nbytes)
            buffer.offset = at
            alive.append(buffer)
            self.nbytes = max(self.nbytes, at + buffer.nbytes)
        self.reserve()

    def reserve(self) -> None:
        """Memory for all of it, from the pool: a frame for new sizes gets pages that are in use.

        If a large one gets new pages, what the pool still keeps of a capture's eager results goes
        back to the system, so that both are not held at once.
        """
        misses = memory_stats()["misses"]
        self.memory = empty((self.nbytes + ALIGNMENT,), np.dtype(np.uint8))
        if self.nbytes >= LARGE and memory_stats()["misses"] > misses:
            empty_cache()
        start = int(self.memory.ctypes.data)
        self.address = (start + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT

    def view(self, buffer: Buffer) -> np.ndarray[Any, Any]:
        """The bytes of a buffer."""
        first = self.address - int(self.memory.ctypes.data) + buffer.offset
        return self.memory[first : first + buffer.nbytes]
