"""A trace tree with its guard and inputs: everything that is known under one state of Python.

Invariant: `guard` gives the tree's input tensors exactly when a replay of the tree is sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.modes import MODULE_VERSION, state
from tracejit.eager.scalars import CallNumber
from tracejit.jit.fast import build_fast
from tracejit.jit.guards import MISS, build_guard, write_guards
from tracejit.jit.readset import ReadSet
from tracejit.jit.trace import Inputs, PathBuilder
from tracejit.jit.tree import Segment, Tree, outcome_key
from tracejit.runtime.target import build
from tracejit.tensor import Tensor

_MAX_FAST = 4
"""Layouts for which a tree has a generated call."""
_MAX_FAST_BUILDS = 64
"""Generated calls that are made for one tree at most, those forgotten since included."""
_MAX_SEEN = 1024
"""Sizes that a tree remembers to have run with."""


class NewBranch:
    """A run came to a branch point with an outcome that no trace has."""

    def __init__(self, segment: Segment):
        self.segment = segment


class Group:
    """A trace tree with its guard and inputs."""

    def __init__(self, readset: ReadSet, modes: dict[str, Any]):
        self.readset = readset
        self.modes = modes
        self.inputs = Inputs()
        self.tree = Tree()
        self.facts: dict[str, None] = {}
        self.conditions: list[Any] = []  # what numbers that are inputs must give again
        self.distinct: list[Tensor] = []  # the inputs, if the trace writes memory or gradients
        self.fast: list[Any] = []  # generated calls for exact layouts, most recent first
        self.guard: Callable[..., Any] = lambda *args: MISS
        self.builds = 0
        self.seen: set[tuple[int, ...]] = set()
        self.version = 0  # of modules, at the last call that took the slow way

    def rebuild_guard(self) -> None:
        """Write the guard function for the inputs and facts as they are now."""
        writer, self.modules = self.write_guards()
        self.guard = build_guard(writer)
        self.fast = []

    def write_guards(
        self, like: Sequence[Tensor] | None = None, checked_later: Sequence[int] = ()
    ) -> Any:
        """The guards as a writer; with `like`, for exactly these layouts (see `write_guards`)."""
        return write_guards(
            self.readset, self.inputs.tensors, self.modes, list(self.facts), like, self.distinct,
            self.conditions, checked_later,
        )  # fmt: skip

    def prepare(self, builder: PathBuilder) -> None:
        """Compile what a capture has added, the first segment's kernels now."""
        root = self.tree.root
        _build_programs(root)
        values: dict[int, Any] = {}
        for tensor, node in builder.capture.inputs:
            values[id(builder.known[id(node)])] = tensor._array
        for scalar in builder.capture.scalars:
            values[id(builder.known[id(scalar.node)])] = scalar.value
        if all(id(node) in values for _, node in root.reads):
            root.program.prepare([values[id(node)] for _, node in root.reads])

    def run(self, args: tuple[Any, ...], found: Any) -> Any:
        """Run the programs along the path that the values take; a NewBranch if it is a new one."""
        tensors, sizes = found
        values: dict[int, Any] = {
            id(n): t._array for n, t in zip(self.inputs.nodes, tensors)
        }  # fmt: skip
        numbers = [
            read.read(args) if isinstance(read, CallNumber) else read(sizes)
            for read, _ in self.inputs.scalars
        ]
        for (_, node), number in zip(self.inputs.scalars, numbers, strict=True):
            values[id(node)] = number
        segment = self.tree.root
        while True:
            outputs = self._run_segment(segment, values)
            if segment.leaf is not None:
                outputs = segment.leaf.arranged(outputs)
                break
            outcome = leave(outputs[0], segment.kind)
            following = segment.children.get(outcome_key(outcome))
            if following is None:
                return NewBranch(segment)
            segment = following
        segment.hits += 1
        if segment is self.tree.root and self._is_settled() and self._is_wanted(sizes):
            del self.fast[_MAX_FAST - 1 :]
            made = build_fast(self, tensors, sizes)
            if made is not None:
                self.fast.insert(0, made)
        return segment.leaf.finish(args, tensors, numbers, sizes, outputs)

    @property
    def hits(self) -> int:
        """Replays so far, over all paths."""
        stack, count = [self.tree.root], 0
        while stack:
            segment = stack.pop()
            count += segment.hits
            stack.extend(segment.children.values())
        return count

    def _is_settled(self) -> bool:
        """Whether modules stay as they are from call to call: a number that is changed before
        every call would make every generated call stale."""
        before, self.version = self.version, MODULE_VERSION[0]
        return before == self.version or not self.readset.free_numbers

    def _is_wanted(self, sizes: dict[str, int]) -> bool:
        """Whether a generated call for these sizes is worth its making: they came before."""
        if self.builds >= _MAX_FAST_BUILDS:
            return False
        key = tuple(sizes.values())
        if key and key not in self.seen:
            if len(self.seen) >= _MAX_SEEN:
                self.seen.clear()
            self.seen.add(key)
            return False
        self.builds += 1
        return True

    def _run_segment(self, segment: Segment, values: dict[int, Any]) -> list[Any]:
        if segment.program is None:
            assert segment.graph is not None
            segment.program = build(segment.graph)
        arrays = [values[id(key) if kind == "input" else key] for kind, key in segment.reads]
        outputs = segment.program.run(arrays)
        count = len(outputs) - len(segment.carries)
        for key, array in zip(segment.carries, outputs[count:], strict=True):
            values[key] = array
        return outputs[:count]


def _build_programs(segment: Segment) -> None:
    if segment.program is None and segment.graph is not None:
        segment.program = build(segment.graph)
    for child in segment.children.values():
        _build_programs(child)


def leave(array: Any, kind: str) -> Any:
    """The Python value that leaves a trace at a branch point of this kind."""
    if kind in ("tolist", "text"):
        return array.tolist()
    if kind == "nonzero":
        return tuple(w.astype("int64").tobytes() for w in array.nonzero())
    value = array.item()
    return {"bool": bool, "int": int, "float": float}.get(kind, lambda v: v)(value)


def modes_now() -> dict[str, Any]:
    """The thread's modes that a trace depends on."""
    return {"grad": state.grad, "default_dtype": dtypes.get_default_dtype(),
            "default_cell": dtypes._default}  # fmt: skip
