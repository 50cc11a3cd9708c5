"""`tracejit demo`: the digits learnt twice, eagerly and compiled, and what the difference is.

Invariant: both runs start from the same parameters and see the same batches in the same order; the
program they run (`data/digits_program.py`) is the same text.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np

from tracejit.eager.factories import tensor
from tracejit.inspect.load import load_text
from tracejit.inspect.render import can_show, number, progress, sparkline, table
from tracejit.jit.compile import CompiledFunction, compile
from tracejit.optim import Adam
from tracejit.random import Generator, manual_seed
from tracejit.tensor import Tensor
from tracejit.utils.data import DataLoader, TensorDataset

Array = np.ndarray[Any, Any]
DATA = Path(__file__).parent / "data"
_TEST_SHARE = 5  # every fifth image is held back for the test
_BATCH = 64
_SIM_IMAGES = 192


def load_digits() -> tuple[Array, Array]:
    """The UCI handwritten digits: images f32[1797,64] from 0 to 1, labels i64[1797]."""
    with np.load(DATA / "digits.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    pixels = images.reshape(len(images), 64).astype(np.float32) / 16
    return pixels, labels.astype(np.int64)


@dataclass
class Run:
    """One training run. `step_ms` leaves out the calls that captured or compiled."""

    name: str
    losses: list[float]
    times: list[float]
    accuracy: float
    step: Any

    @property
    def is_compiled(self) -> bool:
        return isinstance(self.step, CompiledFunction)

    @property
    def step_ms(self) -> float:
        """The median time of a step."""
        return statistics.median(self.times)

    @property
    def compile_ms(self) -> float:
        """All captures, with the kernels they compiled."""
        return sum(m.milliseconds for m in self.step.misses) if self.is_compiled else 0.0


def main(epochs: int, seed: int, out: TextIO, device: str = "cpu") -> int:
    """Run the demo; 0 if it did what it says on the tin, 1 if not."""
    if device.startswith("sim"):
        return _main_on_sim(seed, out, device)
    started = time.perf_counter()
    program = load_text((DATA / "digits_program.py").read_text("utf-8"), "digits_program.py")
    images, labels = load_digits()
    held = np.arange(len(labels)) % _TEST_SHARE == 0
    train = tensor(images[~held]), tensor(labels[~held])
    test = tensor(images[held], device=device), tensor(labels[held], device=device)
    print(f"UCI handwritten digits: {(~held).sum()} images to learn from, {held.sum()} to test; "
          f"MLP 64-256-128-10, Adam, batches of {_BATCH}, {epochs} epochs\n", file=out)  # fmt: skip
    eager = _train(program, "eager", lambda step: step, train, test, epochs, seed, device)
    compiled = _train(program, "compiled", compile, train, test, epochs, seed, device)
    passed = report([eager, compiled], out)
    _show_kernel(compiled.step, out)
    print(f"\n{time.perf_counter() - started:.1f} s in all", file=out)
    return 0 if passed else 1


def _train(
    program: ModuleType, name: str, wrap: Callable[[Any], Any], train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor], epochs: int, seed: int, device: str,
) -> Run:  # fmt: skip
    manual_seed(seed)
    model = program.Classifier().to(device)
    optimizer = Adam(model.parameters(), lr=4e-3)
    step = wrap(program.make_step(model, optimizer))
    order = Generator().manual_seed(seed)
    batches = DataLoader(TensorDataset(*train), _BATCH, shuffle=True, generator=order)
    run = Run(name, [], [], 0.0, step)
    for _ in progress(range(epochs), epochs, f"{name:8s}"):
        for images, labels in batches:
            started = time.perf_counter()
            loss = step(images.to(device), labels.to(device))
            run.times.append((time.perf_counter() - started) * 1e3)
            run.losses.append(loss.item())
    run.accuracy = program.accuracy(model, *(t.to(device) for t in test))
    return run


def _main_on_sim(seed: int, out: TextIO, device: str) -> int:
    """The same program on a simulated GPU: a few steps, whose losses must have the CPU's bits."""
    started = time.perf_counter()
    program = load_text((DATA / "digits_program.py").read_text("utf-8"), "digits_program.py")
    images, labels = load_digits()
    batch = tensor(images[:_SIM_IMAGES]), tensor(labels[:_SIM_IMAGES])
    about = f"{_SIM_IMAGES} images, one batch of {_BATCH} at a time, on a simulated GPU ({device})"
    print(f"UCI handwritten digits: {about}: every thread of every kernel, in NumPy\n", file=out)
    runs = [
        _train(program, name, wrap, batch, batch, 2, seed, where)
        for name, wrap, where in (
            ("eager on the CPU", _as_it_is, "cpu"), (f"eager on {device}", _as_it_is, device),
            (f"compiled on {device}", compile, device),
        )
    ]  # fmt: skip
    for run in runs:
        print(f"{run.name:20s} losses {' '.join(f'{loss:.7f}' for loss in run.losses)}", file=out)
    same = all(run.losses == runs[0].losses for run in runs)
    print(f"\nthe losses have {'the same' if same else 'DIFFERENT'} bits", file=out)
    _show_kernel(runs[-1].step, out, "as a GPU's threads would run it")
    print(f"\n{time.perf_counter() - started:.1f} s in all", file=out)
    return 0 if same and runs[-1].step.eager_reason is None else 1


def _as_it_is(step: Any) -> Any:
    return step


def report(runs: list[Run], out: TextIO) -> bool:
    """Curves, accuracy and the table; whether the runs agree and have learnt enough."""
    eager, compiled = runs
    for run in runs:
        curve = sparkline([math.log(loss) for loss in run.losses])
        shown = f"{curve}  " if can_show(curve, out) else ""
        print(f"log loss, {run.name:8s}  {shown}{run.losses[0]:.3f} -> {run.losses[-1]:.4f}   "
              f"test accuracy {100 * run.accuracy:.2f} %", file=out)  # fmt: skip
    gaps = [abs(a - b) for a, b in zip(eager.losses, compiled.losses, strict=True)]
    same = sum(g == 0 for g in gaps)
    print(f"the curves differ by at most {max(gaps):.2g}; {same} of {len(gaps)} losses have the "
          "same bits\n", file=out)  # fmt: skip
    kernels = str(len(compiled.step.kernels)) if compiled.is_compiled else ""
    rows = [
        ["eager", number(eager.step_ms), "", "", "1.00"],
        ["compiled", number(compiled.step_ms), number(compiled.compile_ms), kernels,
         number(eager.step_ms / compiled.step_ms)],
    ]  # fmt: skip
    print(table(["training step", "ms/step", "compile ms", "kernels", "speed-up"], rows), file=out)
    for reason in filter(None, [compiled.step.eager_reason]):
        print(f"the compiled step runs eagerly: {reason}", file=out)
    enough = min(r.accuracy for r in runs) >= 0.96
    if not enough:
        print("FAILED: test accuracy below 96 %", file=out)
    if max(gaps) > 1e-2:
        print("FAILED: the loss curves differ", file=out)
    return enough and max(gaps) <= 1e-2 and compiled.step.eager_reason is None


def _show_kernel(step: CompiledFunction, out: TextIO, how: str = "compiled by Numba") -> None:
    """The first kernel that fuses much: its part of the plan, and its source."""
    if not step.kernels:
        return
    large = [k for k in step.kernels if len(k.nodes) >= 8 and k.step.domain]
    kernel = (large or step.kernels)[0]
    print(f"\none of the kernels, {kernel.name}: {len(kernel.nodes)} ops fused.\n", file=out)
    print(_plan_part(step.ir("plan"), kernel.name), file=out)
    print(f"\nits source, {how}:\n\n{kernel.source}", file=out)


def _plan_part(plan: str, name: str) -> str:
    """The lines of a plan that are about one kernel."""
    lines = plan.splitlines()
    first = next(i for i, line in enumerate(lines) if f"kernel {name} over" in line)
    last = next(i for i in range(first, len(lines)) if lines[i].startswith("     stores"))
    return "\n".join(lines[first : last + 1])
