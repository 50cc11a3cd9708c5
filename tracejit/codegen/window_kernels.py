"""Kernels over sliding windows, written by hand: sums of windows, maxima and their way back.

A unit is all of the window axes for one index of the others (a plane of an image), which stays in
a near cache while the positions within the windows pass over it. Invariant: an element is combined
in the order of the positions within its windows, as the ops' NumPy meanings do.
"""

from __future__ import annotations

from itertools import product
from math import prod

UNROLLED = 16  # positions within a window, up to which a maximum stays in registers
FILTERS = 16  # filters that make a unit of work of their copy
AXIS_WORDS = ("n", "c", "s", "w", "k", "g", "d")


class KernelText:
    """Lines of a kernel, and the numbers of the table's words."""

    def __init__(self, pointers: dict[str, tuple[str, int]]):
        self.lines = ["def kernel(t, lo, hi):"]
        self.depth = 1
        self.words = 0
        for name, (dtype, scope) in pointers.items():
            self.put(f"{name} = ptr_{dtype}({self.word()}, {scope})")

    def put(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def open(self, text: str) -> None:
        """A statement whose body follows."""
        self.put(text)
        self.depth += 1

    def word(self) -> str:
        self.words += 1
        return f"word(t, {self.words - 1})"

    def words_of_axes(self, rank: int) -> None:
        """The words behind the addresses: of the outer axes, then of each window axis.

        For each axis `n` is its size, `c` how many windows lie along it, `s` and `w` the source's
        strides along windows and within one, `k` the window's size, `g` its dilation, `d` the
        distance of windows.
        """
        names = ["inner", "step_a", "step_b"]
        names += [f"{name}{axis}" for axis in range(rank) for name in AXIS_WORDS]
        for name in names:
            self.put(f"{name} = {self.word()}")

    def units(self, rank: int, sizes: str) -> None:
        """The words, and the loop over units: `origin` in the source, `plane` in the result."""
        self.words_of_axes(rank)
        whole = " * ".join(f"{sizes}{axis}" for axis in range(rank))
        self.put(f"whole = {whole}")
        self.open("for u in range(lo, hi):")
        self.put("a = u // inner")
        self.put("origin = a * step_a + (u - a * inner) * step_b")
        self.put("plane = u * whole")

    def text(self) -> str:
        return "\n".join([*self.lines, ""])


def _scaled(parts: str, rank: int, name: str) -> str:
    return "".join(f" + {name}{axis} * {parts}{axis}" for axis in range(rank))


def _number(rank: int) -> str:
    """The number of the position i0, i1... within a window."""
    text = "i0"
    for axis in range(1, rank):
        text = f"({text}) * k{axis} + i{axis}"
    return text


def add_source(dtype: str, rank: int, step: int, dense: bool) -> str:
    """Every element of `out` the sum over the windows that hold it (`windows_add`).

    Table: out, source; inner outer size and the strides of the two outer axes; the words of the
    axes. `step`, if not 0, is the distance of windows along the last axis; `dense`: the source has
    neighbours along it.
    """
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0)})
    last = rank - 1
    w.units(rank, "n")
    _zeros(w, dtype)
    for axis in range(rank):
        w.open(f"for i{axis} in range(k{axis}):")
    for axis in range(last):
        w.open(f"for y{axis} in range(c{axis}):")
    place = f"i{last} * g{last}"
    for axis in range(last):
        beyond = " * ".join(f"n{a}" for a in range(axis + 1, rank))
        place += f" + (y{axis} * d{axis} + i{axis} * g{axis}) * {beyond}"
    w.put(f"start = origin{_scaled('s', last, 'y')}{_scaled('w', rank, 'i')}")
    w.put(f"to = plane + {place}")
    w.open(f"for x in range(c{last}):")
    to = f"to + x * {step}" if step else f"to + x * d{last}"
    source = "start + x" if dense else f"start + x * s{last}"
    total = f"load_{dtype}(out, {to}) + load_{dtype}(source, {source})"
    w.put(f"store_{dtype}(out, {to}, {total})")
    w.put("masked_tail()")
    return w.text()


def _zeros(w: KernelText, dtype: str) -> None:
    w.put(f"zero = to_{dtype}(0)")
    w.put("for x in range(plane, plane + whole):")
    w.put(f"    store_{dtype}(out, x, zero)")


def put_source(dtype: str, index: str, rank: int) -> str:
    """Zeros with the value of each window added at the position that `index` numbers.

    Windows come last to first: so an element gets its values in the order of their positions.
    Table: as for `add_source` with the index behind the source, then for each position how far
    it is from the window's first. Source and index are row-major.
    """
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0), "index": (index, 0)})
    last = rank - 1
    w.units(rank, "n")
    offsets = w.words
    _zeros(w, dtype)
    for axis in range(last):
        w.open(f"for z{axis} in range(c{axis}):")
        w.put(f"y{axis} = c{axis} - 1 - z{axis}")
    place = "plane"
    for axis in range(last):
        place += " + " + " * ".join(
            [f"y{axis} * d{axis}", *(f"n{a}" for a in range(axis + 1, rank))]
        )
    w.put(f"start = origin{_scaled('s', last, 'y')}")
    w.put(f"to = {place}")
    w.open(f"for z in range(c{last}):")
    w.put(f"x = c{last} - 1 - z")
    w.put(f"at = to + x * d{last} + word(t, {offsets} + load_{index}(index, start + x))")
    w.put(f"store_{dtype}(out, at, load_{dtype}(out, at) + load_{dtype}(source, start + x))")
    return w.text()


def max_source(dtype: str, index: str, rank: int, step: int, sizes: tuple[int, ...] = ()) -> str:
    """The maximum of every window and the number of the position that holds it (`window_max`).

    The first of equal ones, but the last NaN. Table: values, source, places, then as for
    `add_source`. `step`, if not 0, is the distance of windows along the last axis, whose elements
    are neighbours: knowing that, LLVM loads and sorts them instead of gathering them. With
    `sizes`, those of a window, a maximum stays in registers; without, in its place in memory.
    """
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0), "places": (index, 2)})
    last = rank - 1
    w.units(rank, "c")
    row = "0"
    for axis in range(last):
        w.open(f"for y{axis} in range(c{axis}):")
        row = f"({row}) * c{axis} + y{axis}" if axis else "y0"
    w.put(f"row = plane + ({row}) * c{last}")
    w.put(f"start = origin{_scaled('s', last, 'y')}")
    move = f"x * {step}" if step else f"x * s{last}"
    if sizes:
        _maximum_in_registers(w, (dtype, index), sizes, step)
    else:
        _maximum_in_memory(w, (dtype, index), rank, move)
    return w.text()


def _maximum_in_registers(
    w: KernelText, kinds: tuple[str, str], sizes: tuple[int, ...], step: int
) -> None:
    dtype, index = kinds
    last = len(sizes) - 1
    for number, offset in enumerate(product(*map(range, sizes[:-1]))):
        part = "".join(f" + {i} * w{axis}" for axis, i in enumerate(offset))
        w.put(f"from{number} = start{part}")
    w.open(f"for x in range(c{last}):")
    number = 0
    for number in range(prod(sizes)):
        row, j = divmod(number, sizes[-1])
        place = f"x * {step} + {j}" if step else f"x * s{last} + {j} * w{last}"
        w.put(f"v{number} = load_{dtype}(source, from{row} + {place})")
        if not number:
            w.put("best0 = v0")
            w.put(f"at0 = to_{index}(0)")
            continue
        before = number - 1
        w.put(f"better{number} = (v{number} > best{before}) | (v{number} != v{number})")
        w.put(f"best{number} = select(better{number}, v{number}, best{before})")
        w.put(f"at{number} = select(better{number}, to_{index}({number}), at{before})")
    w.put(f"store_{dtype}(out, row + x, best{number})")
    w.put(f"store_{index}(places, row + x, at{number})")


def _maximum_in_memory(w: KernelText, kinds: tuple[str, str], rank: int, move: str) -> None:
    dtype, index = kinds
    w.put(f"for x in range(c{rank - 1}):")
    w.put(f"    store_{dtype}(out, row + x, load_{dtype}(source, start + {move}))")
    w.put(f"    store_{index}(places, row + x, 0)")
    for axis in range(rank):
        w.open(f"for i{axis} in range(k{axis}):")
    w.put(f"number = to_{index}({_number(rank)})")
    w.put(f"place = start{_scaled('w', rank, 'i')}")
    w.open(f"for x in range(c{rank - 1}):")
    w.put(f"v = load_{dtype}(source, place + {move})")
    w.put(f"best = load_{dtype}(out, row + x)")
    w.put("better = (v > best) | (v != v)")
    w.put(f"store_{dtype}(out, row + x, select(better, v, best))")
    w.put(f"at = load_{index}(places, row + x)")
    w.put(f"store_{index}(places, row + x, select(better, number, at))")
    w.put("masked_tail()")


def pad_source(dtype: str, dense: bool) -> str:
    """Planes with a border of one value, a unit for each: every row is written once.

    Table: out, source, value (of one element); inner outer size and the source's strides of the two
    outer axes; rows and columns of a plane, the source's strides along them; rows above and below,
    columns before and behind.
    """
    names = ("inner", "step_a", "step_b", "rows", "columns", "step_y", "step_x", "above", "below",
             "before", "behind")  # fmt: skip
    along = "x" if dense else "x * step_x"
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        f"    source = ptr_{dtype}(word(t, 1), 0)",
        f"    value = load_{dtype}(ptr_{dtype}(word(t, 2), 0), 0)",
        *(f"    {name} = word(t, {3 + i})" for i, name in enumerate(names)),
        "    whole = before + columns + behind",
        "    for u in range(lo, hi):",
        "        a = u // inner",
        "        origin = a * step_a + (u - a * inner) * step_b",
        "        plane = u * (above + rows + below) * whole",
        "        first = plane + above * whole",
        "        end = first + rows * whole",
        "        for i in range(plane, first):",
        f"            store_{dtype}(out, i, value)",
        "        for y in range(rows):",
        "            start = first + y * whole",
        "            inside = start + before",
        "            for i in range(start, inside):",
        f"                store_{dtype}(out, i, value)",
        "            from_ = origin + y * step_y",
        "            for x in range(columns):",
        f"                store_{dtype}(out, inside + x, load_{dtype}(source, from_ + {along}))",
        "                masked_tail()",
        "            for i in range(inside + columns, start + whole):",
        f"                store_{dtype}(out, i, value)",
        "        for i in range(end, end + below * whole):",
        f"            store_{dtype}(out, i, value)",
        "",
    ])  # fmt: skip


def filters_source(dtype: str) -> str:
    """Filters copied to row-major order, `FILTERS` of them a unit: channel by channel, so that
    those which lie side by side in the source are read together.

    Table: out, source; filters, channels, taps; the source's strides along the first two; the
    address of the offsets of its taps.
    """
    return "\n".join([
        "def kernel(t, lo, hi):",
        f"    out = ptr_{dtype}(word(t, 0), 1)",
        f"    source = ptr_{dtype}(word(t, 1), 0)",
        "    offsets = ptr_i64(word(t, 7), 0)",
        "    filters = word(t, 2)",
        "    channels = word(t, 3)",
        "    taps = word(t, 4)",
        "    step_o = word(t, 5)",
        "    step_c = word(t, 6)",
        "    for u in range(lo, hi):",
        f"        first = u * {FILTERS}",
        f"        last = select(first + {FILTERS} < filters, first + {FILTERS}, filters)",
        "        for c in range(channels):",
        "            for o in range(first, last):",
        "                start = o * step_o + c * step_c",
        "                to = (o * channels + c) * taps",
        "                for i in range(taps):",
        f"                    v = load_{dtype}(source, start + load_i64(offsets, i))",
        f"                    store_{dtype}(out, to + i, v)",
        "",
    ])  # fmt: skip


# Units of a single element, for devices: their threads are many


def _element(w: KernelText, rank: int, sizes: str) -> None:
    """Coordinates `y0`, `y1`... of unit u and the `origin` of its plane in the source."""
    w.put("rest = u")
    for axis in range(rank - 1, -1, -1):
        w.put(f"y{axis} = rest % {sizes}{axis}")
        w.put(f"rest = rest // {sizes}{axis}")
    w.put("a = rest // inner")
    w.put("origin = a * step_a + (rest - a * inner) * step_b")


def max_element_source(dtype: str, index: str, rank: int) -> str:
    """As `max_source`, an element for each unit."""
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0), "places": (index, 2)})
    w.words_of_axes(rank)
    w.open("for u in range(lo, hi):")
    _element(w, rank, "c")
    w.put(f"start = origin{_scaled('s', rank, 'y')}")
    w.put(f"best = load_{dtype}(source, start)")
    w.put("at = 0")
    for axis in range(rank):
        w.open(f"for i{axis} in range(k{axis}):")
    w.put(f"v = load_{dtype}(source, start{_scaled('w', rank, 'i')})")
    w.put("better = (v > best) | (v != v)")
    w.put("best = select(better, v, best)")
    w.put(f"at = select(better, {_number(rank)}, at)")
    w.depth -= rank
    w.put(f"store_{dtype}(out, u, best)")
    w.put(f"store_{index}(places, u, to_{index}(at))")
    return w.text()


def put_element_source(dtype: str, index: str, rank: int) -> str:
    """As `put_source`, an element for each unit: it asks the windows that hold it."""
    w = KernelText({"out": (dtype, 1), "source": (dtype, 0), "index": (index, 0)})
    w.words_of_axes(rank)
    w.put(f"zero = to_{dtype}(0)")
    w.open("for u in range(lo, hi):")
    _element(w, rank, "n")
    w.put("total = zero")
    for axis in range(rank):
        w.open(f"for i{axis} in range(k{axis}):")
        w.put(f"p{axis} = y{axis} - i{axis} * g{axis}")
        w.put(f"q{axis} = p{axis} // d{axis}")
        w.put(f"inside{axis} = (p{axis} >= 0) & (q{axis} * d{axis} == p{axis})")
        w.open(f"if inside{axis} & (q{axis} < c{axis}):")
    w.put(f"start = origin{_scaled('s', rank, 'q')}")
    w.put(f"hit = load_{index}(index, start) == {_number(rank)}")
    w.put(f"total = to_{dtype}(total + select(hit, load_{dtype}(source, start), zero))")
    w.depth -= 2 * rank
    w.put(f"store_{dtype}(out, u, total)")
    return w.text()
