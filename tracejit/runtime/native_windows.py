"""Matrix products over windows of images that nobody writes out, as a kernel of tiles, in words.

A convolution multiplies filters by windows (taps down, windows across), the gradient of its filters
the gradient of its result by windows (windows down, taps across). Slivers of that operand are
packed straight from the images, by `codegen.window_pack`; the micro kernels are those of every
product. The table is a descriptor of `native_gemm`, and goes on behind its end. Invariant: each
element of C is one chain over k in rising order, however the product is cut into tiles.
"""

from __future__ import annotations

from tracejit.codegen.words import call_word, load, stack
from tracejit.runtime.native_gemm import (
    CONTEXT_A_WIDTH,
    CONTEXT_BLOCK_COLUMNS,
    CONTEXT_BLOCK_ROWS,
    CONTEXT_FINISH,
    CONTEXT_LANES,
    CONTEXT_ONE,
    CONTEXT_PACK_ROWS,
    CONTEXT_PACKS_A,
    CONTEXT_STRIPE,
    GEMM_A,
    GEMM_A_ROW,
    GEMM_B,
    GEMM_BETA,
    GEMM_C,
    GEMM_C_ROW,
    GEMM_CALL,
    GEMM_COLUMNS,
    GEMM_CONTEXT,
    GEMM_EPILOGUE,
    GEMM_ITEM,
    GEMM_K,
    GEMM_M,
    GEMM_N,
    GEMM_OFFSETS,
    GEMM_ROWS,
    GEMM_TILE_M,
    GEMM_TILE_N,
    GEMM_WORDS,
    PANEL_WORDS,
    SLIVER_BYTES,
    SLIVER_WORDS,
)

FIRST = GEMM_WORDS
TAPS, STARTS = 32, 33  # arrays: bytes from a window to its taps, from an image to its rows' windows
COUNT, LENGTH = 34, 35  # rows of windows in an image, windows in a row
IMAGE, ALONG = 36, 37  # bytes from image to image, and from window to window in a row
PACK = 38  # the function that packs a run
IMAGES, GRADIENT = 39, 40  # of filters' gradients: images of a matrix, and A's bytes between them
WORDS = 48


def _pack_taps(d: int, b: int, first: int, columns: int, tap: int, k: int, sliver: int) -> None:
    """Pack taps `tap` to `tap + k` of the windows from `first` on, run by run."""
    item = load(d, GEMM_ITEM)
    width = load(load(d, GEMM_CONTEXT), CONTEXT_BLOCK_COLUMNS)
    length = load(d, LENGTH)
    count = load(d, COUNT)
    done = 0
    while done < columns:
        row = (first + done) // length
        x = first + done - row * length
        image = row // count
        present = min(columns - done, length - x)
        room = present
        if done + present == columns:
            room = width - done
        start = load(load(d, STARTS), row - image * count) + x * load(d, ALONG)
        call_word(
            load(d, PACK), k, b + image * load(d, IMAGE) + start, load(d, TAPS) + 8 * tap,
            sliver + done * item, width * item, present, room, load(d, ALONG),
        )  # fmt: skip
        done += present


def _pack_windows(d: int, b: int, first: int, k: int, tap: int, columns: int, sliver: int) -> None:
    """Pack windows `first` to `first + k` of an image, run by run, at the taps from `tap` on."""
    item = load(d, GEMM_ITEM)
    width = load(load(d, GEMM_CONTEXT), CONTEXT_BLOCK_COLUMNS) * item
    lanes = load(load(d, GEMM_CONTEXT), CONTEXT_LANES)
    length = load(d, LENGTH)
    done = 0
    while done < k:
        row = (first + done) // length
        x = first + done - row * length
        present = min(k - done, length - x)
        start = b + load(load(d, STARTS), row) + x * load(d, ALONG)
        for column in range(0, columns, lanes):
            call_word(
                load(d, PACK), present, start, load(d, TAPS) + 8 * (tap + column),
                sliver + done * width + column * item, width, min(columns - column, lanes),
                load(d, ALONG),
            )  # fmt: skip
        done += present


def convolution(d: int, a: int, b: int, c: int, m: int, n: int, first: int) -> int:
    """One tile of filters times windows, whose columns are the windows from `first` on."""
    context = load(d, GEMM_CONTEXT)
    item = load(d, GEMM_ITEM)
    width = load(context, CONTEXT_BLOCK_COLUMNS)
    block = load(context, CONTEXT_BLOCK_ROWS)
    a_width = load(context, CONTEXT_A_WIDTH)
    most = SLIVER_BYTES // (width * item)
    sliver = stack(SLIVER_WORDS)
    panel = stack(PANEL_WORDS)
    packed = call_word(load(context, CONTEXT_PACKS_A), d, m, n)
    beta = load(d, GEMM_BETA)
    for done in range(0, load(d, GEMM_K), most):
        k = min(load(d, GEMM_K) - done, most)
        rows = a + done * item
        row = load(d, GEMM_A_ROW)
        step = item
        group = row * block
        if packed:
            call_word(load(context, CONTEXT_PACK_ROWS), d, rows, panel, k, m)
            rows = panel
            row = item
            step = a_width
            group = a_width * (k + 1)
        for column in range(0, n, width):
            columns = min(n - column, width)
            _pack_taps(d, b, first + column, columns, done, k, sliver)
            call_word(
                load(context, CONTEXT_STRIPE), d, k, rows, row, step, group, packed, sliver,
                width * item, c + column * item, m, columns, beta,
            )  # fmt: skip
        beta = load(context, CONTEXT_ONE)
    return 0


def gradient(d: int, a: int, b: int, c: int, m: int, n: int, first: int) -> int:
    """One tile of the gradient of filters, whose columns are the taps from `first` on."""
    context = load(d, GEMM_CONTEXT)
    item = load(d, GEMM_ITEM)
    width = load(context, CONTEXT_BLOCK_COLUMNS)
    block = load(context, CONTEXT_BLOCK_ROWS)
    a_width = load(context, CONTEXT_A_WIDTH)
    sliver = stack(SLIVER_WORDS)
    panel = stack(PANEL_WORDS)
    packed = call_word(load(context, CONTEXT_PACKS_A), d, m, n)
    beta = load(d, GEMM_BETA)
    whole = load(d, COUNT) * load(d, LENGTH)
    most = SLIVER_BYTES // (width * item)
    parts = (whole + most - 1) // most
    depth = (whole + parts - 1) // parts
    for image in range(load(d, IMAGES)):
        for done in range(0, whole, depth):
            k = min(whole - done, depth)
            rows = a + image * load(d, GRADIENT) + done * item
            row = load(d, GEMM_A_ROW)
            step = item
            group = row * block
            if packed:
                call_word(load(context, CONTEXT_PACK_ROWS), d, rows, panel, k, m)
                rows = panel
                row = item
                step = a_width
                group = a_width * (k + 1)
            source = b + image * load(d, IMAGE)
            for column in range(0, n, width):
                columns = min(n - column, width)
                _pack_windows(d, source, done, k, first + column, columns, sliver)
                call_word(
                    load(context, CONTEXT_STRIPE), d, k, rows, row, step, group, packed, sliver,
                    width * item, c + column * item, m, columns, beta,
                )  # fmt: skip
            beta = load(context, CONTEXT_ONE)
    return 0


def _tile(d: int, matrix: int, i: int, j: int) -> None:
    """Multiply one tile."""
    row = i * load(d, GEMM_TILE_M)
    column = j * load(d, GEMM_TILE_N)
    m = min(load(d, GEMM_TILE_M), load(d, GEMM_M) - row)
    n = min(load(d, GEMM_TILE_N), load(d, GEMM_N) - column)
    places = load(d, GEMM_OFFSETS) + 24 * matrix
    a = load(d, GEMM_A) + row * load(d, GEMM_A_ROW) + load(places, 0)
    b = load(d, GEMM_B) + load(places, 1)
    c = load(d, GEMM_C) + row * load(d, GEMM_C_ROW) + column * load(d, GEMM_ITEM) + load(places, 2)
    call_word(load(d, GEMM_CALL), d, a, b, c, m, n, column)


def window_tiles(d: int, low: int, high: int) -> int:
    """The kernel: tiles `low` to `high` of the product that the descriptor d describes."""
    columns = load(d, GEMM_COLUMNS)
    rows = load(d, GEMM_ROWS)
    for unit in range(low, high):
        panel = unit // columns
        matrix = panel // rows
        _tile(d, matrix, panel % rows, unit % columns)
        if load(d, GEMM_EPILOGUE):
            call_word(load(load(d, GEMM_CONTEXT), CONTEXT_FINISH), d, matrix, panel % rows)
    return 0
