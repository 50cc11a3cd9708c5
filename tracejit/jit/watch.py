"""Watches one run: which user code ran, and calls to C functions whose result is not repeatable.

A profile hook sees every Python and C call of this thread. Invariant: code that was not foreseen
by the read set makes the capture void (it is foreseen the next time).
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import numpy as np

from tracejit.errors import Location
from tracejit.jit.readset import KNOWN_LIBRARIES, STDLIB, is_user_file

_PURE_MODULES = {
    "builtins", "math", "cmath", "operator", "_operator", "itertools", "functools", "_functools",
    "collections", "_collections", "_collections_abc", "re", "_sre", "copy", "struct", "_struct",
    "typing", "abc", "_abc", "weakref", "_weakref", "string", "_string", "bisect", "_bisect",
    "heapq", "_heapq", "sys", "gc", "inspect", "types", "warnings", "_warnings", "_contextvars",
    "contextlib", "dataclasses", "enum", "numbers", "_thread", "threading", "atexit", "faulthandler",
    "unicodedata", "_codecs", "codecs", "_locale", "locale", "_json", "zlib", "binascii", "_bisect",
    "numpy", "numpy._core._multiarray_umath", "numpy._core.multiarray", "numpy.linalg._umath_linalg",
    "_typing", "marshal", "_imp", "traceback", "linecache", "_tracemalloc", "array",
}  # fmt: skip
_PURE_OWNERS = (
    str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range, slice, type,
    np.ndarray, np.generic, np.dtype, np.ufunc, types.GeneratorType, types.ModuleType,
    types.MappingProxyType, type(None), bytearray, memoryview,
)  # fmt: skip
_IMPURE_BUILTINS = {"open", "input", "breakpoint"}
_OUTPUT = {"print"}
_IMPURE_FILES = {
    "random.py", "uuid.py", "secrets.py", "datetime.py", "_pydatetime.py", "tempfile.py",
    "socket.py", "subprocess.py", "queue.py",
}  # fmt: skip


def is_impure_file(filename: str) -> bool:
    """Whether a file of the standard library gives other results at every call."""
    return os.path.basename(filename) in _IMPURE_FILES and filename.startswith(STDLIB)


def _is_generated(code: types.CodeType, global_names: dict[str, Any]) -> bool:
    """Whether code without a file (a dataclass's or namedtuple's methods) is a library's."""
    if code.co_filename != "<string>":
        return False
    module = str(global_names.get("__name__", "")).partition(".")[0]
    return module in KNOWN_LIBRARIES or module.startswith(("namedtuple_", "tracejit"))


class Watcher:
    """``with Watcher() as w:`` collects `codes` (code, globals) and `impure` calls."""

    def __init__(self) -> None:
        self.codes: dict[types.CodeType, dict[str, Any]] = {}
        self.impure: list[tuple[str, Location]] = []
        self.prints: list[Location] = []
        self._before: Any = None
        self._importing: Any = None  # the frame of an import in progress

    def __enter__(self) -> Watcher:
        self._before = sys.getprofile()
        sys.setprofile(self._event)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(self._before)

    def _event(self, frame: Any, event: str, argument: Any) -> None:
        if self._importing is not None:
            if event == "return" and frame is self._importing:
                self._importing = None
            return
        code = frame.f_code
        if event == "call" and code.co_filename.startswith("<frozen importlib"):
            self._importing = frame  # what runs while a module is imported is not the function's
        elif event == "call":
            if is_user_file(code.co_filename) and not _is_generated(code, frame.f_globals):
                self.codes.setdefault(code, frame.f_globals)
            elif is_impure_file(code.co_filename):
                self._library_call(frame)
        elif event == "c_call" and is_user_file(code.co_filename):
            self._c_call(frame, argument)
        if self._before is not None:
            self._before(frame, event, argument)

    def _library_call(self, frame: Any) -> None:
        caller = frame.f_back
        if caller is not None and is_user_file(caller.f_code.co_filename):
            place = Location(caller.f_code, caller.f_lasti)
            self.impure.append((f"{frame.f_code.co_name}()", place))

    def _c_call(self, frame: Any, function: Any) -> None:
        name = getattr(function, "__name__", "?")
        owner = getattr(function, "__self__", None)
        if name in _OUTPUT and owner is sys.modules["builtins"]:
            self.prints.append(Location(frame.f_code, frame.f_lasti))
            return
        if _is_pure(function, name, owner):
            return
        where = getattr(function, "__module__", None) or type(owner).__name__
        self.impure.append((f"{where}.{name}()", Location(frame.f_code, frame.f_lasti)))


def _is_pure(function: Any, name: str, owner: Any) -> bool:
    if isinstance(owner, types.ModuleType) or owner is None:
        module = getattr(function, "__module__", None)
        if module is None and isinstance(owner, types.ModuleType):
            module = owner.__name__
        if module == "builtins" and name in _IMPURE_BUILTINS:
            return False
        if module is None:  # a method descriptor: str.join and the like
            return isinstance(function, (types.MethodDescriptorType, types.WrapperDescriptorType))
        return module in _PURE_MODULES
    if isinstance(owner, type):
        return owner.__module__ in _PURE_MODULES or owner.__module__.startswith("numpy.dtypes")
    if isinstance(owner, _PURE_OWNERS):
        return True
    kind = type(owner)
    return kind.__module__ in _PURE_MODULES and kind.__name__ not in ("Random", "SystemRandom")
