"""``python -m bench --device cuda``: fused kernels and training steps on a GPU, beside the peers.

Copy bandwidth is measured first; memory-bound cases are given as a share of it too. Times are of
many calls between two waits for the device, so they count launches as a user meets them.
Invariant: every framework computes the same thing, and a result far from tracejit's CPU result is
a problem that the table names. ``--device sim`` runs the code on tiny inputs, without meaning.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tracejit
from bench import report

ROUNDS, LEAST_SECONDS = 7, 0.05


@dataclass
class Case:
    """`make(api)` gives the function of tensors; `traffic` bytes it must move for its inputs."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    make: Callable[[Any], Callable[..., Any]]
    traffic: Callable[[int], int]


def _both(elements: int) -> int:
    return 8 * elements


def _read(elements: int) -> int:
    return 4 * elements


def cases(large: int, rows: int, columns: int) -> list[Case]:
    """The memory-bound cases, for `large` elements and `rows` x `columns` matrices."""
    table = (rows, columns)
    return [
        Case("x * 2 + 1", ((large,),), lambda api: lambda x: x * 2 + 1, _both),
        Case("gelu(tanh) chain", ((large,),),
             lambda api: lambda x: api.nn.functional.gelu(x, approximate="tanh") * x + 1, _both),
        Case("softmax", (table,), lambda api: lambda x: api.softmax(x, -1), _both),
        Case("layer norm", (table,),
             lambda api: lambda x: api.nn.functional.layer_norm(x, (columns,)), _both),
        Case("sum of squares", ((large,),), lambda api: lambda x: (x * x).sum(), _read),
        Case("column sums", (table,), lambda api: lambda x: x.sum(0), _read),
    ]  # fmt: skip


class Own:
    """tracejit on the device."""

    def __init__(self, device: str, compiled: bool):
        self.name = "tracejit" if compiled else "eager"
        self.api, self.device, self.compiled = tracejit, device, compiled

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return tracejit.compile(function) if self.compiled else function

    def wait(self) -> None:
        tracejit.cuda.synchronize(self.device)


class Torch:
    """PyTorch on the device, eager or through inductor."""

    def __init__(self, device: str, compiled: bool):
        import torch

        self.name = "inductor" if compiled else "torch"
        self.api, self.device, self.compiled = torch, device, compiled

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.api.compile(function) if self.compiled else function

    def wait(self) -> None:
        self.api.cuda.synchronize()


def frameworks(device: str, peers: str) -> list[Any]:
    """tracejit, and of the peers those that see the GPU."""
    found: list[Any] = [Own(device, True), Own(device, False)]
    if device.startswith("cuda") and {"torch", "inductor"} & set(peers.split(",")):
        try:
            import torch
        except ImportError:
            print("without torch: it is not installed")
            return found
        if torch.cuda.is_available():
            kinds = ((False, "torch"), (True, "inductor"))
            found += [Torch(device, compiled) for compiled, name in kinds if name in peers]
        else:
            print("without torch: this build of it sees no GPU")
    return found


def milliseconds(framework: Any, call: Callable[[], Any]) -> float:
    """The median over rounds of the mean time of a call."""
    for _ in range(3):
        call()
    framework.wait()
    count, spent = 1, 0.0
    times: list[float] = []
    while len(times) < ROUNDS:
        started = time.perf_counter()
        for _ in range(count):
            call()
        framework.wait()
        spent = time.perf_counter() - started
        if spent < LEAST_SECONDS and not times and framework.device != "sim":
            count *= 2
            continue
        times.append(spent / count * 1e3)
        if framework.device == "sim":
            break
    return statistics.median(times)


def copy_rate(framework: Own, elements: int) -> float:
    """Bytes per second of a device copy, read and written bytes counted."""
    x = framework.api.zeros(elements, device=framework.device)
    y = framework.api.empty(elements, device=framework.device)
    return 8 * elements / milliseconds(framework, lambda: y.copy_(x)) * 1e3


def training_step(framework: Any, batch: int) -> Callable[[], Any]:
    """An MLP 784-256-10 with Adam, small enough to be bound by launches."""
    api = framework.api
    api.manual_seed(0)
    nn = api.nn
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)).to(framework.device)
    optimizer = api.optim.Adam(model.parameters(), lr=1e-3)
    x = api.randn(batch, 784).to(framework.device)
    y = api.randint(0, 10, (batch,)).to(framework.device)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = api.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = framework.compile(step)
    return lambda: run(x, y)


def main(device: str, peers: str) -> int:
    """Print the tables; 1 if a result is wrong."""
    small = not device.startswith("cuda")
    taking_part = frameworks(device, peers)
    facts = tracejit.cuda.get_device_properties(device)
    elements, rows, columns = (1 << 10, 8, 64) if small else (1 << 26, 4096, 1024)
    rate = copy_rate(taking_part[0], elements)
    print(f"{facts.name}, compute capability {facts.major}.{facts.minor}; "
          f"copies run at {rate / 1e9:.0f} GB/s")  # fmt: skip
    body, wrong = [], False
    for case in cases(elements, rows, columns):
        arrays = [np.random.default_rng(0).standard_normal(s, np.float32) for s in case.shapes]
        wanted = case.make(tracejit)(*(tracejit.from_numpy(a) for a in arrays)).numpy()
        row = [case.name]
        for framework in taking_part:
            tensors = [framework.api.tensor(a).to(device) for a in arrays]
            call = framework.compile(case.make(framework.api))
            found = np.asarray(call(*tensors).cpu().numpy())
            wrong |= not np.allclose(found, wanted, rtol=1e-3, atol=1e-3)
            ms = milliseconds(framework, lambda call=call, tensors=tensors: call(*tensors))
            share = case.traffic(arrays[0].size) / ms * 1e3 / rate
            row.append(f"{ms:.4f} ({100 * share:.0f} %)")
        body.append(row)
    for batch in (4,) if small else (32, 256):
        row = [f"MLP Adam step, batch {batch}"]
        row += [f"{milliseconds(f, training_step(f, batch)):.4f}" for f in taking_part]
        body.append(row)
    print(report.as_text(["ms a call (of copy rate)", *(f.name for f in taking_part)], body))
    if wrong:
        print("WRONG: a result differs from the CPU's")
    return 1 if wrong else 0
