"""Functions and classes that a program may replace: tracejit's, Python's and other libraries'.

Invariant: no trace outlives the replacement of a function that it may have called.
"""

from __future__ import annotations

import builtins
import sys
import types
from abc import ABCMeta
from collections.abc import Callable, Iterable
from typing import Any

WHEN_REPLACED: list[Callable[[], None]] = []
"""What to do when a name of the library is replaced: compiled functions forget their traces."""


def replaced() -> None:
    """Tell all who want to know."""
    for react in WHEN_REPLACED:
        react()


class WatchedModule(types.ModuleType):
    """A module of the library: to replace one of its functions is seen by compiled functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, value)
        super().__setattr__(name, value)
        if before is not value and not name.startswith("__"):
            replaced()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        replaced()


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
            replaced()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        if cls.__module__.startswith("tracejit"):
            replaced()


def watch_module(name: str) -> None:
    """From now on replacing a name of this module is seen."""
    sys.modules[name].__class__ = WatchedModule


class WatchedLibrary(types.ModuleType):
    """A module of Python or of another library: to replace a name that some trace may have looked
    up in it (``math.sqrt = f``) is seen.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, value)
        super().__setattr__(name, value)
        if before is not value and name in _LOOKED_UP[self.__name__]:
            replaced()


_LOOKED_UP: dict[str, set[str]] = {}
"""For each watched module of a library the names that traces may have looked up."""


def watch_names(module: types.ModuleType, names: Iterable[str]) -> None:
    """From now on replacing one of these names of a library's module is seen, if it can be."""
    if type(module) is types.ModuleType:
        _LOOKED_UP.setdefault(module.__name__, set())
        module.__class__ = WatchedLibrary
    if type(module) is WatchedLibrary:
        _LOOKED_UP[module.__name__].update(names)


class WatchedBuiltins(types.ModuleType):
    """Python's builtins: to replace one that was there is seen. Names that begin with an underscore
    are for tools (a shell's last result).
    """

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, value)
        super().__setattr__(name, value)
        if before is not value and not name.startswith("_"):
            replaced()


if type(builtins) is types.ModuleType:
    builtins.__class__ = WatchedBuiltins
