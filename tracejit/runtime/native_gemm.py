"""Matrix multiplication as a kernel of tiles, in words: each tile is one serial call of a library.

The table is a descriptor; its units are the tiles of all matrices of a batch. How a product is cut
depends on its shape alone, and every tile is computed by one thread, so the bits do not depend on
how many threads there are. Invariant: C = alpha * op(A) @ op(B) + beta * C, row-major; with beta 0,
C is never read.
"""

from __future__ import annotations

from tracejit.codegen.words import (
    atomic_add,
    atomic_swap,
    call_as,
    call_word,
    load,
    pause,
    stack,
    store,
)
from tracejit.runtime.externals import memset

# Fields of a descriptor. Leading dimensions are in elements, all other distances in bytes.
GEMM_A, GEMM_B, GEMM_C = 0, 1, 2
GEMM_LDA, GEMM_LDB, GEMM_LDC = 3, 4, 5
GEMM_TRANS_A, GEMM_TRANS_B = 6, 7  # 0 or 1
GEMM_M, GEMM_N, GEMM_K = 8, 9, 10
GEMM_ALPHA, GEMM_BETA = 11, 12  # bits of a float or a double
GEMM_CALL = 13  # one of the functions below that call a library
GEMM_LIBRARY = 14  # the library's function
GEMM_TILE_M, GEMM_TILE_N = 15, 16
GEMM_ROWS, GEMM_COLUMNS = 17, 18  # tiles down and across one matrix
GEMM_A_ROW, GEMM_B_COLUMN, GEMM_C_ROW, GEMM_ITEM = 19, 20, 21, 22
GEMM_OFFSETS = 23  # 0 for one matrix, else three words for every matrix: where its A, B and C begin
GEMM_LEFT = (
    24  # 0, or a word for every panel (all tiles with the same rows): its tiles not yet done
)
GEMM_EPILOGUE, GEMM_EPILOGUE_TABLE = (
    25,
    26,
)  # kernel run on the rows of a finished panel, and its table
GEMM_EPILOGUE_UNITS = 27  # units per row
GEMM_CONTEXT = 28  # the provider's context
GEMM_WORDS = 32

# Fields of a provider's context: it is a guard (see `native`), and goes on where a guard's own
# fields end.
CONTEXT_LOCK, CONTEXT_USERS, CONTEXT_BEFORE, CONTEXT_GET, CONTEXT_SET = 8, 9, 10, 11, 12
CONTEXT_MICRO, CONTEXT_MICRO_T, CONTEXT_MICRO_FEW, CONTEXT_MICRO_ROW = 16, 17, 18, 19
CONTEXT_WHOLE, CONTEXT_WHOLE_PACKED, CONTEXT_PACK, CONTEXT_PACK_T, CONTEXT_TURN = 20, 21, 22, 23, 24
CONTEXT_BLOCK_ROWS, CONTEXT_BLOCK_FEW, CONTEXT_BLOCK_COLUMNS = 25, 26, 27
CONTEXT_LANES, CONTEXT_ONE = 28, 29
CONTEXT_A_WIDTH = 30  # bytes from one k to the next in a packed block of A
CONTEXT_ROW_COLUMNS = 31  # of a block for one row of A
CONTEXT_FEW_ROWS = 32  # what multiplies a tile of at most FEW_ROWS rows (`native_gemv`), or 0
CONTEXT_DOTS, CONTEXT_DOTS_SOME, CONTEXT_ROWS, CONTEXT_ROWS_SOME, CONTEXT_FLUSH = 33, 34, 35, 36, 37
CONTEXT_STRIPE, CONTEXT_PACK_ROWS, CONTEXT_PACKS_A, CONTEXT_FINISH = 38, 39, 40, 41  # see below
CONTEXT_WORDS = 48
FEW_ROWS, FEW_DOTS = 8, 4  # rows of A that are few, and where B is transposed

SLIVER_BYTES = 24576  # of packed B: it stays in the first-level cache beside a stripe of A
SLIVER_WORDS = SLIVER_BYTES // 8 + 64
PANEL_BYTES = 278528  # of packed A, 264 rows with AVX-512: it stays in the second-level cache
PANEL_WORDS = PANEL_BYTES // 8 + 64
PACK_A_STEP, PACK_A_COLUMNS = (
    1024,
    64,
)  # bytes from k to k, and columns of B, from which on it pays to pack A
FAR_ROWS, FAR_COLUMNS = 4096, 128  # as much from row to row, for an A that is not transposed
STRIP_ROWS = 16  # of a transposed A, packed for all blocks before the next ones
TURNED_COLUMNS = 128  # of the transpose of a tile with few columns, at a time
TURNED_WORDS = 2048  # for as many rows as a vector has elements
DIRECT_ROWS = 24  # with no more rows than this, packing B costs more than it saves

CBLAS_ROW_MAJOR, CBLAS_NO_TRANS = 101, 111  # CblasTrans is CblasNoTrans + 1
LETTER_N, LETTER_T = 78, 84


def cblas64_f32(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile by `cblas_sgemm` with 64-bit sizes."""
    call_as(
        "iiilllfllllfll", load(d, GEMM_LIBRARY), CBLAS_ROW_MAJOR,
        CBLAS_NO_TRANS + load(d, GEMM_TRANS_A), CBLAS_NO_TRANS + load(d, GEMM_TRANS_B),
        m, n, load(d, GEMM_K), load(d, GEMM_ALPHA), a, load(d, GEMM_LDA), b, load(d, GEMM_LDB),
        load(d, GEMM_BETA), c, load(d, GEMM_LDC),
    )  # fmt: skip
    return 0


def cblas64_f64(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile by `cblas_dgemm` with 64-bit sizes."""
    call_as(
        "iiillldlllldll", load(d, GEMM_LIBRARY), CBLAS_ROW_MAJOR,
        CBLAS_NO_TRANS + load(d, GEMM_TRANS_A), CBLAS_NO_TRANS + load(d, GEMM_TRANS_B),
        m, n, load(d, GEMM_K), load(d, GEMM_ALPHA), a, load(d, GEMM_LDA), b, load(d, GEMM_LDB),
        load(d, GEMM_BETA), c, load(d, GEMM_LDC),
    )  # fmt: skip
    return 0


def cblas32_f32(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile by `cblas_sgemm` with 32-bit sizes."""
    call_as(
        "iiiiiiflilifli", load(d, GEMM_LIBRARY), CBLAS_ROW_MAJOR,
        CBLAS_NO_TRANS + load(d, GEMM_TRANS_A), CBLAS_NO_TRANS + load(d, GEMM_TRANS_B),
        m, n, load(d, GEMM_K), load(d, GEMM_ALPHA), a, load(d, GEMM_LDA), b, load(d, GEMM_LDB),
        load(d, GEMM_BETA), c, load(d, GEMM_LDC),
    )  # fmt: skip
    return 0


def cblas32_f64(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile by `cblas_dgemm` with 32-bit sizes."""
    call_as(
        "iiiiiidlilidli", load(d, GEMM_LIBRARY), CBLAS_ROW_MAJOR,
        CBLAS_NO_TRANS + load(d, GEMM_TRANS_A), CBLAS_NO_TRANS + load(d, GEMM_TRANS_B),
        m, n, load(d, GEMM_K), load(d, GEMM_ALPHA), a, load(d, GEMM_LDA), b, load(d, GEMM_LDB),
        load(d, GEMM_BETA), c, load(d, GEMM_LDC),
    )  # fmt: skip
    return 0


def onednn_f32(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile by `dnnl_sgemm`. Its OpenMP is told, for this thread only, to use no thread of
    its own.
    """
    context = load(d, GEMM_CONTEXT)
    before = call_word(load(context, CONTEXT_GET)) & 0xFFFFFFFF
    if before != 1:
        call_as("i", load(context, CONTEXT_SET), 1)
    call_as(
        "bblllfllllfll", load(d, GEMM_LIBRARY),
        LETTER_N + (LETTER_T - LETTER_N) * load(d, GEMM_TRANS_A),
        LETTER_N + (LETTER_T - LETTER_N) * load(d, GEMM_TRANS_B),
        m, n, load(d, GEMM_K), load(d, GEMM_ALPHA), a, load(d, GEMM_LDA), b, load(d, GEMM_LDB),
        load(d, GEMM_BETA), c, load(d, GEMM_LDC),
    )  # fmt: skip
    if before != 1:
        call_as("i", load(context, CONTEXT_SET), before)
    return 0


def _pack(
    d: int, flip: int, source: int, row: int, to: int, width: int, k: int, columns: int
) -> None:
    """Copy a k x `columns` part of a matrix to rows `width` bytes apart, zeros behind the last
    column.

    `row` is the distance of the rows as they lie in memory; with `flip` they are the part's
    columns.
    """
    context = load(d, GEMM_CONTEXT)
    if not flip:
        call_word(load(context, CONTEXT_PACK), k, source, row, to, width, columns)
        return
    item = load(d, GEMM_ITEM)
    lanes = load(context, CONTEXT_LANES)
    first = 0
    while first * item < width:
        present = max(min(columns - first, lanes), 0)
        call_word(
            load(context, CONTEXT_PACK_T),
            k,
            source + first * row,
            row,
            to + first * item,
            width,
            present,
        )
        first += lanes


def pack_rows(d: int, a: int, to: int, k: int, m: int) -> None:
    """Pack m rows of A, block after block, each block with room for one row more.

    Where A is transposed its rows come in strips, so that a cache line is read once for all blocks.
    """
    context = load(d, GEMM_CONTEXT)
    width = load(context, CONTEXT_A_WIDTH)
    block = load(context, CONTEXT_BLOCK_ROWS)
    step = load(d, GEMM_LDA) * load(d, GEMM_ITEM)
    depth = k
    if load(d, GEMM_TRANS_A):
        depth = STRIP_ROWS
    for done in range(0, k, depth):
        present = min(k - done, depth)
        target = to + width * done
        for row in range(0, m, block):
            source = a + row * load(d, GEMM_A_ROW) + done * step
            rows = min(m - row, block)
            if not load(d, GEMM_TRANS_A):  # whole vectors are faster: rows of the next block
                rows = min(m - row, width // load(d, GEMM_ITEM))
            _pack(d, 1 - load(d, GEMM_TRANS_A), source, step, target, width, present, rows)
            target += width * (k + 1)


def _micro(d: int, rows: int, packed: int, whole: int) -> int:
    """The micro kernel for so many rows of A."""
    context = load(d, GEMM_CONTEXT)
    few = load(context, CONTEXT_BLOCK_FEW)
    every = rows == load(context, CONTEXT_BLOCK_ROWS)
    if rows <= few:
        return load(context, CONTEXT_MICRO_FEW)
    if every and whole:
        if packed:
            return load(context, CONTEXT_WHOLE_PACKED)
        if not load(d, GEMM_TRANS_A):
            return load(context, CONTEXT_WHOLE)
    if packed or (every and load(d, GEMM_TRANS_A)):
        return load(context, CONTEXT_MICRO_T)
    return load(context, CONTEXT_MICRO)


def stripe(
    d: int, k: int, a: int, a_row: int, a_column: int, a_block: int, packed: int,
    b: int, b_row: int, c: int, m: int, columns: int, beta: int,
) -> None:  # fmt: skip
    """A stripe of C, at most one block wide: m rows of A, `a_block` bytes from block to block,
    times a sliver of B.
    """
    context = load(d, GEMM_CONTEXT)
    block = load(context, CONTEXT_BLOCK_ROWS)
    few = load(context, CONTEXT_BLOCK_FEW)
    c_row = load(d, GEMM_C_ROW)
    one = load(context, CONTEXT_ONE)
    whole = 0
    if columns == load(context, CONTEXT_BLOCK_COLUMNS) and load(d, GEMM_ALPHA) == one:
        if b_row == columns * load(d, GEMM_ITEM) and (beta == 0 or beta == one):
            whole = 1
    for first in range(0, m, block):
        row = 0
        present = min(m - first, block)
        while row < present:
            rows = present - row
            if rows <= 2 * few:
                rows = min(rows, few)
            call_word(
                _micro(d, rows, packed, whole), k, a + row * a_row, a_row, a_column, b, b_row,
                c + (first + row) * c_row, c_row, rows, columns, load(d, GEMM_ALPHA), beta,
            )  # fmt: skip
            row += rows
        a += a_block


def _row(
    d: int, k: int, a: int, a_row: int, a_column: int, b: int, b_step: int, c: int, n: int,
    beta: int,
) -> int:  # fmt: skip
    """One row of A times the whole wide blocks of B, which is read where it lies; how many columns
    that were.
    """
    context = load(d, GEMM_CONTEXT)
    item = load(d, GEMM_ITEM)
    width = load(context, CONTEXT_ROW_COLUMNS)
    done = 0
    while done + width <= n:
        call_word(
            load(context, CONTEXT_MICRO_ROW), k, a, a_row, a_column, b + done * item, b_step,
            c + done * item, load(d, GEMM_C_ROW), 1, width, load(d, GEMM_ALPHA), beta,
        )  # fmt: skip
        done += width
    return done


def _columns(
    d: int, k: int, a: int, a_row: int, a_column: int, a_block: int, packed: int,
    b: int, b_step: int, sliver: int, c: int, m: int, n: int, beta: int,
) -> None:  # fmt: skip
    """A tile over k of A's columns: stripe by stripe, each with its sliver of B packed unless
    that does not pay.
    """
    item = load(d, GEMM_ITEM)
    width = load(load(d, GEMM_CONTEXT), CONTEXT_BLOCK_COLUMNS)
    flip = load(d, GEMM_TRANS_B)
    done = 0
    if m == 1 and not flip:
        done = _row(d, k, a, a_row, a_column, b, b_step, c, n, beta)
    for column in range(done, n, width):
        columns = min(n - column, width)
        source = b + column * load(d, GEMM_B_COLUMN)
        to = c + column * item
        if columns == width and m <= DIRECT_ROWS and not flip:
            stripe(d, k, a, a_row, a_column, a_block, packed, source, b_step, to, m, columns, beta)
        else:
            _pack(d, flip, source, load(d, GEMM_LDB) * item, sliver, width * item, k, columns)
            stripe(
                d, k, a, a_row, a_column, a_block, packed, sliver, width * item, to, m, columns,
                beta
            )  # fmt: skip


def packs_a(d: int, m: int, n: int) -> int:
    """Whether packing A spares more time than it takes."""
    if load(d, GEMM_TRANS_A):
        if load(d, GEMM_LDA) * load(d, GEMM_ITEM) >= PACK_A_STEP and n >= PACK_A_COLUMNS:
            return 1
    elif load(d, GEMM_A_ROW) >= FAR_ROWS and n >= FAR_COLUMNS and m >= 2 * DIRECT_ROWS:
        return 1
    return 0


def _are_few(d: int, a_step: int, m: int) -> int:
    """Whether what multiplies few rows may: alpha is 1, beta 0, and elements of A are neighbours
    where B is transposed.
    """
    if load(d, GEMM_BETA) or load(d, GEMM_ALPHA) != load(load(d, GEMM_CONTEXT), CONTEXT_ONE):
        return 0
    if load(d, GEMM_TRANS_B) and (m > FEW_DOTS or a_step != load(d, GEMM_ITEM)):
        return 0
    return 1


def builtin(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile by tracejit's own micro kernels (`codegen.gemm_kernel`)."""
    context = load(d, GEMM_CONTEXT)
    item = load(d, GEMM_ITEM)
    most = SLIVER_BYTES // (load(context, CONTEXT_BLOCK_COLUMNS) * item)
    block = load(context, CONTEXT_BLOCK_ROWS)
    width = load(context, CONTEXT_A_WIDTH)
    sliver = stack(SLIVER_WORDS)
    panel = stack(PANEL_WORDS)
    a_row = load(d, GEMM_A_ROW)
    a_step = item
    if load(d, GEMM_TRANS_A):
        a_step = item * load(d, GEMM_LDA)
    b_step = item * load(d, GEMM_LDB)
    if load(d, GEMM_TRANS_B):
        b_step = item
    beta = load(d, GEMM_BETA)
    if m <= FEW_ROWS and load(context, CONTEXT_FEW_ROWS) and _are_few(d, a_step, m):
        return call_word(load(context, CONTEXT_FEW_ROWS), d, a, b, c, m, n)
    fitting = PANEL_BYTES // (width * (most + 1)) * block
    packed = packs_a(d, m, n)
    for done in range(0, load(d, GEMM_K), most):
        k = min(load(d, GEMM_K) - done, most)
        from_a = a + done * a_step
        from_b = b + done * b_step
        if packed:
            for row in range(0, m, fitting):
                rows = min(m - row, fitting)
                to_c = c + row * load(d, GEMM_C_ROW)
                pack_rows(d, from_a + row * a_row, panel, k, rows)
                _columns(
                    d, k, panel, item, width, width * (k + 1), 1, from_b, b_step, sliver, to_c,
                    rows, n, beta,
                )  # fmt: skip
        else:
            _columns(
                d, k, from_a, a_row, a_step, a_row * block, 0, from_b, b_step, sliver, c, m, n, beta
            )
        beta = load(context, CONTEXT_ONE)
    return 0


def _flip(d: int, flipped: int, c_row: int) -> None:
    """Write the descriptor of the transpose of a tile, whose rows begin `c_row` bytes apart."""
    for i in range(GEMM_WORDS):
        store(flipped, i, load(d, i))
    store(flipped, GEMM_LDA, load(d, GEMM_LDB))
    store(flipped, GEMM_LDB, load(d, GEMM_LDA))
    store(flipped, GEMM_TRANS_A, 1 - load(d, GEMM_TRANS_B))
    store(flipped, GEMM_TRANS_B, 1 - load(d, GEMM_TRANS_A))
    store(flipped, GEMM_A_ROW, load(d, GEMM_B_COLUMN))
    store(flipped, GEMM_B_COLUMN, load(d, GEMM_A_ROW))
    store(flipped, GEMM_C_ROW, c_row)


def builtin_column(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile of a single column whose elements are neighbours: its transpose, a row, is faster.

    The sums run over k in the same order, so the bits are the same.
    """
    flipped = stack(GEMM_WORDS)
    _flip(d, flipped, m * load(d, GEMM_ITEM))
    return builtin(flipped, b, a, c, n, m)


def builtin_narrow(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile of at most a vector of columns, beta 0: its transpose fills vectors, which is then
    turned. The bits are the same.
    """
    context = load(d, GEMM_CONTEXT)
    item = load(d, GEMM_ITEM)
    c_row = load(d, GEMM_C_ROW)
    flipped = stack(GEMM_WORDS)
    across = stack(TURNED_WORDS)
    width = TURNED_COLUMNS * item
    _flip(d, flipped, width)
    for first in range(0, m, TURNED_COLUMNS):
        columns = min(m - first, TURNED_COLUMNS)
        builtin(flipped, b, a + first * load(d, GEMM_A_ROW), across, n, columns)
        call_word(load(context, CONTEXT_TURN), columns, across, width, c + first * c_row, c_row, n)
    return 0


def zeros(d: int, a: int, b: int, c: int, m: int, n: int) -> int:
    """One tile of a product over nothing (k is 0, beta 0): zeros."""
    for _ in range(m):
        memset(c, 0, n * load(d, GEMM_ITEM))
        c += load(d, GEMM_C_ROW)
    return 0


def _tile(d: int, matrix: int, i: int, j: int) -> None:
    """Multiply one tile."""
    row = i * load(d, GEMM_TILE_M)
    column = j * load(d, GEMM_TILE_N)
    m = min(load(d, GEMM_TILE_M), load(d, GEMM_M) - row)
    n = min(load(d, GEMM_TILE_N), load(d, GEMM_N) - column)
    a = load(d, GEMM_A) + row * load(d, GEMM_A_ROW)
    b = load(d, GEMM_B) + column * load(d, GEMM_B_COLUMN)
    c = load(d, GEMM_C) + row * load(d, GEMM_C_ROW) + column * load(d, GEMM_ITEM)
    offsets = load(d, GEMM_OFFSETS)
    if offsets:
        a += load(offsets, 3 * matrix)
        b += load(offsets, 3 * matrix + 1)
        c += load(offsets, 3 * matrix + 2)
    call_word(load(d, GEMM_CALL), d, a, b, c, m, n)


def finish(d: int, matrix: int, i: int) -> None:
    """Run the epilogue on a panel if this was the last of its tiles, and make it ready for the
    next run.
    """
    left = load(d, GEMM_LEFT)
    panel = matrix * load(d, GEMM_ROWS) + i
    if left:
        if atomic_add(left, panel, -1) != 1:
            return
        store(left, panel, load(d, GEMM_COLUMNS))
    row = matrix * load(d, GEMM_M) + i * load(d, GEMM_TILE_M)
    rows = min(load(d, GEMM_TILE_M), load(d, GEMM_M) - i * load(d, GEMM_TILE_M))
    units = load(d, GEMM_EPILOGUE_UNITS)
    call_as(
        "lll",
        load(d, GEMM_EPILOGUE),
        load(d, GEMM_EPILOGUE_TABLE),
        row * units,
        (row + rows) * units,
    )


def gemm_tiles(d: int, low: int, high: int) -> int:
    """The kernel: tiles `low` to `high` of the product that the descriptor d describes."""
    columns = load(d, GEMM_COLUMNS)
    rows = load(d, GEMM_ROWS)
    for unit in range(low, high):
        panel = unit // columns
        matrix = panel // rows
        _tile(d, matrix, panel % rows, unit % columns)
        if load(d, GEMM_EPILOGUE):
            finish(d, matrix, panel % rows)
    return 0


def nothing(context: int) -> int:
    """The enter and leave of a provider that needs none."""
    return 0


# A library whose threads are set for the whole process: serial while any run uses it, as before
# afterwards


def _lock(context: int) -> None:
    while atomic_swap(context, CONTEXT_LOCK, 1):
        pause()


def enter(context: int) -> int:
    """Called before a run with products: the first one makes the library serial."""
    _lock(context)
    users = load(context, CONTEXT_USERS)
    if users == 0:
        store(context, CONTEXT_BEFORE, call_word(load(context, CONTEXT_GET)) & 0xFFFFFFFF)
        call_as("i", load(context, CONTEXT_SET), 1)
    store(context, CONTEXT_USERS, users + 1)
    atomic_swap(context, CONTEXT_LOCK, 0)
    return 0


def leave(context: int) -> int:
    """Called after a run with products: the last one gives the library its threads back."""
    _lock(context)
    users = load(context, CONTEXT_USERS) - 1
    store(context, CONTEXT_USERS, users)
    if users == 0:
        call_as("i", load(context, CONTEXT_SET), load(context, CONTEXT_BEFORE))
    atomic_swap(context, CONTEXT_LOCK, 0)
    return 0
