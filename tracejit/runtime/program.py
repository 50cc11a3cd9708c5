"""A program: a straight-line segment of kernels run by one native call.

Python builds the frame (steps, patches) once; a call only passes the arguments. Program knows
kernels as addresses and data as words: shapes, dtypes and lifetimes are its maker's business.
Invariant: everything the frame points to is alive as long as the program is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit.runtime import native
from tracejit.runtime.driver import Words, aligned_words
from tracejit.runtime.threads import ready_driver


class Step(NamedTuple):
    """One kernel call of a program: `kernel(table, lo, hi)` over `[0, units)`.

    `kernel` and `table` are addresses. Up to `grain` units run in the caller's thread, more are
    shared out in chunks of at least `grain` units. `guard`, if any, is held while the program runs
    (see `gemm`).
    """

    kernel: int
    table: int
    units: int
    grain: int
    guard: Words | None = None


class Patch(NamedTuple):
    """An argument written into a table word at every call.

    `word` is the word's address, `argument` the position of the call's argument. `kind` is one of
    "pointer" (an array's data address, or an int, plus `offset` bytes), "int", "float64", "float32"
    (the bits).
    """

    word: int
    argument: int
    offset: int = 0
    kind: str = "pointer"


class Expected(NamedTuple):
    """The layout that an argument must have: `strides` in bytes."""

    argument: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_KINDS = {
    "pointer": native.KIND_POINTER,
    "int": native.KIND_INT,
    "float64": native.KIND_FLOAT64,
    "float32": native.KIND_FLOAT32,
}


class _Frame(np.ndarray[Any, np.dtype[np.int64]]):
    """The frame's words, and the objects that they point to: `run` holds on to this alone."""

    keep: tuple[Any, ...]


class Program:
    """A native program. ``program.run(*arguments)`` runs it and returns its status, 0 for success.

    Arguments: `steps` in order; `patches`; `arguments` how many a call takes; `keep` what must live
    as long as the program (kernels, tables, buffers). A call takes arrays of exact type
    `numpy.ndarray`, ints or floats, as the patches say; their shapes and layouts are not checked
    here.

    A kernel reports a fault by writing a non-zero word at `status_address`; the run then stops
    after that step (`failed_step`) and returns the word. One program runs one call at a time: a
    second thread gets a RuntimeError.

    Example: ``Program([Step(kernel.address, address_of(table), n, grain)],
    [Patch(address_of(table), 0)], 1)``.
    """

    __slots__ = ("_frame", "run")

    run: Callable[..., int]

    def __init__(
        self,
        steps: Sequence[Step],
        patches: Sequence[Patch],
        arguments: int,
        keep: Sequence[Any] = (),
    ):
        for patch in patches:
            if not 0 <= patch.argument < arguments:
                raise ValueError(f"{patch} names an argument outside [0, {arguments})")
        native_driver = ready_driver()
        rows = [(p.word, p.argument, p.offset, _KINDS[p.kind]) for p in patches]
        guards = list({id(s.guard): s.guard for s in steps if s.guard is not None}.values())
        if len(guards) > 1:
            raise ValueError("a program holds at most one guard")
        step_words = _words([step[: native.STEP_WORDS] for step in steps], native.STEP_WORDS)
        patch_words = _words(rows, native.PATCH_WORDS)
        self._frame = frame = aligned_words(native.FRAME_WORDS).view(_Frame)
        frame.keep = (step_words, patch_words, native_driver, *guards, *keep)
        frame[native.FRAME_STATE] = address_of(native_driver.state)
        frame[native.FRAME_ARGUMENTS] = arguments
        frame[native.FRAME_STEPS] = address_of(step_words)
        frame[native.FRAME_STEP_COUNT] = len(steps)
        frame[native.FRAME_PATCHES] = address_of(patch_words)
        frame[native.FRAME_PATCH_COUNT] = len(patches)
        frame[native.FRAME_PARALLEL] = any(step.units > step.grain for step in steps)
        frame[native.FRAME_GUARD] = address_of(guards[0]) if guards else 0
        self.run = native_driver.builtin("program_entry", "run", frame)

    def expect(self, layouts: Sequence[Expected]) -> None:
        """From now on, a call whose arguments do not have these layouts runs nothing and gives the
        status `native.WRONG_LAYOUT`. To be called before the program's first run.
        """
        words: list[int] = []
        for argument, dtype, shape, strides in layouts:
            words += (argument, id(dtype), len(shape), *shape, *strides)
        table = aligned_words(max(1, len(words)))
        table[: len(words)] = words
        frame = self._frame
        frame.keep += (table, *(layout.dtype for layout in layouts))
        frame[native.FRAME_LAYOUTS] = address_of(table)
        frame[native.FRAME_LAYOUT_COUNT] = len(layouts)

    @property
    def status_address(self) -> int:
        """The address of the word in which a kernel reports a fault; it is 0 when a run starts."""
        return address_of(self._frame) + 8 * native.FRAME_STATUS

    @property
    def failed_step(self) -> int:
        """The step after which the last failed run stopped."""
        return int(self._frame[native.FRAME_FAILED])


def _words(rows: Sequence[tuple[Any, ...]], width: int) -> Words:
    """Rows of words, one after the other."""
    table = aligned_words(max(1, len(rows)) * width)
    for i, row in enumerate(rows):
        table[i * width : (i + 1) * width] = row
    return table


def address_of(array: np.ndarray[Any, Any]) -> int:
    """The address of an array's first element. The caller keeps the array alive.

    Reads NumPy's own field, at about a tenth of the cost of `array.ctypes.data`. The argument must
    be an array.
    """
    return _read_word(id(array) + 8 * native.ARRAY_DATA).value or 0


_read_word = ctypes.c_size_t.from_address
