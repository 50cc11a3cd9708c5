"""Replays of a frame's work as one unit: a CUDA graph on a GPU, a list of launches on `sim`.

The work is recorded once. A replay first gives launches the addresses and numbers of its call's
arguments where they differ from those of the replay before, so inputs are fresh and results, which
are new arrays at every call, stay valid. A matrix product cannot be changed once recorded: an
argument of one that moves between calls is copied to or from memory of the frame, as recorded work.
Invariant: what a replay reads and writes are the call's arguments and memory that the frame owns.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tracejit import config
from tracejit.errors import DeviceError
from tracejit.runtime.device import Allocation, Backend, LaunchStep, ProductStep, Recording
from tracejit.runtime.device_array import DeviceArray, copy_launch
from tracejit.runtime.device_work import CallWords, CheckWork, KernelWork, Work
from tracejit.runtime.program import Patch
from tracejit.runtime.tables import At, Table

WARM_CALLS = 2  # plain calls before work is recorded: they show which arguments move
MOST_RECORDINGS = 4  # of one frame, before it stays with plain launches
FEWEST_STEPS = 3  # fewer launches cost less than finding out what changed


class NotStatic(Exception):
    """Why work cannot be recorded."""


class _Twin:
    """The frame's own memory for an argument that products read or write where it moves."""

    def __init__(self, backend: Backend, array: DeviceArray):
        axes = [(abs(s), n) for n, s in zip(array.shape, array.strides, strict=True) if n > 1 and s]
        span = array.itemsize
        for stride, size in sorted(axes):
            if stride < span:
                raise NotStatic("a matrix product reads an argument whose elements overlap")
            span = stride * (size - 1) + span
        if min(array.strides, default=0) < 0:
            raise NotStatic("a matrix product reads a flipped argument")
        own = Allocation(backend, span)
        self.array = DeviceArray(own, 0, array.shape, array.strides, array.dtype)

    def copy(self, index: int, given: DeviceArray, out: bool) -> KernelWork:
        """The launch that copies argument `index` here, or from here to it."""
        shape = tuple(1 if s == 0 else n for n, s in zip(given.shape, given.strides, strict=True))
        mine, theirs = (a.strided(shape, a.strides) for a in (self.array, given))
        target, source = (theirs, mine) if out else (mine, theirs)
        kernel, table = copy_launch(target, source, given.backend)
        word = At(Table(table), 2 if out else 1)
        return KernelWork(kernel, CallWords(table, [Patch(word, index)]), prod(shape))


class Replay:
    """Recorded work of a frame. Raises NotStatic or DeviceError if it cannot be recorded.

    `moving` are arguments that differ from call to call, `rewritten` those that the frame itself
    writes; `arguments` are those of the present call, for which nothing is run.
    """

    def __init__(
        self, backend: Backend, work: Sequence[Work], moving: set[int], rewritten: set[int],
        arguments: Sequence[Any],
    ):  # fmt: skip
        self.moving = moving
        self.rewritten = rewritten
        self.arguments = arguments
        self.twins: dict[int, _Twin] = {}
        self.fresh: set[int] = set()  # twins that hold what the argument holds
        self.fixed: dict[int, int] = {}
        self.backend = backend
        self.work: list[Work] = []
        self.steps: list[LaunchStep | ProductStep] = []
        for one in work:
            self._add(one)
        self.recording: Recording = backend.record(self.steps)
        self.held = [_value(a) for a in arguments]
        self.users: dict[int, list[int]] = {}
        self.always = [k for k, w in enumerate(self.work) if isinstance(w, CheckWork)]
        for number, one in enumerate(self.work):
            if isinstance(one, KernelWork):
                for index in one.words.arguments:
                    self.users.setdefault(index, []).append(number)
        self.watched = sorted({*self.users, *self.fixed})
        del self.arguments

    def _add(self, work: Work) -> None:
        if isinstance(work, KernelWork):
            table = np.zeros(3, np.int64) if isinstance(work, CheckWork) else (
                work.table(self.arguments).copy()
            )  # fmt: skip
            self.work.append(work)
            self.steps.append(LaunchStep(work.kernel, table, work.threads))
            return
        seen = list(self.arguments)
        for index in (*work.reads, *work.writes):
            if index not in self.moving:
                self.fixed[index] = seen[index].address
                continue
            if index not in self.twins:
                self.twins[index] = _Twin(self.backend, seen[index])
            if index in work.reads and index not in self.fresh:
                self._add(self.twins[index].copy(index, self.arguments[index], False))
                if index not in self.rewritten:
                    self.fresh.add(index)
            seen[index] = self.twins[index].array
        self.work.append(work)
        self.steps.append(ProductStep(*work.arrays(seen)))
        for index in work.writes:
            if index in self.moving:
                self._add(self.twins[index].copy(index, self.arguments[index], True))

    def run(self, arguments: Sequence[Any]) -> set[int]:
        """Replay for a call; nothing is run if the result, arguments that moved, is not empty."""
        changed = [i for i in self.watched if self.held[i] != _value(arguments[i])]
        moved = {i for i in changed if i in self.fixed}
        if moved:
            return moved
        stale = set(self.always)
        for index in changed:
            self.held[index] = _value(arguments[index])
            stale.update(self.users.get(index, ()))
        for number in sorted(stale):
            work = self.work[number]
            assert isinstance(work, KernelWork)
            self.recording.update(number, work.table(arguments))
        self.recording.replay()
        return set()


def _value(argument: Any) -> Any:
    """What a table word holds of an argument; -0.0 and 0.0 differ, a NaN is always new."""
    if type(argument) is DeviceArray:
        return argument.address
    return (argument, np.signbit(argument)) if type(argument) is float else argument


class Replayer:
    """When a frame records and replays, and in a sentence why it does not (`why_not`)."""

    def __init__(self, backend: Backend, segments: Sequence[Any], inputs: int, rewritten: set[int]):
        """`segments` as the frame runs them: lists of work, or host calls."""
        self.backend = backend
        self.inputs = inputs
        self.rewritten = rewritten
        self.work: list[Work] = []
        self.why_not = ""
        self.calls = 0
        self.recordings = 0
        self.replay: Replay | None = None
        self.moving: set[int] = set()
        self.before: list[Any] = []
        self.on_host = [s.node.op.name for s in segments if not isinstance(s, list)]
        for segment in segments:
            if isinstance(segment, list):
                self.work += segment
        if self.on_host:
            self.why_not = f"{self.on_host[0]} runs on the host"
        if not self.why_not and len(self.work) < FEWEST_STEPS:
            self.why_not = f"{len(self.work)} launches are too few to gain by it"

    def run(self, arguments: Sequence[Any]) -> bool:
        """Do the frame's work by a replay; False if plain launches have to do it."""
        if self.why_not or not config.device_graphs:
            return False
        if self.calls < WARM_CALLS:
            self._watch(arguments)
            return False
        while True:
            if self.replay is None:
                self._record(arguments)
            if self.replay is None:
                return False
            moved = self.replay.run(arguments)
            if not moved:
                return True
            self.moving |= moved
            self.replay = None

    def _watch(self, arguments: Sequence[Any]) -> None:
        """Note which arguments move; results, which the frame's caller keeps, always do."""
        now = [_value(a) for a in arguments]
        if self.calls:
            pairs = zip(self.before, now, strict=True)
            self.moving |= {i for i, (a, b) in enumerate(pairs) if a != b}
        self.moving |= set(range(self.inputs, len(arguments)))
        self.before = now
        self.calls += 1

    def _record(self, arguments: Sequence[Any]) -> None:
        self.recordings += 1
        if self.recordings > MOST_RECORDINGS:
            self.why_not = "arguments of matrix products keep moving"
            return
        try:
            self.replay = Replay(self.backend, self.work, self.moving, self.rewritten, arguments)
        except (NotStatic, DeviceError) as error:
            self.why_not = str(error).splitlines()[0]

    def describe(self) -> str:
        """For people: what happens at the next call."""
        if self.replay is not None and config.device_graphs:
            return f"{len(self.replay.steps)} launches replayed as one graph"
        if not config.device_graphs:
            return f"{len(self.work)} plain launches: config.device_graphs is off"
        reason = self.why_not or f"recorded after {WARM_CALLS} calls"
        return f"{len(self.work)} plain launches: {reason}"
