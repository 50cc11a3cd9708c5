"""Tiles of few rows in words: products that take as long as reading B takes.

Invariant: the bits of `native_gemm.builtin`, which cuts k into the same pieces.
"""

from __future__ import annotations

from tracejit.codegen.words import call_word, load, stack
from tracejit.runtime.externals import memset
from tracejit.runtime.native_gemm import (
    CONTEXT_BLOCK_COLUMNS,
    CONTEXT_DOTS,
    CONTEXT_DOTS_SOME,
    CONTEXT_FLUSH,
    CONTEXT_LANES,
    CONTEXT_ROWS,
    CONTEXT_ROWS_SOME,
    GEMM_A_ROW,
    GEMM_B_COLUMN,
    GEMM_C_ROW,
    GEMM_CONTEXT,
    GEMM_ITEM,
    GEMM_K,
    GEMM_LDA,
    GEMM_LDB,
    GEMM_TRANS_A,
    GEMM_TRANS_B,
    SLIVER_BYTES,
)

SUM_BYTES = 4096  # of a row's sums: those of all rows stay in the first-level cache
SUM_WORDS = 4096  # of eight rows
KERNEL_ROWS = 4  # that one call multiplies


def few_rows(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile of at most eight rows, alpha 1 and beta 0."""
    item = load(d, GEMM_ITEM)
    a_step = item
    if load(d, GEMM_TRANS_A):
        a_step = item * load(d, GEMM_LDA)
    piece = SLIVER_BYTES // (load(load(d, GEMM_CONTEXT), CONTEXT_BLOCK_COLUMNS) * item)
    if load(d, GEMM_TRANS_B):
        return _dots(d, a, b, c, m, n, piece)
    sums = stack(SUM_WORDS)
    most = SUM_BYTES // item
    memset(sums, 0, m * SUM_BYTES)
    for column in range(0, n, most):
        columns = min(n - column, most)
        _rows(d, a, a_step, b + column * item, c + column * item, sums, m, columns, piece)
    return 0


def _dots(d: int, a: int, b: int, c: int, m: int, n: int, piece: int) -> int:
    """Where the rows of B^T lie one behind the other: as many of them as a vector has lanes."""
    context = load(d, GEMM_CONTEXT)
    lanes = load(context, CONTEXT_LANES)
    kernel = load(context, CONTEXT_DOTS_SOME)
    if m == 1:
        kernel = load(context, CONTEXT_DOTS)
    b_row = load(d, GEMM_B_COLUMN)
    a_row = load(d, GEMM_A_ROW)
    c_row = load(d, GEMM_C_ROW)
    for column in range(0, n, lanes):
        columns = min(n - column, lanes)
        for row in range(0, m, KERNEL_ROWS):
            call_word(
                kernel, load(d, GEMM_K), piece, a + row * a_row, a_row, b + column * b_row, b_row,
                c + row * c_row + column * load(d, GEMM_ITEM), c_row, min(m - row, KERNEL_ROWS),
                columns,
            )  # fmt: skip
    return 0


def _rows(
    d: int, a: int, a_step: int, b: int, c: int, sums: int, m: int, n: int, piece: int
) -> None:
    """Where the rows of B do: each piece of k in sums of its own, zero before and after."""
    context = load(d, GEMM_CONTEXT)
    kernel = load(context, CONTEXT_ROWS_SOME)
    if m == 1:
        kernel = load(context, CONTEXT_ROWS)
    b_row = load(d, GEMM_LDB) * load(d, GEMM_ITEM)
    fresh = 1
    for done in range(0, load(d, GEMM_K), piece):
        k = min(load(d, GEMM_K) - done, piece)
        from_a = a + done * a_step
        for row in range(0, m, KERNEL_ROWS):
            call_word(
                kernel, k, from_a + row * load(d, GEMM_A_ROW), load(d, GEMM_A_ROW), a_step,
                b + done * b_row, b_row, sums + row * SUM_BYTES, SUM_BYTES,
                min(m - row, KERNEL_ROWS), n,
            )  # fmt: skip
        for row in range(m):
            to = c + row * load(d, GEMM_C_ROW)
            call_word(load(context, CONTEXT_FLUSH), to, sums + row * SUM_BYTES, n, fresh)
        fresh = 0
