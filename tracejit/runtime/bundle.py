"""Horizontal fusion: equal small kernels on different data become one launch of several tables.

An optimizer runs one kernel per parameter, and so are partial results added up. Each of them sinks
down to the last launch of that kernel, as far as nothing between uses what it writes or writes what
it uses. Invariant: every
launch still reads what it read, and members of a bundle are independent of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.codegen.compiler import compile_kernel
from tracejit.codegen.library_kernels import MANY_SOURCE
from tracejit.runtime.arena import Buffer
from tracejit.runtime.gemm_step import GemmLaunch
from tracejit.runtime.launch import Launch, Operand
from tracejit.runtime.program import Patch, Step
from tracejit.runtime.recorded import call, plain
from tracejit.runtime.table_launch import AnyLaunch
from tracejit.runtime.tables import At, Table

MOST_UNITS = 1 << 18  # larger launches fill all threads by themselves
_PIECES = 4  # units of a bundle that are worth a second thread


class Bundle:
    """One launch that runs a kernel on several tables, its units shared out together."""

    def __init__(self, launches: Sequence[Launch]):
        self.launches = list(launches)
        self.kernel = compile_kernel("many", MANY_SOURCE)
        self.operands: list[Operand] = [o for launch in launches for o in launch.operands]

    def step(self, patches: list[Patch], keep: list[Any]) -> Step:
        """The step: kernel, tables, then a row per table as `MANY_SOURCE` reads it."""
        steps = [launch.step(patches, keep) for launch in self.launches]
        table = Table([steps[0].kernel, len(steps)])
        size = call(_piece, self.launches[0].grain)
        total: Any = 0
        for step in steps:
            table.words += (step.table, total, step.units, size)
            total += -(-step.units // size)
        keep.append(self.kernel)
        name = f"{len(steps)} of {steps[0].name}"
        return Step(self.kernel.address, At(table), total, _PIECES, name=name, loc=steps[0].loc)


def _piece(grain: int) -> int:
    """Units of a table that are one unit of the bundle."""
    return max(64, grain // _PIECES // 64 * 64)


Bundles = Callable[[list[Launch]], Sequence[AnyLaunch]]


def bundled(
    item: Sequence[AnyLaunch],
    foreign: set[int],
    make: Bundles = lambda launches: [Bundle(launches)],
    is_small: Callable[[Launch], bool] | None = None,
) -> list[AnyLaunch]:
    """The launches of a segment with equal ones bundled by `make`.

    `foreign` are ids of buffers of the caller that may overlap others: launches that write them
    stay where they are.
    """
    is_small = is_small or _is_small
    uses = _Uses()
    anchors: dict[tuple[int, str], int] = {}  # kernel -> position of its last launch
    members: dict[int, list[Launch]] = {}
    for position in range(len(item) - 1, -1, -1):
        launch = item[position]
        reads, writes = accesses(launch)
        at = position
        if isinstance(launch, Launch) and is_small(launch) and foreign.isdisjoint(map(id, writes)):
            key = _kind(launch)
            anchor = anchors.get(key)
            if anchor is not None and anchor < uses.limit(reads, writes):
                at = anchor
            else:
                anchors[key] = position
            members.setdefault(at, []).insert(0, launch)
        uses.note(reads, writes, at)
    gone = {id(m) for held in members.values() for m in held}
    result: list[AnyLaunch] = []
    for position, launch in enumerate(item):
        held = members.get(position, [])
        if len(held) > 1:
            result += make(held)
        elif held or id(launch) not in gone:
            result.append(launch)
    return result


def _kind(launch: Launch) -> tuple[int, str]:
    """Launches of one kind share a bundle: of one kernel, but reductions apart from the passes over
    their partial results, which the same kernel may do.
    """
    kernel = launch.kernel
    return kernel.address, "" if kernel.shape == "map" else kernel.name


def _is_small(launch: Launch) -> bool:
    """Small pointwise launches, and reductions too small for a second thread: what a reduction
    reads lives until the bundle runs.
    """
    most = {"map": MOST_UNITS, "column": launch.grain, "full": launch.grain}
    return plain(launch.units) <= plain(most.get(launch.kernel.shape, 0))


def accesses(launch: AnyLaunch) -> tuple[list[Buffer], list[Buffer]]:
    """The buffers that a launch reads, and those that it writes."""
    buffers = [o.buffer for o in launch.operands]
    if isinstance(launch, Launch):
        count = len(launch.program.loads)
        return buffers[:count], buffers[count:]
    if isinstance(launch, GemmLaunch):
        return buffers[:2], buffers[2:]
    return buffers, buffers


class _Uses:
    """Per buffer, where the next launch reads and writes it."""

    def __init__(self) -> None:
        self.read: dict[int, int] = {}
        self.written: dict[int, int] = {}

    def limit(self, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> float:
        """The first position that a launch with these accesses must stay before."""
        places = [self.written.get(id(b)) for b in (*reads, *writes)]
        places += [self.read.get(id(b)) for b in writes]
        return min((p for p in places if p is not None), default=float("inf"))

    def note(self, reads: Sequence[Buffer], writes: Sequence[Buffer], at: int) -> None:
        """Record a launch that runs at position `at`."""
        for uses, buffers in ((self.read, reads), (self.written, writes)):
            for buffer in buffers:
                uses[id(buffer)] = min(at, uses.get(id(buffer), at))
