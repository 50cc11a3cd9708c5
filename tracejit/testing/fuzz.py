"""Random programs, eager against compiled: ``python -m tracejit.testing.fuzz --seconds 60 --seed 0``.

Every program runs plain and compiled from the same state; all that shows is compared. A failure is
made small and kept. Invariant: the report names the seeds, so that any run can be repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import tracejit
from tracejit.errors import TraceWarning
from tracejit.ir.interpret import interpret
from tracejit.ir.sizes import hints_of
from tracejit.jit.compile import CompiledFunction
from tracejit.testing.generate import generate
from tracejit.testing.observe import Observer, Tolerance, compare_logs
from tracejit.testing.programs import Program, load

CLOSE = Tolerance(ulps=64, atol=1e-6)
"""For programs whose sums may be ordered otherwise."""


class Failure:
    """How the runs of a program differ. `kind` is what a smaller program must show as well."""

    def __init__(self, kind: str, text: str):
        self.kind = kind
        self.text = text


def observe(source: str, compile: Callable[[Any], Any]) -> Observer:
    """Run a program's text once; what it showed, an error at the end included."""
    tracejit.manual_seed(77)
    module = load(source)
    observer = Observer(strides=False)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            for value in module.run(compile(module.f)):
                observer.see(value)
        except Exception as error:
            observer.see(("raised", type(error).__name__, str(error).partition("\n")[0]))
        observer.see((tracejit.default_generator.key, tracejit.default_generator.offset))
        observer.finish()
    return observer


def check(source: str) -> tuple[Failure | None, CompiledFunction]:
    """Compare the plain and the compiled run of a program, then the compiled graphs with the
    interpreter."""
    made: list[CompiledFunction] = []

    def compile(function: Any) -> Any:
        made.append(tracejit.compile(function))
        return made[0]

    plain = observe(source, lambda function: function)
    compiled = observe(source, compile)
    found = compare_logs(plain.log, compiled.log)
    if found is not None and compare_logs(plain.log, compiled.log, CLOSE) is None:
        found = None  # sums of gradients may be ordered otherwise
    if found is not None:
        return Failure(_kind(found), found), made[0]
    text = _interpreted(made[0])
    return (None if text is None else Failure("interpreter", text)), made[0]


def _kind(found: str) -> str:
    if "raised" in found or "Error" in found:
        return "error"
    if "requires_grad" in found or "is_leaf" in found or ".grad" in found:
        return "gradient"
    return "value"


def _interpreted(compiled: CompiledFunction) -> str | None:
    """Run every program of every trace on random inputs, against the interpreter of the IR."""
    rng = np.random.default_rng(0)
    for signature in compiled.signatures.values():
        for group in signature.groups:
            for segment in _segments(group.tree.root):
                if segment.program is None or segment.graph.effects:
                    continue
                found = _compare_graph(segment.graph, segment.program, rng)
                if found is not None:
                    return found
    return None


def _segments(root: Any) -> list[Any]:
    found = [root]
    for child in root.children.values():
        found += _segments(child)
    return found


def _compare_graph(graph: Any, program: Any, rng: np.random.Generator) -> str | None:
    arrays = [_random_array(rng, node.type) for node in graph.inputs]
    try:
        with np.errstate(all="ignore"):
            wanted = interpret(graph, arrays)
    except (IndexError, ValueError, ZeroDivisionError, RuntimeError):
        return None  # random indices need not be in range
    try:
        got = program.run(arrays)
    except tracejit.errors.CheckFailed:
        return None
    for i, (w, g) in enumerate(zip(wanted, got)):
        if w.dtype.kind == "f" and not np.allclose(w, g, rtol=5e-2 if w.itemsize == 2 else 1e-3,
                                                   atol=1e-2, equal_nan=True):  # fmt: skip
            return f"output {i} of\n{graph}\ninterpreted {w!r}\ncompiled {g!r}"
    return None


def _random_array(rng: np.random.Generator, kind: Any) -> np.ndarray:
    shape = hints_of(kind.shape)
    if kind.dtype.kind == "f":
        return np.asarray(rng.uniform(-1, 1, shape)).astype(kind.dtype.numpy)
    if kind.dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    return np.asarray(rng.integers(0, 2, shape)).astype(kind.dtype.numpy)


# --- the command ---------------------------------------------------------------------------------


class Report:
    """Counts of a session."""

    def __init__(self, first: int):
        self.first = first
        self.count = 0
        self.started = time.perf_counter()
        self.failures: list[tuple[int, Failure]] = []
        self.ways: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def note(self, seed: int, failure: Failure | None, compiled: CompiledFunction) -> None:
        """Count one program."""
        self.count += 1
        eager = compiled.eager_reason is not None
        self.ways["eager" if eager else "compiled"] += 1
        self.ways["traces"] += compiled.captures
        if eager:
            self.reasons[str(compiled.eager_reason).split(" at <")[0][:90]] += 1
        if failure is not None:
            self.failures.append((seed, failure))

    def text(self) -> str:
        """Seeds, counts and time per program."""
        seconds = time.perf_counter() - self.started
        last = self.first + self.count - 1
        lines = [
            f"{self.count} programs, seeds {self.first} to {last}: {len(self.failures)} differences; "
            f"{seconds:.1f} s, {1e3 * seconds / max(self.count, 1):.0f} ms a program",
            f"{self.ways['compiled']} compiled, {self.ways['eager']} run eagerly; "
            f"{self.ways['traces']} traces",
        ]
        lines += [f"  {n} eager: {reason}" for reason, n in self.reasons.most_common(12)]
        lines += [f"  seed {s}: {f.kind}: {f.text[:300]}" for s, f in self.failures]
        return "\n".join(lines)


def run(
    seed: int = 0, seconds: float = 60.0, programs: int | None = None, save: str | None = None,
    stop_at: int = 10, say: Callable[[str], None] = lambda text: None,
) -> Report:  # fmt: skip
    """Try programs from `seed` on for a time or a number; failures are made small and saved."""
    from tracejit.testing.minimize import minimize

    report = Report(seed)
    while time.perf_counter() - report.started < seconds:
        if report.count == programs or len(report.failures) >= stop_at:
            break
        number = seed + report.count
        program = generate(number)
        failure, compiled = check(program.source())
        report.note(number, failure, compiled)
        if failure is None:
            continue
        say(f"seed {number}: {failure.kind}: {failure.text[:400]}")
        if save is not None:
            small = minimize(program, failure.kind)
            path = os.path.join(save, f"seed_{number}.py")
            with open(path, "w") as file:
                file.write(f"# {failure.kind}: {failure.text.splitlines()[0][:90]}\n{small.source()}")
            say(f"  kept as {path}:\n{small.source()}")
    return report


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 if there was a difference."""
    parser = argparse.ArgumentParser(prog="python -m tracejit.testing.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", type=int, default=None)
    parser.add_argument("--save", default=None, help="folder for small versions of failures")
    parser.add_argument("--stop-at", type=int, default=10, help="failures after which to stop")
    parser.add_argument("--show", action="store_true", help="print the program of --seed and stop")
    chosen = parser.parse_args(arguments)
    if chosen.show:
        print(generate(chosen.seed).source())
        return 0
    if chosen.save is not None:
        os.makedirs(chosen.save, exist_ok=True)
    warnings.simplefilter("ignore", TraceWarning)
    report = run(chosen.seed, chosen.seconds, chosen.programs, chosen.save, chosen.stop_at, print)
    print(report.text())
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
