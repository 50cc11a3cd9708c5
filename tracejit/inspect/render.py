"""Small text pictures: tables, sparklines, a progress bar.

Invariant: everything here is plain text that fits a line; nothing knows tensors.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO, TypeVar

T = TypeVar("T")
_BLOCKS = "▁▂▃▄▅▆▇█"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right.

    Example: ``table(["", "ms"], [["eager", "1.5"]])``.
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(_pad(text, w, i) for i, (text, w) in enumerate(zip(row, widths)))
             for row in cells]  # fmt: skip
    rule = "  ".join("-" * w for w in widths)
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def _pad(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for a notebook."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def number(value: float) -> str:
    """Three significant digits, without an exponent where one can do without."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = max(0, 2 - (len(str(int(abs(value)))) - 1)) if abs(value) >= 1 else 3
        return f"{value:.{digits}f}"
    return f"{value:.2g}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve in `width` characters, from the smallest value (low) to the largest (high)."""
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    means = [sum(c) / len(c) for c in (values[i : i + step] for i in range(0, len(values), step))]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((m - low) * scale)] for m in means)


def can_show(text: str, stream: TextIO) -> bool:
    """Whether the stream's encoding has the characters of `text`."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def progress(
    items: Iterable[T], total: int, label: str, stream: TextIO | None = None
) -> Iterator[T]:
    """Yield `items` with a bar on `stream` (stderr); silent when that is no terminal."""
    out: Any = sys.stderr if stream is None else stream
    if not out.isatty():
        yield from items
        return
    full = "#" * 30
    try:
        for done, item in enumerate(items):
            filled = 30 * done // max(total, 1)
            out.write(f"\r{label} [{full[:filled]:30s}] {done}/{total}")
            out.flush()
            yield item
    finally:
        out.write("\r\x1b[K")
        out.flush()
