"""How matrix products are cut: into tiles, and along the inner dimension where results are few.

A product with few results over a long inner dimension (the gradient of a convolution's weights: 16
x 9 results over every pixel of a batch) is a batch of parts into memory of their own, which are
added up in order. Invariant: how a product is cut along k depends on its shape alone, and eager and
compiled code add the parts alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_TILE_WORK = 1 << 21  # a tile with less is not cut further
# Tiles of a large product: panels of B stay in the second-level cache.
_TILE_ROWS, _TILE_COLUMNS = 128, 256
_OWN_ROWS, _OWN_COLUMNS = 256, 512  # the same for tracejit's own over much of k
_MANY_TILES = 16
_FEW_TILES, _MOST_TILES = 8, 64  # as few and as many as tracejit's own products are cut into
LEAST_COLUMNS = 16  # fewer cost as much
FEW = 8  # rows or columns; a product of no more is as fast as memory
_LONG = 256  # results in a row that are enough work for several threads
_LONG_WORK = 1 << 17  # of a tile of such a product, half a megabyte
_MOST_PARTS = 16
_LEAST_DEPTH = 512  # of a part
_MOST_RESULTS = 1 << 14  # more results make enough tiles by themselves


def tile_shape(m: int, n: int, k: int) -> tuple[int, int]:
    """Rows and columns of a tile that a library multiplies, of an m x n product over k.

    A function of the shape alone: a library's sums may depend on the tile.
    """
    if m * max(n, LEAST_COLUMNS) * k <= _TILE_WORK:
        return max(m, 1), max(n, 1)
    rows, columns = min(m, _TILE_ROWS), max(min(n, _TILE_COLUMNS), 1)
    while -(-m // rows) * -(-n // columns) < _MANY_TILES:
        if rows * max(columns, LEAST_COLUMNS) * k <= _TILE_WORK:
            break
        if columns > rows and columns > 64:
            columns = -(-columns // 128) * 64
        elif rows > 32:
            rows = -(-rows // 32) * 16
        else:
            break
    return rows, columns


def builtin_tile_shape(m: int, n: int, k: int, unit: int, threads: int) -> tuple[int, int]:
    """As `tile_shape`, for tracejit's own micro kernels of `unit` rows: no more tiles than keep
    all threads busy, since a larger tile packs less. Its sums do not depend on the tile.
    """
    if min(m, n) <= FEW:
        return _long_tile(m, n, k, threads)
    if m * max(n, LEAST_COLUMNS) * k <= _TILE_WORK:
        return max(m, 1), max(n, 1)
    large = n > _TILE_COLUMNS and k >= _LEAST_DEPTH
    rows, columns = (_OWN_ROWS, _OWN_COLUMNS) if large else (_TILE_ROWS, _TILE_COLUMNS)
    rows, columns = min(m, rows // unit * unit + unit), max(min(n, columns), 1)
    many = min(max(_FEW_TILES, 4 * threads), _MOST_TILES)
    while -(-m // rows) * -(-n // columns) < many:
        if rows * max(columns, LEAST_COLUMNS) * k <= _TILE_WORK:
            break
        if columns > rows and columns > 64:
            columns = -(-columns // 128) * 64
        elif rows > 2 * unit:
            rows = -(-rows // (2 * unit)) * unit
        else:
            break
    return rows, columns


def _long_tile(m: int, n: int, k: int, threads: int) -> tuple[int, int]:
    """The tile of a product of few rows or columns, which memory limits: long runs of the large
    operand.
    """
    tiles = max(1, min(2 * threads, m * n * k // _LONG_WORK))
    length = -(-max(m, n, 1) // (64 * tiles)) * 64
    return (max(m, 1), min(length, max(n, 1))) if m <= n else (min(length, m), max(n, 1))


def cut_along_k(m: int, n: int, k: int) -> int:
    """How many parts an m x n product over k is cut into: a divisor of k, 1 for most products."""
    if m * n > _MOST_RESULTS or k < 2 * _LEAST_DEPTH:
        return 1
    if min(m, n) <= FEW and max(m, n) >= _LONG:
        return 1
    most = min(_MOST_PARTS, k // _LEAST_DEPTH)
    return next((p for p in range(most, 1, -1) if k % p == 0), 1)


def part_steps(sizes: tuple[Any, Any, Any], layouts: Any) -> tuple[Any, Any, Any]:
    """Elements from part to part of A, B and C; `sizes` and `layouts` are those of a part."""
    m, n, k = sizes
    a, b = layouts[:2]
    step_a = k * (a.leading if a.transposed else 1)
    return step_a, k * (1 if b.transposed else b.leading), m * n


def part_places(item: int, parts: int, steps: tuple[int, int, int]) -> np.ndarray:
    """Where A, B and C of each part begin, in bytes."""
    return np.arange(parts)[:, None] * (np.array(steps, np.int64) * item)


def sum_source(dtype: str) -> str:
    """Add up parts of m x n results, a unit for each row.

    Table: out, parts (addresses); how many parts, n, results of a part, leading dimension of out.
    """
    first = f"load_{dtype}(parts, r * n + j) + load_{dtype}(parts, size + r * n + j)"
    next_ = f"load_{dtype}(out, to + j) + load_{dtype}(parts, p * size + r * n + j)"
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        f"    parts = ptr_{dtype}(word(t, 1), 0)",
        "    count = word(t, 2)",
        "    n = word(t, 3)",
        "    size = word(t, 4)",
        "    leading = word(t, 5)",
        "    for r in range(lo, hi):",
        "        to = r * leading",
        "        for j in range(n):",
        f"            store_{dtype}(out, to + j, {first})",
        "        for p in range(2, count):",
        "            for j in range(n):",
        f"                store_{dtype}(out, to + j, {next_})",
        "",
    ])  # fmt: skip


def add_parts(parts: np.ndarray, out: np.ndarray) -> None:
    """As the kernel of `sum_source`, in NumPy: the same additions in the same order."""
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        out += part
