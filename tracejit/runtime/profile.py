"""A profile hook that native code spares the events of files without news.

Invariant: the hook sees every event but those of files for which `Filter.drop` was called.
"""

from __future__ import annotations

import ctypes
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tracejit.codegen.objects import LinkedObject
from tracejit.runtime import native_profile as layout
from tracejit.runtime.driver import Words, aligned_words, link_words

_EVENTS = ("call", "exception", "line", "return", "c_call", "c_exception", "c_return")
Hook = Callable[[Any, str, Any], None]


class Filter(np.ndarray[Any, np.dtype[np.int64]]):
    """The words of a filter. Calling it calls the hook, as ``sys.getprofile()(...)`` would."""

    hook: Hook
    kept: list[Any]

    def __new__(cls, hook: Hook) -> Filter:
        words: Words = aligned_words(layout.FILTER_WORDS)
        made = words.view(cls)
        made.hook, made.kept = hook, []
        made[layout.FILTER_FILE] = file_word()
        made[layout.FILTER_HOOK] = id(hook)
        made[layout.FILTER_NONE] = id(None)
        events = slice(layout.FILTER_EVENTS, layout.FILTER_EVENTS + len(_EVENTS))
        made[events] = [id(event) for event in _EVENTS]
        return made

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        self.hook(frame, event, argument)

    def drop(self, code: types.CodeType) -> None:
        """No more events of code whose file name is the same object."""
        name = code.co_filename
        if 2 * len(self.kept) >= layout.FILES:
            return  # a full table would be slow to search
        self.kept.append(name)
        place = id(name) // layout.SAME_ADDRESS % layout.FILES
        while self[layout.FILTER_TABLE + place]:
            place = (place + 1) % layout.FILES
        self[layout.FILTER_TABLE + place] = id(name)

    def install(self) -> None:
        """From now on this thread's events go through the filter; end with `sys.setprofile`."""
        _set_profile()(_linked().addresses["filter_entry"], self)


@cache
def file_word() -> int:
    """Which word of a code object is the address of its file name; 0 if that cannot be told."""
    codes = [aligned_words.__code__, cache.__code__]
    count = types.CodeType.__basicsize__ // 8
    found = [k for k in range(1, count) if all(_word(c, k) == id(c.co_filename) for c in codes)]
    return found[0] if len(found) == 1 else 0


def _word(thing: Any, index: int) -> int:
    return ctypes.c_size_t.from_address(id(thing) + 8 * index).value


@cache
def _linked() -> LinkedObject:
    return link_words(layout, ("filter_entry",))


@cache
def _set_profile() -> Any:
    prototype = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.py_object)
    return prototype(("PyEval_SetProfile", ctypes.pythonapi))
