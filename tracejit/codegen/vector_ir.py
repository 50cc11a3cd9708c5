"""Lines of LLVM IR over vectors: what the micro kernels of matrix products are written with.

Invariant: nothing is read or written beside what a mask or a count admits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BITS = {"f32": 32, "f64": 64}
LLVM = {"f32": "float", "f64": "double"}


class Block(NamedTuple):
    """The block of C that a micro kernel computes: `rows` x (`vectors` * `lanes`), `few` rows in
    its small variant.
    """

    rows: int
    few: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of C in a block: the width of a packed sliver of B."""
        return self.vectors * self.lanes

    @property
    def width(self) -> int:
        """Elements from one k to the next in a packed block of A: whole vectors."""
        return -(-self.rows // self.lanes) * self.lanes


class Emitter:
    """Lines of one function, with fresh names and what all functions here need."""

    def __init__(self, dtype: str, shape: Block, name: str, parameters: str):
        self.dtype = dtype
        self.shape = shape
        self.name = name
        self.parameters = parameters
        self.item = BITS[dtype] // 8
        self.scalar = LLVM[dtype]
        self.vector = f"<{shape.lanes} x {self.scalar}>"
        self.suffix = f"v{shape.lanes}{dtype}"
        self.lines: list[str] = []
        self.count = 0

    def add(self, line: str) -> None:
        self.lines.append(line)

    def let(self, instruction: str) -> str:
        """Append an instruction; the name of its result."""
        self.count += 1
        self.lines.append(f"  %v{self.count} = {instruction}")
        return f"%v{self.count}"

    def at(self, address: str, offset: str) -> str:
        """The pointer `offset` bytes after the word or pointer `address`."""
        base = address if address.startswith("%p.") else self.let(f"inttoptr i64 {address} to ptr")
        return self.at_pointer(base, offset)

    def at_pointer(self, base: str, offset: int | str) -> str:
        """The pointer `offset` bytes after the pointer `base`."""
        return self.let(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, address: str, j: int) -> str:
        """The vector `j` behind `address`."""
        pointer = self.at(address, str(j * self.shape.lanes * self.item))
        return self.let(f"load {self.vector}, ptr {pointer}, align {self.item}")

    def store(self, value: str, pointer: str) -> None:
        self.add(f"  store {self.vector} {value}, ptr {pointer}, align {self.item}")

    def splat(self, value: str) -> str:
        """A vector of equal elements."""
        first = self.let(f"insertelement {self.vector} poison, {self.scalar} {value}, i64 0")
        zeros = f"<{self.shape.lanes} x i32> zeroinitializer"
        return self.let(f"shufflevector {self.vector} {first}, {self.vector} poison, {zeros}")

    def first_lanes(self, count: str) -> str:
        """The mask of lanes 0 to `count`, a word that may be negative or past the end."""
        lanes = self.shape.lanes
        head = self.let(f"insertelement <{lanes} x i64> poison, i64 {count}, i64 0")
        vector, zeros = f"<{lanes} x i64>", f"<{lanes} x i32> zeroinitializer"
        every = self.let(f"shufflevector {vector} {head}, {vector} poison, {zeros}")
        order = ", ".join(f"i64 {i}" for i in range(lanes))
        return self.let(f"icmp slt <{lanes} x i64> <{order}>, {every}")

    def masked_load(self, pointer: str, mask: str) -> str:
        lanes = f"<{self.shape.lanes} x i1> {mask}"
        arguments = f"ptr {pointer}, i32 {self.item}, {lanes}, {self.vector} zeroinitializer"
        return self.let(f"call {self.vector} @llvm.masked.load.{self.suffix}.p0({arguments})")

    def masked_store(self, value: str, pointer: str, mask: str) -> None:
        lanes = f"<{self.shape.lanes} x i1> {mask}"
        arguments = f"{self.vector} {value}, ptr {pointer}, i32 {self.item}, {lanes}"
        self.add(f"  call void @llvm.masked.store.{self.suffix}.p0({arguments})")

    def multiply_add(self, a: str, b: str, c: str) -> str:
        operands = ", ".join(f"{self.vector} {x}" for x in (a, b, c))
        return self.let(f"call {self.vector} @llvm.fmuladd.{self.suffix}({operands})")

    def from_word(self, word: str) -> str:
        """The float or double whose bits a word holds, in every lane."""
        if self.dtype == "f64":
            return self.splat(self.let(f"bitcast i64 {word} to double"))
        return self.splat(self.let(f"bitcast i32 {self.let(f'trunc i64 {word} to i32')} to float"))

    def transpose(self, rows: list[str]) -> list[str]:
        """A square of vectors turned."""
        columns: list[str] = []
        for _ in self.transposing(rows, columns):
            pass
        return columns

    def transposing(self, rows: list[str], columns: list[str]) -> Iterator[None]:
        """Turn a square of vectors, a pause after each shuffle; `columns` receives the result.

        First squares within the quarters (16 bytes) of the vectors, then the quarters: every
        shuffle is one instruction without a vector of indices.
        """
        lanes, quarter = self.shape.lanes, 16 // self.item
        width = 1
        while width < quarter:
            turned = []
            for r in range(0, lanes, 2):
                at = r // quarter * quarter + r % quarter // 2 // width * 2 * width
                at += r // 2 % width
                for high in (0, 1):
                    order = [_unpacked(i, lanes, width, high, quarter) for i in range(lanes)]
                    turned.append(self._shuffle(rows[at], rows[at + width], order))
                    yield
            rows = turned
            width *= 2
        columns += [""] * lanes
        for c in range(quarter):
            group = rows[c::quarter]
            yield from self._turning_quarters(group)
            columns[c::quarter] = group

    def _turning_quarters(self, group: list[str]) -> Iterator[None]:
        """Turn a square of quarters in place."""
        lanes, count = self.shape.lanes, len(group)
        quarter = lanes // count
        for _ in range(count.bit_length() - 1):
            turned = []
            for odd in (0, 1):
                order = [(2 * (i // quarter) + odd) * quarter + i % quarter for i in range(lanes)]
                for a, b in zip(group[::2], group[1::2], strict=True):
                    turned.append(self._shuffle(a, b, order))
                    yield
            group[:] = turned

    def _shuffle(self, a: str, b: str, order: list[int]) -> str:
        indices = ", ".join(f"i32 {lane}" for lane in order)
        mask = f"<{len(order)} x i32> <{indices}>"
        return self.let(f"shufflevector {self.vector} {a}, {self.vector} {b}, {mask}")

    def finish(self) -> str:
        head = ", ".join(f"i64 %{name}" for name in self.parameters.split())
        body = "\n".join(self.lines)
        return f"define i64 @{self.name}({head}) nounwind {{\nentry:\n{body}\n  ret i64 0\n}}\n"


def _unpacked(i: int, lanes: int, width: int, high: int, quarter: int) -> int:
    """Which element of two vectors, one behind the other, lane i gets when runs of `width` of the
    lower (`high` 0) or upper halves of their quarters take turns.
    """
    turn, place = divmod(i % quarter, width)
    return (
        i // quarter * quarter
        + high * (quarter // 2)
        + turn // 2 * width
        + place
        + (turn % 2 * lanes)
    )
