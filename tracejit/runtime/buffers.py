"""Memory for results: arrays whose blocks come from a caching pool and return to it when the last
view dies.

The pool is NumPy's allocator for these arrays alone (NEP 49); its functions are native
(`native_memory.py`). Invariant: an array made here is an ordinary `numpy.ndarray` that owns its
data, valid for as long as it lives.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.codegen.objects import LinkedObject
from tracejit.runtime import native_memory as layout
from tracejit.runtime.driver import (
    Driver,
    Words,
    aligned_words,
    driver,
    keep_for_good,
    link_words,
)
from tracejit.runtime.program import address_of

Array = np.ndarray[Any, Any]

_CACHED_BYTES = 1 << 30  # at most a gigabyte, or an eighth of the machine's memory
_EXPORTS = ("allocate", "allocate_zeros", "reallocate", "release", "trim", "empty_entry")
_ERROR = b"empty: expected one tuple of at most 64 sizes, none negative"
_SET_HANDLER, _EMPTY = 304, 184  # places in NumPy's table of C functions, fixed since 1.22
_lock = threading.Lock()
_trim_heap: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


class _Handler(ctypes.Structure):
    """NumPy's `PyDataMem_Handler`, version 1."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]


class _Memory:
    """The pool of this process, its native functions and the makers of arrays."""

    def __init__(self) -> None:
        keep_for_good(self)  # the last array of the pool may outlive this module
        self.driver: Driver = driver()
        self.linked: LinkedObject = link_words(layout, _EXPORTS)
        self.words: Words = aligned_words(layout.MEMORY_WORDS)
        addresses = self.linked.addresses
        self.handler_struct = _Handler(
            b"tracejit",
            1,
            address_of(self.words),
            addresses["allocate"],
            addresses["allocate_zeros"],
            addresses["reallocate"],
            addresses["release"],
        )
        self.handler = _new_capsule(ctypes.addressof(self.handler_struct), b"mem_handler")
        self.text = ctypes.create_string_buffer(_ERROR)
        self.makers: dict[np.dtype[Any], Callable[[tuple[int, ...]], Array]] = {}
        self._fill()

    def _fill(self) -> None:
        table = _numpy_functions()
        words = self.words
        words[layout.MEMORY_LIMIT] = min(_CACHED_BYTES, _machine_bytes() // 8)
        words[layout.MEMORY_HANDLER] = id(self.handler)
        words[layout.MEMORY_SET_HANDLER] = table[_SET_HANDLER]
        words[layout.MEMORY_EMPTY] = table[_EMPTY]
        words[layout.MEMORY_TUPLE_TYPE] = id(tuple)
        words[layout.MEMORY_ERROR] = id(ValueError)
        words[layout.MEMORY_TEXT] = ctypes.addressof(self.text)

    def maker(self, dtype: np.dtype[Any]) -> Callable[[tuple[int, ...]], Array]:
        words = _Maker(aligned_words(layout.MAKER_WORDS))
        words[layout.MAKER_MEMORY] = address_of(self.words)
        words[layout.MAKER_DTYPE] = id(dtype)
        words[layout.MAKER_ITEM] = dtype.itemsize
        words.keep = (self, dtype)
        return self.driver.builtin_at(self.linked.addresses["empty_entry"], "empty", words)


class _Maker(np.ndarray[Any, np.dtype[np.int64]]):
    """A maker's words, and what they point to."""

    keep: tuple[Any, ...]

    def __new__(cls, words: Words) -> _Maker:
        return words.view(cls)


_memory: _Memory | None = None


def _pool() -> _Memory:
    global _memory
    if _memory is None:
        with _lock:
            if _memory is None:
                _memory = _Memory()
    return _memory


def empty_maker(dtype: np.dtype[Any]) -> Callable[[tuple[int, ...]], Array]:
    """The builtin `empty(shape)` for one dtype, for code that calls it often.

    Example: ``make = empty_maker(np.dtype("f4")); y = make((32, 256))``.
    """
    pool = _pool()
    found = pool.makers.get(dtype)
    if found is None:
        if dtype.hasobject:
            raise TypeError(f"empty: dtype {dtype} holds Python objects")
        found = pool.makers[dtype] = pool.maker(dtype)
    return found


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A C-contiguous array of `shape` with arbitrary content; from 4 KiB on, on a 64-byte boundary.

    Raises ValueError for a shape that is not a tuple of sizes, MemoryError when there is no memory.

    Example: ``empty((32, 256), np.dtype("f4"))``.
    """
    maker = _makers.get(dtype)
    if maker is None:
        maker = _makers[dtype] = empty_maker(dtype)
    return maker(shape)


_makers: dict[np.dtype[Any], Callable[[tuple[int, ...]], Array]] = {}


def memory_stats() -> dict[str, int]:
    """What the pool holds, in bytes: `in_use` by living arrays, its `peak`, `cached` for later;
    `hits`, `misses`.
    """
    words = _pool().words
    return {
        "in_use": int(words[layout.MEMORY_IN_USE]),
        "peak": int(words[layout.MEMORY_PEAK]),
        "cached": int(words[layout.MEMORY_CACHED]),
        "limit": int(words[layout.MEMORY_LIMIT]),
        "hits": int(words[layout.MEMORY_HITS]),
        "misses": int(words[layout.MEMORY_MISSES]),
    }


def reset_peak() -> None:
    """Start the peak of `memory_stats` anew."""
    words = _pool().words
    words[layout.MEMORY_PEAK] = words[layout.MEMORY_IN_USE]


def set_cache_limit(limit: int) -> None:
    """Bound what the pool keeps for later, in bytes; 0 gives everything back at once."""
    if limit < 0:
        raise ValueError(f"set_cache_limit: expected 0 or more, got {limit}")
    pool = _pool()
    pool.words[layout.MEMORY_LIMIT] = limit
    empty_cache(limit)


def empty_cache(limit: int = 0) -> None:
    """Give cached blocks back to the system until at most `limit` bytes of them are left."""
    pool = _pool()
    pool.driver.call_at(pool.linked.addresses["trim"], address_of(pool.words), limit)
    if _trim_heap is not None:
        _trim_heap(0)  # the C library keeps freed blocks for itself otherwise


def drop_spare(limit: int = 1 << 24) -> None:
    """Empty the cache if it holds more than `limit` bytes: after a run that will not come again."""
    if _memory is not None and _memory.words[layout.MEMORY_CACHED] > limit:
        empty_cache()


def _new_capsule(pointer: int, name: bytes) -> Any:
    create = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi)
    )
    return create(pointer, name, None)


def _numpy_functions() -> Any:
    """NumPy's table of C functions."""
    name = "numpy._core._multiarray_umath"  # numpy.core before NumPy 2
    module = sys.modules.get(name) or sys.modules[name.replace("_core", "core")]
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )(module._ARRAY_API, None)
    return (ctypes.c_void_p * (_SET_HANDLER + 1)).from_address(pointer)


def _machine_bytes() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * _CACHED_BYTES


def _after_fork() -> None:
    """A thread that held the pool's lock did not come along into the child."""
    global _lock
    _lock = threading.Lock()
    if _memory is not None:
        _memory.words[layout.MEMORY_LOCK] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
