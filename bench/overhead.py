"""What a call costs besides its work: a chain over 16 elements, and sizes never seen before."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.frameworks import Framework
from bench.harness import Arrays, Case, Timing
from bench.kernels import _np_gelu, gelu_mul


def _sixteen(quick: bool) -> Arrays:
    rng = np.random.default_rng(2)
    return [rng.standard_normal(16, dtype=np.float32) for _ in range(2)]


def _np_chain(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.maximum((x * w + x) * 0.5 - w, 0.0)


def chain(framework: Framework) -> Callable[..., Any] | None:
    """Five pointwise ops."""
    if framework.name == "numpy":
        return _np_chain
    if framework.is_jax:
        import jax.numpy as jnp

        return framework.compile(lambda x, w: jnp.maximum((x * w + x) * 0.5 - w, 0.0))
    t = framework.api
    return framework.compile(lambda x, w: t.relu((x * w + x) * 0.5 - w))


CASES = [
    Case("call overhead, 16 elements", _sixteen, chain, _np_chain,
         targets={"jax": 2.5, "inductor": 7, "torch": 9}),
]  # fmt: skip


def new_sizes(frameworks: list[Framework], quick: bool) -> dict[str, Timing]:
    """The first call of gelu(x)*w at a batch size never seen before, after two sizes were."""
    count = 3 if quick else 12
    sizes = [int(n) for n in np.random.default_rng(3).permutation(np.arange(40, 400))[: count + 3]]
    found: dict[str, Timing] = {}
    for framework in frameworks:
        timing = found[framework.name] = Timing()
        function = gelu_mul(framework)
        if function is None:
            timing.problem = "not defined"
            continue
        times = [_first_call(framework, function, n, timing) for n in sizes]
        timing.first_ms, timing.ms = times[0], statistics.median(times[3:])
    return found


def _first_call(
    framework: Framework, function: Callable[..., Any], size: int, timing: Timing
) -> float:
    rng = np.random.default_rng(size)
    arrays = [rng.standard_normal((size, 256), dtype=np.float32) for _ in range(2)]
    tensors = [framework.tensor(a) for a in arrays]
    started = time.perf_counter()
    result = framework.wait(function(*tensors))
    spent = (time.perf_counter() - started) * 1e3
    x, w = (a.astype(np.float64) for a in arrays)
    error = float(np.max(np.abs(framework.array(result) - _np_gelu(x) * w)))
    timing.error = error if math.isnan(timing.error) else max(timing.error, error)
    if not error <= 1e-4:
        timing.problem = f"wrong by {error:.1e} at size {size}"
    return spent
