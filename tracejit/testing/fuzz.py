"""Random programs, eager against compiled: ``python -m tracejit fuzz --seed 0 --programs 100``.

Every program runs plain and compiled from the same state; all that shows is compared, then the IR
of its traces is interpreted. A failure is made small and kept. Invariant: the report names the
seeds, so that any run can be repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable

from tracejit.errors import TraceWarning
from tracejit.testing.agree import Failure, Outcome, check
from tracejit.testing.generate import FAMILY, generate
from tracejit.testing.minimize import minimize


class Report:
    """Counts of a session."""

    def __init__(self, first: int):
        self.first = first
        self.count = 0
        self.started = time.perf_counter()
        self.failures: list[tuple[int, Failure]] = []
        self.ways: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.eager = 0
        self.traces = 0
        self.slowest = (0.0, first)

    def note(self, seed: int, outcome: Outcome, seconds: float) -> None:
        """Count one program, which took so long to make and run."""
        self.slowest = max(self.slowest, (seconds, seed))
        compiled = outcome.compiled
        self.count += 1
        self.traces += compiled.captures
        self.ways[outcome.way] += outcome.failure is None
        if compiled.eager_reason is not None:
            self.eager += 1
            self.reasons[compiled.eager_reason.split(" at <")[0][:90]] += 1
        if outcome.failure is not None:
            self.failures.append((seed, outcome.failure))

    def text(self) -> str:
        """Seeds, counts and time per program."""
        seconds = time.perf_counter() - self.started
        last = self.first + self.count - 1
        ways = ", ".join(f"{n} {way}" for way, n in self.ways.most_common())
        lines = [
            f"{self.count} programs, seeds {self.first} to {last}: {len(self.failures)} "
            f"differences; {seconds:.1f} s, {1e3 * seconds / max(self.count, 1):.0f} ms a program",
            f"  compiled against plain: {ways or 'nothing'}",
            f"  {self.count - self.eager} compiled, {self.eager} given up to run eagerly, "
            f"{self.traces} captures, {-(-self.count // FAMILY)} functions; "
            f"the slowest (seed {self.slowest[1]}) took {self.slowest[0]:.1f} s",
        ]
        lines += [f"    {n} eager: {reason}" for reason, n in self.reasons.most_common(12)]
        lines += [f"  seed {s}: {f.kind}: {f.text[:300]}" for s, f in self.failures]
        return "\n".join(lines)


def run(
    seed: int = 0, seconds: float | None = None, programs: int | None = None,
    save: str | None = None, stop_at: int = 10, say: Callable[[str], None] = lambda text: None,
) -> Report:  # fmt: skip
    """Try programs from `seed` on for a time or a number; failures are made small and saved."""
    report = Report(seed)
    while programs is None or report.count < programs:
        if seconds is not None and time.perf_counter() - report.started >= seconds:
            break
        if len(report.failures) >= stop_at:
            break
        number = seed + report.count
        started = time.perf_counter()
        program = generate(number)
        outcome = check(program.source())
        report.note(number, outcome, time.perf_counter() - started)
        failure = outcome.failure
        if report.count % 250 == 0:
            say(report.text().splitlines()[0])
        if failure is None:
            continue
        say(f"seed {number}: {failure.kind}: {failure.text[:400]}")
        if save is not None:
            small = minimize(program, failure.kind)
            path = os.path.join(save, f"seed_{number}.py")
            with open(path, "w") as file:
                file.write(f"# {failure.kind}: {_first_line(failure.text)}\n{small.source()}")
            say(f"  kept as {path}:\n{small.source()}")
    return report


def _first_line(text: str) -> str:
    line = text.splitlines()[0]
    return line if len(line) <= 80 else line[:77] + "..."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--programs", type=int, default=None, help="how many (default: 100)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after this time")
    parser.add_argument("--save", default=None, help="folder for small versions of failures")
    parser.add_argument("--stop-at", type=int, default=10, help="failures after which to stop")
    parser.add_argument("--show", action="store_true", help="print the program of --seed and stop")


def command(chosen: argparse.Namespace) -> int:
    """Run as the options say; 1 if there was a difference."""
    if chosen.show:
        print(generate(chosen.seed).source())
        return 0
    if chosen.save is not None:
        os.makedirs(chosen.save, exist_ok=True)
    programs = chosen.programs
    if programs is None and chosen.seconds is None:
        programs = 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TraceWarning)
        report = run(
            chosen.seed, chosen.seconds, programs, chosen.save, chosen.stop_at,
            lambda text: print(text, flush=True),
        )  # fmt: skip
    print(report.text())
    return 1 if report.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """The command line of ``python -m tracejit.testing.fuzz``."""
    parser = argparse.ArgumentParser(prog="python -m tracejit.testing.fuzz", description=__doc__)
    add_arguments(parser)
    return command(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
