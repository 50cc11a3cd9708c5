"""How far the kernels are from what this machine's memory allows: ``python -m bench.roof``.

Plain loops that read, write, copy and add up (STREAM's triad) arrays as large as the kernels' give
the ceilings, in the same rounds as the kernels. Invariant: a kernel is compared with the loop that
has its traffic: as many arrays read, as many written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from bench import kernels, report
from bench.frameworks import Tracejit
from tracejit.codegen.compiler import compile_kernel
from tracejit.runtime.buffers import empty
from tracejit.runtime.threads import get_num_threads, ready_driver

_COUNT = 1 << 22  # elements of an array, float32
_BLOCK = 4096
_HEAD = """def kernel(t, lo, hi):
    x, y, z = ptr_f32(word(t, 0), 0), ptr_f32(word(t, 1), 0), ptr_f32(word(t, 2), 1)
"""
_BODIES = {
    "read": """    lanes = lanes_f32()
    for u in range(lo, hi):
        fill_lanes_f32(lanes, np.float32(0.0))
        for piece in range(64):
            for l in range(64):
                value = load_f32(x, u * 4096 + piece * 64 + l)
                store_f32(lanes, l, load_f32(lanes, l) + value)
        store_f32(z, u, sum_lanes_f32(lanes))
""",
    "write": """    for i in range(lo * 4096, hi * 4096):
        store_f32(z, i, to_f32(i))
""",
    "copy": """    for i in range(lo * 4096, hi * 4096):
        store_f32(z, i, np.float32(0.5) * load_f32(x, i))
""",
    "triad": """    for i in range(lo * 4096, hi * 4096):
        store_f32(z, i, load_f32(x, i) + np.float32(3.0) * load_f32(y, i))
""",
}
_ARRAYS = {"read": 1, "write": 1, "copy": 2, "triad": 3}  # moved once each
_ROOF = {
    "gelu(x)*w, 4 M": "triad",
    "softmax 4096x1024": "copy",
    "layer norm 4096x1024": "copy",
    "gelu(x+c)+r, layer norm": "triad",
    "sum of squares, 4 M": "read",
    "column sums 4096x1024": "read",
}


def _loops() -> dict[tuple[str, int], Callable[[], object]]:
    """A call for each plain loop and number of threads."""
    launch = ready_driver().launch
    arrays = [empty((_COUNT,), np.dtype(np.float32)) for _ in range(3)]
    for array in arrays:
        array[:] = 1.0
    units, calls = _COUNT // _BLOCK, {}
    for name, body in _BODIES.items():
        kernel = compile_kernel(f"roof_{name}", _HEAD + body)
        for threads in sorted({1, get_num_threads()}):
            grain = 1 if threads > 1 else units
            calls[name, threads] = (
                lambda kernel=kernel, grain=grain: launch(kernel.address, units, grain, *arrays)
            )  # fmt: skip
    return calls


def _kernels() -> dict[str, Callable[[], object]]:
    framework, calls = Tracejit(), {}
    for case in kernels.CASES:
        function = case.build(framework) if case.name in _ROOF else None
        if function is not None:
            inputs = [framework.tensor(array) for array in case.data(False)]
            calls[case.name] = lambda function=function, inputs=inputs: function(*inputs)
    return calls


def measure(rounds: int) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of two tables, loops and kernels; medians of interleaved rounds."""
    loops, own = _loops(), _kernels()
    calls = {**loops, **own}
    spoil = np.ones((2, 1 << 24), np.float32)
    times: dict[object, list[float]] = {key: [] for key in calls}
    for turn in range(-3, rounds):
        for key, call in calls.items():
            np.copyto(spoil[0], spoil[1])  # no call finds what another left in the caches,
            call()  # but each what it leaves itself: calls follow one another in a program
            started = time.perf_counter()
            for _ in range(3):
                call()
            if turn >= 0:
                times[key].append((time.perf_counter() - started) / 3)
    ms = {key: statistics.median(found) * 1e3 for key, found in times.items()}
    most = get_num_threads()
    ceilings = [
        [name, *(f"{_rate(name, ms[name, n]):.1f}" for n in sorted({1, most}))] for name in _BODIES
    ]
    shares = [
        [name, f"{ms[name]:.2f}", f"{_rate(_ROOF[name], ms[name]):.1f}", _ROOF[name],
         f"{100 * ms[_ROOF[name], most] / ms[name]:.0f} %"]
        for name in own
    ]  # fmt: skip
    return ceilings, shares


def _rate(loop: str, ms: float) -> float:
    """GB/s of arrays moved; what a write reads first is not counted."""
    return _ARRAYS[loop] * _COUNT * 4 / ms / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.roof", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    ceilings, shares = measure(parser.parse_args().rounds)
    threads = [f"{n} thread{'s' * (n > 1)}, GB/s" for n in sorted({1, get_num_threads()})]
    print(report.as_markdown(["loop", *threads], ceilings))
    print()
    print(report.as_markdown(["kernel", "ms", "GB/s", "roof", "of the roof"], shares))


if __name__ == "__main__":
    main()
