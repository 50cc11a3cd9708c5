"""Counts of samples that agree and disagree, by section, name and kind; the tables made of them.

Invariant: every sample that ran is counted once; a sample that raised `Skip` is not.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import traceback
from collections.abc import Collection
from typing import Any

from bench.conformance.convert import Skip

TIMEOUT = 30.0
"""Seconds of processor time that one check may take."""


class Missing(Exception):
    """tracejit has no function, method or form of this name."""


class Tally:
    """Samples of one name and kind."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self.missing = False
        self.first = ""

    @property
    def verdict(self) -> str:
        """One of whole, part, none, missing, unmeasured."""
        if self.missing:
            return "missing"
        if not self.passed and not self.failed:
            return "unmeasured"
        if not self.failed:
            return "whole"
        return "part" if self.passed else "none"


class Report:
    """Tallies by (section, name, kind)."""

    def __init__(self, verbose: bool = False, kinds: Collection[str] = (), keep: str = ""):
        self.verbose = verbose
        self.keep = keep  # the file that gathers the results of several runs
        self.earlier: dict[tuple[str, str, str], Tally] = {}
        self.kinds = kinds  # the only ones to run; all if there are none
        self.tallies: dict[tuple[str, str, str], Tally] = collections.defaultdict(Tally)

    def check(self, section: str, name: str, kind: str, label: str, action: Any) -> None:
        """Run `action`; Skip does not count, any other exception is a failure."""
        if self.kinds and kind not in self.kinds and kind != "construct":
            return
        tally = self.tallies[section, name, kind]
        try:
            signal.setitimer(signal.ITIMER_PROF, TIMEOUT)
            action()
            signal.setitimer(signal.ITIMER_PROF, 0)
        except Skip:
            return
        except Missing as error:
            tally.missing = True
            tally.first = tally.first or f"missing {error}"
        except Exception as error:  # whatever a sample does, the others still run
            tally.failed += 1
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            tally.first = tally.first or f"[{label}] {text[:220]}"
            if self.verbose:
                print(f"--- {name} {kind} {label}\n{text}")
                if not isinstance(error, AssertionError):
                    traceback.print_exc(limit=-3)
        else:
            tally.passed += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def load(self) -> None:
        """Read what earlier runs kept."""
        if self.keep and os.path.exists(self.keep):
            with open(self.keep, encoding="utf-8") as file:
                for section, name, kind, *counts in json.load(file):
                    tally = self.earlier[section, name, kind] = Tally()
                    tally.passed, tally.failed, tally.missing, tally.first = counts

    def save(self) -> None:
        """Keep all tallies, this run's in place of an earlier one's; called after each name."""
        if self.keep:
            rows = [
                [*key, t.passed, t.failed, t.missing, t.first]
                for key, t in {**self.earlier, **self.tallies}.items()
            ]
            with open(self.keep, "w", encoding="utf-8") as file:
                json.dump(rows, file)

    def whole(self) -> Report:
        """This run's tallies with those of earlier runs that it did not repeat."""
        report = Report()
        report.tallies.update({**self.earlier, **self.tallies})
        return report

    def failures(self) -> str:
        """Every name that does not wholly agree, with its first failures."""
        lines = []
        by_name: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for (section, name, kind), tally in self.tallies.items():
            if tally.verdict in ("part", "none", "missing"):
                count = f"{tally.passed}/{tally.passed + tally.failed} " if tally.failed else ""
                by_name[section, name].append(f"{kind} {count}{tally.first}")
        for (section, name), cells in sorted(by_name.items()):
            lines.append(f"{section} {name}: " + "\n    ".join(cells))
        return "\n".join(lines)

    def rows(self) -> list[tuple[str, ...]]:
        """One row for each section and kind: names by verdict, and samples."""
        kinds: dict[tuple[str, str], list[Tally]] = collections.defaultdict(list)
        for (section, _, kind), tally in self.tallies.items():
            if tally.verdict != "unmeasured":
                kinds[section, kind].append(tally)
        rows = []
        for (section, kind), tallies in kinds.items():
            counts = collections.Counter(t.verdict for t in tallies)
            good, bad = sum(t.passed for t in tallies), sum(t.failed for t in tallies)
            whole = 100 * counts["whole"] / len(tallies)
            rows.append((
                section, kind, str(len(tallies)), f"{whole:.1f} %",
                *(str(counts[v]) for v in ("part", "none", "missing")), f"{good} of {good + bad}",
            ))  # fmt: skip
        return rows


HEAD = ("section", "kind", "names", "wholly agree", "partly", "not at all", "missing", "samples")


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table of `Report.rows`."""
    widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]

    def line(row: tuple[str, ...]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"

    rule = "| " + " | ".join("-" * w for w in widths) + " |"
    return "\n".join([line(HEAD), rule, *map(line, rows)])
