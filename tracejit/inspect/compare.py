"""Eager beside compiled: the same call, both ways, timed in turns and checked against each other.

Invariant: the first call counts; every later one starts from the state after it (tensors,
gradients, random numbers), and that state is there again at the end.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit.eager.tape import root_of, storage_of
from tracejit.inspect.render import html_table, number, table
from tracejit.jit.compile import CompiledFunction, compile
from tracejit.jit.readset import Refusal
from tracejit.random import default_generator
from tracejit.tensor import Tensor

_MOST_CAPTURES = 6
"""Calls after which a function that is not captured by then counts as eager."""
_SECONDS = 1.0
"""About how long the timed rounds take."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    eager_ms, compiled_ms  medians over `rounds` rounds in turns; compile_ms  all captures together.
    max_abs, max_ulp       largest difference of the results (ulp: in steps between neighbouring
                           floats; infinite where one is NaN and the other is not).
    kernels                kernels that ran; eager_reason  why nothing was compiled, or None.
    """

    name: str
    eager_ms: float
    compiled_ms: float
    compile_ms: float
    rounds: int
    kernels: int
    max_abs: float
    max_ulp: float
    eager_reason: str | None

    @property
    def speedup(self) -> float:
        """Eager time over compiled time."""
        return self.eager_ms / self.compiled_ms

    def _rows(self) -> list[list[str]]:
        return [
            ["eager", number(self.eager_ms), "1.00", "", "", "", ""],
            ["compiled", number(self.compiled_ms), number(self.speedup), number(self.compile_ms),
             str(self.kernels), number(self.max_abs), number(self.max_ulp)],
        ]  # fmt: skip

    def __str__(self) -> str:
        header = [self.name, *_COLUMNS]
        note = "" if self.eager_reason is None else f"\nruns eagerly: {self.eager_reason}"
        return table(header, self._rows()) + note

    def _repr_html_(self) -> str:
        return html_table([self.name, *_COLUMNS], self._rows())


_COLUMNS = ("ms", "speed-up", "compile ms", "kernels", "max abs diff", "max ulp diff")


def compare(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Comparison:
    """Call `function` eagerly and compiled, print a table, and return what it says.

    function  a function, a Module, or what `compile` returned.
    Tensors that the function can reach, their gradients, and the random stream are set back between
    calls, so that a training step can be compared too; afterwards all is as after one call. A
    generator or a list that the function changes is not set back.

    Example: ``tracejit.compare(lambda x: (x * 2).exp(), tracejit.randn(1000))``.
    """
    compiled = function if isinstance(function, CompiledFunction) else compile(function)
    eager = compiled.function
    saved = _capture(compiled, args, kwargs)
    wanted = _results(eager(*args, **kwargs), saved)
    saved.restore()
    found = _results(compiled(*args, **kwargs), saved)
    eager_ms, compiled_ms = _times(eager, compiled, args, kwargs, saved)
    differences = [_difference(a, b) for a, b in zip(wanted, found, strict=True)]
    comparison = Comparison(
        name=compiled.__qualname__,
        eager_ms=statistics.median(eager_ms),
        compiled_ms=statistics.median(compiled_ms),
        compile_ms=sum(m.milliseconds for m in compiled.misses),
        rounds=len(eager_ms),
        kernels=len(compiled.kernels),
        max_abs=max((d for d, _ in differences), default=0.0),
        max_ulp=max((u for _, u in differences), default=0.0),
        eager_reason=compiled.eager_reason,
    )
    print(comparison)
    return comparison


def _capture(compiled: CompiledFunction, args: Any, kwargs: Any) -> State:
    """Call until a call is a replay; the state after the first call (in which an optimizer makes
    what it keeps), which is restored.
    """
    compiled(*args, **kwargs)
    saved = State(compiled, args, kwargs)
    for _ in range(_MOST_CAPTURES):
        known = len(compiled.misses)
        compiled(*args, **kwargs)
        saved.restore()
        if len(compiled.misses) == known or compiled.eager_reason is not None:
            break
    return saved


class State:
    """The contents of every tensor that a function can reach, to be set back."""

    def __init__(self, compiled: CompiledFunction, args: Any, kwargs: Any):
        self.tensors = {id(t): t for t in _reachable(compiled, (*args, *kwargs.values()))}
        self.arrays = [(t, t._array.copy()) for t in self.tensors.values()]
        self.grads = [
            (t, t._grad, None if t._grad is None else t._grad._array.copy())
            for t in self.tensors.values()
        ]
        self.random = default_generator.get_state()

    def restore(self) -> None:
        """Put everything back as it was."""
        for tensor, array in self.arrays:
            if tensor._array.tobytes() != array.tobytes():
                tensor._array[...] = array
                storage_of(tensor).version += 1
        for tensor, grad, contents in self.grads:
            tensor._grad = grad
            if grad is not None:
                grad._array[...] = contents
        default_generator.set_state(self.random)

    def contents(self) -> list[np.ndarray]:
        """The tensors and gradients as they are now."""
        grads = [t._grad._array for t in self.tensors.values() if t._grad is not None]
        return [a.copy() for a in [*(t._array for t in self.tensors.values()), *grads]]


def _reachable(compiled: CompiledFunction, args: tuple[Any, ...]) -> Iterator[Tensor]:
    """The tensors that the function can reach, and those that their views look into."""
    try:
        readset = compiled.foresight.read_set(args)
    except Refusal:
        readset = None
    if readset is None:
        yield from _leaves(args)
        return
    for entry in readset.entries:
        if entry.kind in ("tensor", "module tensor"):
            yield root_of(entry.value)
            yield entry.value


def _results(value: Any, state: State) -> list[np.ndarray]:
    """Everything a call left: its results, what it wrote, gradients."""
    return [*(t.detach().numpy().copy() for t in _leaves(value)), *state.contents()]


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)


def _times(
    eager: Callable[..., Any], compiled: Callable[..., Any], args: Any, kwargs: Any, saved: State
) -> tuple[list[float], list[float]]:
    """Milliseconds of calls in turns, each from the same state, for about a second."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + _SECONDS
    while len(times[0]) < 5 or (time.perf_counter() < end and len(times[0]) < 1000):
        for function, found in zip((eager, compiled), times, strict=True):
            saved.restore()
            started = time.perf_counter()
            function(*args, **kwargs)
            found.append((time.perf_counter() - started) * 1e3)
    saved.restore()
    return times


def _difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The largest absolute difference and the largest difference in ulp."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf"), float("inf")
    if a.size == 0 or a.tobytes() == b.tobytes():
        return 0.0, 0.0
    if a.dtype.kind != "f":
        return float(np.max(np.abs(a.astype(float) - b.astype(float)))), float(np.any(a != b))
    nan_a, nan_b = np.isnan(a), np.isnan(b)
    if np.any(nan_a != nan_b):
        return float("inf"), float("inf")
    a, b = a[~nan_a], b[~nan_b]
    same = a == b
    absolute = np.where(same, 0.0, np.abs(a.astype(float) - np.where(same, 0, b).astype(float)))
    return float(absolute.max(initial=0.0)), float(_ulps(a, b).max(initial=0.0))


def _ulps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Steps between neighbouring floats from `a` to `b`, as float64."""
    integers = f"i{a.dtype.itemsize}"
    lowest = np.iinfo(integers).min
    ordered = []
    for array in (a, b):
        bits = np.ascontiguousarray(array).view(integers)
        ordered.append(np.where(bits < 0, lowest - bits, bits).astype(np.float64))
    return np.abs(ordered[0] - ordered[1])
