"""Costs of a whole process: import, first compile (cold and warm cache), peak memory.

Each figure comes from a process of its own: ``python -m bench.process TASK FRAMEWORK`` prints one
JSON object. Invariant: a cold run starts from an empty cache folder that is deleted afterwards.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import scaling, training
from bench.frameworks import PEERS, Framework, Tracejit
from bench.models import chargpt, mlp

_REPEATS = 5


def framework_named(name: str) -> Framework:
    """A framework by its printed name."""
    return Tracejit() if name == "tracejit" else PEERS[name]()


# --- in the child --------------------------------------------------------------------------------

_CHAINS: tuple[Callable[[Any], Any], ...] = (  # different programs, each one kernel
    lambda x: (x * 2.0 + 1.0) * x,
    lambda x: (x + 3.0) / (x * x + 1.5),
    lambda x: (x - 0.5) * (x + 0.5) * x - x,
    lambda x: x / (x + 1.0) - 0.25 * x,
)


def compile_times(framework: Framework) -> dict[str, float]:
    """Milliseconds of the first calls: a first kernel, further kernels, an MLP training step."""
    x = framework.tensor(np.linspace(0.1, 1.0, 100_000, dtype=np.float32))
    times = [_first_call(framework, framework.compile(f), x) for f in _CHAINS]
    step = training.step(mlp)(framework)
    assert step is not None
    batch = [framework.tensor(a) for a in mlp.batch(32)]
    calls = [_first_call(framework, step, *batch) for _ in range(6)]
    steady = min(calls)
    return {
        "first kernel": times[0],
        "further kernel": statistics.median(times[1:]),
        "MLP step": sum(c for c in calls if c > 3 * steady),
        "kernels compiled": _kernels_compiled(framework),
    }


def _first_call(framework: Framework, function: Any, *args: Any) -> float:
    started = time.perf_counter()
    framework.wait(function(*args))
    return (time.perf_counter() - started) * 1e3


def _kernels_compiled(framework: Framework) -> float:
    return float(framework.api.history().compiled) if framework.name == "tracejit" else float("nan")


def memory(framework: Framework) -> dict[str, float]:
    """MB of memory: after import, and at most during 20 training steps, above that."""
    framework.wait(framework.tensor(np.zeros(3, np.float32)))
    before = _peak_mb()
    found = {"after import": before}
    for name, model, size in (("MLP, batch 256", mlp, 256), ("char-GPT, batch 8", chargpt, 8)):
        step = training.step(model)(framework)
        assert step is not None
        batch = [framework.tensor(a) for a in model.batch(size)]
        for _ in range(20):
            framework.wait(step(*batch))
        found[name] = _peak_mb() - before
    return found


def _peak_mb() -> float:
    """The most memory this process has held. On Linux `ru_maxrss` starts from the parent's."""
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status", encoding="utf-8") as facts:
            return next(float(f.split()[1]) / 1024 for f in facts if f.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- in the parent -------------------------------------------------------------------------------


def import_ms(package: str) -> float:
    """Median time of ``import package`` in a fresh process, without Python's own start."""
    program = (f"import time; a = time.perf_counter(); import {package}; "
               "print((time.perf_counter() - a) * 1e3)")  # fmt: skip
    command = [sys.executable, "-c", program]
    _run(command, {})  # writes the bytecode
    return statistics.median(float(_run(command, {})) for _ in range(_REPEATS))


def _run(command: list[str], environment: dict[str, str]) -> str:
    """The last line that a child prints; it finds bytecode, as an installed package has it."""
    made = subprocess.run(
        command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        raise RuntimeError(made.stderr.strip().splitlines()[-1] if made.stderr else "no output")
    return made.stdout.strip().splitlines()[-1]


def child(task: str, name: str, environment: dict[str, str]) -> dict[str, float]:
    """The figures of one task of one framework, from a process of its own."""
    text = _run([sys.executable, "-m", "bench.process", task, name], environment)
    return dict(json.loads(text))


def measure(names: list[str]) -> dict[str, dict[str, dict[str, float] | str]]:
    """Table title -> framework -> figures (or the reason why there are none)."""
    found: dict[str, dict[str, dict[str, float] | str]] = {
        "import (ms)": {n: {"import": import_ms(p)} for n, p in _imports(names)},
        "compile, cold cache (ms)": {},
        "compile, warm cache (ms)": {},
        "memory (MB)": {},
        "growth": {},
    }
    for name in names:
        with tempfile.TemporaryDirectory(prefix="tracejit_bench_") as folder:
            places = {"TRACEJIT_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder,
                      "JAX_COMPILATION_CACHE_DIR": folder,
                      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # fmt: skip
            for title, task in (
                ("compile, cold cache (ms)", "compile"), ("compile, warm cache (ms)", "compile"),
                ("memory (MB)", "memory"), ("growth", "growth"),
            ):  # fmt: skip
                if task == "compile" and name == "torch":
                    continue  # eager: nothing to compile
                if task == "growth" and name not in ("tracejit", "jax"):
                    continue  # others take minutes for the long trace
                try:
                    found[title][name] = child(task, name, places)
                except RuntimeError as error:
                    found[title][name] = str(error)[:100]
    return found


def _imports(names: list[str]) -> list[tuple[str, str]]:
    packages = {"tracejit": "tracejit", "torch": "torch", "jax": "jax", "numpy": "numpy"}
    return [(n, packages[n]) for n in ["numpy", *names] if n in packages]


if __name__ == "__main__":
    chosen = {"compile": compile_times, "memory": memory, "growth": scaling.growth}[sys.argv[1]]
    print(json.dumps(chosen(framework_named(sys.argv[2]))))
