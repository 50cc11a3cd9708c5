"""Words: the operations of the small language in which the native runtime is written.

A function of words is a Python function whose every value is a 64-bit word. `words_llvm` compiles
it; as plain Python it does the same through ctypes, so it can be read, type-checked and tested.
The language exists because the runtime must start without Numba: the whole driver is translated
and compiled in a tenth of a second, once a machine.
Invariant: an operation means the same here and in compiled code.
"""

from __future__ import annotations

import ctypes
from typing import Any


def load(pointer: int, index: int) -> int:
    """The word at `pointer + 8 * index`."""
    return ctypes.c_int64.from_address(pointer + 8 * index).value


def store(pointer: int, index: int, value: int) -> None:
    """Write the word at `pointer + 8 * index`."""
    ctypes.c_int64.from_address(pointer + 8 * index).value = value


def load_byte(pointer: int) -> int:
    """The unsigned byte at `pointer`."""
    return ctypes.c_uint8.from_address(pointer).value


def atomic_load(pointer: int, index: int) -> int:
    """As `load`, sequentially consistent."""
    return load(pointer, index)


def atomic_store(pointer: int, index: int, value: int) -> None:
    """As `store`, sequentially consistent."""
    store(pointer, index, value)


def atomic_add(pointer: int, index: int, value: int) -> int:
    """Add to a word; its value before."""
    before = load(pointer, index)
    store(pointer, index, before + value)
    return before


def atomic_swap(pointer: int, index: int, value: int) -> int:
    """Replace a word; its value before."""
    before = load(pointer, index)
    store(pointer, index, value)
    return before


def float_bits(double: int) -> int:
    """The bits of the float nearest to the double whose bits are `double`."""
    value = ctypes.c_double.from_buffer_copy(ctypes.c_int64(double))
    return ctypes.c_uint32.from_buffer_copy(ctypes.c_float(value.value)).value


def bit_length(value: int) -> int:
    """How many bits the non-negative `value` needs."""
    return value.bit_length()


def pause() -> None:
    """Tell the processor that this is a spin loop."""


def call_as(signature: str, address: int, *words: int) -> None:
    """Call the function at `address`; `signature` says how each word is passed.

    Letters: `l` 64-bit, `i` 32-bit and `b` 8-bit integers, `f`/`d` a float/double whose bits the
    word holds. The result is dropped.
    """
    kinds: dict[str, Any] = {
        "l": ctypes.c_int64,
        "i": ctypes.c_int32,
        "b": ctypes.c_int8,
        "f": ctypes.c_float,
        "d": ctypes.c_double,
    }
    values = [_foreign_value(letter, word) for letter, word in zip(signature, words, strict=True)]
    ctypes.CFUNCTYPE(None, *(kinds[letter] for letter in signature))(address)(*values)


def _foreign_value(letter: str, word: int) -> float:
    if letter == "f":
        return ctypes.c_float.from_buffer_copy(ctypes.c_uint32(word)).value
    if letter == "d":
        return ctypes.c_double.from_buffer_copy(ctypes.c_uint64(word)).value
    return word


def call_word(address: int, *words: int) -> int:
    """Call the function of words at `address`; its result, a word."""
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(words))(address)
    result: int = function(*words)
    return result


def stack(words: int) -> int:
    """The address of `words` fresh words that live until the function returns (constant count)."""
    raise NotImplementedError("stack() exists only in compiled code")


class External:
    """An outside C function of words: `arity` words in, a word out. Calling it in Python calls the
    function.

    Raises AttributeError when `library` has no such function.
    """

    def __init__(self, library: ctypes.CDLL, name: str, arity: int):
        self.name = name
        self.arity = arity
        self._function = library[
            name
        ]  # a function of its own, so that setting its types disturbs nobody
        self._function.argtypes = [ctypes.c_int64] * arity
        self._function.restype = ctypes.c_int64

    @property
    def address(self) -> int:
        """Where the function is in this process."""
        address = ctypes.cast(self._function, ctypes.c_void_p).value
        assert address is not None
        return address

    def __call__(self, *words: Any) -> int:
        result: int = self._function(*words)
        return result
