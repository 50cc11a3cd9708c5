"""The filter before a capture's profile hook, in words: events from files without news end here.

A capture of a training step meets hundreds of thousands of calls, nearly all of them tracejit's
own; a hook in Python takes longer than they do. Invariant: an event is dropped only if the file
name of its code is one of those entered.
"""

from __future__ import annotations

from tracejit.codegen.words import load, stack, store
from tracejit.runtime.externals import Py_DecRef, PyFrame_GetCode, PyObject_Vectorcall
from tracejit.runtime.native import ARRAY_DATA

# Words of a filter: where a code object holds its file name, Python's hook, None, the names of
# events in CPython's order, then a hash table of file names by address.
FILTER_FILE, FILTER_HOOK, FILTER_NONE = 0, 1, 2
FILTER_EVENTS = 8
FILTER_TABLE, FILES = 16, 1024  # a power of two
FILTER_WORDS = FILTER_TABLE + FILES
SAME_ADDRESS = 16  # objects are this many bytes apart at least
LOWER_HALF = 0xFFFFFFFF


def filter_entry(this: int, frame: int, what: int, argument: int) -> int:
    """CPython's `Py_tracefunc`; `this` is the array that holds the filter."""
    words = load(this, ARRAY_DATA)
    code = PyFrame_GetCode(frame)
    file = load(code, load(words, FILTER_FILE))
    Py_DecRef(code)
    place = (file // SAME_ADDRESS) & (FILES - 1)
    known = load(words, FILTER_TABLE + place)
    while known:
        if known == file:
            return 0
        place = (place + 1) & (FILES - 1)
        known = load(words, FILTER_TABLE + place)
    return _tell(words, frame, what & LOWER_HALF, argument)


def _tell(words: int, frame: int, what: int, argument: int) -> int:
    """Call the hook in Python."""
    given = stack(3)
    store(given, 0, frame)
    store(given, 1, load(words, FILTER_EVENTS + what))
    store(given, 2, argument)
    if argument == 0:
        store(given, 2, load(words, FILTER_NONE))
    result = PyObject_Vectorcall(load(words, FILTER_HOOK), given, 3, 0)
    if result == 0:
        return -1
    Py_DecRef(result)
    return 0
