"""What profilers hear of: blocks that Python times, and steps of programs that native code times.

Steps have a duration each; they are laid out one after the other from the beginning of the block
in which their program ran. Invariant: without a profiler nothing is timed, and with one nothing
else is computed.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from tracejit.late import LateModule

if TYPE_CHECKING:
    from tracejit.runtime import native, threads
else:  # eager code asks for `PROFILERS` only
    native = LateModule("tracejit.runtime.native")
    threads = LateModule("tracejit.runtime.threads")


class Range(NamedTuple):
    """One run of a block or a step, in nanoseconds; `inside` is what was timed within it."""

    name: str
    start: int
    end: int
    inside: int


PROFILERS: list[list[Range]] = []
"""Where the profilers at work gather what is timed."""

FRAMES: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""The frames of native programs that exist."""


class _Open(threading.local):
    """What was timed inside each open block of this thread."""

    def __init__(self) -> None:
        self.inside: list[int] = []


_open = _Open()


def begin(ranges: list[Range]) -> None:
    """From now on all that runs is timed and added to `ranges`."""
    if not PROFILERS:
        _take_steps()  # left over from other times
        threads.ready_driver().state[native.STATE_CLOCK] = time.CLOCK_MONOTONIC + 1
    PROFILERS.append(ranges)


def end(ranges: list[Range]) -> None:
    """The opposite of `begin`."""
    PROFILERS[:] = [r for r in PROFILERS if r is not ranges]
    if not PROFILERS:
        threads.ready_driver().state[native.STATE_CLOCK] = 0


class timed:
    """``with timed("name"): ...`` is heard of by every profiler; `native`: with programs' steps.

    To be made only where there is a profiler.
    """

    __slots__ = ("name", "native", "start")

    def __init__(self, name: str, native: bool = False):
        self.name = name
        self.native = native

    def __enter__(self) -> timed:
        _open.inside.append(0)
        self.start = time.perf_counter_ns()
        return self

    def __exit__(self, *exc: object) -> None:
        stop = time.perf_counter_ns()
        inside = _open.inside.pop()
        if self.native:
            inside += self._add_steps()
        _tell(Range(self.name, self.start, stop, inside))
        if _open.inside:  # reading the steps' times counts for nothing that is timed
            _open.inside[-1] += (time.perf_counter_ns() if self.native else stop) - self.start

    def _add_steps(self) -> int:
        at = self.start
        for name, runs, spent in _take_steps():
            _tell(Range(name, at, at + spent, 0), runs)
            at += spent
        return at - self.start


def _tell(found: Range, runs: int = 1) -> None:
    """Add a range to what profilers have, as `runs` equal ones after another."""
    span = (found.end - found.start) // runs
    starts = [found.start + k * span for k in range(runs)]
    for ranges in PROFILERS:
        ranges += [Range(found.name, s, s + span, found.inside) for s in starts]


def _take_steps() -> list[tuple[str, int, int]]:
    """Name, number of runs and nanoseconds of the steps that ran since the last call."""
    return [
        (name if loc is None else f"{name} ({loc})", runs, spent)
        for frame in list(FRAMES.values())
        for name, loc, runs, spent in frame.take_times()
    ]
