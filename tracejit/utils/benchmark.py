"""``tracejit.utils.benchmark``: how long a statement takes, measured with warm-up and quartiles.

Invariant: the statement runs through the standard library's ``timeit``; times are per run, in
seconds.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.runtime.threads import get_num_threads, set_num_threads

__all__ = ["Compare", "Measurement", "TaskSpec", "Timer", "timer"]

timer = timeit.default_timer
_UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def _shown(seconds: float) -> str:
    """A time in the unit that fits, with four digits."""
    unit, size = next((u for u in _UNITS if seconds >= u[1]), _UNITS[-1])
    return f"{seconds / size:.4g} {unit}"


@dataclass(frozen=True)
class TaskSpec:
    """What was measured."""

    stmt: str
    setup: str = "pass"
    global_setup: str = ""
    label: str | None = None
    sub_label: str | None = None
    description: str | None = None
    env: str | None = None
    num_threads: int = 1

    @property
    def title(self) -> str:
        """The label, or the statement itself."""
        return self.label or self.sub_label or self.stmt


@dataclass
class Measurement:
    """The times of several blocks of `number_per_run` runs each."""

    number_per_run: int
    raw_times: list[float]
    task_spec: TaskSpec

    @property
    def times(self) -> list[float]:
        """Seconds per run, one number for each block."""
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def mean(self) -> float:
        """The mean of `times`."""
        return statistics.fmean(self.times)

    @property
    def median(self) -> float:
        """The median of `times`."""
        return statistics.median(self.times)

    @property
    def iqr(self) -> float:
        """The distance between the quartiles; 0 with less than two blocks."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return high - low

    @property
    def has_warnings(self) -> bool:
        """Whether the quartiles lie further apart than a tenth of the median."""
        return self.iqr > 0.1 * self.median

    def __repr__(self) -> str:
        spec, count = self.task_spec, len(self.times)
        lines = [f"<{type(self).__module__}.Measurement of {spec.title}>"]
        lines += [spec.description] if spec.description else []
        lines.append(f"  {'Median' if count > 1 else 'Time'}: {_shown(self.median)}")
        if count > 1:
            lines.append(f"  IQR:    {_shown(self.iqr)}")
        runs = f"{self.number_per_run} run{'s' if self.number_per_run > 1 else ''}"
        threads = f"{spec.num_threads} thread{'s' if spec.num_threads > 1 else ''}"
        lines.append(f"  {count} measurement{'s' if count > 1 else ''}, {runs} each, {threads}")
        return "\n".join(lines)


class Timer:
    """Measures `stmt`, as ``timeit.Timer`` does, with a warm-up and one thread unless told.

    stmt, setup  Python statements; `globals` holds the names that they use.
    num_threads  how many threads tracejit may use meanwhile.
    label, sub_label, description, env  kept for `Compare`.

    >>> import tracejit as torch
    >>> t = Timer("x + 1", globals={"x": torch.ones(3)})
    >>> t.timeit(10).number_per_run
    10
    """

    def __init__(
        self, stmt: str = "pass", setup: str = "pass", global_setup: str = "",
        timer: Callable[[], float] = timer, globals: dict[str, Any] | None = None,
        label: str | None = None, sub_label: str | None = None, description: str | None = None,
        env: str | None = None, num_threads: int = 1, language: Any = "python",
    ) -> None:  # fmt: skip
        if language not in ("python", "py") or global_setup:
            raise ValueError("Timer measures Python statements only; there is no C++ here")
        self._task_spec = TaskSpec(
            stmt, setup, global_setup, label, sub_label, description, env, num_threads
        )
        self._timer = timeit.Timer(stmt, setup, timer, globals=dict(globals or {}))

    def _block(self, number: int) -> float:
        before = get_num_threads()
        set_num_threads(self._task_spec.num_threads)
        try:
            return max(self._timer.timeit(number), 1e-9)
        finally:
            set_num_threads(before)

    def timeit(self, number: int = 1_000_000) -> Measurement:
        """One block of `number` runs, after a warm-up of a hundredth of that (2 at least)."""
        self._block(max(number // 100, 2))
        return Measurement(number, [self._block(number)], self._task_spec)

    def blocked_autorange(
        self, callback: Callable[[int, float], Any] | None = None, min_run_time: float = 0.2
    ) -> Measurement:
        """Blocks that take 1 ms or more, until `min_run_time` seconds have passed in them."""
        number = self._block_size(min_run_time)
        times: list[float] = []
        while sum(times) < min_run_time:
            times.append(self._block(number))
            if callback is not None:
                callback(number, times[-1])
        return Measurement(number, times, self._task_spec)

    def adaptive_autorange(
        self, threshold: float = 0.1, *, min_run_time: float = 0.01, max_run_time: float = 10.0,
        callback: Callable[[int, float], Any] | None = None,
    ) -> Measurement:  # fmt: skip
        """Blocks until the quartiles are within `threshold` of the median, or time is up."""
        number = self._block_size(0.05)
        times: list[float] = []
        while True:
            times.append(self._block(number))
            if callback is not None:
                callback(number, times[-1])
            found = Measurement(number, list(times), self._task_spec)
            steady = len(times) > 3 and found.iqr <= threshold * found.median
            if sum(times) >= max_run_time or (sum(times) >= min_run_time and steady):
                return found

    def _block_size(self, min_run_time: float) -> int:
        """How many runs take 1 ms and a thousandth of the whole time."""
        number, wanted = 1, max(1e-3, min_run_time / 1000)
        self._block(2)
        while True:
            taken = self._block(number)
            if taken >= wanted:
                return number
            number *= 10


class Compare:
    """Prints measurements side by side: a row for each `sub_label`, a column for each
    `description`.
    """

    def __init__(self, results: Sequence[Measurement]):
        self._results = list(results)

    def extend_results(self, results: Sequence[Measurement]) -> None:
        """More measurements for the table."""
        self._results.extend(results)

    def trim_significant_figures(self) -> None:
        """Accepted: times have four digits."""

    def colorize(self, rowwise: bool = False) -> None:
        """Accepted: the table is plain text."""

    def highlight_warnings(self) -> None:
        """Accepted: `Measurement.has_warnings` says which times vary."""

    def print(self) -> None:
        """Show the table."""
        print(str(self))

    def __str__(self) -> str:
        columns = list(dict.fromkeys(self._column(m) for m in self._results))
        rows: dict[str, dict[str, str]] = {}
        for m in self._results:
            rows.setdefault(self._row(m), {})[self._column(m)] = _shown(m.median)
        table = [["", *columns]]
        table += [[name, *(cells.get(c, "") for c in columns)] for name, cells in rows.items()]
        widths = [max(len(line[i]) for line in table) for i in range(len(columns) + 1)]
        title = next((m.task_spec.label for m in self._results if m.task_spec.label), "")
        lines = [" | ".join(c.rjust(w) for c, w in zip(line, widths, strict=True))
                 for line in table]  # fmt: skip
        return "\n".join([f"[ {title} ]", *lines])

    def _column(self, m: Measurement) -> str:
        return m.task_spec.description or m.task_spec.env or "time"

    def _row(self, m: Measurement) -> str:
        spec = m.task_spec
        name = spec.sub_label or spec.stmt
        return name if spec.num_threads == 1 else f"{name} ({spec.num_threads} threads)"
