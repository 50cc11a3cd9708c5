"""``compile(check=..., audit=...)``: compiled calls are compared with eager ones as they happen.

Under `check` a call runs compiled, is undone, and runs again eagerly; that second run is the one
whose effects stay. Under `audit` every capture is preceded by two trial captures, whose traces
must be one. Invariant: the caller gets what eager gives, or an error that says what differs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.eager.modes import state
from tracejit.eager.scalars import CallNumber
from tracejit.eager.tape import root_of, storage_of
from tracejit.errors import DivergenceError, TraceWarning, user_stacklevel
from tracejit.ir.graph import Graph
from tracejit.jit import diverge
from tracejit.jit.compile import CompiledFunction
from tracejit.jit.effects import differences
from tracejit.jit.group import Group
from tracejit.jit.guards import MISS
from tracejit.jit.observe import EXACT, Observer, Tolerance, compare_logs
from tracejit.jit.readset import ReadSet, Refusal
from tracejit.random import default_generator
from tracejit.tensor import Tensor

CLOSE = Tolerance(ulps=64, atol=1e-6)
"""How far results may be apart that add up floats (`SUMS`): fusion may choose another order."""

SUMS = frozenset({
    "reduce_sum", "reduce_prod", "logsumexp", "softmax", "log_softmax", "matmul", "cumsum",
    "cumprod", "logcumsumexp", "sum_of_parts", "windows_add", "take_add", "scatter_add",
    "scatter_reduce", "index_put", "window_put", "convolve", "convolve_input",
    "convolve_weight", "window_sum",
})  # fmt: skip

_CHECKS_OF_A_PATH = 2
"""Replays that ``check="first"`` compares: the first one, and the first by generated code."""


def period(check: Any) -> int:
    """Every how many replays are compared; 0: the first ones of each path.

    Raises ValueError for a `check` that is neither None, "first" nor a fraction in (0, 1].
    """
    if check == "first":
        return 0
    if isinstance(check, (int, float)) and not isinstance(check, bool) and 0 < check <= 1:
        return round(1 / check)
    raise ValueError(f'check={check!r}: expected "first" or a fraction of the calls in (0, 1]')


class Snapshot:
    """The state of some tensors, of what holds them, and of the random numbers."""

    def __init__(self, tensors: Sequence[Tensor], places: Sequence[Any], args: tuple[Any, ...]):
        every: dict[int, Tensor] = {}
        for tensor in tensors:
            for found in (tensor, root_of(tensor), tensor._grad):
                if found is not None:
                    every[id(found)] = found
        self.tensors = [(t, t._array, t._array.copy(), _fields(t)) for t in every.values()]
        self.versions = [(s, s.version) for t in every.values() if (s := storage_of(t))]
        self.args = args
        self.places = [(source, source.read(args)) for source in places]
        self.generator = default_generator.key, default_generator.offset

    def restore(self) -> None:
        """Everything as it was."""
        for tensor, array, data, fields in self.tensors:
            np.copyto(array, data)
            tensor._array = array
            for name, value in fields.items():
                setattr(tensor, name, value)
        for storage, version in self.versions:
            storage.version = version
        for source, value in self.places:
            source.write(self.args, value)
        default_generator.key, default_generator.offset = self.generator


def _fields(tensor: Tensor) -> dict[str, Any]:
    names = ("_grad", "_requires_grad", "_node", "_base", "_view", "_seen")
    return {name: getattr(tensor, name) for name in names}


class CheckedFunction(CompiledFunction):
    """A compiled function whose calls are compared with eager ones; see `compile`."""

    def __init__(self, function: Any, options: dict[str, Any]):
        check = options.get("check")
        self.every = None if check is None else period(check)
        super().__init__(function, options)

    def reset(self) -> None:
        super().reset()
        self.compared: dict[int, int] = {}  # id of a group -> replays that were compared
        self.replays = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.every is None or state.capture is not None:
            return super().__call__(*args, **kwargs)
        flat = (*args, *kwargs.values())
        signature = self.signatures.get((len(args), *kwargs))
        for group in signature.groups if signature is not None else ():
            found = group.guard(*flat)
            if found is not MISS:
                if self._is_due(group) and _on_cpu(found[0]):
                    return self._compare(group, found, args, kwargs)
                break
        return super().__call__(*args, **kwargs)

    def _is_due(self, group: Group) -> bool:
        if self.every == 0:
            return self.compared.get(id(group), 0) < _CHECKS_OF_A_PATH * group.tree.leaves
        self.replays += 1
        return self.replays % (self.every or 1) == 0

    def _compare(self, group: Group, found: Any, args: Any, kwargs: Any) -> Any:
        tensors, sizes = found
        flat = (*args, *kwargs.values())
        before = Snapshot(tensors, _assigned(group), flat)
        numbers = _numbers(group, flat, sizes)
        captures = self.captures
        with _Hush() as heard:
            result = super().__call__(*args, **kwargs)
        if self.captures != captures or self.eager_reason is not None:
            for aloud in heard:
                aloud()
            return result  # a new branch: the call ran eagerly
        compiled = _seen(result, tensors)
        self.compared[id(group)] = self.compared.get(id(group), 0) + 1
        before.restore()
        call = diverge.Call(group, before, tensors, numbers, sizes)
        result = self.function(*args, **kwargs)
        tolerance = CLOSE if any(map(adds_up, graphs(self))) else EXACT
        difference = compare_logs(_seen(result, tensors).log, compiled.log, tolerance)
        if difference is None:
            return result
        raise DivergenceError(diverge.report(self, call, difference, tolerance))

    # --- audit ------------------------------------------------------------------------------

    def _capture(self, args: Any, kwargs: Any, group: Group | None) -> Any:
        if self.options.get("audit"):
            found = self._trial_difference(args, kwargs)
            if found is not None:
                self.eager_reason = f"traces in two ways from one state: {found}"
                warnings.warn(
                    f"tracejit: {self.__qualname__} runs eagerly: it {self.eager_reason}",
                    TraceWarning, stacklevel=user_stacklevel(),
                )  # fmt: skip
                return self.function(*args, **kwargs)
        return super()._capture(args, kwargs, group)

    def _trial_difference(self, args: Any, kwargs: Any) -> str | None:
        """Trace twice from the same state; how the traces differ, or None."""
        flat = (*args, *kwargs.values())
        try:
            readset = ReadSet(self.function, flat)
        except Refusal:
            return None  # the real capture will say so
        held = [e.value for e in readset.entries if isinstance(e.value, Tensor)]
        if not _on_cpu(held):
            return None
        before = Snapshot(held, (), flat)
        texts = []
        for _ in range(2):
            trial = CompiledFunction(self.function, {})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TraceWarning)
                with _Hush():
                    trial(*args, **kwargs)
            texts.append(diverge.trace_text(trial))
            for entry, _ in differences(readset):
                if entry.source.is_assignable(flat):
                    entry.source.write(flat, entry.value)
            before.restore()
        return diverge.first_line(*texts)


class _Hush:
    """``with _Hush() as heard:`` what is printed under a trace is kept back as functions."""

    def __enter__(self) -> list[Any]:
        heard: list[Any] = []
        state.heard = heard
        return heard

    def __exit__(self, *exc: object) -> None:
        state.heard = None


def _on_cpu(tensors: Sequence[Tensor]) -> bool:
    return all(isinstance(t._array, np.ndarray) for t in tensors)


def _seen(result: Any, tensors: Sequence[Tensor]) -> Observer:
    observer = Observer(strides=False)
    observer.see(list(tensors))
    observer.see(result)
    observer.see((default_generator.key, default_generator.offset))
    return observer


def _numbers(group: Group, args: tuple[Any, ...], sizes: dict[str, int]) -> list[Any]:
    return [
        read.read(args) if isinstance(read, CallNumber) else read(sizes)
        for read, _ in group.inputs.scalars
    ]


def _assigned(group: Group) -> list[Any]:
    """The places that some path of the tree stores something in."""
    return [
        source for leaf in _leaves(group)
        for stored in (leaf.finish.assigns, leaf.finish.constants, leaf.finish.counters)
        for source, _ in stored
    ]  # fmt: skip


def _leaves(group: Group) -> Iterator[Any]:
    for segment in segments(group):
        if segment.leaf is not None:
            yield segment.leaf


def segments(group: Group) -> Iterator[Any]:
    """All segments of a trace tree."""
    stack = [group.tree.root]
    while stack:
        segment = stack.pop()
        yield segment
        stack.extend(segment.children.values())


def graphs(function: CompiledFunction) -> Iterator[Graph]:
    """The graphs of all segments of a compiled function, and those of their gradients."""
    for group in _groups(function):
        yield from (s.graph for s in segments(group) if s.graph is not None)
    yield from (backward.graph for backward in _gradients(function))


def interpreted_gradient(function: CompiledFunction) -> str | None:
    """Why a gradient of a compiled function is interpreted, if one is."""
    passes = [p for backward in _gradients(function) for p in backward.passes.values()]
    return next((p.why_not for p in passes if p.why_not is not None), None)


def _groups(function: CompiledFunction) -> Iterator[Group]:
    for signature in function.signatures.values():
        yield from signature.groups


def _gradients(function: CompiledFunction) -> Iterator[Any]:
    for leaf in (leaf for group in _groups(function) for leaf in _leaves(group)):
        if leaf.finish.backward is not None:
            yield leaf.finish.backward


def adds_up(graph: Graph) -> bool:
    """Whether a graph adds up floats, so that fusion may choose another order."""
    return any(node.op.name in SUMS for node in graph.nodes())
