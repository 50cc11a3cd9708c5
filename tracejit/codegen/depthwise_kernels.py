"""Kernels of depthwise convolutions, and sums of windows: direct loops, taps unrolled.

A filter meets one channel, so there is nothing to multiply as matrices: a row of windows is a sum
of rows of the image, each times a tap. Rows of the image are read once for each tap, from a near
cache. Invariant: taps are added up in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from tracejit.codegen.window_kernels import AXIS_WORDS, KernelText

MOST_TAPS = 64  # unrolled
CHUNK = 64  # windows of a row whose sums for the gradient are kept side by side


def _axes(w: KernelText, rank: int) -> None:
    for axis in range(rank):
        for name in AXIS_WORDS:
            w.put(f"{name}{axis} = {w.word()}")


def _rows(w: KernelText, sizes: Sequence[int], origin: str, plane: str) -> list[str]:
    """Loops over the rows of windows: `row`, the number of a row's first window; the places of
    the taps at the first window of the row are returned as text, without the last axis.
    """
    last = len(sizes) - 1
    row = "0"
    for axis in range(last):
        w.open(f"for y{axis} in range(c{axis}):")
        row = f"({row}) * c{axis} + y{axis}" if axis else "y0"
    w.put(f"row = {plane} + ({row}) * c{last}")
    start = origin + "".join(f" + y{axis} * s{axis}" for axis in range(last))
    w.put(f"start = {start}")
    names = []
    for number, offset in enumerate(product(*map(range, sizes[:-1]))):
        part = "".join(f" + {i} * w{axis}" for axis, i in enumerate(offset))
        w.put(f"from{number} = start{part}")
        names.append(f"from{number}")
    return names


def _place(rows: Sequence[str], tap: int, sizes: Sequence[int], step: int, gap: int) -> str:
    """Where window x of a row has a tap."""
    last = len(sizes) - 1
    row, j = divmod(tap, sizes[-1])
    along = f"x * {step}" if step else f"x * s{last}"
    within = f"{j * gap}" if gap else f"{j} * w{last}"
    return f"{rows[row]} + {along} + {within}"


def depthwise_source(dtype: str, sizes: tuple[int, ...], step: int, gap: int) -> str:
    """Windows of a channel times a filter, a unit for each filter of each image.

    Table: out, source, weights; filters, filters of a channel, the source's strides along images
    and channels; the words of the axes (see `window_kernels`). `step` and `gap`, if not 0, are the
    distances of windows and of taps along the last axis.
    """
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0), "weights": (dtype, 0)})
    for name in ("filters", "each", "step_a", "step_b"):
        w.put(f"{name} = {w.word()}")
    _axes(w, len(sizes))
    w.put(f"zero = to_{dtype}(0)")
    w.open("for u in range(lo, hi):")
    w.put("a = u // filters")
    w.put("o = u - a * filters")
    w.put("origin = a * step_a + o // each * step_b")
    taps = prod(sizes)
    for tap in range(taps):
        w.put(f"w{tap}_ = load_{dtype}(weights, o * {taps} + {tap})")
    whole = " * ".join(f"c{axis}" for axis in range(len(sizes)))
    rows = _rows(w, sizes, "origin", f"u * ({whole})")
    w.open(f"for x in range(c{len(sizes) - 1}):")
    total = "zero"
    for tap in range(taps):
        place = _place(rows, tap, sizes, step, gap)
        w.put(f"t{tap} = {total} + w{tap}_ * load_{dtype}(source, {place})")
        total = f"t{tap}"
    w.put(f"store_{dtype}(out, row + x, {total})")
    if step == 1:  # a masked vector of distant elements is gathered
        w.put("masked_tail()")
    return w.text()


def depthwise_weight_source(dtype: str, sizes: tuple[int, ...], step: int, gap: int) -> str:
    """The gradient of a filter by its channel's windows, a unit for each filter.

    `CHUNK` windows of a row have a sum each, over all rows and images; then these are added up.
    Table: out, g, source, room (a chunk for each tap of each filter); images, filters, filters of a
    channel, the source's strides along images and channels; the words of the axes.
    """
    w = KernelText({"out": (dtype, 1), "g": (dtype, 0), "source": (dtype, 0), "room": (dtype, 2)})
    for name in ("images", "filters", "each", "step_a", "step_b"):
        w.put(f"{name} = {w.word()}")
    _axes(w, len(sizes))
    last, taps = len(sizes) - 1, prod(sizes)
    whole = " * ".join(f"c{axis}" for axis in range(last + 1))
    w.put(f"zero = to_{dtype}(0)")
    w.open("for o in range(lo, hi):")
    w.put(f"base = o * {taps * CHUNK}")
    w.put(f"for i in range({taps}):")
    w.put(f"    store_{dtype}(out, o * {taps} + i, zero)")
    w.open(f"for q in range((c{last} + {CHUNK - 1}) // {CHUNK}):")
    w.put(f"first = q * {CHUNK}")
    w.put(f"count = select(c{last} - first < {CHUNK}, c{last} - first, {CHUNK})")
    w.put(f"for i in range(base, base + {taps * CHUNK}):")
    w.put(f"    store_{dtype}(room, i, zero)")
    depth = w.depth
    w.open("for a in range(images):")
    along = f"first * {step}" if step else f"first * s{last}"
    origin = f"a * step_a + o // each * step_b + {along}"
    rows = _rows(w, sizes, origin, f"(a * filters + o) * ({whole})")
    w.open("for x in range(count):")
    w.put(f"v = load_{dtype}(g, row + first + x)")
    for tap in range(taps):
        value = f"load_{dtype}(source, {_place(rows, tap, sizes, step, gap)})"
        at = f"base + {tap * CHUNK} + x"
        w.put(f"store_{dtype}(room, {at}, load_{dtype}(room, {at}) + v * {value})")
    if step == 1:  # a masked vector of distant elements is gathered
        w.put("masked_tail()")
    w.depth = depth
    _add_up(w, dtype, taps)
    return w.text()


def _add_up(w: KernelText, dtype: str, taps: int) -> None:
    """Add the sums that a chunk keeps side by side to the filter's gradient."""
    w.open(f"for i in range({taps}):")
    w.put(f"at = o * {taps} + i")
    w.put("for x in range(count):")
    total = f"load_{dtype}(out, at) + load_{dtype}(room, base + i * {CHUNK} + x)"
    w.put(f"    store_{dtype}(out, at, {total})")


def window_sum_source(dtype: str, sizes: tuple[int, ...], step: int, gap: int) -> str:
    """The sum of every window, a unit for each plane.

    Table: out, source; inner outer size and the strides of the two outer axes; the words of the
    axes. `step` and `gap` as for `depthwise_source`.
    """
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0)})
    w.units(len(sizes), "c")
    w.put(f"zero = to_{dtype}(0)")
    rows = _rows(w, sizes, "origin", "plane")
    w.open(f"for x in range(c{len(sizes) - 1}):")
    total = "zero"
    for tap in range(prod(sizes)):
        w.put(f"t{tap} = {total} + load_{dtype}(source, {_place(rows, tap, sizes, step, gap)})")
        total = f"t{tap}"
    w.put(f"store_{dtype}(out, row + x, {total})")
    if step == 1:  # a masked vector of distant elements is gathered
        w.put("masked_tail()")
    return w.text()
