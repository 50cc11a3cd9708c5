"""``tracejit.autograd.profiler``: how long ops, compiled kernels and marked blocks take.

Invariant: what is timed computes what it computes untimed. A replay of a compiled function runs no
Python, so marks inside it count only where it is traced or runs eagerly; its kernels and matrix
products are timed by native code, each with the user's line (on the CPU).
"""

from __future__ import annotations

import json
import os
from contextlib import ContextDecorator
from dataclasses import dataclass
from typing import Any

from tracejit.runtime import timing
from tracejit.runtime.timing import PROFILERS, Range, timed

__all__ = ["EventList", "FunctionEventAvg", "profile", "record_function"]


@dataclass(frozen=True)
class FunctionEventAvg:
    """All runs of one name; times in microseconds, `self_` without what was timed inside."""

    key: str
    count: int
    cpu_time_total: float
    self_cpu_time_total: float

    @property
    def cpu_time(self) -> float:
        """The mean."""
        return self.cpu_time_total / self.count


class EventList(list[Any]):
    """Averages by name."""

    def table(
        self, sort_by: str | None = None, row_limit: int = 100,
        max_src_column_width: int = 75, max_name_column_width: int = 55,
        max_shapes_column_width: int = 80, header: str | None = None,
        top_level_events_only: bool = False,
    ) -> str:  # fmt: skip
        """The averages as text; `sort_by` names a field of theirs, the largest first."""
        rows = list(self)
        if sort_by is not None:
            field = sort_by if sort_by in ("count", "cpu_time", "cpu_time_total") else (
                "self_cpu_time_total")  # fmt: skip
            rows.sort(key=lambda e: -getattr(e, field))
        width = max([4, *(len(e.key) for e in rows)])
        width = min(width, max_name_column_width)
        lines = [] if header is None else [header]
        lines.append(f"{'Name':>{width}}  {'Self CPU':>12}  {'CPU total':>12}  {'CPU time avg':>12}"
                     f"  {'# of Calls':>10}")  # fmt: skip
        lines += [
            f"{e.key[:width]:>{width}}  {_text(e.self_cpu_time_total):>12}  "
            f"{_text(e.cpu_time_total):>12}  {_text(e.cpu_time):>12}  {e.count:>10}"
            for e in rows[: row_limit if row_limit >= 0 else None]
        ]
        total = sum(e.self_cpu_time_total for e in self)
        return "\n".join([*lines, f"Self CPU time total: {_text(total)}", ""])


def _text(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3f}{unit}"
    return f"{microseconds:.3f}us"


class profile:
    """A block in which ops, kernels of compiled functions and marked blocks are timed.

    Example: ``with autograd.profiler.profile() as prof: ones(3).sum()``.
    """

    def __init__(self, enabled: bool = True, **options: Any):
        self.enabled = enabled
        self.ranges: list[Range] = []

    def __enter__(self) -> Any:
        if self.enabled:
            timing.begin(self.ranges)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.is_active:
            timing.end(self.ranges)

    @property
    def is_active(self) -> bool:
        """Whether it is timing now."""
        return any(ranges is self.ranges for ranges in PROFILERS)

    def events(self) -> list[Range]:
        """What ran, as it ended."""
        return list(self.ranges)

    def key_averages(self, *args: Any, **kwargs: Any) -> EventList:
        """The runs by name, in the order in which names came first."""
        found: dict[str, list[Range]] = {}
        for r in self.ranges:
            found.setdefault(r.name, []).append(r)
        return EventList(
            FunctionEventAvg(name, len(runs), sum(r.end - r.start for r in runs) / 1e3,
                             sum(r.end - r.start - r.inside for r in runs) / 1e3)
            for name, runs in found.items()
        )  # fmt: skip

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the runs as JSON for chrome://tracing and Perfetto."""
        events = [
            {"name": r.name, "ph": "X", "ts": r.start / 1e3, "dur": (r.end - r.start) / 1e3,
             "pid": os.getpid(), "tid": 0}
            for r in self.ranges
        ]  # fmt: skip
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events}, file)


class record_function(ContextDecorator):
    """Names a block or a function for a profiler.

    Example: ``with tracejit.profiler.record_function("forward"): ...``
    """

    def __init__(self, name: str, args: str | None = None):
        self.name = name
        self._blocks: list[timed] = []

    def __enter__(self) -> record_function:
        if PROFILERS:
            self._blocks.append(timed(self.name).__enter__())
        return self

    def __exit__(self, *exc: Any) -> None:
        if self._blocks:
            self._blocks.pop().__exit__()
