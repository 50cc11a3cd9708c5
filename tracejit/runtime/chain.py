"""Chains: a product, a kernel over its rows and a product with those rows, panel by panel.

Attention is one: scores, softmax, weighted values. What the kernel reads and writes has a row of
the whole context for each query; panel by panel it never leaves the cache, and what nobody else
reads is never written to memory. Invariant: a chain changes the order of the work alone: each of
its parts computes what it would compute by itself, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tracejit.codegen.cpu import table_layout
from tracejit.codegen.objects import LinkedObject
from tracejit.runtime import native_chain as words_of
from tracejit.runtime import native_gemm
from tracejit.runtime.arena import Arena, Buffer
from tracejit.runtime.bundle import accesses
from tracejit.runtime.driver import Words, link_words
from tracejit.runtime.epilogue import units_per_row
from tracejit.runtime.gemm_step import GemmLaunch
from tracejit.runtime.launch import Launch, Operand
from tracejit.runtime.overlap import ConditionCheck
from tracejit.runtime.program import Patch, Step
from tracejit.runtime.recorded import call, plain
from tracejit.runtime.table_launch import AnyLaunch
from tracejit.runtime.tables import ArrayAt, At, Place, Table
from tracejit.runtime.threads import get_num_threads
from tracejit.transforms.views import contiguous_strides

_LEAST_BYTES = 1 << 20  # of a product that is worth keeping in the cache
_PANEL_BYTES = 3 << 18  # rows that the kernel reads and writes: they fit the second-level cache
_LEAST_ROWS, _MOST_ROWS = 24, 132  # of a panel: fewer pay too much for packing, more gain nothing
_NEAR = 12  # launches after one that are looked at


class Parts(NamedTuple):
    """What a chain is made of."""

    first: GemmLaunch
    launch: Launch
    second: GemmLaunch
    units_per_row: Any


class Chain:
    """Two products and the kernel between them. `hidden` are buffers whose rows lie in scratch."""

    def __init__(self, parts: Parts, hidden: list[Buffer], arena: Arena):
        self.parts = parts
        self.hidden = {id(buffer): number for number, buffer in enumerate(hidden)}
        c = parts.first.operands[2]
        m, n = c.layout.shape[-2:]
        self.row_bytes = n * c.dtype.itemsize
        self.rows = call(_panel_rows, m, self.row_bytes)
        self.panels = -(-m // self.rows)
        self.matrices = prod(c.layout.shape[:-2])
        self.part_bytes = self.rows * self.row_bytes
        self.pieces = get_num_threads()
        for buffer in hidden:
            buffer.nbytes = 0
        self.scratch = arena.new(self.pieces * self.piece_bytes)
        operands = [*parts.first.operands, *parts.launch.operands, *parts.second.operands]
        held = [o for o in operands if id(o.buffer) not in self.hidden]
        self.operands: list[Operand] = [*held, Operand(self.scratch, c.layout, c.dtype)]
        self.kernel = parts.launch.kernel

    @property
    def piece_bytes(self) -> Any:
        """Scratch memory of a thread."""
        return max(1, len(self.hidden)) * self.part_bytes

    def step(self, patches: list[Patch], keep: list[object]) -> Step:
        """One step; its units are panels."""
        first, launch, second, units = self.parts
        steps = [x.step(patches, keep) for x in (first, launch, second)]
        layout = table_layout(launch.program, len(launch.sizes))
        pointers = [
            word
            for k, operand in enumerate(launch.operands)
            if id(operand.buffer) in self.hidden
            for word in (layout.pointer(k), self.place(operand))
        ]
        table = Table([
            steps[0].table, steps[2].table, steps[1].kernel, steps[1].table, layout.length, units,
            self.rows, self.panels, Place(self.scratch), self.piece_bytes, self.pieces,
            ArrayAt(call(_unused, self.pieces)), self.row_bytes,
            self.place(first.operands[2]), self.place(second.operands[0]),
            len(pointers) // 2, *pointers,
        ])  # fmt: skip
        kernel = _linked().addresses["chained"]
        name = f"{launch.kernel.name} between products"
        return Step(kernel, At(table), self.matrices * self.panels, 1, name=name, loc=steps[1].loc)

    def place(self, operand: Operand) -> Any:
        """Where the rows of an operand lie in a thread's scratch memory; -1 if they do not."""
        number = self.hidden.get(id(operand.buffer))
        return -1 if number is None else number * self.part_bytes


@cache
def _linked() -> LinkedObject:
    return link_words(words_of, ("chained",))


def _unused(pieces: int) -> Words:
    """A cache line for each piece."""
    return np.zeros(8 * pieces, np.int64)


def _panel_rows(m: int, row_bytes: int) -> int:
    """Rows of a panel, in whole blocks of every processor's micro kernel."""
    fitting = _PANEL_BYTES // max(1, 2 * row_bytes) // 12 * 12
    return max(1, min(m, max(_LEAST_ROWS, min(_MOST_ROWS, fitting))))


def with_chains(
    item: Sequence[AnyLaunch], foreign: set[int], uses: dict[int, int], arena: Arena
) -> list[AnyLaunch]:
    """The launches of a segment, with chains in place of their parts.

    `foreign` are ids of buffers of the caller that may overlap others; `uses` says how many
    launches of all segments touch a buffer, by id.
    """
    result = list(item)
    for at in range(len(result) - 1, -1, -1):
        found = _parts_at(result, at, foreign)
        if found is not None:
            parts, places = found
            result[at] = Chain(parts, _hidden(parts, uses), arena)
            for place in sorted(places, reverse=True):
                del result[place]
    return result


def uses_of(items: Sequence[Any]) -> dict[int, int]:
    """How many launches (or host calls) of all segments touch each buffer."""
    counts: dict[int, int] = {}
    for item in items:
        for launch in item if isinstance(item, list) else [item]:
            for buffer in {id(o.buffer): o.buffer for o in launch.operands}:
                counts[buffer] = counts.get(buffer, 0) + 1
    return counts


def _hidden(parts: Parts, uses: dict[int, int]) -> list[Buffer]:
    """Temporaries that only the chain's parts touch: what the kernel reads, and what it writes."""
    between = parts.first.operands[2].buffer, parts.second.operands[0].buffer
    return [b for b in between if b.kind == "arena" and uses[id(b)] == 2]


def _parts_at(
    item: Sequence[AnyLaunch], at: int, foreign: set[int]
) -> tuple[Parts, list[int]] | None:
    """The chain that begins with the launch at `at`, and where its other parts stand."""
    first = item[at]
    if type(first) is not GemmLaunch or not _is_large(first):
        return None
    rows = _next(item, at, first.operands[2].buffer)
    if rows is None or not isinstance(launch := item[rows], Launch):
        return None
    units = units_per_row(first, launch) if launch.kernel.shape == "row" else 0
    layout = table_layout(launch.program, len(launch.sizes))
    if not units or layout.length > words_of.CHAIN_TABLE_WORDS:
        return None
    for operand in launch.operands[len(launch.program.loads) :]:
        place = _next(item, rows, operand.buffer)
        second = None if place is None else item[place]
        if place is not None and type(second) is GemmLaunch:
            fits = _continues(first, launch, operand, second)
            if fits and _may_join(item, at, (rows, place), foreign):
                return Parts(first, launch, second, units), [rows, place]
    return None


def _next(item: Sequence[AnyLaunch], at: int, buffer: Buffer) -> int | None:
    """The next launch that touches a buffer."""
    for place in range(at + 1, min(at + 1 + _NEAR, len(item))):
        if any(o.buffer is buffer for o in item[place].operands):
            return place
    return None


def _is_large(product: GemmLaunch) -> bool:
    """Whether the product's result is better kept in the cache, and is tracejit's own."""
    c = product.operands[2]
    shape = c.layout.shape
    if len(shape) < 2 or c.buffer.kind != "arena" or c.layout.offset != 0:
        return False
    if product.product.keep[0].library.call != "builtin":
        return False
    rows = _LEAST_ROWS * plain(shape[-1]) * c.dtype.itemsize
    return plain(prod(shape)) * c.dtype.itemsize >= _LEAST_BYTES and rows <= _PANEL_BYTES


def _continues(first: GemmLaunch, launch: Launch, weights: Operand, second: GemmLaunch) -> bool:
    """Whether `second` multiplies, matrix by matrix, the rows that `launch` made of `first`'s."""
    c, a = first.operands[2].layout, second.operands[0].layout
    if any(o.buffer is weights.buffer for o in second.operands[1:]):
        return False
    if a.shape != c.shape or a.strides != contiguous_strides(a.shape) or a.offset != 0:
        return False
    if weights.layout.offset != 0 or weights.dtype is not first.operands[2].dtype:
        return False
    number = next(k for k, o in enumerate(launch.operands) if o is weights)
    if launch.strides[number] != list(contiguous_strides(launch.sizes)):
        return False
    whole = [x.product.table.words for x in (first, second)]
    if whole[1][native_gemm.GEMM_K] != a.shape[-1]:  # one cut along k has parts
        return False
    sizes = [words[native_gemm.GEMM_M] for words in whole]
    return bool(sizes[0] == sizes[1] == a.shape[-2])


def _may_join(
    item: Sequence[AnyLaunch], at: int, places: tuple[int, int], foreign: set[int]
) -> bool:
    """Whether the parts may run where the first one stands."""
    moved = [item[place] for place in places]
    for place, launch in zip(places, moved, strict=True):
        reads, writes = ({id(b) for b in buffers} for buffers in accesses(launch))
        if writes & foreign:
            return False
        for number in range(at + 1, place):
            other = item[number]
            if any(other is part for part in moved):
                continue
            if isinstance(other, ConditionCheck):
                return False
            read, written = ({id(b) for b in buffers} for buffers in accesses(other))
            if written & (reads | writes) or read & writes:
                return False
    made = {id(b) for b in accesses(moved[0])[1]}
    given = {id(b) for x in (item[at], moved[0]) for b in accesses(x)[0]}
    final = {id(b) for b in accesses(moved[1])[1]}
    others = {id(o.buffer) for o in moved[1].operands[1:2]}
    return not (final & (made | given) or others & made)
