"""LLVM IR of products of few rows, which are as fast as memory delivers the large operand B.

`dots` reads rows of B that lie transposed (a vector for each column of C) side by side, and turns a
square of them in registers; `rows` adds multiples of whole rows of B to sums in the first-level
cache, so that B comes in long runs. Invariant: the order of `gemm_kernel`: every element of C is
one chain over each piece of k in rising order, and the pieces' sums are added in order.
"""

from __future__ import annotations

from tracejit.codegen.gemm_kernel import block
from tracejit.codegen.vector_ir import LLVM, Block, Emitter

DOT_ROWS = (1, 4)  # rows of A that the variants of `dots` and of `rows` take
_AHEAD = 512  # bytes of a row of B asked for ahead
_GROUP = 4  # rows of B that `rows` reads at a time


def names(dtype: str) -> tuple[str, ...]:
    """The functions that `text` defines: `dots` and `rows` for one row and for some, and `flush`,
    which adds sums to C.
    """
    return tuple(f"{stem}{count}_{dtype}" for stem in ("dots", "rows") for count in DOT_ROWS) + (
        f"flush_{dtype}",
    )


def text(dtype: str) -> str:
    """LLVM IR of the functions named by `names(dtype)`; all take words and return a word."""
    shape = block(dtype)
    vector, suffix = f"<{shape.lanes} x {LLVM[dtype]}>", f"v{shape.lanes}{dtype}"
    mask = f"<{shape.lanes} x i1>"
    parts = [
        f"declare {vector} @llvm.fmuladd.{suffix}({vector}, {vector}, {vector})\n"
        f"declare {vector} @llvm.masked.load.{suffix}.p0(ptr, i32, {mask}, {vector})\n"
        f"declare void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, {mask})\n"
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n"
        "declare i64 @llvm.umin.i64(i64, i64)\n"
    ]
    parts += [_Dots(dtype, shape, f"dots{count}_{dtype}", count).text() for count in DOT_ROWS]
    parts += [_Rows(dtype, shape, f"rows{count}_{dtype}", count).text() for count in DOT_ROWS]
    parts.append(_Flush(dtype, shape, f"flush_{dtype}").text())
    return "\n".join(parts)


class _Flat(Emitter):
    """What the functions here share: rows of A read element by element, and asking ahead."""

    def __init__(self, dtype: str, shape: Block, name: str, parameters: str, rows: int):
        super().__init__(dtype, shape, name, parameters)
        self.rows = rows

    def clamped(self, base: str, row: str, count: str, numbers: int) -> list[str]:
        """The addresses of so many rows; past the last of `count` the last one again."""
        last = self.let(f"sub i64 {count}, 1")
        found = []
        for r in range(numbers):
            number = self.let(f"call i64 @llvm.umin.i64(i64 {r}, i64 {last})")
            found.append(self.let(f"add i64 {base}, {self.let(f'mul i64 {number}, {row}')}"))
        return found

    def element(self, row: str, place: str) -> str:
        """The element of A at `place`, in every lane."""
        at = self.let(f"mul i64 {place}, %a_col")
        pointer = self.at(row, at)
        return self.splat(self.let(f"load {self.scalar}, ptr {pointer}, align {self.item}"))

    def ask(self, pointer: str) -> None:
        """Have the line at `pointer` brought to the second-level cache."""
        self.add(f"  call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 2, i32 1)")

    def phi(self, name: str, kind: str, *sources: tuple[str, str]) -> str:
        """A phi with a name of its own."""
        self.add(self.phi_line(name, kind, *sources))
        return name

    def phi_line(self, name: str, kind: str, *sources: tuple[str, str]) -> str:
        """The line of a phi."""
        return f"  {name} = phi {kind} {', '.join(f'[ {v}, %{b} ]' for v, b in sources)}"


class _Dots(_Flat):
    """C[rows, columns] = A[rows, k] @ B[columns, k]^T, at most a vector of columns, C written anew.

    The sums of each `piece` of k are chains of their own.
    """

    def __init__(self, dtype: str, shape: Block, name: str, rows: int):
        parameters = "k piece a a_row b b_row c c_row rows columns"
        super().__init__(dtype, shape, name, parameters, rows)

    def text(self) -> str:
        lanes = self.shape.lanes
        self.scratch = self.let(f"alloca [{lanes} x {self.vector}], align 64")
        self.b = self.clamped("%b", "%b_row", "%columns", lanes)
        self.a = self.clamped("%a", "%a_row", "%rows", self.rows)
        self.add("  br label %piece.begin\npiece.begin:")
        self.phi("%first", "i64", ("0", "entry"), ("%stop", "flush"))
        for r in range(self.rows):
            source = ("zeroinitializer", "entry"), (f"%total.{r}.next", "flush")
            self.phi(f"%total.{r}", self.vector, *source)
        self.add("  %left = sub i64 %k, %first")
        self.add("  %count = call i64 @llvm.umin.i64(i64 %left, i64 %piece)")
        self.add(f"  %stop = add i64 %first, %count\n  %even = and i64 %count, {-lanes}")
        self.add("  %most = add i64 %first, %even\n  %any = icmp ne i64 %even, 0")
        self.add("  br i1 %any, label %squares, label %rest")
        self._squares()
        self._rest()
        self._flush()
        return self.finish()

    def _squares(self) -> None:
        """Whole squares of B: while one is turned, the columns of the one before are multiplied."""
        lanes = self.shape.lanes
        self.add("squares:")
        columns: list[str] = []
        for _ in self.transposing(self._square("%first"), columns):
            pass
        self.add(f"  %second = add i64 %first, {lanes}")
        self.add("  %two = icmp ult i64 %second, %most\n  br i1 %two, label %next, label %last")
        self.add("next:")
        self.phi("%i", "i64", ("%first", "squares"), ("%i.next", "next"))
        head = len(self.lines)
        self.add(f"  %i.next = add i64 %i, {lanes}")
        sums, after = self._turn_and_multiply()
        self.lines[head:head] = self._carried("", "squares", columns, sums, after)
        self.add(f"  %i.after = add i64 %i.next, {lanes}")
        self.add("  %more = icmp ult i64 %i.after, %most\n  br i1 %more, label %next, label %last")
        self.add("last:")
        self.phi("%place", "i64", ("%first", "squares"), ("%i.next", "next"))
        self.lines += self._carried(".end", "squares", columns, sums, after)
        self.whole = [f"%sum{r}.end" for r in range(self.rows)]
        for j in range(lanes):
            self.whole = self._column("%place", j, f"%held{j}.end", self.whole)
        self.add("  br label %rest")

    def _turn_and_multiply(self) -> tuple[list[str], list[str]]:
        """The sums with the columns of the square at hand, and the columns of the next square."""
        lanes = self.shape.lanes
        shuffles = lanes * (lanes.bit_length() - 1)
        sums, after = [f"%sum{r}" for r in range(self.rows)], list[str]()
        for number, _ in enumerate(self.transposing(self._square("%i.next"), after)):
            for j in range(number * lanes // shuffles, (number + 1) * lanes // shuffles):
                sums = self._column("%i", j, f"%held{j}", sums)
        return sums, after

    def _carried(
        self, suffix: str, before: str, columns: list[str], sums: list[str], after: list[str]
    ) -> list[str]:
        """Phis for sums and columns: as before the loop over squares, or as its last turn left
        them.
        """
        sources = [("zeroinitializer", total) for total in sums]
        sources += list(zip(columns, after, strict=True))
        stems = [f"sum{r}" for r in range(self.rows)] + [f"held{j}" for j in range(len(columns))]
        return [
            self.phi_line(f"%{stem}{suffix}", self.vector, (start, before), (end, "next"))
            for stem, (start, end) in zip(stems, sources, strict=True)
        ]

    def _square(self, place: str) -> list[str]:
        """A square of B as it lies; the lines after it are asked for."""
        offset = self.let(f"mul i64 {place}, {self.item}")
        square = []
        for row in self.b:
            pointer = self.at(row, offset)
            square.append(self.let(f"load {self.vector}, ptr {pointer}, align {self.item}"))
            self.ask(self.at_pointer(pointer, _AHEAD))
        return square

    def _column(self, place: str, j: int, column: str, sums: list[str]) -> list[str]:
        """The sums, a column of B more times its elements of A."""
        offset = self.let(f"mul i64 {place}, {self.item}")
        found = []
        for row, total in zip(self.a, sums, strict=True):
            pointer = self.at_pointer(self.at(row, offset), j * self.item)
            a = self.splat(self.let(f"load {self.scalar}, ptr {pointer}, align {self.item}"))
            found.append(self.multiply_add(a, column, total))
        return found

    def _rest(self) -> None:
        """The columns of the last, narrower square, one by one."""
        self.add("rest:")
        for r in range(self.rows):
            sources = ("zeroinitializer", "piece.begin"), (self.whole[r], "last")
            self.phi(f"%even.{r}", self.vector, *sources)
        self.add("  %odd = icmp ult i64 %most, %stop\n  br i1 %odd, label %part, label %flush")
        self.add("part:")
        mask = self.first_lanes(self.let("sub i64 %stop, %most"))
        offset = self.let(f"mul i64 %most, {self.item}")
        square = [self.masked_load(self.at(row, offset), mask) for row in self.b]
        for j, column in enumerate(self.transpose(square)):
            self.store(column, self.at_pointer(self.scratch, j * self.shape.lanes * self.item))
        self.add("  br label %single\nsingle:")
        self.phi("%j", "i64", ("%most", "part"), ("%j.next", "single"))
        head = len(self.lines)
        number = self.let("sub i64 %j, %most")
        place = self.let(f"mul i64 {number}, {self.shape.lanes * self.item}")
        pointer = self.at_pointer(self.scratch, place)
        column = self.let(f"load {self.vector}, ptr {pointer}, align {self.item}")
        sums = self._column("%j", 0, column, [f"%odd.{r}" for r in range(self.rows)])
        self.lines[head:head] = [
            self.phi_line(f"%odd.{r}", self.vector, (f"%even.{r}", "part"), (sums[r], "single"))
            for r in range(self.rows)
        ]
        self.odd = sums
        self.add("  %j.next = add i64 %j, 1\n  %j.more = icmp ult i64 %j.next, %stop")
        self.add("  br i1 %j.more, label %single, label %flush")

    def _flush(self) -> None:
        """Add the piece's sums to those of the pieces before, and store them after the last."""
        self.add("flush:")
        for r in range(self.rows):
            sources = (f"%even.{r}", "rest"), (self.odd[r], "single")
            self.phi(f"%piece.{r}", self.vector, *sources)
        for r in range(self.rows):
            self.add(f"  %total.{r}.next = fadd {self.vector} %total.{r}, %piece.{r}")
        self.add("  %again = icmp ult i64 %stop, %k")
        self.add("  br i1 %again, label %piece.begin, label %write.0")
        for r in range(self.rows):
            self.add(f"write.{r}:")
            mask = self.first_lanes("%columns")
            address = self.let(f"add i64 %c, {self.let(f'mul i64 %c_row, {r}')}")
            self.masked_store(f"%total.{r}.next", self.at(address, "0"), mask)
            following = f"write.{r + 1}" if r + 1 < self.rows else "end"
            more = self.let(f"icmp ugt i64 %rows, {r + 1}")
            self.add(f"  br i1 {more}, label %{following}, label %end")
        self.add("end:")


class _Rows(_Flat):
    """sums[rows, n] += A[rows, k] @ B[k, n]; the sums lie in whole vectors, `sum_row` bytes from
    row to row.
    """

    def __init__(self, dtype: str, shape: Block, name: str, rows: int):
        parameters = "k a a_row a_col b b_row sums sum_row rows n"
        super().__init__(dtype, shape, name, parameters, rows)

    def text(self) -> str:
        self.add(f"  %even = and i64 %n, {-self.shape.lanes}")
        self.add("  %uneven = icmp ult i64 %even, %n\n  %wide = icmp ne i64 %even, 0")
        self.mask = self.first_lanes(self.let("sub i64 %n, %even"))
        self.a = self.clamped("%a", "%a_row", "%rows", self.rows)
        self.add(f"  %most = and i64 %k, {-_GROUP}\n  %any = icmp ne i64 %most, 0")
        self.add("  br i1 %any, label %many, label %middle")
        self._groups("many", _GROUP, ("0", "entry"), "%most", "middle")
        self.add("middle:\n  %left = icmp ult i64 %most, %k")
        self.add("  br i1 %left, label %few, label %done")
        self._groups("few", 1, ("%most", "middle"), "%k", "done")
        self.add("done:")
        return self.finish()

    def _groups(self, name: str, depth: int, start: tuple[str, str], stop: str, to: str) -> None:
        """A loop over k, `depth` rows of B a turn: whole vectors, then what is left of them."""
        self.add(f"{name}:")
        self.phi(f"%{name}.k", "i64", start, (f"%{name}.next", f"{name}.last"))
        places = [self.let(f"add i64 %{name}.k, {d}") for d in range(depth)]
        factors = [[self.element(row, place) for place in places] for row in self.a]
        b = [self.let(f"add i64 %b, {self.let(f'mul i64 {p}, %b_row')}") for p in places]
        ahead = self.let(f"mul i64 %b_row, {depth}")
        self.add(f"  br i1 %wide, label %{name}.whole, label %{name}.tail")
        self.add(f"{name}.whole:")
        self.phi(f"%{name}.j", "i64", ("0", name), (f"%{name}.j.next", f"{name}.whole"))
        offset = self.let(f"mul i64 %{name}.j, {self.item}")
        pointers = [self.at(row, offset) for row in b]
        held = [self.let(f"load {self.vector}, ptr {p}, align {self.item}") for p in pointers]
        for pointer in pointers:
            self.ask(self.at_pointer(pointer, ahead))
        self._add_up(factors, held, offset)
        self.add(f"  %{name}.j.next = add i64 %{name}.j, {self.shape.lanes}")
        self.add(f"  %{name}.more = icmp ult i64 %{name}.j.next, %even")
        self.add(f"  br i1 %{name}.more, label %{name}.whole, label %{name}.tail")
        self.add(f"{name}.tail:\n  br i1 %uneven, label %{name}.part, label %{name}.last")
        self.add(f"{name}.part:")
        offset = self.let(f"mul i64 %even, {self.item}")
        held = [self.masked_load(self.at(row, offset), self.mask) for row in b]
        self._add_up(factors, held, offset)
        self.add(f"  br label %{name}.last\n{name}.last:")
        self.add(f"  %{name}.next = add i64 %{name}.k, {depth}")
        self.add(f"  %{name}.again = icmp ult i64 %{name}.next, {stop}")
        self.add(f"  br i1 %{name}.again, label %{name}, label %{to}")

    def _add_up(self, factors: list[list[str]], b: list[str], offset: str) -> None:
        for r, row in enumerate(factors):
            address = self.let(f"add i64 %sums, {self.let(f'mul i64 %sum_row, {r}')}")
            pointer = self.at(address, offset)
            total = self.let(f"load {self.vector}, ptr {pointer}, align {self.item}")
            for factor, vector in zip(row, b, strict=True):
                total = self.multiply_add(factor, vector, total)
            self.store(total, pointer)


class _Flush(Emitter):
    """C += sums, or C = 0.0 + sums if `fresh`, for n columns of a row; the sums become zero."""

    def __init__(self, dtype: str, shape: Block, name: str):
        super().__init__(dtype, shape, name, "c sums n fresh")

    def text(self) -> str:
        self.add("  %new = icmp ne i64 %fresh, 0\n  br label %loop\nloop:")
        self.add("  %j = phi i64 [ 0, %entry ], [ %j.next, %loop ]")
        mask = self.first_lanes(self.let("sub i64 %n, %j"))
        offset = self.let(f"mul i64 %j, {self.item}")
        sums, c = self.at("%sums", offset), self.at("%c", offset)
        total = self.let(f"load {self.vector}, ptr {sums}, align {self.item}")
        before = self.masked_load(c, mask)
        before = self.let(f"select i1 %new, {self.vector} zeroinitializer, {self.vector} {before}")
        self.masked_store(self.let(f"fadd {self.vector} {before}, {total}"), c, mask)
        self.store("zeroinitializer", sums)
        self.add(f"  %j.next = add i64 %j, {self.shape.lanes}\n  %more = icmp ult i64 %j.next, %n")
        self.add("  br i1 %more, label %loop, label %done\ndone:")
        return self.finish()
