"""Settings of the library that a program may ask for, and modules whose names it may replace.

Invariant: a setting that is asked for during a capture becomes a guard of the trace, one that the
captured run leaves changed is no trace at all, and no trace outlives the replacement of a
function of the library.
"""

from __future__ import annotations

import builtins
import sys
import types
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

from tracejit import config, dtypes
from tracejit.eager.formatting import OPTIONS
from tracejit.eager.modes import state
from tracejit.runtime import threads

SETTINGS: dict[str, Callable[[], Any]] = {
    "the gradient mode": lambda: state.grad,
    "the inference mode": lambda: state.inference,
    "the default dtype": dtypes.get_default_dtype,
    "the number of threads": lambda: config.threads,
    "the print options": lambda: tuple(OPTIONS.__dict__.values()),
}
"""What a run of the user's code may change besides its own state, in words for the refusal."""

WHEN_REPLACED: list[Callable[[], None]] = []
"""What to do when a name of the library is replaced: compiled functions forget their traces."""


def ask(read: Callable[[], Any]) -> Any:
    """``read()``, a setting; in a capture the trace holds only where it is the same again."""
    value = read()
    if state.capture is not None:
        state.capture.conditions.append((lambda args: read(), value))
    return value


def settings_now() -> dict[str, Any]:
    """All settings as they are."""
    return {name: read() for name, read in SETTINGS.items()}


def changed_settings(before: dict[str, Any]) -> list[str]:
    """Which settings are no longer as they were."""
    return [name for name, value in settings_now().items() if before.get(name, value) != value]


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return bool(ask(SETTINGS["the inference mode"]))


def get_num_threads() -> int:
    """Threads that a parallel kernel may use, the caller's included."""
    return int(ask(threads.get_num_threads))


class WatchedModule(types.ModuleType):
    """A module of the library: to replace one of its functions is seen by compiled functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, value)
        super().__setattr__(name, value)
        if before is not value and not name.startswith("__"):
            _replaced()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        _replaced()


class WatchedClass(ABCMeta):
    """The class of the library's classes: to replace one of their methods is seen likewise.

    Classes of users are left to the guards. It is an ABCMeta so that abstract classes can derive.
    """

    __instancecheck__ = type.__instancecheck__  # as fast as without
    __subclasscheck__ = type.__subclasscheck__

    def __setattr__(cls, name: str, value: Any) -> None:
        before = cls.__dict__.get(name)
        super().__setattr__(name, value)
        if before is not value and cls.__module__.startswith("tracejit"):
            _replaced()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        if cls.__module__.startswith("tracejit"):
            _replaced()


def _replaced() -> None:
    for react in WHEN_REPLACED:
        react()


def watch_module(name: str) -> None:
    """From now on replacing a name of this module is seen."""
    sys.modules[name].__class__ = WatchedModule


class WatchedBuiltins(types.ModuleType):
    """Python's builtins: to replace one that was there is seen. Names that begin with an underscore
    are for tools (a shell's last result).
    """

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, value)
        super().__setattr__(name, value)
        if before is not value and not name.startswith("_"):
            _replaced()


if type(builtins) is types.ModuleType:
    builtins.__class__ = WatchedBuiltins
