"""LLVM IR that packs the windows of an image for tracejit's own matrix product, a sliver at a time.

A product over windows never sees them written out: what stands at a place of the sliver is read
from the image, at the sum of the place's offset along taps and along windows. Both functions work
on a run, windows whose elements lie `step` elements apart. Invariant: nothing is read but elements
of the run.
"""

from __future__ import annotations

from tracejit.codegen.gemm_kernel import block, declarations
from tracejit.codegen.vector_ir import LLVM, Block, Emitter

STEPS = (1, 2, 0)  # distances of windows that packing knows; 0 stands for any other


def names(dtype: str) -> tuple[str, ...]:
    """The functions that `text` defines: rows of taps, rows of windows, each for all `STEPS`."""
    return tuple(f"{stem}_{step}_{dtype}" for stem in ("taps", "windows") for step in STEPS)


def text(dtype: str) -> str:
    """LLVM IR of the functions named by `names(dtype)`; all take words and return a word."""
    shape = block(dtype)
    made = names(dtype)
    parts = [declarations(dtype, shape), _gather(dtype, shape)]
    parts += [_PackTaps(dtype, shape, n, s).text() for n, s in zip(made, STEPS, strict=False)]
    parts += [_PackWindows(dtype, shape, n, s).text() for n, s in zip(made[len(STEPS) :], STEPS)]
    return "\n".join(parts)


def _gather(dtype: str, shape: Block) -> str:
    vector, lanes = f"<{shape.lanes} x {LLVM[dtype]}>", shape.lanes
    return (f"declare {vector} @llvm.masked.gather.v{lanes}{dtype}.v{lanes}p0"
            f"(<{lanes} x ptr>, i32, <{lanes} x i1>, {vector})\n")  # fmt: skip


class _Runs(Emitter):
    """Functions that load runs of elements `step` apart (0: `far` bytes apart, a parameter)."""

    def __init__(self, dtype: str, shape: Block, name: str, parameters: str, step: int):
        super().__init__(dtype, shape, name, parameters)
        self.step = step

    def run_masks(self, count: str) -> list[str]:
        """The masks with which `load_run` loads a vector of `count` elements or fewer."""
        if self.step != 2:
            return [self.first_lanes(count)]
        last = self.let(f"sub i64 {self.let(f'shl i64 {count}, 1')}, 1")
        return [self.first_lanes(last),
                self.first_lanes(self.let(f"sub i64 {last}, {self.shape.lanes}"))]  # fmt: skip

    def load_run(self, pointer: str, masks: list[str]) -> str:
        """A vector of the run that begins at the pointer, zeros behind its end."""
        lanes = self.shape.lanes
        if self.step == 1:
            return self.masked_load(pointer, masks[0])
        if self.step == 2:
            far = self.at_pointer(pointer, lanes * self.item)
            low, high = self.masked_load(pointer, masks[0]), self.masked_load(far, masks[1])
            return self._shuffle(low, high, list(range(0, 2 * lanes, 2)))
        places = self.let(f"getelementptr i8, ptr {pointer}, <{lanes} x i64> %places")
        arguments = (f"<{lanes} x ptr> {places}, i32 {self.item}, <{lanes} x i1> {masks[0]}, "
                     f"{self.vector} zeroinitializer")  # fmt: skip
        name = f"llvm.masked.gather.v{lanes}{self.dtype}.v{lanes}p0"
        return self.let(f"call {self.vector} @{name}({arguments})")

    def far_places(self) -> None:
        """Set `%places`, the bytes from a run's first element to those of a vector."""
        if self.step:
            return
        lanes = self.shape.lanes
        vector = f"<{lanes} x i64>"
        head = self.let(f"insertelement {vector} poison, i64 %far, i64 0")
        every = self.let(f"shufflevector {vector} {head}, {vector} poison, "
                         f"<{lanes} x i32> zeroinitializer")  # fmt: skip
        order = ", ".join(f"i64 {i}" for i in range(lanes))
        self.add(f"  %places = mul {vector} {every}, <{order}>")

    def from_run(self, elements: str) -> str:
        """The bytes from a run's first element to the one of that number."""
        return self.let(f"mul i64 {elements}, {'%far' if not self.step else self.step * self.item}")

    def offset_at(self, index: str) -> str:
        """The offset of the tap of that number."""
        place = self.let(f"getelementptr i64, ptr %table, i64 {index}")
        return self.let(f"load i64, ptr {place}, align 8")


class _PackTaps(_Runs):
    """k rows, one for each tap: the elements of `columns` windows of a run, `room` with zeros.

    Row i begins `to_row` bytes behind row i - 1, and what it reads at `b + taps[i]`. Writes no more
    than the room, so that another run may stand beside this one.
    """

    def __init__(self, dtype: str, shape: Block, name: str, step: int):
        super().__init__(dtype, shape, name, "k b taps to to_row columns room far", step)

    def text(self) -> str:
        lanes, vectors = self.shape.lanes, self.shape.vectors
        self.add("  %table = inttoptr i64 %taps to ptr")
        self.far_places()
        reads, writes = [], []
        for j in range(vectors):
            reads.append(self.run_masks(self.let(f"sub i64 %columns, {j * lanes}")))
            writes.append(self.first_lanes(self.let(f"sub i64 %room, {j * lanes}")))
        self.add(f"  %one = icmp ule i64 %room, {lanes}\n  br i1 %one, label %short, label %long")
        self._rows("short", 1, reads, writes)
        self._rows("long", vectors, reads, writes)
        self.add("done:")
        return self.finish()

    def _rows(self, name: str, vectors: int, reads: list[list[str]], writes: list[str]) -> None:
        """The loop over taps, of so many vectors a row."""
        self.add(f"{name}:")
        self.add(f"  %{name}.i = phi i64 [ 0, %entry ], [ %{name}.next, %{name} ]")
        source = self.at("%b", self.offset_at(f"%{name}.i"))
        target = self.at("%to", self.let(f"mul i64 %{name}.i, %to_row"))
        for j in range(vectors):
            first = self.from_run(str(j * self.shape.lanes))
            value = self.load_run(self.at_pointer(source, first), reads[j])
            place = self.at_pointer(target, j * self.shape.lanes * self.item)
            self.masked_store(value, place, writes[j])
        self.add(f"  %{name}.next = add i64 %{name}.i, 1")
        self.add(f"  %{name}.more = icmp ult i64 %{name}.next, %k")
        self.add(f"  br i1 %{name}.more, label %{name}, label %done")


class _PackWindows(_Runs):
    """k rows, one for each window of a run: its elements at `columns` taps, at most a vector of
    them. Writes whole vectors; behind the last tap they hold anything.
    """

    def __init__(self, dtype: str, shape: Block, name: str, step: int):
        super().__init__(dtype, shape, name, "k b taps to to_row columns far", step)

    def text(self) -> str:
        self.add("  %table = inttoptr i64 %taps to ptr")
        self.far_places()
        self.add("  %last = sub i64 %columns, 1")
        offsets = []
        for r in range(self.shape.lanes):  # taps that are not there read the last one again
            tap = self.let(f"call i64 @llvm.umin.i64(i64 {r}, i64 %last)")
            offsets.append(self.let(f"add i64 %b, {self.offset_at(tap)}"))
        self.add("  br label %square\nsquare:")
        self.add("  %i = phi i64 [ 0, %entry ], [ %i.next, %stored ]")
        left = self.let("sub i64 %k, %i")
        masks = self.run_masks(left)
        along = self.from_run("%i")
        rows = [self.load_run(self.at(offset, along), masks) for offset in offsets]
        target = self.let(f"add i64 %to, {self.let('mul i64 %i, %to_row')}")
        for r, row in enumerate(self.transpose(rows)):
            self.store(row, self.at(target, self.let(f"mul i64 %to_row, {r}")))
            following = f"row.{r + 1}" if r + 1 < self.shape.lanes else "stored"
            more = self.let(f"icmp ugt i64 {left}, {r + 1}")
            self.add(f"  br i1 {more}, label %{following}, label %stored\n{following}:")
        self.add(f"  %i.next = add i64 %i, {self.shape.lanes}")
        self.add("  %more = icmp ult i64 %i.next, %k")
        self.add("  br i1 %more, label %square, label %done\ndone:")
        return self.finish()
