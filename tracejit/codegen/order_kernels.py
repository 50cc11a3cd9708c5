"""Kernels of devices for ops about order: sorting by merges, searching, running extremes.

Written by hand in `codegen.language` for one dtype; a unit of work is one element (or one column of
a scan), so a device gives each a thread. Invariant: elements are ordered as NumPy orders them (NaN
after everything, equal elements in their order), and no unit reads what another one writes.
"""

from __future__ import annotations


def before(x: str, y: str, dtype: str, descending: bool = False) -> str:
    """Whether x is sorted before y, as an expression."""
    if descending:
        x, y = y, x
    if dtype[0] != "f":
        return f"({x} < {y})"
    return f"(({x} < {y}) | (({y} != {y}) & ({x} == {x})))"


def _load(dtype: str, pointer: str, place: str) -> str:
    text = f"load_{dtype}({pointer}, {place})"
    return f"select({text}, 1, 0)" if dtype == "b1" else text


def merge_source(dtype: str, descending: bool, is_first: bool) -> str:
    """One pass of a merge sort of rows: every element finds its place in two runs merged.

    That is its own rank plus the number of elements of the other run that go before it.
    Table: values, places (targets), values, places (sources); length of a row, width of a run,
    steps of the search. The first pass numbers the elements instead of reading places.
    """
    left = before("other", "own", dtype, descending)  # of the right run: strictly before only
    right = before("own", "other", dtype, descending)
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        "    places = ptr_i64(word(t, 1), 2)",
        f"    x = ptr_{dtype}(word(t, 2), 0)",
        "    held = ptr_i64(word(t, 3), 0)",
        "    n = word(t, 4)",
        "    width = word(t, 5)",
        "    for u in range(lo, hi):",
        "        base = (u // n) * n",
        "        p = u - base",
        "        run = p // width",
        "        pair = (run // 2) * 2",
        "        start = select(run == pair, (pair + 1) * width, pair * width)",
        "        start = select(start < n, start, n)",
        "        stop = select(start + width < n, start + width, n)",
        f"        own = {_load(dtype, 'x', 'u')}",
        "        a = start",
        "        b = stop",
        "        for step in range(word(t, 6)):",
        "            if a < b:",
        "                middle = (a + b) // 2",
        f"                other = {_load(dtype, 'x', 'base + middle')}",
        f"                ahead = select(run == pair, select({left}, 1, 0), "
        f"select({right}, 0, 1))",
        "                b = select(ahead == 1, b, middle)",
        "                a = select(ahead == 1, middle + 1, a)",
        "        to = base + pair * width + (p - run * width) + (a - start)",
        f"        store_{dtype}(out, to, load_{dtype}(x, u))",
        f"        store_i64(places, to, {'p' if is_first else 'load_i64(held, u)'})",
        "",
    ])  # fmt: skip


def topk_source(dtype: str, largest: bool) -> str:
    """The first k elements of each sorted row and their places, by insertion: for small k.

    Table: values, places, x (addresses); length of a row, k (at least 1).
    """
    ahead = before("own", "other", dtype, largest)
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        "    places = ptr_i64(word(t, 1), 2)",
        f"    x = ptr_{dtype}(word(t, 2), 0)",
        "    n = word(t, 3)",
        "    k = word(t, 4)",
        "    for u in range(lo, hi):",
        "        to = u * k",
        f"        other = load_{dtype}(x, u * n)",
        "        for i in range(n):",
        f"            own = load_{dtype}(x, u * n + i)",
        f"            if (i < k) | {ahead}:",
        "                held = select(i < k, i, k - 1)",
        "                place = held",
        "                for j in range(held):",
        f"                    other = load_{dtype}(out, to + held - 1 - j)",
        f"                    moves = select({ahead}, 1, 0)",
        "                    at = to + held - j",
        "                    if moves == 1:",
        f"                        store_{dtype}(out, at, other)",
        "                        store_i64(places, at, load_i64(places, at - 1))",
        "                        place = held - 1 - j",
        f"                store_{dtype}(out, to + place, own)",
        "                store_i64(places, to + place, i)",
        f"                other = load_{dtype}(out, to + select(i < k, i, k - 1))",
        "",
    ])  # fmt: skip


def search_source(dtype: str, right: bool) -> str:
    """Where each element would stand in a sorted row, before or (`right`) after equal ones.

    Table: places, rows, x (addresses); length of a row, elements of x for each row (0: one row for
    all), steps of the search.
    """
    go_on = f"select({before('own', 'other', dtype)}, 0, 1)" if right else (
        f"select({before('other', 'own', dtype)}, 1, 0)"
    )  # fmt: skip
    return "\n".join([
        "def kernel(t, lo, hi):",
        "    places = ptr_i64(word(t, 0), 1)",
        f"    rows = ptr_{dtype}(word(t, 1), 0)",
        f"    x = ptr_{dtype}(word(t, 2), 0)",
        "    n = word(t, 3)",
        "    each = word(t, 4)",
        "    for u in range(lo, hi):",
        "        base = select(each > 0, u // select(each > 0, each, 1) * n, 0)",
        f"        own = {_load(dtype, 'x', 'u')}",
        "        a = 0",
        "        b = n",
        "        for step in range(word(t, 5)):",
        "            if a < b:",
        "                middle = (a + b) // 2",
        f"                other = {_load(dtype, 'rows', 'base + middle')}",
        f"                ahead = {go_on}",
        "                b = select(ahead == 1, b, middle)",
        "                a = select(ahead == 1, middle + 1, a)",
        "        store_i64(places, u, a)",
        "",
    ])  # fmt: skip


def extreme_rows_source(dtype: str, largest: bool) -> str:
    """As `extreme_source`, a unit being neighbouring columns, as threads of a CPU want it.

    Table: values, places, x (addresses); count, width, columns of a unit.
    """
    takes_over = _takes_over(dtype, largest)
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        "    places = ptr_i64(word(t, 1), 2)",
        f"    x = ptr_{dtype}(word(t, 2), 0)",
        "    count = word(t, 3)",
        "    width = word(t, 4)",
        "    columns = word(t, 5)",
        "    runs = (width + columns - 1) // columns",
        "    for u in range(lo, hi):",
        "        a = u // runs",
        "        first = (u - a * runs) * columns",
        "        last = select(first + columns < width, first + columns, width)",
        "        at = a * count * width",
        "        for j in range(first, last):",
        f"            store_{dtype}(out, at + j, load_{dtype}(x, at + j))",
        "            store_i64(places, at + j, 0)",
        "        for i in range(1, count):",
        "            at = (a * count + i) * width",
        "            for j in range(first, last):",
        f"                best = load_{dtype}(out, at - width + j)",
        f"                own = load_{dtype}(x, at + j)",
        "                place = load_i64(places, at - width + j)",
        f"                place = select({takes_over}, i, place)",
        f"                store_{dtype}(out, at + j, select({takes_over}, own, best))",
        "                store_i64(places, at + j, place)",
        "",
    ])  # fmt: skip


def _takes_over(dtype: str, largest: bool) -> str:
    """Whether `own` is the extreme from here on, as an expression: of equal elements the last."""
    takes_over = f"(own {'>=' if largest else '<='} best)"
    if dtype[0] == "f":  # nothing is beyond a NaN but a NaN
        takes_over = f"({takes_over} | (own != own))"
    return takes_over


def extreme_source(dtype: str, largest: bool) -> str:
    """The running maximum (minimum) along the middle axis of (outer, count, width) and its place.

    A NaN stays; of equal elements the last one counts. Table: values, places, x (addresses);
    count, width.
    """
    takes_over = _takes_over(dtype, largest)
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        "    places = ptr_i64(word(t, 1), 2)",
        f"    x = ptr_{dtype}(word(t, 2), 0)",
        "    count = word(t, 3)",
        "    width = word(t, 4)",
        "    for u in range(lo, hi):",
        "        first = (u // width) * count * width + u % width",
        f"        best = load_{dtype}(x, first)",
        "        place = 0",
        "        for i in range(count):",
        "            at = first + i * width",
        f"            own = load_{dtype}(x, at)",
        f"            place = select({takes_over}, i, place)",
        f"            best = select({takes_over}, own, best)",
        f"            store_{dtype}(out, at, best)",
        "            store_i64(places, at, place)",
        "",
    ])  # fmt: skip
