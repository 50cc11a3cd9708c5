"""Watches one run: which user code ran, and calls whose result or effect a replay cannot repeat.

A profile hook sees every Python and C call of this thread. Invariant: code that was not foreseen
by the read set makes the capture void (it is foreseen the next time).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import types
from typing import Any

import numpy as np

from tracejit.errors import Location
from tracejit.jit.source import (
    KNOWN_LIBRARIES,
    Entry,
    constant_source,
    is_stdlib_file,
    is_user_file,
)
from tracejit.runtime.profile import Filter, file_word

_PURE_MODULES = {
    "builtins", "math", "cmath", "operator", "_operator", "itertools", "functools", "_functools",
    "collections", "_collections", "_collections_abc", "re", "_sre", "copy", "struct", "_struct",
    "typing", "abc", "_abc", "weakref", "_weakref", "string", "_string", "bisect", "_bisect",
    "heapq", "_heapq", "sys", "gc", "inspect", "types", "_contextvars",
    "contextlib", "dataclasses", "enum", "numbers", "_thread", "threading", "atexit",
    "faulthandler",
    "unicodedata", "_codecs", "codecs", "_locale", "locale", "_json", "zlib", "binascii", "numpy",
    "numpy._core._multiarray_umath", "numpy._core.multiarray", "numpy.linalg._umath_linalg",
    "_typing", "marshal", "_imp", "traceback", "linecache", "_tracemalloc", "array",
}  # fmt: skip
_PURE_OWNERS = (
    str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range, slice, type,
    np.ndarray, np.generic, np.dtype, np.ufunc, types.GeneratorType, types.ModuleType,
    types.MappingProxyType, type(None), bytearray, memoryview,
)  # fmt: skip
_IMPURE_BUILTINS = {"open", "input", "breakpoint", "print"}
_OUTSIDE = {"time", "posix", "nt", "_random", "select", "_socket"}
"""Modules whose functions ask the operating system, also when a library's code calls them."""
_ASKING = {
    "getrecursionlimit", "setrecursionlimit", "getswitchinterval", "setswitchinterval",
    "getrefcount", "getallocatedblocks", "gettrace", "getprofile", "settrace", "setprofile",
    "_getframe", "_current_frames", "get_ident", "get_native_id", "_count", "get_count",
    "get_objects", "get_referrers", "isenabled", "disable", "enable",
}  # fmt: skip
"""Functions of `sys`, `gc` and `_thread` that ask how the program runs, or change it."""
_THREADING = os.path.abspath(threading.__file__)
_THREAD_ASKING = {"current_thread", "active_count", "enumerate", "main_thread"}
_THREAD_STARTS = {"start_new_thread", "start_joinable_thread"}
"""What runs in a new thread is not watched."""
_SILENT: set[str] = set()
"""Files whose calls tell nothing: they are neither the user's nor Python's own."""
_LOGGING = os.path.abspath(logging.__file__)
_ENVIRONMENT = (os.path.abspath(os.__file__), "<frozen os>")
_IMPURE_FILES = {
    "random.py", "uuid.py", "secrets.py", "datetime.py", "_pydatetime.py", "tempfile.py",
    "socket.py", "subprocess.py", "queue.py",
}  # fmt: skip


def is_impure_file(filename: str) -> bool:
    """Whether a file of the standard library gives other results at every call."""
    return os.path.basename(filename) in _IMPURE_FILES and is_stdlib_file(filename)


def _is_generated(code: types.CodeType, global_names: dict[str, Any]) -> bool:
    """Whether code without a file (a dataclass's or namedtuple's methods) is a library's."""
    if code.co_filename != "<string>":
        return False
    module = str(global_names.get("__name__", "")).partition(".")[0]
    return module in KNOWN_LIBRARIES or module.startswith(("namedtuple_", "tracejit"))


class Watcher:
    """``with Watcher() as w:`` collects what a run called.

    codes    user code that ran, with its globals.
    impure   (what, where) of calls that a replay could not repeat.
    entries  state read on the way that no name in the code tells of: the environment, log levels.
    """

    def __init__(self) -> None:
        self.codes: dict[types.CodeType, dict[str, Any]] = {}
        self.impure: list[tuple[str, Location | None]] = []
        self.entries: list[Entry] = []
        self._before: Any = None
        self._paused: Any = None  # a profiler written in C (cProfile): no hook of ours can call it
        self._importing: Any = None  # the frame of an import in progress
        self._numpy_random = _numpy_random_state()

    def __enter__(self) -> Watcher:
        self._before = sys.getprofile()
        if self._before is not None and not callable(self._before):
            self._paused, self._before = self._before, None
            self._paused.disable()
        self._install()
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(self._before)
        if self._paused is not None:
            self._paused.enable()
        if _numpy_random_state() != self._numpy_random:
            self.impure.append(("NumPy's random numbers", None))

    def _install(self) -> None:
        """`_event` behind a filter that costs little: most events come from files without news."""
        if self._before is not None or not file_word():
            sys.setprofile(self._event)
            return
        event_of, silent = self._event, _SILENT

        def hook(frame: Any, event: str, argument: Any) -> None:
            code = frame.f_code
            if code.co_filename in silent:
                events.drop(code)
            else:
                event_of(frame, event, argument)

        events = Filter(hook)
        events.install()

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
            elif is_stdlib_file(code.co_filename):
                self._library_call(frame)
            elif not is_user_file(code.co_filename):
                _SILENT.add(code.co_filename)
        elif event == "c_call":
            self._c_call(frame, argument)
        if self._before is not None:
            self._before(frame, event, argument)

    def _library_call(self, frame: Any) -> None:
        code = frame.f_code
        if code.co_filename in _ENVIRONMENT:
            self._environment(frame)
        elif code.co_filename == _LOGGING:
            self._log(frame)
        elif code.co_filename == _THREADING and code.co_name in _THREAD_ASKING:
            if is_user_file(frame.f_back.f_code.co_filename):
                self.impure.append((f"{code.co_name}()", _user_caller(frame)))
        elif is_impure_file(code.co_filename):
            place = _user_caller(frame)
            if place is not None:
                self.impure.append((f"{code.co_name}()", place))

    def _environment(self, frame: Any) -> None:
        """A variable of the environment is read: it becomes a guard."""
        owner, key = frame.f_locals.get("self"), frame.f_locals.get("key")
        if owner is not os.environ or frame.f_code.co_name != "__getitem__":
            return
        if _user_caller(frame) is None:  # a library's own question, while it compiles say
            return
        held = os.environ._data
        encoded = os.environ.encodekey(key)
        source = constant_source(held).then("item", encoded)
        present = encoded in held
        self.entries.append(Entry(source, "equal" if present else "absent", held.get(encoded)))

    def _log(self, frame: Any) -> None:
        """A record is logged, which a replay would not do; a level that is off becomes a guard."""
        name, logger = frame.f_code.co_name, frame.f_locals.get("self")
        if name == "handle" and isinstance(logger, logging.Logger):
            place = _user_caller(frame)
            if place is not None:
                self.impure.append(("logging", place))
        elif name == "isEnabledFor" and isinstance(logger, logging.Logger):
            level = frame.f_locals.get("level")
            logger.isEnabledFor(level)  # fills the cache, which setLevel empties
            here = constant_source(logger).then("dict").then("item", "disabled")
            self.entries.append(Entry(here, "is", logger.disabled))
            source = constant_source(logger._cache).then("item", level)  # type: ignore[attr-defined]
            self.entries.append(Entry(source, "is", logger.isEnabledFor(level)))

    def _c_call(self, frame: Any, function: Any) -> None:
        name = getattr(function, "__name__", "?")
        owner = getattr(function, "__self__", None)
        module = getattr(function, "__module__", None) or type(owner).__name__
        if is_user_file(frame.f_code.co_filename):
            if not _is_pure(function, name, owner):
                place = Location(frame.f_code, frame.f_lasti)
                self.impure.append((f"{module}.{name}()", place))
        elif module in _OUTSIDE or name in _THREAD_STARTS:
            is_library = is_stdlib_file(frame.f_code.co_filename)
            asked = _user_caller(frame) if is_library else None
            if asked is not None:
                self.impure.append((f"{module}.{name}()", asked))


def _user_caller(frame: Any) -> Location | None:
    """Where the user's code called the library function that runs in `frame`, if it did."""
    while frame is not None and is_stdlib_file(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or not is_user_file(frame.f_code.co_filename):
        return None
    return Location(frame.f_code, frame.f_lasti)


def _numpy_random_state() -> Any:
    """The state of NumPy's global generator, whose calls a profile hook does not see.

    It is imported here rather than looked for: Numba's first use imports it during a capture.
    """
    import numpy.random

    state = numpy.random.get_state(legacy=False)["state"]
    return state["pos"], state["key"].tobytes()


def _is_pure(function: Any, name: str, owner: Any) -> bool:
    if isinstance(owner, types.ModuleType) or owner is None:
        module = getattr(function, "__module__", None)
        if module is None and isinstance(owner, types.ModuleType):
            module = owner.__name__
        if module == "builtins" and name in _IMPURE_BUILTINS:
            return False
        if name in _ASKING and module in ("sys", "gc", "_thread"):
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
