"""LLVM IR of the inner loops of tracejit's own matrix product: micro kernels and the packing of B.

A micro kernel keeps a block of C in vector registers: R rows by two (or four) vectors, one fused
multiply-add per row and vector for every k. How many rows and how wide follows from the processor's
registers; who calls it with what is in `runtime/native_gemm.py`. Invariant: every element of C is
one chain over k in rising order, whatever its place in the block, so a product's bits do not depend
on how it was cut along m and n.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.codegen.objects import cpu
from tracejit.codegen.vector_ir import BITS, LLVM, Block, Emitter


def block(dtype: str) -> Block:
    """The block for "f32" or "f64" on this processor: accumulators fill its vector registers but
    for a few.
    """
    features = set(cpu()[1].split(","))
    if "+avx512f" in features:
        return Block(12, 4, 2, 512 // BITS[dtype])
    if "+avx2" in features:
        return Block(6, 2, 2, 256 // BITS[dtype])
    if "+neon" in features:
        return Block(6, 2, 4, 128 // BITS[dtype])
    return Block(4, 2, 2, 128 // BITS[dtype])


def row_block(dtype: str) -> Block:
    """The block for one row of A: wide, since B is read where it lies and then comes in long runs,
    which the processor foresees; short pieces of many rows it does not.
    """
    shape = block(dtype)
    return shape._replace(rows=1, few=1, vectors=shape.rows * shape.vectors * 2 // 3)


def names(dtype: str) -> tuple[str, ...]:
    """The functions that `text` defines: micro kernels (any A, A transposed, few rows of any A, one
    row; whole blocks, of A as it lies and of A packed), packing, and transposing.
    """
    stems = "micro micro_t micro_few micro_row whole whole_packed pack pack_t turn"
    return tuple(f"{stem}_{dtype}" for stem in stems.split())


def text(dtype: str) -> str:
    """LLVM IR of the functions named by `names(dtype)`; all take words and return a word."""
    shape = block(dtype)
    micro, micro_t, micro_few, micro_row, whole, whole_packed, pack, pack_t, turn = names(dtype)
    parts = [
        declarations(dtype, shape),
        _Micro(dtype, shape, micro, shape.rows, transposed=False).text(),
        _Micro(dtype, shape, micro_t, shape.rows, transposed=True).text(),
        _Micro(dtype, shape, micro_few, shape.few, transposed=False).text(),
        _Micro(dtype, row_block(dtype), micro_row, 1, transposed=False).text(),
        _Whole(dtype, shape, whole, packed=False).text(),
        _Whole(dtype, shape, whole_packed, packed=True).text(),
        _Pack(dtype, shape, pack).text(),
        _PackTransposed(dtype, shape, pack_t).text(),
        _PackTransposed(dtype, shape, turn, exact=True).text(),
    ]
    return "\n".join(parts)


def declarations(dtype: str, shape: Block) -> str:
    vector, suffix = f"<{shape.lanes} x {LLVM[dtype]}>", f"v{shape.lanes}{dtype}"
    mask = f"<{shape.lanes} x i1>"
    return (
        f"declare {vector} @llvm.fmuladd.{suffix}({vector}, {vector}, {vector})\n"
        f"declare {vector} @llvm.masked.load.{suffix}.p0(ptr, i32, {mask}, {vector})\n"
        f"declare void @llvm.masked.store.{suffix}.p0({vector}, ptr, i32, {mask})\n"
        "declare i64 @llvm.umin.i64(i64, i64)\n"
    )


class _Micro(Emitter):
    """C[rows, columns] = alpha * A[rows, k] @ B[k, columns] + beta * C, all strides in bytes.

    `transposed` fixes the distance of A's rows to one element (then all rows must exist); otherwise
    it is a parameter, and rows past `rows` read the last one again and are not stored.
    """

    def __init__(self, dtype: str, shape: Block, name: str, rows: int, transposed: bool):
        super().__init__(
            dtype, shape, name, "k a a_row a_col b b_row c c_row rows columns alpha beta"
        )
        self.rows = rows
        self.transposed = transposed

    def text(self) -> str:
        masks = [self._mask(j) for j in range(self.shape.vectors)]
        row_bases = self._row_bases()
        sums = self._loop(row_bases)
        self._store(sums, masks)
        return self.finish()

    def _mask(self, j: int) -> str:
        return self.first_lanes(self.let(f"sub i64 %columns, {j * self.shape.lanes}"))

    def _row_bases(self) -> list[str]:
        """For each row the address of its first element."""
        if self.transposed:
            return [self.let(f"add i64 %a, {r * self.item}") for r in range(self.rows)]
        last = self.let("sub i64 %rows, 1")
        bases = []
        for r in range(self.rows):
            row = self.let(f"call i64 @llvm.umin.i64(i64 {r}, i64 {last})")
            bases.append(self.let(f"add i64 %a, {self.let(f'mul i64 {row}, %a_row')}"))
        return bases

    def _loop(self, bases: list[str]) -> list[list[str]]:
        """The loop over k; the names of the accumulators after it."""
        vectors = self.shape.vectors
        self.add("  br label %loop\nloop:")
        for phi in ("i", "a_at", "b_at"):
            self.add(f"  %{phi} = phi i64 [ 0, %entry ], [ %{phi}.next, %loop ]")
        grid = [[f"%acc.{r}.{j}" for j in range(vectors)] for r in range(self.rows)]
        for name in (name for row in grid for name in row):
            self.add(
                f"  {name} = phi {self.vector} [ zeroinitializer, %entry ], [ {name}.next, %loop ]"
            )
        base = self.let("add i64 %b, %b_at")
        b = [self.load(base, j) for j in range(vectors)]
        for r, address in enumerate(bases):
            a = self.splat(
                self.let(f"load {self.scalar}, ptr {self.at(address, '%a_at')}, align {self.item}")
            )
            for j in range(vectors):
                total = self.multiply_add(a, b[j], grid[r][j])
                self.lines[-1] = self.lines[-1].replace(total, f"{grid[r][j]}.next", 1)
        self.add("  %i.next = add i64 %i, 1")
        self.add("  %a_at.next = add i64 %a_at, %a_col\n  %b_at.next = add i64 %b_at, %b_row")
        self.add(
            "  %more = icmp ult i64 %i.next, %k\n  br i1 %more, label %loop, label %done\ndone:"
        )
        return [[f"{name}.next" for name in row] for row in grid]

    def _store(self, sums: list[list[str]], masks: list[str]) -> None:
        """alpha * sum, plus beta * C unless beta is zero, into the rows that exist.

        A product that underflows to -0.0 is stored as 0.0, as sums with zeros ask (`joins`).
        """
        alpha = self.from_word("%alpha")
        self.add(f"  %shifted = shl i64 %beta, {64 - BITS[self.dtype] + 1}")  # -0.0 is zero too
        self.add("  %fresh = icmp eq i64 %shifted, 0\n  br i1 %fresh, label %fresh.0, label %old.0")
        for kind in ("fresh", "old"):
            for r, row in enumerate(sums):
                self.add(f"{kind}.{r}:")
                beta = self.from_word("%beta") if kind == "old" else ""
                address = self.let(f"add i64 %c, {self.let(f'mul i64 %c_row, {r}')}")
                for j, total in enumerate(row):
                    pointer = self.at(address, str(j * self.shape.lanes * self.item))
                    value = self.let(f"fmul {self.vector} {alpha}, {total}")
                    if kind == "fresh":
                        value = self.let(f"fadd {self.vector} {value}, zeroinitializer")
                    else:
                        value = self.multiply_add(beta, self.masked_load(pointer, masks[j]), value)
                    self.masked_store(value, pointer, masks[j])
                following = f"{kind}.{r + 1}" if r + 1 < self.rows else "end"
                more = self.let(f"icmp ugt i64 %rows, {r + 1}")
                self.add(f"  br i1 {more}, label %{following}, label %end")
        self.add("end:")


class _Whole(Emitter):
    """A block of C that is all there: A @ B where beta is zero, else C + A @ B, rounded as in
    `_Micro` with alpha 1.

    Without masks, with four steps of k between branches and with strides that are literals it
    spares a seventh of the time at k = 192. B is packed; A is packed, or its columns are
    neighbours.
    """

    unroll = 4

    def __init__(self, dtype: str, shape: Block, name: str, packed: bool):
        super().__init__(
            dtype, shape, name, "k a a_row a_col b b_row c c_row rows columns alpha beta"
        )
        self.packed = packed
        self.a_step = shape.width * self.item if packed else self.item
        self.b_step = shape.columns * self.item
        self.places = [(r, j) for r in range(shape.rows) for j in range(shape.vectors)]

    def text(self) -> str:
        bases = self._row_bases()
        zeros = ["zeroinitializer"] * len(self.places)
        self.add(f"  %most = and i64 %k, {-self.unroll}\n  %any = icmp ne i64 %most, 0")
        self.add("  br i1 %any, label %many, label %middle")
        sums = self._loop("many", ("entry", "0", "%most", "middle"), bases, zeros)
        sums = self._join("middle", {"entry": zeros, "many": sums})
        self.add("  %left = icmp ult i64 %most, %k\n  br i1 %left, label %few, label %done")
        rest = self._loop("few", ("middle", "%most", "%k", "done"), bases, sums)
        self._store(self._join("done", {"middle": sums, "few": rest}))
        return self.finish()

    def _row_bases(self) -> list[tuple[str, int]]:
        """For each row an address and the bytes from there to its first element."""
        rows = range(self.shape.rows)
        if self.packed:
            return [("%a", r * self.item) for r in rows]
        return [(self.let(f"add i64 %a, {self.let(f'mul i64 %a_row, {r}')}"), 0) for r in rows]

    def _join(self, block: str, sums: dict[str, list[str]]) -> list[str]:
        """Begin a block; `sums` are those of the blocks that it is reached from."""
        self.add(f"{block}:")
        found = []
        for i in range(len(self.places)):
            sources = ", ".join(f"[ {names[i]}, %{origin} ]" for origin, names in sums.items())
            found.append(self.let(f"phi {self.vector} {sources}"))
        return found

    def _loop(
        self, name: str, run: tuple[str, str, str, str], bases: list[tuple[str, int]],
        sums: list[str],
    ) -> list[str]:  # fmt: skip
        """A loop over k; `run` are the block before, first and last k, the block after. The sums
        at its end.
        """
        before, first, last, after = run
        self.add(f"{name}:")
        head = len(self.lines)
        held = [f"%{name}.{i}" for i in range(len(sums))]
        b_at = self.let(f"add i64 %b, {self.let(f'mul i64 %{name}.k, {self.b_step}')}")
        a_at = self.let(f"mul i64 %{name}.k, {self.a_step}")
        count = self.unroll if name == "many" else 1
        ends = held
        for step in range(count):
            ends = self._step(bases, a_at, b_at, step, ends)
        phis = [f"  %{name}.k = phi i64 [ {first}, %{before} ], [ %{name}.next, %{name} ]"]
        for phi, start, end in zip(held, sums, ends, strict=True):
            phis.append(f"  {phi} = phi {self.vector} [ {start}, %{before} ], [ {end}, %{name} ]")
        self.lines[head:head] = phis
        self.add(f"  %{name}.next = add i64 %{name}.k, {count}")
        self.add(f"  %{name}.more = icmp ult i64 %{name}.next, {last}")
        self.add(f"  br i1 %{name}.more, label %{name}, label %{after}")
        return ends

    def _step(
        self, bases: list[tuple[str, int]], a_at: str, b_at: str, step: int, sums: list[str]
    ) -> list[str]:
        """One k: a row of B times an element of each row of A."""
        count = self.shape.vectors
        b = [self.load(b_at, step * count + j) for j in range(count)]
        ends = []
        for r, (base, offset) in enumerate(bases):
            row = self.at(base, a_at)
            pointer = self.at_pointer(row, offset + step * self.a_step)
            a = self.splat(self.let(f"load {self.scalar}, ptr {pointer}, align {self.item}"))
            ends += [self.multiply_add(a, b[j], sums[r * count + j]) for j in range(count)]
        return ends

    def _store(self, sums: list[str]) -> None:
        """The sums, plus C unless beta is zero; never -0.0."""
        self.add(f"  %shifted = shl i64 %beta, {64 - BITS[self.dtype] + 1}")
        self.add("  %fresh = icmp eq i64 %shifted, 0\n  br i1 %fresh, label %new, label %old")
        for kind in ("new", "old"):
            self.add(f"{kind}:")
            for (r, j), total in zip(self.places, sums, strict=True):
                address = self.let(f"add i64 %c, {self.let(f'mul i64 %c_row, {r}')}")
                pointer = self.at(address, str(j * self.shape.lanes * self.item))
                other = "zeroinitializer"
                if kind == "old":
                    other = self.load(address, j)
                self.store(self.let(f"fadd {self.vector} {total}, {other}"), pointer)
            self.add("  br label %end")
        self.add("end:")


class _Pack(Emitter):
    """Copy k rows of `columns` elements, `b_row` bytes apart, to rows `to_row` bytes apart, zeros
    behind.

    Writes as many vectors a row as a block has, in rising order of address.
    """

    def __init__(self, dtype: str, shape: Block, name: str):
        super().__init__(dtype, shape, name, "k b b_row to to_row columns")

    def text(self) -> str:
        masks = [
            self.first_lanes(self.let(f"sub i64 %columns, {j * self.shape.lanes}"))
            for j in range(self.shape.vectors)
        ]
        self.add("  br label %loop\nloop:")
        for phi, start in (("i", "0"), ("source", "%b"), ("target", "%to")):
            self.add(f"  %{phi} = phi i64 [ {start}, %entry ], [ %{phi}.next, %loop ]")
        for j, mask in enumerate(masks):
            offset = str(j * self.shape.lanes * self.item)
            value = self.masked_load(self.at("%source", offset), mask)
            self.store(value, self.at("%target", offset))
        self.add(
            "  %source.next = add i64 %source, %b_row\n  %target.next = add i64 %target, %to_row"
        )
        self.add("  %i.next = add i64 %i, 1\n  %more = icmp ult i64 %i.next, %k")
        self.add("  br i1 %more, label %loop, label %done\ndone:")
        return self.finish()


class _PackTransposed(Emitter):
    """Transpose `columns` (at most one vector) rows of k elements, `b_row` bytes apart, to k rows.

    Works on squares of one vector each way, by a butterfly of shuffles: first on whole squares,
    then, with masks, on what is left of k or on fewer columns than a vector has. Writes whole
    vectors, or, if it is `exact`, no more than there is.
    """

    def __init__(self, dtype: str, shape: Block, name: str, exact: bool = False):
        super().__init__(dtype, shape, name, "k b b_row to to_row columns")
        self.exact = exact

    def text(self) -> str:
        lanes = self.shape.lanes
        self.add(f"  %wide = icmp eq i64 %columns, {lanes}")
        self.add(f"  %even = and i64 %k, {-lanes}\n  %most = select i1 %wide, i64 %even, i64 0")
        self.add("  %any = icmp ne i64 %most, 0\n  br i1 %any, label %whole, label %whole.end")
        self._squares("whole", "[ 0, %entry ]", "%most", self._whole)
        self.add("whole.end:\n  %rest = icmp ult i64 %most, %k")
        self.add("  br i1 %rest, label %part, label %done")
        self._squares("part", "[ %most, %whole.end ]", "%k", self._part)
        self.add("part.end:\n  br label %done\ndone:")
        return self.finish()

    def _squares(
        self, name: str, start: str, stop: str, square: Callable[[str, str], None]
    ) -> None:
        """A loop over squares; `square` emits one."""
        self.add(f"{name}:\n  %{name}.i = phi i64 {start}, [ %{name}.next, %{name}.last ]")
        source = self.let(f"add i64 %b, {self.let(f'mul i64 %{name}.i, {self.item}')}")
        target = self.let(f"add i64 %to, {self.let(f'mul i64 %{name}.i, %to_row')}")
        square(source, target)
        self.add(f"  br label %{name}.last\n{name}.last:")
        self.add(f"  %{name}.next = add i64 %{name}.i, {self.shape.lanes}")
        self.add(f"  %{name}.more = icmp ult i64 %{name}.next, {stop}")
        self.add(f"  br i1 %{name}.more, label %{name}, label %{name}.end")

    def _whole(self, source: str, target: str) -> None:
        rows = []
        for r in range(self.shape.lanes):
            address = self.let(f"add i64 {source}, {self.let(f'mul i64 %b_row, {r}')}")
            rows.append(self.load(address, 0))
        for r, row in enumerate(self.transpose(rows)):
            self.store(row, self.at(target, self.let(f"mul i64 %to_row, {r}")))

    def _part(self, source: str, target: str) -> None:
        left = self.let("sub i64 %k, %part.i")
        square = [self._load_row(source, r, left) for r in range(self.shape.lanes)]
        mask = self.first_lanes("%columns") if self.exact else ""
        for r, row in enumerate(self.transpose(square)):
            pointer = self.at(target, self.let(f"mul i64 %to_row, {r}"))
            if self.exact:
                self.masked_store(row, pointer, mask)
            else:
                self.store(row, pointer)
            following = f"row.{r + 1}" if r + 1 < self.shape.lanes else "stored"
            more = self.let(f"icmp ugt i64 {left}, {r + 1}")
            self.add(f"  br i1 {more}, label %{following}, label %stored\n{following}:")

    def _load_row(self, source: str, r: int, left: str) -> str:
        """A vector of row r: no lane past the row's end, and none at all past the last row."""
        exists = self.let(f"icmp ugt i64 %columns, {r}")
        count = self.let(f"select i1 {exists}, i64 {left}, i64 0")
        address = self.let(f"add i64 {source}, {self.let(f'mul i64 %b_row, {r}')}")
        return self.masked_load(self.at(address, "0"), self.first_lanes(count))
