"""Matrix products, eager and as steps of a program, by one provider chosen at start-up.

A provider is a serial library function called by address on tiles; how a product is cut into tiles
depends on its shape alone. Eager and compiled code build the same descriptor, so their bits agree
at every thread count. Invariant: no product ever reads outside its operands, and with beta 0 none
reads C.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tracejit import config
from tracejit.runtime import gemm_libraries, native
from tracejit.runtime import native_gemm as layout
from tracejit.runtime.buffers import empty_maker
from tracejit.runtime.driver import Words, aligned_words
from tracejit.runtime.gemm_code import add_few_rows, add_micro_kernels, bits_of, linked_words
from tracejit.runtime.gemm_cut import (
    LEAST_COLUMNS,
    add_parts,
    builtin_tile_shape,
    cut_along_k,
    part_places,
    part_steps,
    tile_shape,
)
from tracejit.runtime.gemm_libraries import Library
from tracejit.runtime.program import Step, address_of
from tracejit.runtime.recorded import call, plain
from tracejit.runtime.tables import ArrayAt, At, Table
from tracejit.runtime.threads import get_num_threads, ready_driver

Array = np.ndarray[Any, Any]

_SERIAL_WORK = 1 << 18  # multiply-adds (a few microseconds) that are not worth a second thread
_TALL = 32  # rows from which on a product of few columns is worked out transposed
_lock = threading.Lock()


class Epilogue(NamedTuple):
    """A kernel run on every panel of finished rows, while they are in cache: `kernel(table, lo,
    hi)`.

    `units_per_row` is n for a kernel over the elements of C and 1 for a kernel over its rows; rows
    are numbered through the whole batch.
    """

    kernel: int
    table: Any
    units_per_row: int


_holders: dict[int, Words] = {}  # by the function that sets a library's threads


class Provider:
    """A library function for one dtype, linked and guarded. Use `provider(dtype)`."""

    def __init__(self, dtype: np.dtype[Any], library: Library):
        native_driver = ready_driver()
        self.name = library.name
        self.dtype = dtype
        self.library = library
        self._linked = linked_words()
        self.addresses = self._linked.addresses
        self.call = self.addresses[library.call]
        self.guard = guard = aligned_words(layout.CONTEXT_WORDS)
        process_wide = library.get_threads != 0 and not library.threads_are_local
        guard[native.GUARD_ENTER] = self.addresses["enter" if process_wide else "nothing"]
        guard[native.GUARD_LEAVE] = self.addresses["leave" if process_wide else "nothing"]
        guard[native.GUARD_STATE] = address_of(native_driver.state)
        guard[native.GUARD_KERNEL] = self.addresses["gemm_tiles"]
        guard[layout.CONTEXT_GET] = library.get_threads
        guard[layout.CONTEXT_SET] = library.set_threads
        if library.call == "builtin":
            self._kernels = [add_micro_kernels(guard, dtype)]
        self.held = _holders.setdefault(library.set_threads, guard) if process_wide else None
        """What a program holds while it runs: one guard for a library, whatever the dtypes."""
        self.run: Callable[..., None] = native_driver.builtin("guarded_entry", "gemm", guard)

    def prepare(self, rows: int) -> None:
        """Link what is made for few rows at the first product that has so few: not all need it."""
        if rows <= layout.FEW_ROWS and self.library.call == "builtin":
            with _lock:
                if not self.guard[layout.CONTEXT_FEW_ROWS]:
                    self._kernels.append(add_few_rows(self.guard, self.dtype))


class Product(NamedTuple):
    """A product as a step. Patch the words `a`, `b`, `c` (addresses) with operands that come as
    arguments; `n` are the columns of C, `tiles` those of one matrix, down and across.
    """

    step: Step
    table: Table
    n: Any
    tiles: tuple[Any, Any]
    keep: tuple[Any, ...]

    @property
    def a(self) -> At:
        """The word that holds the address of A."""
        return At(self.table, layout.GEMM_A)

    @property
    def b(self) -> At:
        """The word that holds the address of B."""
        return At(self.table, layout.GEMM_B)

    @property
    def c(self) -> At:
        """The word that holds the address of C."""
        return At(self.table, layout.GEMM_C)

    def add_epilogue(self, epilogue: Epilogue) -> None:
        """Enter an epilogue and the counters of panels into the descriptor."""
        words = self.table.words
        across = self.tiles[1]
        left = call(_counters, self.step.units, across)
        words[layout.GEMM_LEFT] = ArrayAt(left)
        words[layout.GEMM_EPILOGUE] = epilogue.kernel
        words[layout.GEMM_EPILOGUE_TABLE] = epilogue.table
        words[layout.GEMM_EPILOGUE_UNITS] = epilogue.units_per_row


def _counters(tiles: int, across: int) -> Words:
    """For each panel its tiles that are still to be done."""
    return np.full(max(1, tiles // across), across, np.int64)


class Layout(NamedTuple):
    """How a row-major matrix lies in memory: elements from row to row, and whether it is read
    transposed.
    """

    leading: int
    transposed: bool = False


def parts_of(dtype: np.dtype[Any], m: int, n: int, k: int) -> int:
    """Parts that a product is cut into along k; only tracejit's own are, which have no -0.0."""
    return call(cut_along_k, m, n, k) if provider(dtype).library.call == "builtin" else 1


def product(
    dtype: np.dtype[Any],
    sizes: tuple[int, int, int],
    a: Layout,
    b: Layout,
    c: Layout,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    matrices: int = 1,
    offsets: Any = None,
    epilogue: Epilogue | None = None,
) -> Product:
    """C = alpha * op(A) @ op(B) + beta * C as a step of a program.

    Arguments: `dtype` float32 or float64; `sizes` m, n, k, each 0 or more; `a`, `b`, `c` the
    layouts (C is never transposed); `offsets` for a batch of so many `matrices`, the bytes from the
    operands' addresses to each of its matrices (three int64 each). Sizes may be recorded numbers,
    and `offsets` what a record computes. The addresses of A, B and C are the words `a`, `b`, `c` of
    the result, 0 until they are set or patched. Raises ValueError for other dtypes, and for k = 0
    with a beta other than 0 or 1.

    Example: ``product(np.dtype("f4"), (32, 256, 784), Layout(784), Layout(256), Layout(256))``.
    """
    chosen = provider(dtype)
    words, units, grain, tiles = _describe(chosen, sizes, (a, b, c), (alpha, beta), matrices)
    table = Table([*words, *[0] * (layout.GEMM_WORDS - len(words))])
    if offsets is not None:
        table.words[layout.GEMM_OFFSETS] = ArrayAt(offsets)
    step = Step(chosen.addresses["gemm_tiles"], At(table), units, grain, chosen.held)
    made = Product(step, table, sizes[1], tiles, (chosen,))
    if epilogue is not None:
        made.add_epilogue(epilogue)
    return made


def _describe(
    chosen: Provider,
    sizes: tuple[int, int, int],
    layouts: tuple[Layout, Layout, Layout],
    factors: tuple[float, float],
    matrices: int,
) -> tuple[list[int], int, int, tuple[int, int]]:
    """The words of a descriptor without addresses, its units, its grain, and the tiles down and
    across.
    """
    m, n, k = sizes
    a, b, c = layouts
    item = chosen.dtype.itemsize
    chosen.prepare(plain(m))
    if chosen.library.call == "builtin":
        unit = int(chosen.guard[layout.CONTEXT_BLOCK_ROWS])
        rows, columns = call(builtin_tile_shape, m, n, k, unit, get_num_threads())
    else:
        rows, columns = call(tile_shape, m, n, k)
    down, across = -(-m // rows), -(-n // columns)
    routine = _routine(chosen, sizes, c, factors[1])
    words = [0] * (layout.GEMM_CONTEXT + 1)
    words[layout.GEMM_LDA : layout.GEMM_K + 1] = (
        *(a.leading, b.leading, c.leading),
        *(int(a.transposed), int(b.transposed)),
        *sizes,
    )
    words[layout.GEMM_ALPHA : layout.GEMM_LIBRARY + 1] = (
        *(bits_of(chosen.dtype, factor) for factor in factors),
        *(routine, chosen.library.function),
    )
    words[layout.GEMM_TILE_M : layout.GEMM_ITEM + 1] = (
        *(rows, columns, down, across),
        item if a.transposed else item * a.leading,
        item * b.leading if b.transposed else item,
        *(item * c.leading, item),
    )
    words[layout.GEMM_CONTEXT] = address_of(chosen.guard)
    return words, matrices * down * across, call(_grain, rows, columns, k), (down, across)


def _grain(rows: int, columns: int, k: int) -> int:
    """Tiles that are worth a second thread."""
    return max(1, _SERIAL_WORK // max(1, rows * max(columns, LEAST_COLUMNS) * k))


def _routine(
    chosen: Provider, sizes: tuple[int, int, int], c: Layout, beta: float
) -> int:  # fmt: skip
    """The address of what computes a tile."""
    m, n, k = sizes
    if k == 0:
        if beta not in (0.0, 1.0):
            raise ValueError(f"product over k = 0 with beta = {beta}: expected 0 or 1")
        return chosen.addresses["zeros" if beta == 0 else "nothing"]
    if n == 1 and c.leading == 1 and chosen.library.call == "builtin":
        return chosen.addresses["builtin_column"]
    if chosen.library.call == "builtin" and beta == 0 and m >= _TALL:
        if n <= int(chosen.guard[layout.CONTEXT_LANES]):
            return chosen.addresses["builtin_narrow"]
    return chosen.call


# The provider

BUILTIN = Library("builtin", "builtin", 0)
_providers: dict[tuple[str, str], Provider] = {}


def provider(dtype: np.dtype[Any]) -> Provider:
    """Who multiplies matrices of `dtype` (float32 or float64), as `config.gemm` says; "auto" takes
    the fastest there is.

    Raises ValueError for another dtype, or for a library that `config.gemm` asks for and that is
    not there.
    """
    key = (dtype.str[1:], config.gemm)
    found = _providers.get(key)
    if found is None:
        with _lock:
            found = _providers.get(key)
            if found is None:
                found = _providers[key] = _choose(dtype, config.gemm)
    return found


def _choose(dtype: np.dtype[Any], wish: str) -> Provider:
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"no native matrix product for {dtype}")
    if wish not in ("auto", "builtin", "openblas", "onednn"):
        raise ValueError(f"config.gemm = {wish!r}: expected auto, builtin, openblas or onednn")
    if wish == "onednn" and dtype == np.dtype(np.float64):
        wish = "auto"  # it has float32 only
    if wish in ("auto", "builtin"):
        return Provider(dtype, BUILTIN)
    library = gemm_libraries.find(wish, dtype)
    if library is None:
        raise ValueError(
            f"config.gemm = {wish!r}, but there is no such library in this installation"
        )
    return Provider(dtype, library)


def _after_fork() -> None:
    """Runs of other threads did not come along into a forked child: what they held is let go."""
    for found in _providers.values():
        guard = found.guard
        guard[layout.CONTEXT_LOCK] = 0
        if guard[layout.CONTEXT_USERS]:
            guard[layout.CONTEXT_USERS] = 1
            ready_driver().call_at(found.addresses["leave"], address_of(guard))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Eager


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b`` with the rank and broadcasting rules of NumPy and torch.

    Arguments: `a`, `b` arrays of one dtype with at least one dimension; transposed views are read
    as they lie, other strided views are copied. `out` is a C-contiguous array of the result's shape
    and dtype, which may not overlap the operands. float32 and float64 go to the provider, float16
    is accumulated in float32, and integers are exact (they wrap). Raises ValueError for shapes that
    do not fit and TypeError for dtypes that differ.

    Example: ``matmul(np.ones((32, 64, 32), "f4"), np.ones((32, 16), "f4")).shape`` is ``(32, 64,
    16)``.
    """
    key = (a.dtype, a.shape, a.strides, b.dtype, b.shape, b.strides, config.gemm)
    plan = _plans.get(key)
    if plan is None:
        plan = _plan(a, b)
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan(a, b, out)


def _plan(a: Array, b: Array) -> Callable[[Array, Array, Array | None], Array]:
    """How operands of these dtypes, shapes and strides are multiplied."""
    if a.dtype != b.dtype:
        raise TypeError(f"matmul: dtypes {a.dtype} and {b.dtype} differ")
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul: a 0-d operand")
    if a.dtype == np.float16:
        return _multiply_halves
    if a.dtype not in (np.float32, np.float64):
        return _multiply_integers
    return _EagerProduct(a, b)


def _multiply_halves(a: Array, b: Array, out: Array | None) -> Array:
    wide = matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    if out is None:
        return wide
    _checked(out, wide.shape, wide.dtype)[...] = wide
    return out


def _multiply_integers(a: Array, b: Array, out: Array | None) -> Array:
    return np.matmul(a, b) if out is None else np.matmul(a, b, out=out)


def _checked(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(f"matmul: out must be a contiguous {dtype} array of shape {shape}")
    return out


class _EagerProduct:
    """The descriptor of a product of arrays, all but the addresses: made once for shapes,
    strides and dtype.
    """

    def __init__(self, a: Array, b: Array):
        left = a[None, :] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
        batch = _batch_shape(a, b, left, right)
        self.dtype = a.dtype
        self.shape = (*batch, *(() if a.ndim == 1 else (m,)), *(() if b.ndim == 1 else (n,)))
        self.is_empty = 0 in self.shape
        self.parts = parts_of(a.dtype, m, n, k) if math.prod(batch) == 1 else 1
        if right.ndim == 2 and left.ndim > 2 and left.flags.c_contiguous:
            left, batch, m = left.reshape(-1, k), (), m * math.prod(batch)  # one tall matrix
        self.copy_a, layout_a, strides_a = _reading(left)
        self.copy_b, layout_b, strides_b = _reading(right)
        chosen = provider(a.dtype)
        layouts = (layout_a, layout_b, Layout(n))
        sizes = (m, n, k // self.parts)
        words, self.units, self.grain, _ = _describe(
            chosen, sizes, layouts, (1.0, 0.0), math.prod(batch) * self.parts
        )
        if self.parts > 1:
            self.scratch = (self.parts, m, n)
            self._places = part_places(a.itemsize, self.parts, part_steps(sizes, layouts))
            words[layout.GEMM_OFFSETS] = address_of(self._places)
        elif batch:
            shapes = (left.shape[:-2], strides_a[:-2]), (right.shape[:-2], strides_b[:-2])
            self._places = _places(shapes, batch, m * n * a.itemsize)
            words[layout.GEMM_OFFSETS] = address_of(self._places)
        self.words = tuple(words[layout.GEMM_LDA :])
        self.run = chosen.run
        self.make = empty_maker(a.dtype)

    def __call__(self, a: Array, b: Array, out: Array | None) -> Array:
        if out is None:
            result = self.make(self.shape)
        else:
            result = _checked(out, self.shape, self.dtype)
        if self.is_empty:
            return result
        if self.copy_a:
            a = np.ascontiguousarray(a)
        if self.copy_b:
            b = np.ascontiguousarray(b)
        if self.parts == 1:
            self.run(self.units, self.grain, a, b, result, *self.words)
            return result
        parts = self.make(self.scratch)
        self.run(self.units, self.grain, a, b, parts, *self.words)
        add_parts(parts, result.reshape(parts.shape[1:]))
        return result


_plans: dict[tuple[Any, ...], Callable[[Array, Array, Array | None], Array]] = {}
_MOST_PLANS = 4096


def _batch_shape(a: Array, b: Array, left: Array, right: Array) -> tuple[int, ...]:
    fits = right.shape[-2] == left.shape[-1]
    if fits and left.ndim == 2 and right.ndim == 2:
        return ()
    try:
        if fits:
            return np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        pass
    raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit")


def _reading(matrices: Array) -> tuple[bool, Layout, tuple[int, ...]]:
    """Whether the matrices must be copied first, how they (or the copies) lie, and the strides
    then.
    """
    rows, columns = matrices.strides[-2:]
    m, n = matrices.shape[-2:]
    item = matrices.itemsize
    if (columns == item or n <= 1) and (m <= 1 or (rows >= n * item and rows % item == 0)):
        return False, Layout(max(n, 1) if m <= 1 else rows // item), matrices.strides
    if (rows == item or m <= 1) and (n <= 1 or (columns >= m * item and columns % item == 0)):
        return False, Layout(max(m, 1) if n <= 1 else columns // item, True), matrices.strides
    return True, Layout(n), np.ascontiguousarray(matrices).strides


Stack = tuple[tuple[int, ...], tuple[int, ...]]


def _places(stacks: tuple[Stack, Stack], batch: tuple[int, ...], c_bytes: int) -> Words:
    """For every matrix of a batch, how many bytes behind the operands' beginnings its A, B and C
    begin.

    `stacks` are shape and strides of the operands' batch dimensions, which broadcast to `batch`.
    """
    table = np.empty((math.prod(batch), 3), np.int64)
    for column, (shape, strides) in enumerate(stacks):
        offsets = np.zeros((), np.int64)
        missing = len(batch) - len(shape)
        for axis, size in enumerate(batch):
            own = axis - missing
            step = strides[own] if own >= 0 and shape[own] != 1 else 0
            offsets = np.add.outer(offsets, np.arange(size) * step)
        table[:, column] = offsets.reshape(-1)
    table[:, 2] = np.arange(len(table)) * c_bytes
    return table
