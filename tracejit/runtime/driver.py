"""Compiles and links the native runtime, and turns its entries into Python builtins.

`native.py` is translated, compiled and put into the disk cache once per machine; after that a
process links it in about a millisecond. Invariant: what is linked here lives until the process
ends, because idle threads run in it.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from tracejit.codegen import words_llvm
from tracejit.codegen.cache import disk_cache
from tracejit.codegen.objects import LinkedObject, emit, optimize_lightly, parse, target_fingerprint
from tracejit.errors import CompileError
from tracejit.runtime import native

_EXPORTS = (
    "worker",
    "wake",
    "spin",
    "take_pool",
    "give_pool",
    "run_frame",
    "program_entry",
    "launch_entry",
    "guarded_entry",
)
_METH_FASTCALL = 0x80
_ERRORS = {
    native.ERROR_COUNT: (TypeError, b"wrong number of arguments"),
    native.ERROR_RUNNING: (
        RuntimeError,
        b"this program is running in another thread; every call in flight needs its own",
    ),
    native.ERROR_ARGUMENT: (
        TypeError,
        b"an argument is not an array (or int, or float) as the program expects",
    ),
    native.ERROR_WORDS: (TypeError, b"a table word must be an array, an int or a float"),
}
_lock = threading.Lock()
_texts: list[Any] = []  # error messages that native code points to


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


Words = np.ndarray[Any, np.dtype[np.int64]]


def aligned_words(count: int) -> Words:
    """`count` zeroed words that start on a cache line."""
    buffer = np.zeros(count + 8, np.int64)
    first = (-buffer.ctypes.data % 64) // 8
    return buffer[first : first + count]


def keep_for_good(thing: Any) -> None:
    """Never free `thing`, not when the interpreter ends either.

    Python clears modules in an order of its own then, and arrays of the pool may be given back and
    threads wake up after that.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class Driver:
    """The linked native runtime. Use `driver()`; there is one per process.

    `state` holds the process-wide words, `addresses` those of the native functions, `launch(kernel,
    units, grain, *words)` runs one kernel on a table made of `words` (arrays, ints, floats).
    """

    def __init__(self) -> None:
        keep_for_good(self)
        _check_layout()
        self._object = link_words(native, _EXPORTS)
        self.addresses = self._object.addresses
        self.state = aligned_words(native.STATE_WORDS)
        _fill_state(self.state)
        self._definitions: dict[int, _MethodDef] = {}  # read by every builtin made from them
        self.launch: Callable[..., None] = self.builtin("launch_entry", "launch", self.state)

    def call(self, symbol: str, *arguments: int) -> int:
        """Call a native function of words (slow; for set-up only)."""
        return self.call_at(self.addresses[symbol], *arguments)

    def call_at(self, address: int, *arguments: int) -> int:
        """As `call`, by address."""
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))
        result: int = function(address)(*arguments)
        return result

    def builtin(self, symbol: str, name: str, this: Any) -> Callable[..., Any]:
        """A Python builtin around a native entry; `this` is the array that the entry gets as its
        self.
        """
        return self.builtin_at(self.addresses[symbol], name, this)

    def builtin_at(self, address: int, name: str, this: Any) -> Callable[..., Any]:
        """As `builtin`, by address."""
        if address not in self._definitions:
            definition = _MethodDef(name.encode(), address, _METH_FASTCALL, None)
            self._definitions[address] = definition
        definition = self._definitions[address]
        function: Callable[..., Any] = _new_builtin()(ctypes.byref(definition), this, None)
        return function


@cache
def _new_builtin() -> Any:
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
    )
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))


def _fill_state(state: np.ndarray[Any, Any]) -> None:
    """Write what native code must know about this Python."""
    state[native.STATE_ARRAY_TYPE] = id(np.ndarray)
    state[native.STATE_INT_TYPE] = id(int)
    state[native.STATE_FLOAT_TYPE] = id(float)
    state[native.STATE_NONE] = id(None)
    for number, (kind, text) in _ERRORS.items():
        buffer = ctypes.create_string_buffer(text)
        _texts.append(buffer)
        state[native.STATE_ERRORS + 2 * number] = id(kind)
        state[native.STATE_ERRORS + 2 * number + 1] = ctypes.addressof(buffer)


def _check_layout() -> None:
    """Make sure that arrays and floats of this Python lie in memory as `native` reads them."""
    array = np.empty((3, 2))
    number = 1.5

    def word(thing: Any, index: int) -> Any:
        return ctypes.c_void_p.from_address(id(thing) + 8 * index).value

    def words(index: int) -> list[int]:
        return list((ctypes.c_int64 * 2).from_address(word(array, index)))

    known = (
        word(array, native.ARRAY_DATA) == array.ctypes.data
        and word(array, native.OBJECT_TYPE) == id(np.ndarray)
        and word(array, native.ARRAY_NDIM) & native.LOWER_HALF == array.ndim
        and word(array, native.ARRAY_DTYPE) == id(array.dtype)
        and words(native.ARRAY_SIZES) == list(array.shape)
        and words(native.ARRAY_STRIDES) == list(array.strides)
        and ctypes.c_double.from_address(id(number) + 8 * native.FLOAT_VALUE).value == number
    )
    if not known:
        raise CompileError(
            "the objects of this Python are laid out in a way tracejit does not know"
        )


def link_words(module: ModuleType, names: tuple[str, ...]) -> LinkedObject:
    """Link a module of word functions: from the disk cache, or translated, compiled and put
    there.
    """
    outside = words_llvm.externals(module)
    imports = {name: external.address for name, external in outside.items()}
    return _link(
        words_llvm.fingerprint(module), lambda: words_llvm.translate(module), names, imports
    )


def link_ir(
    modules: tuple[ModuleType, ...], text: Callable[[], str], names: tuple[str, ...], variant: str
) -> LinkedObject:
    """Link the LLVM IR that `text` makes: the same for the same source of `modules` and
    `variant`.
    """
    parts = (*map(words_llvm.source_of, modules), variant, *names)
    return _link(hashlib.sha256("\n".join(parts).encode()).hexdigest(), text, names, {})


def _link(
    fingerprint: str, text: Callable[[], str], names: tuple[str, ...], imports: dict[str, int]
) -> LinkedObject:
    key = hashlib.sha256(f"{target_fingerprint()}\n{fingerprint}".encode()).hexdigest()
    store = disk_cache()
    code = store.load(key) if store else None
    if code is None:
        module = parse(text())
        optimize_lightly(module)
        code = emit(module, imports)
        if store:
            store.store(key, code)
    return LinkedObject(code, names, imports)


_driver: Driver | None = None


def driver() -> Driver:
    """The native runtime, linked on first use."""
    global _driver
    if _driver is None:
        with _lock:
            if _driver is None:
                _driver = Driver()
    return _driver
