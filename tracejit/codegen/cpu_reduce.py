"""Kernel source for CPUs: the loop shapes with reductions, row, column and full.

Invariant: the order in which a float reduction adds up depends on its length and axes alone, never
on strides, threads or what is fused around it. Row: element j to lane j % 64, then a tree over the
lanes. Full: the same over blocks of 4096 elements, then over the blocks' results. Column: in order
within blocks of 128 rows, then the same over the blocks' results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tracejit.codegen.cpu import Emitter, Variant, storage
from tracejit.codegen.loops import LoopProgram, Store, Value
from tracejit.codegen.pacing import PREFETCH_FROM, body_cost, distance
from tracejit.codegen.scalars import literal
from tracejit.dtypes import DType

LANES = 64
BLOCK = 4096
COLUMN_BLOCK = 128
SAVE_COST = 8  # additions from which a row's value is kept for a later pass


def combine(op: str, dtype: DType, x: str, y: str) -> str:
    """Two partial results of a reduction as one."""
    if op == "reduce_sum":
        return f"{x} + {y}"
    if op == "reduce_prod":
        return f"{x} * {y}"
    if dtype.kind == "f":
        return f"m.{'maximum' if op == 'reduce_max' else 'minimum'}({x}, {y})"
    return f"select({x} {'>' if op == 'reduce_max' else '<'} {y}, {x}, {y})"


def identity(op: str, dtype: DType) -> str:
    """The result of reducing nothing."""
    if op in ("reduce_sum", "reduce_prod"):
        return literal(0 if op == "reduce_sum" else 1, dtype)
    if dtype.kind == "f":
        return literal(float("-inf") if op == "reduce_max" else float("inf"), dtype)
    bits = dtype.itemsize * 8
    low, high = (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return literal(low if op == "reduce_max" else high, dtype)


def partial(value: Value) -> str:
    """The storage of a reduction's partial results: its own dtype (`decompose` widens halves)."""
    return storage(value.dtype)


def no_memory() -> None:
    """No memory to ask for."""


class LaneEmitter(Emitter):
    """Reductions over lanes, for rows and for blocks."""

    def declare(self) -> None:
        for v in self.program.reductions:
            self.w.put(f"lanes_{v.number} = lanes_{partial(v)}()")

    def clear(self, reductions: Sequence[Value]) -> None:
        for v in reductions:
            start = identity(v.node.op.name, v.dtype)
            self.w.put(f"fill_lanes_{partial(v)}(lanes_{v.number}, {start})")

    def over_lanes(
        self, first: str, stop: str, body: Callable[[], None], values: Sequence[Value],
        ahead: Callable[[], None] = no_memory,
    ) -> None:  # fmt: skip
        """Loops over blocks of lanes; `j` is the position, `l` the lane, `ahead` asks for memory,
        `values` are what the body computes.

        Whole blocks first: LLVM keeps lanes of a loop of fixed length in registers.
        """
        w, depth = self.w, self.w.depth
        w.put(f"count = {stop}" if first == "0" else f"count = {stop} - {first}")
        w.put(f"for piece in range(count // {LANES}):")
        w.depth += 1
        w.put(f"j0 = {first} + piece * {LANES}")
        ahead()
        w.put(f"for l in range({LANES}):")
        w.depth += 1
        w.put("j = j0 + l")
        body()
        self.interleave(values)
        w.depth = depth
        w.put(f"j0 = {stop} - count % {LANES}")
        w.put(f"for l in range({stop} - j0):")
        w.depth += 1
        w.put("j = j0 + l")
        body()
        w.depth = depth

    def accumulate(self, v: Value, text: str) -> None:
        held = f"load_{partial(v)}(lanes_{v.number}, l)"
        total = combine(v.node.op.name, v.dtype, held, text)
        self.w.put(f"store_{partial(v)}(lanes_{v.number}, l, {total})")

    def finish(self, v: Value) -> None:
        """Combine the lanes and name the result."""
        op = v.node.op.name.removeprefix("reduce_")
        self.mark(v)
        self.w.put(f"{v.name} = {op}_lanes_{partial(v)}(lanes_{v.number})")
        self.names[id(v)] = v.name


class RowPlan(NamedTuple):
    """Which values are kept from one pass over the row to a later one, and where.

    `place` maps a saved value to a store's number, or to -1 - i for scratch row i.
    """

    saves: tuple[Value, ...]
    scratch: tuple[Value, ...]
    place: dict[int, int]


def pass_roots(program: LoopProgram, loop: int) -> list[Value]:
    """What pass `loop` over the row must compute: arguments of reductions, stored elements."""
    roots = [v.args[0] for v in program.reductions if v.args[0].loop == loop]
    return roots + [
        s.value for s in program.stores if s.level == "element" and s.value.loop == loop
    ]


def behind(program: LoopProgram, roots: Sequence[Value], stop: set[int]) -> list[Value]:
    """The values that `roots` are computed from within a pass, without those in `stop`."""
    needed: set[int] = set()
    stack = [v for v in roots if id(v) not in stop]
    while stack:
        v = stack.pop()
        if id(v) not in needed:
            needed.add(id(v))
            stack.extend(a for a in v.args if v.kind != "reduce" and id(a) not in stop)
    return [v for v in program.values if id(v) in needed]


def plan_row(program: LoopProgram, varies: dict[int, bool]) -> RowPlan:
    """Keep what is costly and needed again: in an output that is written later, else in scratch."""
    saves: list[Value] = []
    last_use: dict[int, int] = {}
    for loop in range(1, program.loops):
        kept = {id(v) for v in saves}
        covered: set[int] = set()
        roots = pass_roots(program, loop)
        last_use.update((id(v), loop) for v in behind(program, roots, set()) if id(v) in kept)
        for v in reversed(behind(program, roots, kept)):
            early = v.kind in ("op", "random") and varies[id(v)] and v.loop < loop
            if not early or id(v) in covered:
                continue
            inside = [x for x in behind(program, [v], kept) if varies[id(x)]]
            if body_cost(inside) >= SAVE_COST:
                saves.append(v)
                last_use[id(v)] = loop
                covered.update(id(x) for x in inside)
    return _place_saves(program, saves, last_use)


def _place_saves(program: LoopProgram, saves: list[Value], last_use: dict[int, int]) -> RowPlan:
    place: dict[int, int] = {}
    scratch: list[Value] = []
    for v in saves:
        for number, s in enumerate(program.stores):
            own = s.value is v
            free = number not in place.values() and s.value.loop >= last_use[id(v)]
            same = s.node.dtype is v.dtype
            if s.level == "element" and same and (own or free):
                place[id(v)] = number
                break
        else:
            place[id(v)] = -1 - len(scratch)
            scratch.append(v)
    return RowPlan(tuple(saves), tuple(scratch), place)


class RowEmitter(LaneEmitter):
    """Rows times an inner axis, with reductions over the row; `[lo, hi)` counts rows."""

    def __init__(self, program: LoopProgram, variant: Variant, annotate: bool):
        super().__init__(program, variant, annotate)
        self.plan = plan_row(program, self.level)
        self.first_scratch = self.loads + len(program.stores)
        self.busiest = self.busiest_pass()

    def source(self) -> str:
        self.head()
        inner = f"n{self.variant.rank - 1}"
        for i, v in enumerate(self.plan.scratch):
            place = self.layout.extra(i)
            scope = len(self.program.stores) + 1 + i
            text = f"ptr_{storage(v.dtype)}(word(t, {place}), {scope})"
            self.w.put(f"p{self.first_scratch + i} = {text}")
        if self.plan.scratch:
            self.w.put(f"kept = lo * {inner}  # scratch of this call: the first row's place")
        self.declare()
        axes = self.variant.rank - 1
        coordinates = self.coordinates("lo", axes) if axes > 1 else ["r"] * axes
        self.w.put("for r in range(lo, hi):")
        self.w.depth += 1
        self.starts(coordinates, range(self.first_scratch))
        for loop in range(self.program.loops + 1):
            self.row_values(loop)
            if loop < self.program.loops:
                self.inner_loop(loop)
        self.next_row(axes)
        return self.w.text()

    def row_values(self, loop: int) -> None:
        """Values of the row that are ready before pass `loop`, and their stores."""
        for v in self.program.values:
            if not self.level[id(v)] and v.loop == loop:
                self.value(v, "0", "r")
        for number, store in enumerate(self.program.stores):
            if store.level == "row" and store.value.loop == loop:
                k = self.loads + number
                self.put_store(k, store, f"b{k}")

    def inner_loop(self, loop: int) -> None:
        """One pass over the row: compute what it needs, store, accumulate."""
        w, n = self.w, f"n{self.variant.rank - 1}"
        reductions = [v for v in self.program.reductions if v.args[0].loop == loop]
        if not pass_roots(self.program, loop):
            return
        values = [v for v in self.computed_in(loop) if self.level[id(v)]]
        if not reductions:
            self.plain_loop(n)
            self.pass_body(loop, reductions)
            self.interleave(values)
            w.depth -= 1
            return
        self.clear(reductions)
        ahead = self.prefetch_next_row if loop == self.busiest else no_memory
        self.over_lanes("0", n, lambda: self.pass_body(loop, reductions), values, ahead)
        for v in reductions:
            self.finish(v)

    def prefetch_next_row(self) -> None:
        """Ask for the next row's block while this row's is worked on."""
        axis = self.variant.rank - 2
        for load in self.streams(self.program.loads):
            k = load.slot
            shared = any(view.op.name == "broadcast_to" for view in load.views)
            if axis >= 0 and load.loop == 0 and not shared:
                self.prefetch(load, f"b{k} + s{k}_{axis} + j0", LANES)

    def busiest_pass(self) -> int:
        """The pass that computes most, of those that reduce; the last of equals."""
        passes = {v.args[0].loop for v in self.program.reductions}
        costs = {loop: body_cost(self.computed_in(loop)) for loop in passes}
        return max(passes, key=lambda loop: (costs[loop], loop), default=0)

    def computed_in(self, loop: int) -> list[Value]:
        """What pass `loop` computes: not what an earlier one has kept."""
        saved = {id(v) for v in self.plan.saves if v.loop < loop}
        fresh = [v for v in self.plan.saves if v.loop == loop]
        return behind(self.program, pass_roots(self.program, loop) + fresh, saved)

    def plain_loop(self, stop: str) -> None:
        """Open the loop of a pass without reductions; `j` is the position."""
        self.w.put(f"for j in range({stop}):")
        self.w.depth += 1

    def pass_body(self, loop: int, reductions: list[Value]) -> None:
        saved = {id(v) for v in self.plan.saves if v.loop < loop}
        fresh = [v for v in self.plan.saves if v.loop == loop]
        roots = pass_roots(self.program, loop)
        computed = self.computed_in(loop)
        used = {id(a) for v in computed for a in v.args} | {id(v) for v in roots}
        for v in self.plan.saves:
            if id(v) in saved and id(v) in used:
                self.w.put(f"{v.name} = load_{storage(v.dtype)}({self.kept_at(v)})")
                self.names[id(v)] = v.name
        row = f"r * n{self.variant.rank - 1} + j"
        for v in computed:
            if self.level[id(v)]:
                self.value(v, "j", row)
        for v in reductions:
            self.accumulate(v, self.names[id(v.args[0])])
        self.stores(loop, fresh)

    def stores(self, loop: int, fresh: Sequence[Value]) -> None:
        """Write the elements that are due, and what a later pass needs."""
        written: set[int] = set()
        for number, store in enumerate(self.program.stores):
            if store.level == "element" and store.value.loop == loop:
                k = self.loads + number
                self.put_store(k, store, self.at(k, "j"))
                written.add(number)
        for v in fresh:
            if self.plan.place[id(v)] not in written:
                place = self.kept_at(v)
                self.w.put(f"store_{storage(v.dtype)}({place}, {self.names[id(v)]})")

    def kept_at(self, v: Value) -> str:
        """Pointer and index of a saved value."""
        number = self.plan.place[id(v)]
        if number < 0:
            return f"p{self.first_scratch - 1 - number}, kept + j"
        return f"p{self.loads + number}, {self.at(self.loads + number, 'j')}"


class FullEmitter(LaneEmitter):
    """Reductions over everything; `[lo, hi)` counts blocks, each of which gives partial results."""

    def source(self) -> str:
        self.head()
        w = self.w
        w.put(f"block = word(t, {self.layout.extra(0)})")
        w.put(f"total = word(t, {self.layout.extra(1)})")
        self.declare()
        if self.variant.rank == 1:
            self.hoisted(False)
        w.put("for u in range(lo, hi):")
        w.depth += 1
        w.put("start = u * block")
        w.put("stop = select(start + block < total, start + block, total)")
        self.clear(self.program.reductions)
        if self.variant.rank == 1:
            values = [v for v in self.program.values if self.level[id(v)]]
            self.over_lanes("start", "stop", self.flat_body, values, self.prefetch_ahead)
        else:
            self.buffered()
        for v in self.program.reductions:
            self.finish(v)
        for number, store in enumerate(self.program.stores):
            if store.level == "row":
                self.put_store(self.loads + number, store, "u")
        return w.text()

    def elements(self, j: str, flat: str, base: bool) -> None:
        """Compute and store the elements at one position."""
        for v in self.program.values:
            if self.level[id(v)]:
                self.value(v, j, flat, base)
        for number, store in enumerate(self.program.stores):
            if store.level == "element":
                k = self.loads + number
                self.put_store(k, store, self.at(k, j, base))

    def flat_body(self) -> None:
        self.elements("j", "j", False)
        for v in self.program.reductions:
            self.accumulate(v, self.names[id(v.args[0])])

    def prefetch_ahead(self) -> None:
        values = [v for v in self.program.values if self.level[id(v)]]
        if body_cost(values) >= PREFETCH_FROM:
            for load in self.streams(values):
                index = self.at(load.slot, f"j0 + {distance(load.dtype)}", False)
                self.prefetch(load, index, LANES)

    def buffered(self) -> None:
        """Rows that lie apart: elements go to a buffer in row-major order, then into the lanes."""
        w, inner = self.w, self.variant.rank - 1
        depth = w.depth
        for v in self.program.reductions:
            w.put(f"held_{v.number} = block_{partial(v)}()")
        self.open_rows("start", "stop")
        w.put("for j in range(first, last):")
        w.depth += 1
        self.elements("j", f"r * n{inner} + j", True)
        for v in self.program.reductions:
            name = self.names[id(v.args[0])]
            w.put(f"store_{partial(v)}(held_{v.number}, r * n{inner} + j - start, {name})")
        w.depth = depth + 1
        self.next_row(inner)
        w.depth = depth
        for v in self.program.reductions:
            w.put("count = stop - start")
            w.put(f"for j0 in range(0, count, {LANES}):")
            w.depth += 1
            w.put(f"for l in range(select(count - j0 < {LANES}, count - j0, {LANES})):")
            w.depth += 1
            self.accumulate(v, f"load_{partial(v)}(held_{v.number}, j0 + l)")
            w.depth = depth


class ColumnEmitter(Emitter):
    """Reductions over axis 1 of (outer, rows, columns).

    `[lo, hi)` counts pieces: one outer index, one block of rows, one run of columns. The result of
    a piece is row (outer * blocks + block) of the partial results.
    """

    def source(self) -> str:
        self.head()
        w, extra = self.w, self.layout.extra
        w.put(f"width = word(t, {extra(0)})")
        w.put(f"blocks = (n1 + {COLUMN_BLOCK - 1}) // {COLUMN_BLOCK}")
        w.put("blocks = select(blocks < 1, 1, blocks)")
        w.put("runs = (n2 + width - 1) // width")
        w.put("for u in range(lo, hi):")
        w.depth += 1
        w.put("run = u % runs")
        w.put("block = (u // runs) % blocks")
        w.put("a = u // (runs * blocks)")
        w.put("j_first = run * width")
        w.put("j_last = select(j_first + width < n2, j_first + width, n2)")
        w.put(f"i_first = block * {COLUMN_BLOCK}")
        w.put(f"i_last = select(i_first + {COLUMN_BLOCK} < n1, i_first + {COLUMN_BLOCK}, n1)")
        w.put("to = (a * blocks + block) * n2")
        self.start()
        w.put("for i in range(i_first, i_last):")
        w.depth += 1
        for k in range(self.layout.operands):
            w.put(f"b{k} = a * s{k}_0 + i * s{k}_1")
        self.row()
        return w.text()

    def partials(self) -> list[tuple[int, Store]]:
        return [(self.loads + i, s) for i, s in enumerate(self.program.stores) if s.level == "row"]

    def start(self) -> None:
        """Partial results start at the reduction's identity."""
        w = self.w
        w.put("for j in range(j_first, j_last):")
        w.depth += 1
        for k, store in self.partials():
            v = store.value
            start = identity(v.node.op.name, v.dtype)
            w.put(f"store_{partial(v)}(p{k}, to + j, {start})")
        w.depth -= 1

    def row(self) -> None:
        """One row of the block: compute, store, add to the partial results."""
        w = self.w
        for v in self.program.values:
            if not self.level[id(v)]:
                self.value(v, "0", "0")
        w.put("for j in range(j_first, j_last):")
        w.depth += 1
        for v in self.program.values:
            if self.level[id(v)]:
                self.value(v, "j", "(a * n1 + i) * n2 + j")
        for number, store in enumerate(self.program.stores):
            if store.level == "element":
                k = self.loads + number
                self.put_store(k, store, self.at(k, "j"))
        for k, store in self.partials():
            v = store.value
            held = f"load_{partial(v)}(p{k}, to + j)"
            total = combine(v.node.op.name, v.dtype, held, self.names[id(v.args[0])])
            w.put(f"store_{partial(v)}(p{k}, to + j, {total})")
