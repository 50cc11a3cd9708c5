"""The tables of a run, for the terminal and as Markdown; the machine it ran on.

Invariant: the machine is described without names of hosts, users or folders.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bench.frameworks import Framework
from bench.harness import Timing
from tracejit import config
from tracejit.codegen.objects import cpu
from tracejit.inspect.render import number
from tracejit.inspect.render import table as text_table

_FIRST, _LAST = "<!-- bench: begin -->", "<!-- bench: end -->"


def machine(frameworks: Iterable[Framework]) -> list[str]:
    """Date, processor, threads and versions, one fact a line."""
    with_versions = sorted({f.versions() for f in frameworks if f.versions()})
    return [
        f"date: {datetime.now(UTC):%Y-%m-%d}",
        f"processor: {_model()} ({cpu()[0]}), {config.threads} threads",
        f"system: {platform.system()}, Python {platform.python_version()}",
        f"versions: {', '.join(with_versions)}",
    ]


def _model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as facts:
            return next(line.split(":")[1].strip() for line in facts if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def case_table(
    rows: dict[str, dict[str, Timing]], targets: dict[str, dict[str, float]], unit: str = "ms"
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: time of tracejit, then each other's time and how many times slower it is.

    A wanted ratio stands in brackets; a ratio under 1 (we lose) or under the wanted one has a "!".
    """
    names = list(next(iter(rows.values()), {}))
    others = [n for n in names if n != "tracejit"]
    header = ["", f"tracejit {unit}", *(f"{n} {unit} (times)" for n in others)]
    body = []
    for case, timings in rows.items():
        own = timings["tracejit"]
        cells = [case, _time(own)]
        cells += [_beside(timings[n], own, targets.get(case, {}).get(n)) for n in others]
        body.append(cells)
    return header, body


def _time(timing: Timing) -> str:
    return number(timing.ms) if timing.problem is None and not math.isnan(timing.ms) else "-"


def _beside(other: Timing, own: Timing, target: float | None) -> str:
    if _time(other) == "-" or _time(own) == "-":
        return _time(other)
    ratio = other.ms / own.ms
    wanted = "" if target is None else f" [{target:g}]"
    lost = "!" if ratio < (target or 1.0) else ""
    return f"{number(other.ms)} ({ratio:.2f}{wanted}{lost})"


def summary_table(rows: dict[str, dict[str, Timing]]) -> tuple[list[str], list[list[str]]]:
    """How many times as long as tracejit the others take; what we lose stands there too."""
    names = [n for n in next(iter(rows.values()), {}) if n != "tracejit"]
    shown = {"inductor": "torch.compile", "jax": "jax.jit", "eager": "tracejit eager"}
    body = [
        [case, *(_ratio(timings.get(n), timings["tracejit"]) for n in names)]
        for case, timings in rows.items()
    ]
    return ["", *(shown.get(n, n) for n in names)], body


def _ratio(other: Timing | None, own: Timing) -> str:
    if other is None or _time(other) == "-" or _time(own) == "-":
        return "-"
    return f"{other.ms / own.ms:.1f}"


def problems(rows: dict[str, dict[str, Timing]]) -> list[str]:
    """What could not be measured, and why."""
    return [
        f"{case}, {name}: {t.problem}"
        for case, timings in rows.items()
        for name, t in timings.items()
        if t.problem is not None and t.problem != "not defined"
    ]


def process_table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of whole-process figures."""
    columns = list(dict.fromkeys(k for v in figures.values() if isinstance(v, dict) for k in v))
    body = []
    for name, found in figures.items():
        if isinstance(found, str):
            body.append([name, found, *([""] * (len(columns) - 1))])
        else:
            body.append([name, *(_figure(found.get(c, math.nan)) for c in columns)])
    return ["", *columns], body


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0f}" if value >= 100 else number(value)


def write_page(path: str, text: str) -> None:
    """Write the tables to a file; in a page with bench marks, between the marks only."""
    page = f"{_FIRST}\n{_LAST}\n"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            page = file.read()
    if _FIRST not in page or _LAST not in page:
        raise ValueError(f"{path} has no lines {_FIRST} and {_LAST}")
    before, rest = page.split(_FIRST, 1)
    after = rest.split(_LAST, 1)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{_FIRST}\n\n{text}\n{_LAST}{after}")


def as_text(header: list[str], body: list[list[str]]) -> str:
    return text_table(header, body)


def as_markdown(header: list[str], body: list[list[str]]) -> str:
    rows = [header, ["---", *(["---:"] * (len(header) - 1))], *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
