"""A frame: a plan made concrete for the shapes and strides of one call, ready to run.

A blueprint is what the builder makes of a plan; a frame is a blueprint with memory and addresses. A
recorded blueprint gives frames for other sizes too, without building again. Invariant: between two
calls a frame holds no reference to the caller's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.codegen.loops import is_scalar_input
from tracejit.errors import CheckFailed
from tracejit.ir.graph import Graph
from tracejit.ir.sizes import SymInt, symbol_name
from tracejit.runtime.arena import Room, Stack
from tracejit.runtime.buffers import empty_maker
from tracejit.runtime.builder import Builder, array_layout
from tracejit.runtime.host_call import HostCall
from tracejit.runtime.overlap import OVERLAP
from tracejit.runtime.program import Expected, Outline, Program
from tracejit.runtime.recorded import Record, at
from tracejit.runtime.table_launch import AnyLaunch
from tracejit.transforms.views import Layout, contiguous

if TYPE_CHECKING:
    from tracejit.runtime.executable import Executable

Segment = Callable[[tuple[Any, ...]], int]


class Frame:
    """One instantiated plan. ``frame.call(arrays)`` runs it; one call at a time.

    With `in_place` effects go straight into the inputs they replace where that is sound. A call
    whose arrays overlap is passed on to a frame that writes them at the end. `straight`, if all is
    one native program, takes inputs and fresh outputs; a status other than 0 means that nothing
    was written and `call` has to decide. `expect` makes it refuse other layouts by itself.
    """

    def __init__(self, blueprint: Blueprint, values: Sequence[Any], room: Room):
        self.executable = blueprint.executable
        self.messages = [message for _, message in self.executable.graph.checks]
        self.outputs = [
            (tuple([at(n, values) for n in shape]), dtype) for shape, dtype in blueprint.outputs
        ]
        self.makers = [(empty_maker(dtype), shape) for shape, dtype in self.outputs]
        self.arena_bytes = room.nbytes
        self.launches: list[AnyLaunch] = blueprint.launches
        made = [
            Program.of(item, values, room) if isinstance(item, Outline) else item
            for item in blueprint.items
        ]
        self.segments: list[Segment] = [_segment(item) for item in made]
        only = made[0] if len(made) == 1 else None
        self._program = only if isinstance(only, Program) else None
        self.straight = None if self._program is None else self._program.run

    def expect(self, layouts: Sequence[Expected]) -> None:
        """Let `straight` run nothing where arguments have other layouts."""
        assert self._program is not None
        self._program.expect(layouts)

    def call(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Run on arrays of the shapes and strides that the frame was built for."""
        results = [make(shape) for make, shape in self.makers]
        arguments = (*arrays, *results)
        for segment in self.segments:
            status = segment(arguments)
            if status == OVERLAP:
                return self.executable.run_apart(arrays)
            if status:
                raise CheckFailed(self.messages[status - 1])
        return results


def _segment(item: Program | HostCall) -> Segment:
    """A native program, or a call of the host library, as a function of the call's arguments."""
    if isinstance(item, HostCall):
        item.prepare()
        return item
    run = item.run
    return lambda arguments: run(*arguments)


class Blueprint:
    """What the builder made of a plan for a call's arrays.

    `frame()` is the frame for those arrays. With `leaves` it is recorded, and `frame_for` gives
    frames for other sizes as long as the builder would have decided alike.
    """

    def __init__(
        self, executable: Executable, arrays: Sequence[Any], in_place: bool,
        leaves: Leaves | None = None,
    ):  # fmt: skip
        self.executable = executable
        self._leaves = leaves
        self._record: Record | None = None
        numbers = None if leaves is None else leaves.numbers(arrays)
        if leaves is None or numbers is None:  # none: shapes that do not fit, the builder says why
            layouts = input_layouts(executable.graph, arrays)
        else:
            self._record = Record(numbers)
            layouts = leaves.layouts(self._record.leaves)
        builder = Builder(executable, layouts, executable.in_place if in_place else {})
        builder.build()
        self.items: list[Outline | HostCall] = [
            builder.outline(item) if isinstance(item, list) else item for item in builder.items
        ]
        self.outputs = builder.output_specs
        self.launches = builder.launches
        self.is_native = all(isinstance(item, Outline) for item in self.items)
        self._arena = builder.arena
        if self._record is not None:
            self._record.close()
            self._stack = Stack(builder.arena)

    @property
    def is_general(self) -> bool:
        """Whether `frame_for` may give frames for other sizes."""
        return self._record is not None and self.is_native and not self._record.is_fixed

    def frame(self) -> Frame:
        """The frame for the arrays that were given; to be made once."""
        if self._record is not None:
            return Frame(self, self._record.values, self._stack.room(self._record.values))
        self._arena.reserve()
        return Frame(self, (), self._arena.room())

    def frame_for(self, arrays: Sequence[Any]) -> Frame | None:
        """The frame for arrays of other sizes; None if these would be built in another way."""
        assert self._leaves is not None and self._record is not None
        numbers = self._leaves.numbers(arrays)
        values = None if numbers is None else self._record.replay(numbers)
        return None if values is None else Frame(self, values, self._stack.room(values))


def input_layouts(graph: Graph, arrays: Sequence[Any]) -> list[Layout | None]:
    """The layouts of a call's arrays, None for scalars."""
    pairs = zip(graph.inputs, arrays, strict=True)
    return [None if is_scalar_input(n) else array_layout(a) for n, a in pairs]


class Leaves:
    """Which numbers of the layouts of a call's arrays vary: symbols, and strides where an array is
    not row-major.
    """

    def __init__(self, graph: Graph, arrays: Sequence[Any]):
        self._count = len(graph.inputs)
        self._fixed: list[tuple[int, tuple[int, ...]]] = []
        self._shapes: list[tuple[int, list[Any]]] = []  # an int, or the key of what varies
        self._dense: list[tuple[int, bool]] = []
        for i, (node, array) in enumerate(zip(graph.inputs, arrays, strict=True)):
            if is_scalar_input(node):
                continue
            self._dense.append((i, array.flags.c_contiguous))
            if any(type(n) is SymInt for n in node.shape):
                keys = [
                    symbol_name(n) or (i, axis) if type(n) is SymInt else n
                    for axis, n in enumerate(node.shape)
                ]
                self._shapes.append((i, keys))
            else:
                self._fixed.append((i, tuple(node.shape)))

    def numbers(self, arrays: Sequence[Any]) -> list[int] | None:
        """What varies, for these arrays; None if they differ in something else."""
        found: dict[Any, int] = {}
        for i, shape in self._fixed:
            if arrays[i].shape != shape:
                return None
        for i, keys in self._shapes:
            shape = arrays[i].shape
            if len(shape) != len(keys):
                return None
            for key, n in zip(keys, shape, strict=True):
                if (key if type(key) is int else found.setdefault(key, n)) != n:
                    return None
        numbers = list(found.values())
        for i, is_dense in self._dense:
            if arrays[i].flags.c_contiguous != is_dense:
                return None
            if not is_dense:
                numbers += [s // arrays[i].itemsize for s in arrays[i].strides]
        return numbers

    def layouts(self, leaves: Sequence[Any]) -> list[Layout | None]:
        """The layouts of the inputs in terms of the numbers of a record."""
        found: list[Layout | None] = [None] * self._count
        rest = iter(leaves)
        named: dict[Any, Any] = {}
        shapes = dict(self._fixed)
        for i, keys in self._shapes:
            for key in keys:
                if type(key) is not int and key not in named:
                    named[key] = next(rest)
            shapes[i] = tuple(key if type(key) is int else named[key] for key in keys)
        for i, is_dense in self._dense:
            shape = shapes[i]
            strides = None if is_dense else tuple(next(rest) for _ in shape)
            found[i] = contiguous(shape) if strides is None else Layout(shape, strides)
        return found
