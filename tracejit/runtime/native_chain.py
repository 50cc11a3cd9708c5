"""Two products and the kernel between them in words, panel by panel (see `chain`).

A unit of work is a panel of rows of one matrix of the batch: the first product's rows, the kernel
on them, the second product with what it wrote. Rows that nobody else reads lie in a thread's own
piece of scratch memory, which stays in its cache. Invariant: every element is computed as by the
launches alone, and no piece is used by two threads at a time.
"""

from __future__ import annotations

from tracejit.codegen.words import (
    atomic_store,
    atomic_swap,
    call_as,
    call_word,
    load,
    pause,
    stack,
    store,
)
from tracejit.runtime.native_gemm import (
    GEMM_A,
    GEMM_A_ROW,
    GEMM_B,
    GEMM_C,
    GEMM_C_ROW,
    GEMM_CALL,
    GEMM_M,
    GEMM_N,
    GEMM_OFFSETS,
)

# Fields of a descriptor: both products' descriptors; the kernel, its table, how many words that
# has, its units for each row; rows of a panel, panels of a matrix; the scratch memory, bytes of a
# piece, how many pieces, a word for each piece that says whether it is in use.
CHAIN_FIRST, CHAIN_SECOND, CHAIN_KERNEL, CHAIN_TABLE, CHAIN_TABLE_LENGTH, CHAIN_UNITS = range(6)
CHAIN_ROWS, CHAIN_PANELS, CHAIN_SCRATCH, CHAIN_PIECE, CHAIN_PIECES, CHAIN_USED = range(6, 12)
# Bytes from row to row of what the kernel reads and writes; where the first product's rows and the
# second's lie in a piece, or -1 where they lie where the launches say; how many pointers of the
# kernel's table point to rows in the piece. Two words for each of them: its place in the table, and
# where its rows lie in the piece.
CHAIN_ROW_BYTES, CHAIN_TO, CHAIN_FROM, CHAIN_POINTERS, CHAIN_POINTER = range(12, 17)
CHAIN_WORDS = 32
CHAIN_TABLE_WORDS = 128  # at most, of the kernel's table


def chained(d: int, low: int, high: int) -> int:
    """The kernel: panels `low` to `high`."""
    table = stack(CHAIN_TABLE_WORDS)
    for i in range(load(d, CHAIN_TABLE_LENGTH)):
        store(table, i, load(load(d, CHAIN_TABLE), i))
    piece = _taken(d)
    scratch = load(d, CHAIN_SCRATCH) + piece * load(d, CHAIN_PIECE)
    panels = load(d, CHAIN_PANELS)
    for unit in range(low, high):
        _panel(d, table, scratch, unit // panels, unit % panels * load(d, CHAIN_ROWS))
    atomic_store(load(d, CHAIN_USED), 8 * piece, 0)
    return 0


def _taken(d: int) -> int:
    """The number of a piece of scratch memory that is now the caller's."""
    piece = 0
    while atomic_swap(load(d, CHAIN_USED), 8 * piece, 1):
        pause()
        piece = (piece + 1) % load(d, CHAIN_PIECES)
    return piece


def _panel(d: int, table: int, scratch: int, matrix: int, row: int) -> None:
    """All three steps for the rows of a matrix from `row` on."""
    first = load(d, CHAIN_FIRST)
    rows = min(load(d, CHAIN_ROWS), load(first, GEMM_M) - row)
    _product(first, matrix, row, rows, -1, _within(scratch, load(d, CHAIN_TO)))
    start = matrix * load(first, GEMM_M) + row
    for i in range(load(d, CHAIN_POINTERS)):
        place = load(d, CHAIN_POINTER + 2 * i)
        lies = scratch + load(d, CHAIN_POINTER + 2 * i + 1)
        store(table, place, lies - start * load(d, CHAIN_ROW_BYTES))
    units = load(d, CHAIN_UNITS)
    call_as("lll", load(d, CHAIN_KERNEL), table, start * units, (start + rows) * units)
    second = load(d, CHAIN_SECOND)
    _product(second, matrix, row, rows, _within(scratch, load(d, CHAIN_FROM)), -1)


def _within(scratch: int, offset: int) -> int:
    if offset < 0:
        return -1
    return scratch + offset


def _product(d: int, matrix: int, row: int, rows: int, a: int, c: int) -> None:
    """Rows of one matrix of a product; A and C where they lie unless an address is given."""
    offsets = load(d, GEMM_OFFSETS)
    from_a = load(d, GEMM_A) + row * load(d, GEMM_A_ROW)
    from_b = load(d, GEMM_B)
    to_c = load(d, GEMM_C) + row * load(d, GEMM_C_ROW)
    if offsets:
        from_a += load(offsets, 3 * matrix)
        from_b += load(offsets, 3 * matrix + 1)
        to_c += load(offsets, 3 * matrix + 2)
    if a != -1:
        from_a = a
    if c != -1:
        to_c = c
    call_word(load(d, GEMM_CALL), d, from_a, from_b, to_c, rows, load(d, GEMM_N))
