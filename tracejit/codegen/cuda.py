"""Kernel source for GPUs: the four loop shapes as work of threads and warps.

Source is `def kernel(t)` in the language of `codegen.language` and `codegen.device_language`, over
the same table as a CPU kernel; values, loads and stores are written by the CPU's emitters. Map:
a thread per element, or per 16 bytes where everything lies densely. Row: a warp per row. Full: a
warp per block of 4096 elements. Column: a thread per column of a block of rows.
Invariant: every reduction combines in the CPU's order (element j to lane j % 64, of which each
thread has two, then the same tree), so results have the CPU's bits; no thread reads what another
wrote, values cross lanes by `swap` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from tracejit.codegen.cpu import Emitter, MapEmitter, storage
from tracejit.codegen.cpu_reduce import (
    BLOCK,
    COLUMN_BLOCK,
    LANES,
    ColumnEmitter,
    FullEmitter,
    LaneEmitter,
    RowEmitter,
    combine,
    identity,
    no_memory,
    partial,
)
from tracejit.codegen.loops import LoopProgram, Value
from tracejit.codegen.scalars import finish

WARP = 32
THREADS = 256  # of a block
VECTOR_BYTES = 16
TURNS = 4  # of 64 elements each, read at once by a warp along a long row


class DeviceVariant(NamedTuple):
    """As `cpu.Variant`; `vector` elements (0: one) are read and written by one access."""

    shape: str
    rank: int
    classes: str
    same: tuple[tuple[int, int], ...] = ()
    vector: int = 0


def threads_of(variant: DeviceVariant, sizes: Sequence[int], extras: Sequence[int]) -> int:
    """How many threads a launch over the collapsed `sizes` takes."""
    if variant.shape == "map":
        count = prod(sizes)
        return max(-(-count // variant.vector), variant.vector) if variant.vector else count
    if variant.shape == "row":
        return prod(sizes[:-1]) * WARP
    if variant.shape == "full":
        return max(1, -(-extras[1] // extras[0])) * WARP
    outer, rows, columns = sizes
    return outer * max(1, -(-rows // COLUMN_BLOCK)) * columns


def vector_width(program: LoopProgram, classes: str) -> int:
    """Elements of one access of a dense map: as many as the widest dtype has in 16 bytes.

    With several axes every row must hold whole vectors.
    """
    count = len(program.loads)
    dense = [v.dtype for v in program.loads if v.kind == "load" and classes[v.slot] == "u"]
    for number, store in enumerate(program.stores):
        if classes[count + number] != "u":
            return 0
        dense.append(store.node.dtype)
    width = min(8, VECTOR_BYTES // max(d.itemsize for d in dense))
    return width if width > 1 else 0


class DeviceMap(MapEmitter):
    """Pointwise: thread i has element i, or elements i * vector and following."""

    signature = "def kernel(t):"
    variant: DeviceVariant  # type: ignore[assignment]

    def source(self) -> str:
        self.head()
        w = self.w
        w.put("i = block() * threads() + thread()")
        width = self.variant.vector
        if self.variant.rank == 1:
            self.hoisted(False)
            if width:
                self.vectors(width)
                return w.text()
            w.put("if i < n0:")
            w.depth += 1
            self.body("i", "i", False)
            return w.text()
        inner = self.variant.rank - 1
        if width:
            w.put(f"i = i * {width}")
        w.put(f"if i < {' * '.join(f'n{axis}' for axis in range(inner + 1))}:")
        w.depth += 1
        w.put(f"r = i // n{inner}")
        w.put(f"j = i - r * n{inner}")
        self.bases("r", range(self.layout.operands), inner)
        self.hoisted(True)
        if width:
            self.vector_body(width, "j", "i", True)
        else:
            self.body("j", "i", True)
        return w.text()

    def vectors(self, width: int) -> None:
        """Whole vectors, then the few elements after the last one."""
        w = self.w
        w.put(f"whole = n0 // {width}")
        w.put("if i < whole:")
        w.depth += 1
        w.put(f"at = i * {width}")
        self.vector_body(width, "at", "at", False)
        w.depth -= 1
        w.put(f"e = whole * {width} + i")
        w.put("if e < n0:")
        w.depth += 1
        self.body("e", "e", False)
        w.depth -= 1

    def vector_body(self, width: int, j: str, flat: str, base: bool) -> None:
        """All loads, then the values of one element after the other, then all stores."""
        w = self.w
        lanes: list[dict[int, str]] = [{} for _ in range(width)]
        dense = [v for v in self.program.loads if self.is_dense(v)]
        for v in dense:
            names = [f"{v.name}_{k}" for k in range(width)]
            place = f"{self.pointers[v.slot]}, {self.at(v.slot, j, base)}"
            w.put(f"{', '.join(names)} = load{width}_{storage(v.dtype)}({place})")
            for k, name in enumerate(names):
                lanes[k][id(v)] = name
        known = {id(v) for v in dense}
        for k in range(width):
            self.suffix = f"_{k}"
            self.names.update(lanes[k])
            for v in self.program.values:
                if self.level[id(v)] and id(v) not in known:
                    self.value(v, f"({j} + {k})", f"({flat} + {k})", base)
            lanes[k].update({id(v): self.names[id(v)] for v in self.program.values})
        self.suffix = ""
        for number, store in enumerate(self.program.stores):
            k = self.loads + number
            values = ", ".join(names[id(store.value)] for names in lanes)
            place = f"p{k}, {self.at(k, j, base)}"
            w.put(f"store{width}_{storage(store.node.dtype)}({place}, {values})")

    def is_dense(self, value: Value) -> bool:
        return value.kind == "load" and self.variant.classes[value.slot] == "u"


class WarpEmitter(LaneEmitter):
    """Reductions by a warp: thread l has lanes l and l + 32 of the CPU's 64."""

    signature = "def kernel(t):"
    half = "a"
    turns = 1

    def locate(self, what: str) -> None:
        """`lane`, and the number of the warp's piece of work under the name `what`."""
        self.w.put("lane = thread() & 31")
        self.w.put(f"{what} = (block() * threads() + thread()) // {WARP}")

    def clear(self, reductions: Sequence[Value]) -> None:
        for v in reductions:
            for half in "ab":
                start = identity(v.node.op.name, v.dtype)
                self.w.put(f"total_{v.number}_{half} = {start}")

    def interleave(self, values: Sequence[Value]) -> None:
        """Nothing: the warps of a multiprocessor are under way together."""

    def over_lanes(
        self, first: str, stop: str, body: Callable[[], None], values: Sequence[Value] = (),
        ahead: Callable[[], None] = no_memory,
    ) -> None:  # fmt: skip
        """Two elements a turn, one for each lane of the thread; `j` is the position.

        A pass that only reads takes several turns at once while they are whole: their loads are
        under way together, and are added in the same order.
        """
        w, depth = self.w, self.w.depth
        start = first
        if self.turns > 1:
            w.put(f"start_of_rest = {first} + ({stop} - {first}) // {self.turns * LANES} "
                  f"* {self.turns * LANES}")  # fmt: skip
            w.put(f"for j0 in range({first} + lane, start_of_rest, {self.turns * LANES}):")
            w.depth += 1
            for turn in range(2 * self.turns):
                w.put(f"j = j0 + {turn * WARP}")
                self.half = "ab"[turn % 2]
                body()
            w.depth = depth
            start = "start_of_rest"
        w.put(f"for j0 in range({start} + lane, {stop}, {LANES}):")
        w.depth += 1
        w.put("j = j0")
        self.half = "a"
        body()
        w.put(f"j = j0 + {WARP}")
        w.put(f"if j < {stop}:")
        w.depth += 1
        self.half = "b"
        body()
        w.depth = depth

    def total(self, v: Value, x: str, y: str) -> str:
        return finish(combine(v.node.op.name, v.dtype, x, y), "add", v.dtype)

    def accumulate(self, v: Value, text: str) -> None:
        held = f"total_{v.number}_{self.half}"
        self.w.put(f"{held} = {self.total(v, held, text)}")

    def finish(self, v: Value) -> None:
        """Combine the lanes, in every thread, and name the result."""
        self.mark(v)
        name = v.name
        halves = (f"total_{v.number}_{half}" for half in "ab")
        self.w.put(f"{name} = {self.total(v, *halves)}")
        k = WARP // 2
        while k:
            self.w.put(f"{name} = {self.total(v, name, f'swap_{partial(v)}({name}, {k})')}")
            k //= 2
        self.names[id(v)] = name


class DeviceRow(WarpEmitter, RowEmitter):
    """Rows times an inner axis: a warp goes along its row once for every pass."""

    def source(self) -> str:
        self.head()
        w, inner = self.w, self.variant.rank - 1
        for i, v in enumerate(self.plan.scratch):
            scope = len(self.program.stores) + 1 + i
            place = self.layout.extra(i)
            w.put(f"p{self.first_scratch + i} = ptr_{storage(v.dtype)}(word(t, {place}), {scope})")
        self.locate("r")
        rows = " * ".join(f"n{axis}" for axis in range(inner)) or "1"
        w.put(f"if r < {rows}:")
        w.depth += 1
        if self.plan.scratch:
            w.put(f"kept = r * n{inner}")
        self.bases("r", range(self.first_scratch), inner)
        for loop in range(self.program.loops + 1):
            self.row_values(loop)
            if loop < self.program.loops:
                self.inner_loop(loop)
        return w.text()

    def row_values(self, loop: int) -> None:
        for v in self.program.values:
            if not self.level[id(v)] and v.loop == loop:
                self.value(v, "0", "r")
        due = [
            (self.loads + number, store)
            for number, store in enumerate(self.program.stores)
            if store.level == "row" and store.value.loop == loop
        ]
        if not due:
            return
        self.w.put("if lane == 0:")
        self.w.depth += 1
        for k, store in due:
            self.put_store(k, store, f"b{k}")
        self.w.depth -= 1

    def inner_loop(self, loop: int) -> None:
        stored = any(s.level == "element" and s.value.loop == loop for s in self.program.stores)
        self.turns = 1 if stored or self.plan.saves else TURNS
        super().inner_loop(loop)

    def plain_loop(self, stop: str) -> None:
        self.w.put(f"for j in range(lane, {stop}, {WARP}):")
        self.w.depth += 1


class DeviceFull(WarpEmitter, FullEmitter):
    """Reductions over everything: a warp per block, which gives partial results."""

    def source(self) -> str:
        self.head()
        w = self.w
        w.put(f"size = word(t, {self.layout.extra(0)})")
        w.put(f"total = word(t, {self.layout.extra(1)})")
        self.locate("u")
        w.put("start = u * size")
        w.put("if (start < total) | (u == 0):")
        w.depth += 1
        w.put("stop = select(start + size < total, start + size, total)")
        if self.variant.rank == 1:
            self.hoisted(False)
        self.clear(self.program.reductions)
        if all(store.level == "row" for store in self.program.stores):
            self.turns = TURNS
        self.over_lanes("start", "stop", self.element)
        for v in self.program.reductions:
            self.finish(v)
        w.put("if lane == 0:")
        w.depth += 1
        for number, store in enumerate(self.program.stores):
            if store.level == "row":
                self.put_store(self.loads + number, store, "u")
        return w.text()

    def element(self) -> None:
        """Compute element j of the row-major order and add it to the thread's lane."""
        if self.variant.rank == 1:
            self.flat_body()
            return
        inner = self.variant.rank - 1
        self.w.put(f"r = j // n{inner}")
        self.w.put(f"k = j - r * n{inner}")
        self.bases("r", range(self.layout.operands), inner)
        self.hoisted(True)
        self.elements("k", "j", True)
        for v in self.program.reductions:
            self.accumulate(v, self.names[id(v.args[0])])


class DeviceColumn(ColumnEmitter):
    """Reductions over axis 1 of (outer, rows, columns): a thread per column of a block of rows."""

    signature = "def kernel(t):"

    def source(self) -> str:
        self.head()
        w = self.w
        w.put("u = block() * threads() + thread()")
        w.put(f"blocks_of_rows = (n1 + {COLUMN_BLOCK - 1}) // {COLUMN_BLOCK}")
        w.put("blocks_of_rows = select(blocks_of_rows < 1, 1, blocks_of_rows)")
        w.put("if u < n0 * blocks_of_rows * n2:")
        w.depth += 1
        w.put("piece = u // n2")
        w.put("j = u - piece * n2")
        w.put("a = piece // blocks_of_rows")
        w.put(f"i_first = (piece - a * blocks_of_rows) * {COLUMN_BLOCK}")
        w.put(f"i_last = select(i_first + {COLUMN_BLOCK} < n1, i_first + {COLUMN_BLOCK}, n1)")
        for _, store in self.partials():
            v = store.value
            w.put(f"total_{v.number} = {identity(v.node.op.name, v.dtype)}")
        w.put("for i in range(i_first, i_last):")
        w.depth += 1
        for k in range(self.layout.operands):
            w.put(f"b{k} = a * s{k}_0 + i * s{k}_1")
        self.row()
        w.depth -= 1
        for k, store in self.partials():
            v = store.value
            w.put(f"store_{partial(v)}(p{k}, piece * n2 + j, total_{v.number})")
        return w.text()

    def row(self) -> None:
        """The thread's element of one row: compute, store, add."""
        for v in self.program.values:
            self.value(v, "j", "(a * n1 + i) * n2 + j")
        for number, store in enumerate(self.program.stores):
            if store.level == "element":
                k = self.loads + number
                self.put_store(k, store, self.at(k, "j"))
        for _, store in self.partials():
            v = store.value
            held = f"total_{v.number}"
            text = combine(v.node.op.name, v.dtype, held, self.names[id(v.args[0])])
            self.w.put(f"{held} = {finish(text, 'add', v.dtype)}")


_EMITTERS: dict[str, type[Emitter]] = {
    "map": DeviceMap,
    "row": DeviceRow,
    "full": DeviceFull,
    "column": DeviceColumn,
}
assert BLOCK % LANES == 0 and LANES == 2 * WARP


def device_emitter(program: LoopProgram, variant: DeviceVariant, annotate: bool = False) -> Emitter:
    """The emitter of a device variant; ask it for `source()`."""
    return _EMITTERS[variant.shape](program, variant, annotate)  # type: ignore[arg-type]


_INDEX = "block() * threads() + thread()"


def many_source(source: str, words: int) -> str:
    """A device kernel over several tables of `words` words, each for blocks of its own.

    Word 0 counts the tables; a row for each has its first block, then its words.
    """
    head, _, body = source.partition("\n")
    assert head == "def kernel(t):" and _INDEX in body, source
    own = re.sub(r"\b(f?word)\(t, ", r"\1(t, own_words + ", body).replace(_INDEX, "own_thread")
    return "\n".join([
        head,
        "    own_words = 2",
        "    for table in range(1, word(t, 0)):",
        f"        row = 1 + table * {words + 1}",
        "        own_words = select(block() >= word(t, row), row + 1, own_words)",
        "    own_thread = (block() - word(t, own_words - 1)) * threads() + thread()",
        own,
    ])  # fmt: skip


def per_thread_source(source: str, units_word: int) -> str:
    """A CPU kernel as a device kernel: one thread for each of its units of work.

    For library kernels, whose units are independent; the count stands in word `units_word`.
    """
    head, _, body = source.partition("\n")
    assert head == "def kernel(t, lo, hi):", head
    return "\n".join([
        "def kernel(t):",
        "    lo = block() * threads() + thread()",
        f"    hi = select(lo < word(t, {units_word}), lo + 1, lo)",
        body,
    ])  # fmt: skip
