"""How costs grow: new batch sizes of whole steps, long traces, large arrays, many steps.

Each task is run in a process of its own (see `bench.process`). Invariant: a figure says nothing
about a result's value; `bench.harness` and the tests check those.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import training
from bench.frameworks import Framework
from bench.kernels import gelu_mul
from bench.models import chargpt, mlp

_STEPS = 10_000
_SIZES = (4, 8, 7, 5, 6, 9, 11, 12, 13)
_MILLION = 1 << 20


def _timed_ms(framework: Framework, call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    framework.wait(call())
    return (time.perf_counter() - started) * 1e3


def growth(framework: Framework) -> dict[str, float]:
    """All figures of this file for one framework; the first ones meet an empty kernel cache."""
    return {
        **_long_trace(framework),
        **_new_sizes(framework),
        **_per_element(framework),
        "MB more after 10,000 MLP steps": _growth_of_memory(framework),
    }


def _long_trace(framework: Framework) -> dict[str, float]:
    """The first call of a function of 2,000 ops, then of 1,000 whose kernels are known."""

    def chain(count: int) -> Callable[[Any], Any]:
        def function(x: Any) -> Any:
            for _ in range(count // 2):
                x = x * 1.01 + 0.5
            return x

        return framework.compile(function)

    x = framework.tensor(np.linspace(0, 1, 1000, dtype=np.float32))
    cold = _timed_ms(framework, lambda: chain(2000)(x))
    again = _timed_ms(framework, lambda: chain(1000)(x))
    return {"2,000 ops, cold (ms)": cold, "first call per 10 ops, kernels known (ms)": again / 100}


def _new_sizes(framework: Framework) -> dict[str, float]:
    """The first call of a training step at a batch size never seen, after three others."""
    found = {}
    for name, model in (("MLP", mlp), ("char-GPT", chargpt)):
        step = training.step(model)(framework)
        assert step is not None
        times = [_first_ms(framework, step, model.batch(size)) for size in _SIZES]
        found[f"new batch size, {name} step (ms)"] = statistics.median(times[3:])
    return found


def _first_ms(framework: Framework, step: Callable[..., Any], arrays: list[np.ndarray]) -> float:
    """The first of three calls with a batch."""
    batch = [framework.tensor(a) for a in arrays]
    times = [_timed_ms(framework, lambda: step(*batch)) for _ in range(3)]
    return times[0]


def _per_element(framework: Framework) -> dict[str, float]:
    """Nanoseconds per element of gelu(x)*w."""
    function = gelu_mul(framework)
    assert function is not None
    found = {}
    for millions in (1, 4, 16, 64):
        count = millions * _MILLION
        x, w = (framework.tensor(np.full(count, v, np.float32)) for v in (0.3, 0.7))
        framework.wait(function(x, w))
        best = min(_timed_ms(framework, lambda: function(x, w)) for _ in range(12))  # noqa: B023
        found[f"gelu(x)*w, {millions} M (ns per element)"] = best * 1e6 / count
    return found


def _growth_of_memory(framework: Framework) -> float:
    """By how many MB the process grows during many steps, after some to warm up."""
    step = training.step(mlp)(framework)
    assert step is not None
    batch = [framework.tensor(a) for a in mlp.batch(32)]
    for _ in range(_STEPS // 10):
        framework.wait(step(*batch))
    before = _resident_mb()
    for _ in range(_STEPS):
        framework.wait(step(*batch))
    return _resident_mb() - before


def _resident_mb() -> float:
    """What the process holds now; NaN where the system does not say."""
    try:
        with open("/proc/self/status", encoding="utf-8") as facts:
            return next(float(f.split()[1]) / 1024 for f in facts if f.startswith("VmRSS"))
    except OSError:
        return float("nan")
