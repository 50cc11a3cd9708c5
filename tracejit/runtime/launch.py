"""From a loop program and the layouts of its operands to launches of compiled kernels.

Collapses the loop nest, classifies accesses, splits the work, adds the launches that combine
partial results. Invariant: the choice of a kernel depends on strides and types, never on sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracejit import config
from tracejit.codegen.cpu import Variant, table_layout
from tracejit.codegen.cpu_reduce import BLOCK, COLUMN_BLOCK
from tracejit.codegen.cpu_tile import TILE, tile_count, wants_tiles
from tracejit.codegen.loops import LoopProgram
from tracejit.dtypes import DType
from tracejit.errors import CompileError
from tracejit.runtime.arena import Buffer
from tracejit.runtime.device_array import DeviceArray
from tracejit.runtime.program import Patch, Step
from tracejit.runtime.recorded import call, plain
from tracejit.runtime.tables import At, Place, Table
from tracejit.transforms.views import Layout

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder
    from tracejit.runtime.executable import Kernel

COLUMN_WIDTH = 2048  # columns of a piece at most: its partial results stay in the first cache
_SHORT = 8  # elements of a last axis that make a poor loop
PIECES = 8  # pieces a column reduction is cut into at least, where it is large enough


@dataclass(frozen=True, eq=False)
class Operand:
    """A view of a buffer: its layout in elements of `dtype`.

    One that is not plain is read by position: it cannot be replaced by a copy.
    """

    buffer: Buffer
    layout: Layout
    dtype: DType
    is_plain: bool = True

    def getter(self) -> Callable[[tuple[Any, ...]], np.ndarray[Any, Any]]:
        """A function from the call's arguments to the array."""
        if self.buffer.kind != "argument":
            array = self.fixed_array()
            return lambda arguments: array
        index = self.buffer.index
        return lambda arguments: self.view_of(arguments[index])

    def fixed_array(self) -> np.ndarray[Any, Any]:
        """The array of a constant or a temporary, which is the same at every call."""
        if self.buffer.kind == "constant":
            return self.view_of(self.buffer.array)
        assert self.buffer.arena is not None
        memory = self.buffer.arena.view(self.buffer)
        usable = memory[: memory.nbytes // self.dtype.itemsize * self.dtype.itemsize]
        return self.view_of(usable.view(self.dtype.numpy))

    def view_of(self, array: Any) -> Any:
        """The operand within its whole array."""
        shape, strides, offset = self.layout
        size = array.itemsize
        if type(array) is DeviceArray:
            return array.strided(shape, (s * size for s in strides), offset * size)
        if 0 in shape:
            return np.empty(shape, array.dtype)
        return _strided(array, shape, tuple(s * size for s in strides), offset * size)


def _strided(
    array: np.ndarray[Any, Any], shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> np.ndarray[Any, Any]:
    """A view of `array`'s memory that starts `offset` bytes after its first element."""
    first = int(array.ctypes.data) + offset
    interface = {
        "shape": shape,
        "strides": strides,
        "typestr": array.dtype.str,
        "data": (first, False),
        "version": 3,
    }
    return np.asarray(_Holder(interface, array))


class _Holder:
    """Keeps an array alive for the views made of its memory."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, interface: dict[str, Any], owner: Any):
        self.__array_interface__ = interface
        self.owner = owner


class Nest(NamedTuple):
    """A loop nest: the shape of the loop, concrete sizes, which are literal ones, reduced axes."""

    shape: str
    domain: tuple[int, ...]
    ones: tuple[bool, ...]
    axes: tuple[int, int]

    @staticmethod
    def plain(shape: str, domain: Sequence[int], axes: tuple[int, int] = (0, 0)) -> Nest:
        return Nest(shape, tuple(domain), (False,) * len(domain), axes)

    def runs(self) -> list[tuple[int, int]]:
        """Runs of axes that may be collapsed with one another."""
        first, last, ndim = *self.axes, len(self.domain)
        if self.shape == "row":
            return [(0, first), (first, last)]
        if self.shape == "column":
            return [(0, first), (first, last), (last, ndim)]
        return [(0, ndim)]


class Collapsed(NamedTuple):
    """Collapsed axes: sizes, and per operand the strides."""

    sizes: list[int]
    strides: list[list[int]]


@dataclass(eq=False)
class Launch:
    """One kernel call: its table (sizes, operands, words, extras) and its units of work."""

    kernel: Kernel
    sizes: list[int]
    strides: list[list[int]]
    operands: list[Operand]
    words: list[Any]
    extras: list[Any]
    units: int
    grain: int
    program: LoopProgram

    def step(self, patches: list[Patch], keep: list[Any]) -> Step:
        """The step of the program; what a call must set is added to `patches`."""
        table = self.fill(patches)
        keep.extend((self.kernel, *(o.buffer.array for o in self.operands)))
        loc = self.program.step.body[-1].loc
        return Step(self.kernel.address, At(table), self.units, self.grain,
                    name=self.kernel.name, loc=loc)  # fmt: skip

    def fill(self, patches: list[Patch]) -> Table:
        """The table; what a call must set is added to `patches`."""
        layout = table_layout(self.program, len(self.sizes))
        table = Table([*self.sizes, *[0] * (layout.length - len(self.sizes))])
        words = table.words
        for k, strides in enumerate(self.strides):
            operand = self.operands[k]
            buffer = operand.buffer
            place = layout.pointer(k)
            size = 1 if buffer.kind == "index" else operand.dtype.itemsize
            offset = operand.layout.offset * size
            if buffer.kind == "argument":
                patches.append(Patch(At(table, place), buffer.index, offset))
            else:
                words[place] = offset if buffer.kind == "index" else Place(buffer, offset)
            words[place + 1 : place + 1 + len(strides)] = strides
        for slot, value in enumerate(self.program.words):
            place = layout.word(slot)
            if value.kind == "step" or value.node.op.name == "size":
                words[place] = self.words[slot]
            else:
                kind = "float64" if value.dtype.kind == "f" else "int"
                patches.append(Patch(At(table, place), self.words[slot], 0, kind))
        for which, extra in enumerate(self.extras):
            held = Place(extra.buffer) if isinstance(extra, Operand) else extra
            words[layout.extra(which)] = held
        return table


def collapse(
    nest: Nest, run: tuple[int, int], operands: Sequence[Operand], blocking: Sequence[bool]
) -> Collapsed:
    """Merge neighbouring axes of `run` that every blocking operand walks evenly."""
    sizes: list[int] = []
    rows = [o.layout.strides for o in operands]
    if 0 in nest.domain[slice(*run)]:  # strides tell nothing where there are no elements
        return Collapsed([0], [[row[run[1] - 1]] for row in rows])
    strides: list[list[int]] = [[] for _ in operands]
    counting = [k for k, counts in enumerate(blocking) if counts]
    for axis in range(*run):
        if nest.ones[axis]:
            continue
        n = nest.domain[axis]
        if sizes and all(strides[k][-1] == rows[k][axis] * n for k in counting):
            sizes[-1] *= n
            for held, row in zip(strides, rows, strict=True):
                held[-1] = row[axis]
        else:
            sizes.append(n)
            for held, row in zip(strides, rows, strict=True):
                held.append(row[axis])
    return Collapsed(sizes, strides)


def access_class(stride: int) -> str:
    """'u' for neighbours, 'b' for the same element, 's' for a stride."""
    return "u" if stride == 1 else "b" if stride == 0 else "s"


def work_of(program: LoopProgram) -> int:
    """Rough work per element in units of a plain load-add-store."""
    cost = sum(v.node.op.cost for v in program.values if v.kind == "op")
    cost += sum(40 for v in program.values if v.kind == "random")
    return max(1, cost // 8)


def plan_launches(
    builder: Builder,
    program: LoopProgram,
    nest: Nest,
    loads: list[Operand],
    stores: list[Operand],
) -> list[Launch]:
    """The launches that run `program` over `nest`."""
    if nest.shape == "map":
        return _map(builder, program, nest, loads + stores)
    if nest.shape == "row":
        return _row(builder, program, nest, loads, stores)
    if nest.shape == "full":
        return _full(builder, program, nest, loads, stores)
    return _column(builder, program, nest, loads, stores)


def _launch(
    builder: Builder, program: LoopProgram, shape: str, collapsed: Collapsed,
    operands: list[Operand], units: int, unit_work: int, extras: Sequence[Any] = (),
) -> Launch:  # fmt: skip
    classes = "".join(access_class(s[-1]) for s in collapsed.strides)
    count = len(program.loads)
    same = tuple(
        (slot, number)
        for slot, load in enumerate(operands[:count])
        for number, store in enumerate(operands[count:])
        if load.buffer is store.buffer and load.buffer.kind == "argument"
        and load.layout.offset == store.layout.offset  # else another part of the same memory
    )  # fmt: skip
    variant = Variant(shape, len(collapsed.sizes), classes, same)
    kernel = builder.kernel(program, variant, operands, collapsed)
    grain = call(_grain, config.parallel_grain, unit_work * work_of(program))
    words = [builder.word(v) for v in program.words]
    return Launch(
        kernel, collapsed.sizes, collapsed.strides, operands, words, list(extras), units, grain,
        program,
    )  # fmt: skip


def _grain(work: int, unit_work: int) -> int:
    """Units that make up so much work."""
    return max(1, work // max(1, unit_work))


def _or_one(collapsed: Collapsed, stride: int) -> Collapsed:
    """At least one axis: a single element where every axis was a literal one."""
    if collapsed.sizes:
        return collapsed
    return Collapsed([1], [[stride] for _ in collapsed.strides])


def _long_last(collapsed: Collapsed, loads: int) -> Collapsed:
    """A short last axis changes places with a long one along which a load has neighbours."""
    sizes, strides = collapsed
    if len(sizes) < 2 or plain(sizes[-1]) >= _SHORT:
        return collapsed
    for axis in range(len(sizes) - 2, -1, -1):
        near = any(s[axis] == 1 and s[-1] not in (0, 1) for s in strides[:loads])
        if near and plain(sizes[axis]) >= _SHORT:
            order = [*(i for i in range(len(sizes)) if i != axis), axis]
            return Collapsed([sizes[i] for i in order], [[s[i] for i in order] for s in strides])
    return collapsed


def _map(
    builder: Builder, program: LoopProgram, nest: Nest, operands: list[Operand]
) -> list[Launch]:
    collapsed = _or_one(collapse(nest, (0, len(nest.domain)), operands, [True] * len(operands)), 1)
    units = prod(collapsed.sizes)
    if not units:
        return []
    large = len(collapsed.sizes) > 1 and min(map(plain, collapsed.sizes[-2:])) >= TILE
    if builder.tiles and large and wants_tiles(*collapsed):
        count = tile_count(collapsed.sizes)
        return [_launch(builder, program, "tile", collapsed, operands, count, TILE * TILE)]
    if builder.tiles and not any(v.kind == "random" for v in program.values):
        collapsed = _long_last(collapsed, len(program.loads))
    return [_launch(builder, program, "map", collapsed, operands, units, 1)]


def _single_axis(
    builder: Builder, nest: Nest, runs: Sequence[tuple[int, int]], loads: list[Operand]
) -> list[Operand]:
    """The loads, with a copy of those that keep one of `runs` from being a single axis."""
    result = []
    for load in loads:
        if not load.is_plain:
            result.append(load)
            continue
        alone = [collapse(nest, run, [load], [True]) for run in runs]
        uneven = any(len(c.sizes) > 1 for c in alone)
        result.append(builder.copied(load) if uneven else load)
    return result


def _all_copied(builder: Builder, loads: Sequence[Operand]) -> list[Operand]:
    """Row-major copies of all loads; raises where one reads by position (fusion avoids that)."""
    if not all(load.is_plain for load in loads):
        raise CompileError("a reduction over several axes reads positions that cannot be merged")
    return [builder.copied(load) for load in loads]


def _joined(parts: Sequence[Collapsed]) -> Collapsed:
    """Runs of axes one after the other."""
    sizes = [n for part in parts for n in part.sizes]
    count = len(parts[0].strides)
    return Collapsed(sizes, [[s for part in parts for s in part.strides[k]] for k in range(count)])


def _row(
    builder: Builder, program: LoopProgram, nest: Nest, loads: list[Operand],
    stores: list[Operand],
) -> list[Launch]:  # fmt: skip
    outer_run, inner_run = nest.runs()
    operands = _single_axis(builder, nest, [inner_run], loads) + stores
    inner = collapse(nest, inner_run, operands, [True] * len(operands))
    if len(inner.sizes) > 1:  # loads that are even alone but not together
        operands = _all_copied(builder, operands[: len(loads)]) + stores
        inner = collapse(nest, inner_run, operands, [True] * len(operands))
    outer = collapse(nest, outer_run, operands, [True] * len(operands))
    # where a row is one literal element, all its values are values of the row: nothing varies
    collapsed = _joined([outer, _or_one(inner, 0)])
    rows, n = prod(outer.sizes), collapsed.sizes[-1]
    if not rows:
        return []
    launch = _launch(builder, program, "row", collapsed, operands, rows, max(n, 1))
    for value in launch.kernel.scratch:
        launch.extras.append(builder.temporary((rows, n), value.dtype))
    launch.operands = operands + launch.extras
    return [launch]


def _full(
    builder: Builder, program: LoopProgram, nest: Nest, loads: list[Operand],
    stores: list[Operand],
) -> list[Launch]:  # fmt: skip
    total = prod(nest.domain)
    blocks = max(1, -(-total // BLOCK))
    kinds = [s.level for s in program.stores]
    counts = [True] * len(loads) + [kind == "element" for kind in kinds]
    collapsed = _or_one(collapse(nest, (0, len(nest.domain)), loads + stores, counts), 1)
    targets = [
        builder.temporary((blocks,), s.dtype) if kind == "row" and blocks > 1 else s
        for s, kind in zip(stores, kinds, strict=True)
    ]
    operands = loads + targets
    extras = [BLOCK, total]
    launches = [_launch(builder, program, "full", collapsed, operands, blocks, BLOCK, extras)]
    for number, (store, target) in enumerate(zip(stores, targets, strict=True)):
        if target is not store:
            reduction = program.stores[number].node
            combine = builder.executable.combine_program(reduction.op.name, store.dtype, "full")
            flat = Collapsed([blocks], [[1], [0]])
            launches.append(
                _launch(builder, combine, "full", flat, [target, store], 1, 1, [blocks, blocks])
            )
    return launches


def _column(
    builder: Builder, program: LoopProgram, nest: Nest, loads: list[Operand],
    stores: list[Operand],
) -> list[Launch]:  # fmt: skip
    runs = nest.runs()
    kinds = [s.level for s in program.stores]
    counts = [True] * len(loads) + [kind == "element" for kind in kinds]
    operands = _single_axis(builder, nest, runs, loads) + stores
    parts = [collapse(nest, run, operands, counts) for run in runs]
    if any(len(part.sizes) > 1 for part in parts):
        operands = _all_copied(builder, operands[: len(loads)]) + stores
        parts = [collapse(nest, run, operands, counts) for run in runs]
    outer, rows, columns = (_or_one(p, s) for p, s in zip(parts, (0, 0, 1), strict=True))
    a, m, n = outer.sizes[0], rows.sizes[0], columns.sizes[0]
    if a * n == 0:
        return []
    return _column_passes(builder, program, _joined([outer, rows, columns]), operands, (a, m, n))


def _column_width(n: int, blocks: int) -> int:
    """Columns of a piece."""
    width = max(1, min(n, COLUMN_WIDTH))
    if blocks * -(-n // width) < PIECES:
        width = min(width, max(64, -(-n * blocks // PIECES)))
    return width


def _column_passes(
    builder: Builder, program: LoopProgram, collapsed: Collapsed, operands: list[Operand],
    size: tuple[int, int, int],
) -> list[Launch]:  # fmt: skip
    """One pass that leaves a partial result per block of rows, then passes over those."""
    a, m, n = size
    blocks = max(1, -(-m // COLUMN_BLOCK))
    width = call(_column_width, n, a * blocks)
    units = a * blocks * -(-n // width)
    first = len(program.loads)
    targets = list(operands)
    for number, store in enumerate(program.stores):
        if store.level == "row" and blocks > 1:
            targets[first + number] = builder.temporary((a, blocks, n), store.node.dtype)
    work = call(min, m, COLUMN_BLOCK) * width
    launch = _launch(builder, program, "column", collapsed, targets, units, work, [width])
    launches = [launch]
    for number, store in enumerate(program.stores):
        target = targets[first + number]
        if target is operands[first + number]:
            continue
        combine = builder.executable.combine_program(store.node.op.name, target.dtype, "column")
        shape = Collapsed([a, blocks, n], [[blocks * n, n, 1], [0, 0, 0]])
        pair = [target, operands[first + number]]
        launches += _column_passes(builder, combine, shape, pair, (a, blocks, n))
    return launches
