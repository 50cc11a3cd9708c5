"""From a plan and the layouts of a call's arrays to launches and tables.

Resolves every view to strides, collapses the loop nests, picks (and compiles) kernel variants and
plans the arena. Sizes may be recorded numbers. Invariant: what is built depends on the layouts of
the arrays alone, and what it decides by comparing sizes, a record notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.codegen.cpu import Variant
from tracejit.codegen.library_kernels import COLUMNS
from tracejit.codegen.loops import LoopProgram, Store, Value, is_scalar_input
from tracejit.dtypes import DType
from tracejit.errors import ShapeError
from tracejit.ir.interpret import evaluate_node
from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep, KernelStep
from tracejit.ir.sizes import SymInt, evaluate, is_one, symbol_name
from tracejit.ir.types import TensorType
from tracejit.runtime.arena import Arena, Buffer
from tracejit.runtime.bundle import bundled
from tracejit.runtime.chain import uses_of, with_chains
from tracejit.runtime.epilogue import with_epilogues
from tracejit.runtime.gemm_step import is_native, plan_gemm
from tracejit.runtime.host_call import HostCall
from tracejit.runtime.launch import Collapsed, Nest, Operand, plan_launches
from tracejit.runtime.library_steps import plan_library
from tracejit.runtime.overlap import ConditionCheck, OverlapCheck
from tracejit.runtime.placement import place_all
from tracejit.runtime.program import Outline, Patch, Step
from tracejit.runtime.table_launch import AnyLaunch, TableLaunch
from tracejit.transforms.views import (
    Layout,
    apply_view,
    base_and_views,
    contiguous,
    contiguous_strides,
)

if TYPE_CHECKING:
    from tracejit.runtime.executable import Executable, Kernel


def array_layout(array: np.ndarray[Any, Any]) -> Layout:
    """The layout of an array in elements; size-1 axes of a contiguous one count as contiguous."""
    if array.flags.c_contiguous:
        return contiguous(array.shape)
    size = array.itemsize
    return Layout(array.shape, tuple(s // size for s in array.strides))


class Builder:
    """Builds the launches of a frame; thrown away afterwards."""

    columns = COLUMNS  # neighbouring elements that make a unit of work of a library kernel
    tiles = True  # whether threads are few: units of work are tiles of maps, planes of windows
    host_call = HostCall

    def __init__(
        self, executable: Executable, layouts: Sequence[Layout | None], in_place: dict[int, Node]
    ):
        """`layouts` are those of the inputs, None for scalars."""
        self.executable = executable
        self.in_place = in_place
        self.plan = executable.plan
        self.graph = executable.plan.graph
        self.arena = Arena()
        self.symbols: dict[str, int] = {}
        self.shapes: dict[int, tuple[tuple[int, ...], Any]] = {}  # with what keeps the id taken
        self.seen: dict[tuple[int, ...], Operand] = {}  # operands by value and views
        self.places: dict[int, Operand] = {}
        self.copies: dict[tuple[int, ...], Operand] = {}
        self.pending: list[AnyLaunch] = []
        self.launches: list[AnyLaunch] = []
        self.items: list[list[AnyLaunch] | HostCall] = []
        self.output_specs: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.again: list[tuple[Node, Operand]] = []
        self.checks: dict[int, list[int]] = {}
        self.bind(layouts)

    # inputs and outputs ----------------------------------------------------------------------

    def bind(self, layouts: Sequence[Layout | None]) -> None:
        """Give every graph input its place and every symbol its value."""
        for index, (node, layout) in enumerate(zip(self.graph.inputs, layouts, strict=True)):
            if layout is None:
                continue
            for size, actual in zip(node.shape, layout.shape, strict=True):
                self.bind_size(node, size, actual)
            self.places[id(node)] = Operand(Buffer("argument", index, 0), layout, node.dtype)

    def bind_size(self, node: Node, size: Any, actual: int) -> None:
        if type(size) is not SymInt:
            if size != actual:
                raise ShapeError(f"{node.params['name']}: expected {node.type}, got size {actual}")
            return
        name = symbol_name(size)
        if name is not None:
            self.symbols[name] = actual

    def size(self, size: Any) -> int:
        return evaluate(size, self.symbols) if type(size) is SymInt else int(size)

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        """The shape in numbers; the shape of one node, say, is worked out once."""
        if type(shape) is not tuple:
            return tuple(map(self.size, shape))
        key = id(shape)
        held = self.shapes.get(key)
        if held is None:
            held = self.shapes[key] = (tuple(map(self.size, shape)), shape)
        return held[0]

    def place_outputs(self) -> None:
        """Outputs go to fresh arrays; one that appears twice is copied at the end."""
        base = len(self.graph.inputs)
        for number, node in enumerate(self.graph.outputs):
            shape = self.shape(node.shape)
            self.output_specs.append((shape, node.dtype.numpy))
            place = Operand(Buffer("argument", base + number, 0), contiguous(shape), node.dtype)
            if id(node) in self.places:
                self.again.append((node, place))
            else:
                self.places[id(node)] = place

    def new_value(self, node: Node) -> Operand:
        """A place for a stored node: its output array, else the arena."""
        found = self.places.get(id(node))
        target = self.in_place.get(id(node))
        if found is None and target is not None:
            found = self.places[id(node)] = self.places[id(target)]
        if found is None:
            found = self.places[id(node)] = self.temporary(self.shape(node.shape), node.dtype)
        return found

    def temporary_as(self, layout: Layout, dtype: DType) -> Operand:
        """A temporary of a given layout, whose elements fill it."""
        place = self.temporary(layout.shape, dtype)
        return Operand(place.buffer, layout, dtype)

    def temporary(self, shape: tuple[int, ...], dtype: Any) -> Operand:
        count = prod(shape)
        buffer = self.arena.new(max(count, 1) * dtype.itemsize)
        return Operand(buffer, contiguous(shape), dtype)

    # views -----------------------------------------------------------------------------------

    def operand(self, node: Node, views: Sequence[Node]) -> Operand:
        """The place of a value seen through views; copies where a reshape must."""
        key: tuple[int, ...] = (id(node), *map(id, views))
        held = self.seen.get(key)
        if held is None:
            held = self.seen[key] = self.viewed(node, views)
        return held

    def viewed(self, node: Node, views: Sequence[Node]) -> Operand:
        operand = self.given(node)
        key: tuple[int, ...] = (id(node),)
        for view in views:
            key = (*key, id(view))
            layout = apply_view(operand.layout, view, self.size, self.shape)
            if layout is None:
                held = self.copies.get(key)
                if held is None:
                    held = self.copies[key] = self.copied(operand)
                operand = held
                layout = apply_view(operand.layout, view, self.size)
                assert layout is not None
            operand = Operand(operand.buffer, layout, operand.dtype)
        return operand

    def given(self, node: Node) -> Operand:
        """The place of a stored value, making that of a constant."""
        found = self.places.get(id(node))
        if found is not None:
            return found
        shape = self.shape(node.shape)
        if node.op.name == "full" and prod(shape) > 1:
            params = {**node.params, "type": TensorType(node.dtype, ())}
            one = Node(node.op, (), params, params["type"], node.loc)
            value = np.asarray(evaluate_node(one, []))
            found = self.constant(value, shape, node.dtype)
        else:
            array = np.asarray(evaluate_node(self.concrete(node), []), order="C")
            place = Buffer("constant", 0, array.nbytes, self.held(array))
            found = Operand(place, contiguous(array.shape), node.dtype)
        self.places[id(node)] = found
        return found

    def constant(
        self, value: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: DType
    ) -> Operand:
        """One number, repeated over a shape."""
        buffer = Buffer("constant", 0, value.itemsize, self.held(value.reshape(1).copy()))
        return Operand(buffer, Layout(shape, (0,) * len(shape)), dtype)

    def row_major(self, source: Operand) -> Operand:
        """The operand, or a copy, whose elements lie one after the other."""
        strides = contiguous_strides(source.layout.shape)
        return source if source.layout.strides == strides else self.copied(source)

    def copied(self, source: Operand) -> Operand:
        """A row-major copy."""
        target = self.temporary(source.layout.shape, source.dtype)
        self.copy(source, target)
        return target

    def copy(self, source: Operand, target: Operand, how: str = "copy") -> None:
        """Copy elements; `how` as in `HelperPrograms.copy`."""
        program = self.executable.copy_program(source.dtype, how)
        nest = Nest.plain("map", source.layout.shape)
        self.launch(program, nest, [source], [target])

    def accumulate(self, source: Operand, target: Operand) -> None:
        """Add elements to those of the target."""
        program = self.executable.accumulate_program(source.dtype)
        nest = Nest.plain("map", source.layout.shape)
        self.launch(program, nest, [target, source], [target])

    # launches --------------------------------------------------------------------------------

    def launch(
        self, program: LoopProgram, nest: Nest, loads: list[Operand], stores: list[Operand]
    ) -> None:
        """Append the launches of a program."""
        self.pending += plan_launches(self, program, nest, loads, stores)

    def kernel(
        self, program: LoopProgram, variant: Variant, operands: list[Operand], nest: Collapsed
    ) -> Kernel:
        """The compiled kernel of a variant."""
        return self.executable.kernel(program, variant)

    def table_launch(
        self, name: str, source: str, words: Sequence[int | Operand], units: int, grain: int
    ) -> None:
        """Append the launch of a hand-written kernel."""
        self.pending.append(TableLaunch(name, source, words, units, grain))

    def condition(self, operand: Operand, number: int) -> AnyLaunch:
        """The launch that stops the run if check `number` does not hold."""
        return ConditionCheck(operand, number)

    def held(self, array: np.ndarray[Any, Any]) -> Any:
        """A constant where kernels can read it."""
        return array

    def word(self, value: Value) -> Any:
        """A table word that a call does not change, or the number of the argument that sets it."""
        if value.kind == "step":
            operand = self.operand(*base_and_views(value.node.inputs[0]))
            return operand.layout.strides[value.node.params["axis"]]
        if value.node.op.name == "size":
            return self.size(value.node.params["value"])
        return self.graph.inputs.index(value.node)

    def kernel_step(self, step: KernelStep) -> None:
        program = self.executable.program_of(step)
        domain = self.shape(step.domain)
        if self.regrouped_copy(program):
            return
        ones = tuple(map(is_one, step.domain))
        loads = [self.load(v, domain) for v in program.loads]
        stores = [self.store(s, domain) for s in program.stores]
        self.launch(program, Nest(step.shape, domain, ones, step.axes), loads, stores)

    def regrouped_copy(self, program: LoopProgram) -> bool:
        """A copy whose last views regroup axes: one launch over the shape before them."""
        value = program.values[0]
        if len(program.values) > 1 or value.kind != "load" or len(program.stores) > 1:
            return False
        views = list(value.views)
        tail = len(views)
        while tail and views[tail - 1].op.name == "reshape":
            tail -= 1
        if tail == len(views):
            return False
        source = self.operand(value.node, views[:tail])
        target = self.new_value(program.stores[0].node)
        if target.layout != contiguous(target.layout.shape):
            return False
        self.copy(source, Operand(target.buffer, contiguous(source.layout.shape), target.dtype))
        return True

    def load(self, value: Value, domain: tuple[int, ...]) -> Operand:
        if value.kind == "load":
            return self.operand(value.node, value.views)
        if value.kind == "gather":
            return self.gathered(value)
        shape = self.shape(value.node.shape)
        axis = value.node.params.get("axis", 0)
        strides = tuple(1 if i == axis else 0 for i in range(len(shape)))
        layout: Layout | None = Layout(shape, strides)
        for view in value.views:
            layout = apply_view(layout, view, self.size) if layout is not None else None
        assert layout is not None, "decompose computes positions before a reshape regroups them"
        return Operand(Buffer("index", 0, 0), layout, value.dtype, False)

    def gathered(self, value: Value) -> Operand:
        """The operand of a gather, at index 0 of its axis, over the positions of the index."""
        operand = self.operand(*base_and_views(value.node.inputs[0]))
        axis = value.node.params["axis"]
        strides = tuple(0 if i == axis else s for i, s in enumerate(operand.layout.strides))
        layout = Layout(self.shape(value.node.shape), strides, operand.layout.offset)
        for view in value.views:
            seen = apply_view(layout, view, self.size)
            assert seen is not None, "a gather is only seen through the row's own axes"
            layout = seen
        return Operand(operand.buffer, layout, operand.dtype, False)

    def store(self, store: Store, domain: tuple[int, ...]) -> Operand:
        """Where a store goes, with its strides over the domain."""
        place = self.new_value(store.node)
        if store.level == "element":
            layout = Layout(domain, place.layout.strides, place.layout.offset)
            return Operand(place.buffer, layout, place.dtype)
        assert store.lift is not None
        own = contiguous_strides(place.layout.shape)
        strides = tuple(0 if a is None else own[a] for a in store.lift)
        return Operand(place.buffer, Layout(domain, strides), place.dtype)

    def host_step(self, step: HostStep) -> None:
        """Products and most writes join the segment; other library calls end it."""
        if not (self.product(step.node) or plan_library(self, step)):
            arguments = [self.host_argument(x) for x in step.node.inputs]
            self.flush()
            results = [(n, self.new_value(n)) for n in step.stores]
            self.items.append(self.host_call(self, step, arguments, results))

    def product(self, node: Node) -> bool:
        """Append a matrix product; False if it has to be a host call."""
        if is_native(node):
            plan_gemm(self, node)
        return is_native(node)

    def host_argument(self, node: Node) -> Any:
        base, views = base_and_views(node)
        if base.op.name in ("full", "iota"):
            return evaluate_node(self.concrete(node), self.inputs_of(node))
        if is_scalar_input(base):
            return ("scalar", base)
        return self.operand(base, views)

    def inputs_of(self, node: Node) -> list[Any]:
        return [evaluate_node(self.concrete(x), self.inputs_of(x)) for x in node.inputs]

    def concrete(self, node: Node) -> Node:
        """The node with its symbolic sizes replaced by this frame's."""
        params = {k: self.concrete_value(v) for k, v in node.params.items()}
        return Node(node.op, node.inputs, params, node.type, node.loc)

    def concrete_value(self, value: Any) -> Any:
        if type(value) is SymInt:
            return self.size(value)
        if isinstance(value, tuple):
            return tuple(map(self.concrete_value, value))
        if hasattr(value, "with_shape"):
            return value.with_shape(self.shape(value.shape))
        return value

    # the whole ---------------------------------------------------------------------------------

    def flush(self) -> None:
        self.items += [self.pending] if self.pending else []
        self.pending = []

    def build(self) -> None:
        """Plan all steps, then the arena."""
        self.place_outputs()
        self.place_values()
        for number, (condition, _) in enumerate(self.graph.checks):
            self.checks.setdefault(id(condition), []).append(number)
        for step in self.plan.steps:
            if isinstance(step, KernelStep):
                self.kernel_step(step)
            else:
                self.host_step(step)
            for node in step.stores:
                for number in self.checks.get(id(node), ()):
                    self.pending.append(self.condition(self.places[id(node)], number))
        for node, place in self.again:
            self.copy(self.places[id(node)], place)
        for target, value in self.graph.effects:
            if self.places[id(value)] is not self.places[id(target)]:
                self.copy(self.places[id(value)], self.places[id(target)])
        self.flush()
        if self.in_place and not (self.items and isinstance(self.items[0], list)):
            self.items.insert(0, [])
        foreign = self.foreign()
        uses = uses_of(self.items)
        self.items = [
            self.bundled(x, foreign, uses) if isinstance(x, list) else x for x in self.items
        ]
        self.launches = [x for y in self.items if isinstance(y, list) for x in y]
        self.plan_arena()

    def place_values(self) -> None:
        """Give values places that spare copies (see `placement`); all others get row-major ones."""
        place_all(self, self.executable.readings)

    def bundled(
        self, item: list[AnyLaunch], foreign: set[int], uses: dict[int, int]
    ) -> list[AnyLaunch]:
        """The launches of a segment with equal ones bundled, and kernels joined to products.

        `uses` says how many launches touch a buffer, by id.
        """
        launches = bundled(item, foreign)
        if not self.executable.has_epilogues:
            return launches
        return with_epilogues(with_chains(launches, foreign, uses, self.arena), foreign)

    def foreign(self) -> set[int]:
        """Buffers of inputs that nothing keeps from overlapping one another."""
        safe = {id(target) for target in self.in_place.values()}
        inputs = [n for n in self.graph.inputs if not is_scalar_input(n) and id(n) not in safe]
        return {id(self.places[id(n)].buffer) for n in inputs}

    def plan_arena(self) -> None:
        """Lifetimes in the order of execution, then addresses."""
        time = 0
        for item in self.items:
            for operands in (
                [x.operands for x in item] if isinstance(item, list) else [item.operands]
            ):
                for operand in operands:
                    operand.buffer.touch(time)
                time += 1
        self.arena.plan()

    def outline(self, item: list[AnyLaunch]) -> Outline:
        """A stretch of launches as a native program, to be given addresses."""
        steps: list[Step] = []
        patches: list[Patch] = []
        keep: list[Any] = []
        check = self.overlap_check(patches) if item is self.items[0] else None
        if check is not None:
            steps.append(check.step)
            keep.append(check)
        for launch in item:
            steps.append(launch.step(patches, keep))
        return Outline(steps, patches, len(self.graph.inputs) + len(self.output_specs), keep)

    def overlap_check(self, patches: list[Patch]) -> OverlapCheck | None:
        """The step that refuses a call whose arrays overlap one that is written in place."""
        if not self.in_place:
            return None
        targets = {id(target) for target in self.in_place.values()}
        arrays = [
            (self.places[id(n)], id(n) in targets)
            for n in self.graph.inputs
            if not is_scalar_input(n)
        ]
        return OverlapCheck(arrays, patches)
