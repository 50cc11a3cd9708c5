"""Kernel source for CPUs: what all loop shapes share, and the map (reductions: `cpu_reduce`).

Source is `def kernel(t, lo, hi)` in the language of `codegen.language`. The table holds, in order:
the sizes of the collapsed loop nest; a pointer and `rank` strides per operand (loads, then
stores); the scalar words; the constants of the shape (block length, scratch pointers...).
Invariant: nothing in a source depends on a size, and a reduction's order on its length alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tracejit.codegen.loops import LoopProgram, Store, Value
from tracejit.codegen.pacing import CHUNK, PREFETCH_FROM, body_cost, distance, vectors_at_a_time
from tracejit.codegen.scalars import ORDER, cast_text, comment, literal, op_text, zero_name
from tracejit.dtypes import DType, float16, float64, int64

EXTRA_WORDS = 8  # constants of a shape, at most


class Variant(NamedTuple):
    """What a source depends on besides the program: loop rank and an access class per operand.

    Classes are 'u' (unit stride along the inner axis), 'b' (the same element), 's' (strided).
    `same` pairs a load's slot with the store that overwrites the same elements.
    """

    shape: str
    rank: int
    classes: str
    same: tuple[tuple[int, int], ...] = ()


class Layout(NamedTuple):
    """Where things stand in the table."""

    rank: int
    operands: int
    words: int

    def size(self, axis: int) -> int:
        return axis

    def pointer(self, operand: int) -> int:
        return self.rank + operand * (self.rank + 1)

    def stride(self, operand: int, axis: int) -> int:
        return self.pointer(operand) + 1 + axis

    def word(self, slot: int) -> int:
        return self.rank + self.operands * (self.rank + 1) + slot

    def extra(self, which: int) -> int:
        return self.word(self.words + which)

    @property
    def length(self) -> int:
        """Words in all, with room for the constants of the shape."""
        return self.extra(EXTRA_WORDS)


def table_layout(program: LoopProgram, rank: int) -> Layout:
    """The table of a program's kernel."""
    operands = len(program.loads) + len(program.stores)
    return Layout(rank, operands, len(program.words))


def storage(dtype: DType) -> str:
    """The name of a dtype in `load_x` and `ptr_x`."""
    return dtype.short


class Writer:
    """Source text under construction."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def put(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


class Emitter:
    """What all loop shapes share: the head of the kernel, loads, ops and stores."""

    signature = "def kernel(t, lo, hi):"

    def __init__(self, program: LoopProgram, variant: Variant, annotate: bool):
        self.program = program
        self.variant = variant
        self.annotate = annotate
        self.w = Writer()
        self.layout = table_layout(program, variant.rank)
        self.loads = len(program.loads)
        self.level = self._levels()
        self.names: dict[int, str] = {}
        self.pointers = {k: f"p{k}" for k in range(self.layout.operands)}
        for slot, store in variant.same:  # one pointer, so that LLVM sees the same memory
            self.pointers[slot] = f"p{self.loads + store}"
        self.last_place = ""
        self.mixed = program.mixed
        self.suffix = ""  # of the names of values: several elements at once have one each

    def source(self) -> str:
        """The text of the kernel."""
        raise NotImplementedError

    # head ----------------------------------------------------------------------------------

    def _levels(self) -> dict[int, bool]:
        """Of each value, whether it varies along the inner axis."""
        varies: dict[int, bool] = {}
        for v in self.program.values:
            if v.kind in ("load", "iota", "gather"):
                varies[id(v)] = self.variant.classes[v.slot] != "b"
                varies[id(v)] |= any(varies[id(a)] for a in v.args)
            elif v.kind == "op":
                varies[id(v)] = any(varies[id(a)] for a in v.args)
            else:
                varies[id(v)] = v.kind == "random"
        return varies

    def head(self) -> None:
        """Pointers, sizes, strides, scalars and constants."""
        w, rank = self.w, self.variant.rank
        w.lines.append(self.signature)
        for v in self.program.loads:
            if self.pointers[v.slot] != f"p{v.slot}":
                continue
            if v.kind != "iota":
                dtype = storage(v.dtype)
                place = self.layout.pointer(v.slot)
                note = f"  # {comment(str(v.node.type))}" if self.annotate else ""
                w.put(f"p{v.slot} = ptr_{dtype}(word(t, {place}), 0){note}")
            else:
                w.put(f"p{v.slot} = word(t, {self.layout.pointer(v.slot)})")
        for number, store in enumerate(self.program.stores):
            k = self.loads + number
            dtype = storage(store.node.dtype)
            note = f"  # {comment(str(store.node.type))}" if self.annotate else ""
            w.put(f"p{k} = ptr_{dtype}(word(t, {self.layout.pointer(k)}), {number + 1}){note}")
        for axis in range(rank):
            w.put(f"n{axis} = word(t, {self.layout.size(axis)})")
        for k in range(self.layout.operands):
            for axis in range(rank):
                inner = axis == rank - 1
                if not inner or self.variant.classes[k] == "s":
                    w.put(f"s{k}_{axis} = word(t, {self.layout.stride(k, axis)})")
        self.zeros()
        for v in self.program.values:
            if v.kind == "const":
                self.names[id(v)] = v.name
                w.put(f"{v.name} = {literal(v.node.params['value'], v.dtype)}")
            elif v.kind == "step":
                self.names[id(v)] = v.name
                w.put(f"{v.name} = word(t, {self.layout.word(v.slot)})")
            elif v.kind == "word":
                self.names[id(v)] = v.name
                w.put(f"{v.name} = {self.word_text(v)}")

    def zeros(self) -> None:
        """The zeros that `op_text` adds: a sign bit of a size or address, unknown to LLVM."""
        if not self.mixed:
            return
        compared = [v.args[0].dtype for v in self.program.values
                    if v.kind == "op" and v.node.op.name in ORDER]  # fmt: skip
        for name in sorted({zero_name(d) for d in compared if d.kind == "f"}):
            self.w.put(f"{name} = to_{name[-3:]}(word(t, 0) >> 63)")

    def word_text(self, value: Value) -> str:
        place = self.layout.word(value.slot)
        if value.dtype.kind == "f":
            return cast_text(f"fword(t, {place})", float64, value.dtype)
        text = f"word(t, {place})"
        return text if value.dtype.short == "i64" else f"to_{value.dtype.short}({text})"

    # rows ----------------------------------------------------------------------------------

    def bases(self, row: str, operands: Sequence[int], axes: int) -> None:
        """`b0`, `b1`...: where each operand's row starts; `row` counts the leading `axes` axes."""
        self.starts(self.coordinates(row, axes), operands)

    def coordinates(self, row: str, axes: int) -> list[str]:
        """Names of the row's coordinates along the leading `axes` axes."""
        if axes < 2:
            return [row] * axes
        w = self.w
        w.put(f"i0 = {row}")
        for axis in range(axes - 1, 0, -1):
            w.put(f"i{axis} = i0 % n{axis}")
            w.put(f"i0 = i0 // n{axis}")
        return [f"i{axis}" for axis in range(axes)]

    def starts(self, coordinates: Sequence[str], operands: Sequence[int]) -> None:
        for k in operands:
            terms = [f"{c} * s{k}_{axis}" for axis, c in enumerate(coordinates)]
            self.w.put(f"b{k} = {' + '.join(terms) or 0}")

    def next_row(self, axes: int) -> None:
        """Count the coordinates up: the divisions that they stand for take 40 cycles each."""
        w = self.w
        if axes > 1:
            w.put(f"i{axes - 1} = i{axes - 1} + 1")
        for axis in range(axes - 1, 0, -1):
            w.put(f"full = i{axis} == n{axis}")
            w.put(f"i{axis} = select(full, 0, i{axis})")
            w.put(f"i{axis - 1} = select(full, i{axis - 1} + 1, i{axis - 1})")

    def open_rows(self, lo: str, hi: str) -> None:
        """Open the loop over the rows of elements [lo, hi), which lie in [first, last) of each."""
        w, inner = self.w, self.variant.rank - 1
        w.put(f"top = {lo} // n{inner}")
        coordinates = self.coordinates("top", inner) if inner > 1 else ["r"]
        w.put(f"for r in range(top, ({hi} + n{inner} - 1) // n{inner}):")
        w.depth += 1
        self.starts(coordinates, range(self.layout.operands))
        self.hoisted(True)
        w.put(f"first = {lo} - r * n{inner}")
        w.put(f"last = {hi} - r * n{inner}")
        w.put("first = select(first > 0, first, 0)")
        w.put(f"last = select(last < n{inner}, last, n{inner})")

    def at(self, k: int, j: str, base: bool = True) -> str:
        """The index of operand `k` at inner position `j`."""
        kind = self.variant.classes[k]
        inner = {"u": j, "b": "", "s": f"{j} * s{k}_{self.variant.rank - 1}"}[kind]
        start = f"b{k}" if base else ""
        return " + ".join(x for x in (start, inner) if x) or "0"

    # values --------------------------------------------------------------------------------

    def mark(self, value: Value) -> None:
        """A comment with the user's line where it changes."""
        loc = value.node.loc
        if not self.annotate or loc is None:
            return
        place = str(loc)
        if place != self.last_place:
            self.last_place = place
            self.w.put(f"# {comment(place)}  {comment(loc.source)}")

    def load(self, value: Value, j: str, base: bool) -> str:
        index = self.at(value.slot, j, base)
        if value.kind == "gather":
            place, step = (self.names[id(a)] for a in value.args)
            index = f"{index} + {place} * {step}"
        if value.kind != "iota":
            return f"load_{storage(value.dtype)}({self.pointers[value.slot]}, {index})"
        return cast_text(f"(p{value.slot} + {index})", int64, value.dtype)

    def value(self, value: Value, j: str, flat: str, base: bool = True) -> None:
        """Compute one value here and name it."""
        if value.kind in ("const", "word", "step", "reduce"):
            return
        self.mark(value)
        name = value.name + self.suffix
        if value.kind in ("load", "iota", "gather"):
            text = self.load(value, j, base)
        elif value.kind == "random":
            text = self.random(value, flat)
        else:
            operands = [self.names[id(a)] for a in value.args]
            text = op_text(value.node, operands, self.mixed)
        self.names[id(value)] = name
        self.w.put(f"{name} = {text}")

    def hoisted(self, base: bool) -> None:
        """Values that are the same along the inner axis."""
        for v in self.program.values:
            if not self.level[id(v)]:
                self.value(v, "0", "0", base)

    def random(self, value: Value, flat: str) -> str:
        key, offset = (self.names[id(a)] for a in value.args)
        name = value.node.op.name.removeprefix("random_")
        text = f"philox_{name}_{value.dtype.short}({key}, {offset} + {flat})"
        return f"round_f16({text})" if value.dtype is float16 else text

    # hints ---------------------------------------------------------------------------------

    def streams(self, values: Sequence[Value]) -> list[Value]:
        """Those loads among `values` that walk through memory element by element."""
        return [v for v in values if v.kind == "load" and self.variant.classes[v.slot] == "u"]

    def prefetch(self, load: Value, index: str, count: int) -> None:
        self.w.put(f"prefetch_{storage(load.dtype)}({self.pointers[load.slot]}, {index}, {count})")

    def interleave(self, values: Sequence[Value]) -> None:
        """End a loop body that computes `values`."""
        count = vectors_at_a_time(body_cost(values))
        if count:
            self.w.put(f"interleave({count})")

    def put_store(self, k: int, store: Store, index: str) -> None:
        dtype = storage(store.node.dtype)
        self.w.put(f"store_{dtype}(p{k}, {index}, {self.names[id(store.value)]})")


class MapEmitter(Emitter):
    """Pointwise over an n-d nest; `[lo, hi)` counts elements in row-major order."""

    def source(self) -> str:
        self.head()
        if self.variant.rank == 1:
            self.flat()
        else:
            self.nest()
        return self.w.text()

    def body(self, j: str, flat: str, base: bool) -> None:
        """Load, compute, store, in that order: an output may be an input, element by element."""
        for v in self.program.values:
            if self.level[id(v)]:
                self.value(v, j, flat, base)
        for number, store in enumerate(self.program.stores):
            k = self.loads + number
            self.put_store(k, store, self.at(k, j, base))

    def flat(self) -> None:
        self.hoisted(False)
        self.inner("i", "lo", "hi", "i", False)

    def nest(self) -> None:
        depth = self.w.depth
        self.open_rows("lo", "hi")
        self.inner("j", "first", "last", f"r * n{self.variant.rank - 1} + j", True)
        self.w.depth = depth + 1
        self.next_row(self.variant.rank - 1)

    def inner(self, j: str, first: str, last: str, flat: str, base: bool) -> None:
        """The innermost loop; where it computes much, in chunks that ask for memory ahead."""
        w = self.w
        values = [v for v in self.program.values if self.level[id(v)]]
        streams = self.streams(values)
        if not streams or body_cost(values) < PREFETCH_FROM:
            w.put(f"for {j} in range({first}, {last}):")
            w.depth += 1
            self.body(j, flat, base)
            return
        w.put(f"for chunk in range(({last} - {first} + {CHUNK - 1}) // {CHUNK}):")
        w.depth += 1
        w.put(f"start = {first} + chunk * {CHUNK}")
        for load in streams:
            index = self.at(load.slot, f"start + {distance(load.dtype)}", base)
            self.prefetch(load, index, CHUNK)
        w.put(f"stop = select(start + {CHUNK} < {last}, start + {CHUNK}, {last})")
        w.put(f"for {j} in range(start, stop):")
        w.depth += 1
        self.body(j, flat, base)
        self.interleave(values)
