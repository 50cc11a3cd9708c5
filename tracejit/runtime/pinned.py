"""Page-locked host memory: copies to a device that the host does not wait for.

A `non_blocking` copy of an array in such memory is asked for as it stands; any other array is first
copied into staging memory, which is used again when the device has read it. Invariant: memory that
a copy reads is neither given back nor written by us before the device is done with it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LEAST_BYTES = 4096  # staging buffers have sizes of powers of two from here on

_pinned: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()


def is_pinned(array: Any) -> bool:
    """Whether a NumPy array lies in page-locked memory."""
    while isinstance(array, np.ndarray):
        if _pinned.get(id(array)) is array:
            return True
        array = array.base
    return False


def pinned_copy(array: Array, reserve: Callable[[int], Array]) -> Array:
    """A copy in page-locked memory; `reserve` gives bytes of it."""
    memory = reserve(max(array.nbytes, 1))
    _pinned[id(memory)] = memory
    result = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


class Staging:
    """The copies to a device that may be under way, and buffers for more of them.

    `reserve(bytes)` gives page-locked memory, `copy(address, array)` asks for a copy, and
    `mark()` gives an object whose `done` says whether the device has come this far.
    """

    def __init__(
        self, reserve: Callable[[int], Array], copy: Callable[[int, Array], None],
        mark: Callable[[], Any],
    ):  # fmt: skip
        self.reserve, self.copy, self.mark = reserve, copy, mark
        self.free: dict[int, list[Array]] = {}
        self.under_way: list[tuple[Any, Array, bool]] = []  # mark, what is read, whether ours

    def send(self, address: int, array: Array) -> None:
        """Copy a contiguous array to an address of the device, without waiting."""
        self._collect()
        own = not is_pinned(array)
        held = self._buffer(array.nbytes) if own else array
        if own:
            source = held[: array.nbytes]
            source[...] = array.reshape(-1).view(np.uint8)
        else:
            source = array
        self.copy(address, source)
        self.under_way.append((self.mark(), held, own))

    def _buffer(self, nbytes: int) -> Array:
        size = max(LEAST_BYTES, 1 << (nbytes - 1).bit_length())
        free = self.free.get(size)
        return free.pop() if free else self.reserve(size)

    def _collect(self) -> None:
        """Take back what copies that are done have read; they are done in their order."""
        while self.under_way and self.under_way[0][0].done:
            _, held, own = self.under_way.pop(0)
            if own:
                self.free.setdefault(held.nbytes, []).append(held)
