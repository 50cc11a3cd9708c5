"""A program: a straight-line segment of kernels run by one native call.

Python builds the frame (steps, patches) once; a call only passes the arguments. Program knows
kernels as addresses and data as words: shapes, dtypes and lifetimes are its maker's business.
Invariant: everything the frame points to is alive as long as the program is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracejit.errors import Location
from tracejit.runtime import native, timing
from tracejit.runtime.driver import Words, aligned_words
from tracejit.runtime.tables import At, Block, Table
from tracejit.runtime.threads import ready_driver

if TYPE_CHECKING:
    from tracejit.runtime.arena import Room


class Step(NamedTuple):
    """One kernel call of a program: `kernel(table, lo, hi)` over `[0, units)`.

    `kernel` and `table` are addresses. Up to `grain` units run in the caller's thread, more are
    shared out in chunks of at least `grain` units. `guard`, if any, is held while the program runs
    (see `gemm`). Tables and numbers may be words of `tables` that have no address or value yet.
    `name` and `loc` (the user's line) are for profilers.
    """

    kernel: int
    table: Any
    units: Any
    grain: Any
    guard: Words | None = None
    name: str = ""
    loc: Location | None = None


class Patch(NamedTuple):
    """An argument written into a table word at every call.

    `word` is the word's address, `argument` the position of the call's argument. `kind` is one of
    "pointer" (an array's data address, or an int, plus `offset` bytes), "int", "float64", "float32"
    (the bits).
    """

    word: Any
    argument: int
    offset: Any = 0
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


_HEAD = Table(())
STATUS = At(_HEAD, native.FRAME_STATUS)
"""The word in which a kernel of a program reports a fault, for tables of that program."""


class _Frame(np.ndarray[Any, np.dtype[np.int64]]):
    """The frame's words, and the objects that they point to: `run` holds on to this alone."""

    keep: tuple[Any, ...]
    steps: list[tuple[str, Location | None]]
    times: Words  # of the steps

    def take_times(self) -> list[tuple[str, Location | None, int, int]]:
        """Name, line, number of runs and nanoseconds of every step since the last such call."""
        runs = int(self[native.FRAME_RUNS])
        if not runs:
            return []
        found = [(*step, runs, int(t)) for step, t in zip(self.steps, self.times, strict=True)]
        self[native.FRAME_RUNS] = 0
        self.times[:] = 0
        return found


class Outline:
    """A program without addresses: what it runs, for any sizes that its tables were written for."""

    def __init__(
        self, steps: Sequence[Step], patches: Sequence[Patch], arguments: int, keep: Sequence[Any]
    ):
        for patch in patches:
            if not 0 <= patch.argument < arguments:
                raise ValueError(f"{patch} names an argument outside [0, {arguments})")
        guards = list({id(s.guard): s.guard for s in steps if s.guard is not None}.values())
        if len(guards) > 1:
            raise ValueError("a program holds at most one guard")
        driver = self._driver = ready_driver()
        self._keep = (driver, *guards, *keep)
        self.steps = [(s.name, s.loc) for s in steps]
        self._steps = Table(
            word for s in steps for word in (s.kernel, s.table, s.units, s.grain, 0)
        )
        rows = [(p.word, p.argument, p.offset, _KINDS[p.kind]) for p in patches]
        head = Table([0] * native.FRAME_WORDS)
        head.words[native.FRAME_STATE] = address_of(driver.state)
        head.words[native.FRAME_ARGUMENTS] = arguments
        head.words[native.FRAME_STEPS] = At(self._steps)
        head.words[native.FRAME_STEP_COUNT] = len(steps)
        head.words[native.FRAME_PATCHES] = At(Table(word for row in rows for word in row))
        head.words[native.FRAME_PATCH_COUNT] = len(patches)
        head.words[native.FRAME_GUARD] = address_of(guards[0]) if guards else 0
        self._block = Block(head, _HEAD)

    def frame(self, values: Sequence[Any], room: Room | None) -> _Frame:
        """The words of a program for the values of a replay."""
        block, arrays = self._block.made(values, room)
        frame = block.view(_Frame)
        frame.keep = (self._keep, room, *arrays)
        first = self._block.start_of(self._steps)
        steps = block[first : first + len(self._steps.words)].reshape(-1, native.STEP_WORDS)
        frame.steps, frame.times = self.steps, steps[:, native.STEP_TIME]
        timing.FRAMES[id(frame)] = frame
        is_parallel = (steps[:, native.STEP_UNITS] > steps[:, native.STEP_GRAIN]).any()
        frame[native.FRAME_PARALLEL] = is_parallel
        return frame


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
        self._start(Outline(steps, patches, arguments, keep), (), None)

    @classmethod
    def of(cls, outline: Outline, values: Sequence[Any], room: Room | None) -> Program:
        """The program of an outline for the values of a replay, its temporaries in `room`."""
        made = cls.__new__(cls)
        made._start(outline, values, room)
        return made

    def _start(self, outline: Outline, values: Sequence[Any], room: Room | None) -> None:
        self._frame = outline.frame(values, room)
        self.run = ready_driver().builtin("program_entry", "run", self._frame)

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


def address_of(array: np.ndarray[Any, Any]) -> int:
    """The address of an array's first element. The caller keeps the array alive.

    Reads NumPy's own field, at about a tenth of the cost of `array.ctypes.data`. The argument must
    be an array.
    """
    return _read_word(id(array) + 8 * native.ARRAY_DATA).value or 0


_read_word = ctypes.c_size_t.from_address
