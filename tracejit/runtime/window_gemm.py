"""Products over windows as steps of a program: the descriptors of `native_windows`.

Always by tracejit's own micro kernels, whatever provider multiplies matrices. Invariant: how a
product is cut into tiles changes no sum, and into parts it is cut by its shape alone.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from tracejit.codegen import gemm_kernel, vector_ir, window_pack
from tracejit.runtime import native_gemm as layout
from tracejit.runtime import native_windows as native
from tracejit.runtime.driver import link_ir, link_words
from tracejit.runtime.gemm import BUILTIN, Product, Provider
from tracejit.runtime.program import Step, address_of
from tracejit.runtime.recorded import call
from tracejit.runtime.tables import ArrayAt, At, Table
from tracejit.runtime.threads import get_num_threads

_SERIAL_WORK = 1 << 18  # multiply-adds that are not worth a second thread
_MOST_COLUMNS = 256  # of a tile of a convolution
_GRADIENT_COLUMNS = 192  # of a filters' gradient: each tile packs the result's gradient again
_TILES_PER_THREAD = 4


class Windows(NamedTuple):
    """The windows of images. Arrays and distances are in bytes.

    `taps` are the offsets from a window to its taps, with a vector of them to spare; `starts` from
    an image to the first window of each of its rows; `length` the windows of a row, `along` from
    one to the next, `step` the same in elements; `image` from image to image.
    """

    taps: Any
    starts: Any
    rows: Any
    length: Any
    along: Any
    step: int
    image: Any


class _Routines:
    """Everything native that products of one dtype over windows need."""

    def __init__(self, dtype: np.dtype[Any]):
        name = f"f{8 * dtype.itemsize}"
        self.provider = provider = Provider(dtype, BUILTIN)
        self.guard = guard = provider.guard
        block = int(guard[layout.CONTEXT_BLOCK_ROWS])
        columns = int(guard[layout.CONTEXT_BLOCK_COLUMNS])
        depth = layout.SLIVER_BYTES // (columns * dtype.itemsize)
        fitting = layout.PANEL_BYTES // (int(guard[layout.CONTEXT_A_WIDTH]) * (depth + 1)) * block
        self.blocks = block, columns, fitting
        self.tiles = link_words(native, ("window_tiles", "convolution", "gradient"))
        symbols = window_pack.names(name)
        variant = repr(gemm_kernel.block(name))
        self.packing = link_ir(
            (window_pack, vector_ir), lambda: window_pack.text(name), symbols, variant
        )
        self.packs = [self.packing.addresses[symbol] for symbol in symbols]

    def pack(self, step: int, of_windows: bool) -> int:
        """The address of the function that packs runs of this step."""
        kinds = window_pack.STEPS
        kind = kinds.index(step) if step in kinds else kinds.index(0)
        return self.packs[kind + len(kinds) * of_windows]


_known: dict[np.dtype[Any], _Routines] = {}
_lock = threading.Lock()


def _routines(dtype: np.dtype[Any]) -> _Routines:
    with _lock:
        if dtype not in _known:
            _known[dtype] = _Routines(dtype)
        return _known[dtype]


def _even(n: int, most: int, unit: int, least: int = 1) -> int:
    """The size of pieces of n, at most `most` and at least `least` of them, as even as whole
    `unit`s allow.
    """
    pieces = max(-(-n // most), least)
    return max(1, min(n, -(-n // (pieces * unit)) * unit, most))


def _tile(
    m: int, n: int, matrices: int, most: int, blocks: tuple[int, int, int], threads: int
) -> tuple[int, int]:  # fmt: skip
    """Rows and columns of a tile. `blocks` are rows and columns of a micro kernel's block, and the
    rows that fit the panel of packed ones.
    """
    unit, across, fitting = blocks
    rows = _even(m, fitting, unit)
    panels = matrices * -(-m // rows)
    return rows, _even(n, most, across, -(-threads // panels))


def _grain(rows: int, columns: int, k: int) -> int:
    return max(1, _SERIAL_WORK // max(1, rows * columns * k))


def convolution(
    dtype: np.dtype[Any], sizes: tuple[Any, Any, Any], windows: Windows, matrices: Any, offsets: Any
) -> Product:  # fmt: skip
    """C = A @ B for filters A [m, k] and n windows as columns of B, which lie in any number of
    images one after the other. `offsets` as for `gemm.product`.
    """
    m, n, k = sizes
    found = _routines(dtype)
    wanted = get_num_threads() * _TILES_PER_THREAD
    tile = call(_tile, m, n, matrices, _MOST_COLUMNS, found.blocks, wanted)
    words = _words(found, sizes, (k, n), windows, found.tiles.addresses["convolution"])
    words[native.PACK] = found.pack(windows.step, False)
    return _product(found, words, sizes, tile, matrices, offsets)


def gradient(
    dtype: np.dtype[Any], sizes: tuple[Any, Any, Any], windows: Windows, matrices: Any,
    offsets: Any, images: Any,
) -> Product:  # fmt: skip
    """C = the sum over `images` of A @ B for gradients A [m, windows] of each image's result and
    its windows, as rows of B, at n taps. `sizes` are m, n and the elements of A from image to
    image.
    """
    m, n, k = sizes
    found = _routines(dtype)
    tile = call(_tile, m, n, matrices, _GRADIENT_COLUMNS, found.blocks, get_num_threads())
    places = windows.rows * windows.length
    words = _words(found, (m, n, places * images), (places, n), windows,
                   found.tiles.addresses["gradient"])  # fmt: skip
    words[native.PACK] = found.pack(windows.step, True)
    words[native.IMAGES] = images
    words[native.GRADIENT] = k * dtype.itemsize
    return _product(found, words, (m, n, places * images), tile, matrices, offsets)


def _words(
    found: _Routines, sizes: tuple[Any, Any, Any], leading: tuple[Any, Any], windows: Windows,
    routine: int,
) -> list[Any]:  # fmt: skip
    """The words of a descriptor without addresses, tiles and offsets."""
    item = found.provider.dtype.itemsize
    words: list[Any] = [0] * native.WORDS
    words[layout.GEMM_LDA], words[layout.GEMM_LDC] = leading
    words[layout.GEMM_M : layout.GEMM_K + 1] = sizes
    words[layout.GEMM_ALPHA] = int(found.guard[layout.CONTEXT_ONE])
    words[layout.GEMM_CALL] = routine
    words[layout.GEMM_A_ROW] = leading[0] * item
    words[layout.GEMM_C_ROW] = leading[1] * item
    words[layout.GEMM_ITEM] = item
    words[layout.GEMM_CONTEXT] = address_of(found.guard)
    words[native.TAPS] = ArrayAt(windows.taps)
    words[native.STARTS] = ArrayAt(windows.starts)
    words[native.COUNT], words[native.LENGTH] = windows.rows, windows.length
    words[native.IMAGE], words[native.ALONG] = windows.image, windows.along
    return words


def _product(
    found: _Routines, words: list[Any], sizes: tuple[Any, Any, Any], tile: tuple[Any, Any],
    matrices: Any, offsets: Any,
) -> Product:  # fmt: skip
    m, n, k = sizes
    rows, columns = tile
    down, across = -(-m // rows), -(-n // columns)
    words[layout.GEMM_TILE_M : layout.GEMM_COLUMNS + 1] = rows, columns, down, across
    words[layout.GEMM_OFFSETS] = ArrayAt(offsets)
    table = Table(words)
    grain = call(_grain, rows, columns, k)
    address = found.tiles.addresses["window_tiles"]
    step = Step(address, At(table), matrices * down * across, grain, found.provider.held)
    return Product(step, table, n, (down, across), (found,))
