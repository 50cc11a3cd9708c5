"""Kernels of library steps, written by hand: scattering rows, running sums, calling other kernels.

Each is source in `codegen.language` for one dtype. Invariant: elements are combined in the order of
the index, whatever the number of threads, so results are those of NumPy's `ufunc.at`.
"""

from __future__ import annotations

COMBINE = {
    "set": "{y}",
    "add": "{x} + {y}",
    "prod": "{x} * {y}",
}
COLUMNS = 64  # a unit of work: this many neighbouring elements of one outer index, at most


def scatter_source(dtype: str, how: str, by_row: bool) -> str:
    """Combine y into out at computed places along the middle axis of (outer, size, width).

    Table: out, y, index (addresses); indices, size, width, columns of a unit; strides of the index
    along outer, indices, width. With `by_row` the index is the same along the width.
    """
    at = "load_i64(index, a * step_a + i * step_i{})"
    held = COMBINE[how].format(x=f"load_{dtype}(out, to + j)", y=f"load_{dtype}(y, source + j)")
    head = [] if not by_row else [f"            to = (a * size + {at.format('')}) * width"]
    each = [] if by_row else [
        f"                to = (a * size + {at.format(' + j * step_j')}) * width"
    ]  # fmt: skip
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        f"    y = ptr_{dtype}(word(t, 1), 0)",
        "    index = ptr_i64(word(t, 2), 0)",
        "    count = word(t, 3)",
        "    size = word(t, 4)",
        "    width = word(t, 5)",
        "    columns = word(t, 6)",
        "    step_a = word(t, 7)",
        "    step_i = word(t, 8)",
        "    step_j = word(t, 9)",
        "    runs = (width + columns - 1) // columns",
        "    for u in range(lo, hi):",
        "        a = u // runs",
        "        first = (u - a * runs) * columns",
        "        last = select(first + columns < width, first + columns, width)",
        "        for i in range(count):",
        "            source = (a * count + i) * width",
        *head,
        "            for j in range(first, last):",
        *each,
        f"                store_{dtype}(out, to + j, {held})",
        "",
    ])  # fmt: skip


def scan_source(dtype: str, how: str) -> str:
    """Running sums or products along the middle axis of (outer, count, width), both row-major.

    Table: out, x (addresses); count, width, columns of a unit.
    """
    before, x = f"load_{dtype}(out, at - width + j)", f"load_{dtype}(x, at + j)"
    total = COMBINE[how].format(x=before, y=x)
    start = f"{x} + 0.0" if how == "add" and dtype[0] == "f" else x  # of -0.0 alone: 0.0
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        f"    x = ptr_{dtype}(word(t, 1), 0)",
        "    count = word(t, 2)",
        "    width = word(t, 3)",
        "    columns = word(t, 4)",
        "    runs = (width + columns - 1) // columns",
        "    for u in range(lo, hi):",
        "        a = u // runs",
        "        first = (u - a * runs) * columns",
        "        last = select(first + columns < width, first + columns, width)",
        "        at = a * count * width",
        "        for j in range(first, last):",
        f"            store_{dtype}(out, at + j, {start})",
        "        for i in range(1, count):",
        "            at = (a * count + i) * width",
        "            for j in range(first, last):",
        f"                store_{dtype}(out, at + j, {total})",
        "",
    ])  # fmt: skip


def row_scan_source(dtype: str, how: str) -> str:
    """As `scan_source` for a width of 1: the sum so far stays in a register.

    Table: out, x (addresses); count.
    """
    start = f"load_{dtype}(x, r * count)"
    start += " + 0.0" if how == "add" and dtype[0] == "f" else ""
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        f"    x = ptr_{dtype}(word(t, 1), 0)",
        "    count = word(t, 2)",
        "    for r in range(lo, hi):",
        f"        store_{dtype}(out, r * count, {start})",
        f"        total = load_{dtype}(out, r * count)",  # of this dtype, whatever 0.0 is
        "        for i in range(r * count + 1, r * count + count):",
        f"            total = {COMBINE[how].format(x='total', y=f'load_{dtype}(x, i)')}",
        f"            store_{dtype}(out, i, total)",
        "",
    ])  # fmt: skip


MANY_HEAD, MANY_ROW = 1, 4
# Runs equal kernels on several tables: a row is the table's address, its first unit among all
# units, its units, and how many of the table's own units one of these is.
MANY_SOURCE = """def kernel(t, lo, hi):
    count = word(t, 1)
    address = word(t, 0)
    for k in range(count):
        row = 2 + 4 * k
        begin = word(t, row + 1)
        own = word(t, row + 2)
        size = word(t, row + 3)
        first = (select(lo > begin, lo, begin) - begin) * size
        last = select((hi - begin) * size < own, (hi - begin) * size, own)
        if first < last:
            call_kernel(address, word(t, row), first, last)
"""
