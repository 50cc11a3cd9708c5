"""One case, every framework: build, check, then time in turns.

Invariant: all frameworks get the same input arrays, and rounds interleave them, so that a noisy
machine is noisy for all.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.frameworks import Framework

Arrays = list[np.ndarray]


@dataclass
class Case:
    """One row of the table.

    data       gives the input arrays, smaller if its argument (quick) is true.
    build      ``build(framework)`` gives the call: tensors in, tensor or tuple of tensors out;
               None where the framework has no such thing.
    reference  the outputs for the inputs, in NumPy float64.
    sample     pointwise: check the first elements only (NumPy has no fast erf).
    targets    wanted ratios: peer time over tracejit time.
    grads      inputs that require grad.
    trains     every call changes the model: the first loss is checked against the reference, the
               fourth against that of the other frameworks.
    """

    name: str
    data: Callable[[bool], Arrays]
    build: Callable[[Framework], Callable[..., Any] | None]
    reference: Callable[..., Any]
    sample: int = 0
    tolerance: float = 2e-5
    targets: dict[str, float] = field(default_factory=dict)
    grads: tuple[int, ...] = ()
    trains: bool = False


@dataclass
class Timing:
    """What one framework did: `ms` median per call, `first_ms` the first call, `error` relative."""

    ms: float = math.nan
    first_ms: float = math.nan
    error: float = math.nan
    problem: str | None = None
    last: float = math.nan  # the fourth loss of a training case


def outputs(value: Any) -> Sequence[Any]:
    """A result as a sequence of tensors."""
    return value if isinstance(value, (tuple, list)) else (value,)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest wanted value."""
    if found.shape != wanted.shape:
        return math.inf
    scale = float(np.max(np.abs(wanted), initial=0.0)) or 1.0
    return float(np.max(np.abs(found.astype(np.float64) - wanted), initial=0.0)) / scale


def run_case(case: Case, frameworks: list[Framework], quick: bool) -> dict[str, Timing]:
    """Timings by framework name; a framework that fails or is wrong says so in `problem`."""
    arrays = case.data(quick)
    part = [a[: case.sample] if case.sample else a for a in arrays]
    wanted = [np.asarray(w) for w in outputs(case.reference(*(_double(a) for a in part)))]
    results: dict[str, Timing] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for framework in frameworks:
        timing = results[framework.name] = Timing()
        call = _prepare(case, framework, arrays, wanted, timing)
        if call is not None:
            calls[framework.name] = call
    if case.trains:
        _check_agreement(results, calls)
    _time(calls, results, quick)
    return results


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _prepare(
    case: Case, framework: Framework, arrays: Arrays, wanted: Arrays, timing: Timing
) -> Callable[[], Any] | None:
    try:
        function = case.build(framework)
        if function is None:
            timing.problem = "not defined"
            return None
        tensors = [framework.tensor(a, i in case.grads) for i, a in enumerate(arrays)]
        started = time.perf_counter()
        found = framework.wait(function(*tensors))
        timing.first_ms = (time.perf_counter() - started) * 1e3
        first = [framework.array(v).copy() for v in outputs(found)]
        for _ in range(3):
            found = framework.wait(function(*tensors))
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        timing.problem = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        return None
    results = [framework.array(v) for v in outputs(found)]
    if case.trains:
        timing.last, results = float(results[0]), first
    if case.sample:
        results = [r[: case.sample] for r in results]
    timing.error = max(relative_error(f, w) for f, w in zip(results, wanted, strict=True))
    if not timing.error <= case.tolerance:
        timing.problem = f"wrong by {timing.error:.1e} (relative)"
        return None
    return lambda: framework.wait(function(*tensors))


def _check_agreement(results: dict[str, Timing], calls: dict[str, Callable[[], Any]]) -> None:
    """After four steps all frameworks must have about the same loss."""
    middle = statistics.median([results[name].last for name in calls]) if calls else 0.0
    for name in list(calls):
        if not abs(results[name].last - middle) <= 1e-3 * max(1.0, abs(middle)):
            results[name].problem = f"fourth loss {results[name].last:.6f}, others {middle:.6f}"
            del calls[name]


def _time(calls: dict[str, Callable[[], Any]], results: dict[str, Timing], quick: bool) -> None:
    rounds, block = (5, 2e-3) if quick else (25, 10e-3)
    counts = {name: _calls_per_block(call, block) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            count = counts[name]
            started = time.perf_counter()
            for _ in range(count):
                call()
            found[name].append((time.perf_counter() - started) * 1e3 / count)
    for name, times in found.items():
        results[name].ms = statistics.median(times)


def _calls_per_block(call: Callable[[], Any], block: float) -> int:
    started = time.perf_counter()
    call()
    spent = time.perf_counter() - started
    return max(1, min(5000, int(block / max(spent, 1e-7))))
