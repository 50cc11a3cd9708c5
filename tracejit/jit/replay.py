"""What a compiled call does after its program has run: results, effects, gradients, counters.

Invariant: a replay leaves behind exactly what the captured run left behind: the same aliasing
between results and inputs, the same `.grad`s, versions and generator offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.capture import Draw
from tracejit.eager.dispatch import view
from tracejit.eager.modes import MODULE_VERSION, state
from tracejit.eager.tape import note_write
from tracejit.errors import Location
from tracejit.ir.interpret import at_sizes
from tracejit.ir.sizes import evaluate
from tracejit.tensor import Tensor, new_tensor


class Result:
    """How to make one tensor (or number) of the results.

    kind 'output' (the program's output `index`), 'input' (the input tensor itself),
    'view' (`chain` replayed on result or input `index` of `base_kind`), 'number' (output as float).
    """

    __slots__ = ("kind", "index", "chain", "base", "requires_grad", "convert")

    def __init__(
        self, kind: str, index: int, chain: Any = (), base: Result | None = None,
        requires_grad: bool = False, convert: Any = None,
    ):  # fmt: skip
        self.kind = kind
        self.index = index
        self.chain = chain
        self.base = base
        self.requires_grad = requires_grad
        self.convert = convert

    def make(self, tensors: Sequence[Tensor], outputs: Sequence[Any], made: Made) -> Any:
        """The value, given input tensors and program outputs; `made` keeps each output single."""
        if self.kind == "input":
            return tensors[self.index]
        if self.kind == "number":
            return self.convert(outputs[self.index].item())
        found = made.values.get(id(self))
        if found is not None:
            return found
        if self.kind == "output":
            result = new_tensor(outputs[self.index])
        else:
            assert self.base is not None
            result = replay_chain(
                self.base.make(tensors, outputs, made), chain_at(self.chain, made.sizes),
                self.requires_grad,
            )  # fmt: skip
        made.values[id(self)] = result
        return result


class Made:
    """The results of one call so far, by result, and the call's sizes."""

    __slots__ = ("values", "sizes")

    def __init__(self, sizes: dict[str, int]):
        self.values: dict[int, Any] = {}
        self.sizes = sizes


def chain_at(chain: Any, sizes: dict[str, int]) -> Any:
    """A chain of view ops with the call's own numbers for the sizes that vary."""
    return [(op, {k: at_sizes(v, sizes) for k, v in params.items()}) for op, params in chain]


def replay_chain(base: Tensor, chain: Any, requires_grad: bool) -> Tensor:
    """The view of `base` that a chain of view ops makes, recorded if it required grad."""
    before = state.grad
    state.grad = requires_grad
    try:
        for op, params in chain:
            base = view(op, base, params)
    finally:
        state.grad = before
    return base


class Finish:
    """Everything that follows the program of one path."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.build: Any = None
        self.is_single = False  # the result is one tensor, not nested in anything
        self.written: list[int] = []  # input positions whose memory was written
        self.written_at: list[Location | None] = []  # where, for those who read it too late
        self.grads: list[tuple[int, Result | None]] = []  # (input position, new .grad)
        self.assigns: list[tuple[Any, Result]] = []  # (source, value) attributes and items
        self.constants: list[tuple[Any, Any]] = []  # (source, value) of flags to set
        self.counters: list[tuple[Any, Any]] = []  # (source, how to compute it from arguments)
        self.draws: list[Draw] = []
        self.prints: list[tuple[Any, list[Result]]] = []  # (Printed, its tensors and numbers)
        self.backward: Any = None  # jit.differentiate.Differentiable, or None
        self.tracked: list[Result] = []  # outputs that require grad, also bases of views
        self.output_count = 0

    def __call__(
        self, args: tuple[Any, ...], tensors: Sequence[Tensor], numbers: Sequence[Any],
        sizes: dict[str, int], outputs: Sequence[Any],
    ) -> Any:  # fmt: skip
        made = Made(sizes)
        counts = [read(args) for _, read in self.counters]
        for printed, results in self.prints:
            printed.say([r.make(tensors, outputs, made) for r in results])
        for draw in self.draws:
            draw.generator.take(evaluate(draw.count, sizes))
        for position, place in zip(self.written, self.written_at, strict=True):
            note_write(tensors[position], place)
        if self.backward is not None:
            tracked = [r.make(tensors, outputs, made) for r in self.tracked]
            self.backward.attach(tensors, numbers, outputs, tracked)
        leaves = [r.make(tensors, outputs, made) for r in self.results]
        for position, result in self.grads:
            tensors[position]._grad = None if result is None else result.make(
                tensors, outputs, made
            )  # fmt: skip
        for source, result in self.assigns:
            source.write(args, result.make(tensors, outputs, made))
        for (source, _), count in zip(self.counters, counts, strict=True):
            source.write(args, count)
        for source, value in self.constants:
            source.write(args, value)
            MODULE_VERSION[0] += 1  # the flag may be a module's
        return self.build(leaves)
