"""What was asked of the kernel compiler so far, as a table.

Invariant: it only reads the compiler's own record.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracejit.codegen.compiler import KernelEvent, kernel_history
from tracejit.inspect.render import html_table, table

_HEADER = ("kernel", "key", "from", "ms")


class History:
    """Kernels in the order in which they were asked for: compiled, read from disk, or in memory.

    Iterating gives the events (`.kind .name .key .ms`); ``compiled`` counts compilations.
    """

    def __init__(self, events: list[KernelEvent]):
        self.events = events

    def __iter__(self) -> Iterator[KernelEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    @property
    def compiled(self) -> int:
        """How many kernels were compiled."""
        return sum(e.kind == "compile" for e in self.events)

    def _rows(self) -> list[tuple[str, ...]]:
        return [(e.name, e.key[:12], e.kind, f"{e.ms:.2f}") for e in self.events]

    def __str__(self) -> str:
        total = sum(e.ms for e in self.events)
        counts = {k: sum(e.kind == k for e in self.events) for k in ("compile", "disk", "memory")}
        last = (f"{counts['compile']} compiled, {counts['disk']} from disk, "
                f"{counts['memory']} from memory, {total:.1f} ms")  # fmt: skip
        return f"{table(_HEADER, self._rows())}\n{last}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._rows())


def history() -> History:
    """The kernels of this process, oldest first.

    Example: ``print(tracejit.history())``.
    """
    return History(kernel_history())
