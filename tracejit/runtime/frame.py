"""A frame: a plan made concrete for the shapes and strides of one call, ready to run.

Building it resolves every view to strides, collapses the loop nests, picks (and compiles) kernel
variants, plans the arena and fills the tables; a call only passes pointers. Invariant: between two
calls a frame holds no reference to the caller's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.codegen.loops import LoopProgram, Store, Value, is_scalar_input
from tracejit.errors import CheckFailed
from tracejit.ir.interpret import evaluate_node
from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep, KernelStep
from tracejit.ir.sizes import SymInt, evaluate
from tracejit.runtime.arena import Arena, Buffer
from tracejit.runtime.buffers import empty_maker
from tracejit.runtime.gemm import matmul
from tracejit.runtime.gemm_step import GemmLaunch, is_native, plan_gemm
from tracejit.runtime.launch import Launch, Nest, Operand, plan_launches
from tracejit.runtime.overlap import OverlapCheck
from tracejit.runtime.program import Patch, Program, Step
from tracejit.transforms.views import (
    Layout,
    apply_view,
    base_and_views,
    contiguous,
    contiguous_strides,
    is_one,
)

if TYPE_CHECKING:
    from tracejit.runtime.executable import Executable

Segment = Callable[[tuple[Any, ...]], int]


def array_layout(array: np.ndarray[Any, Any]) -> Layout:
    """The layout of an array in elements; size-1 axes of a contiguous one count as contiguous."""
    if array.flags.c_contiguous:
        return contiguous(array.shape)
    size = array.itemsize
    return Layout(array.shape, tuple(s // size for s in array.strides))


class Frame:
    """One instantiated plan. ``frame.call(arrays)`` runs it; one call at a time.

    With `in_place` effects go straight into the inputs they replace where that is sound. A call
    whose arrays overlap is passed on to a frame that writes them at the end.
    """

    def __init__(self, executable: Executable, arrays: Sequence[Any], in_place: bool = True):
        builder = _Builder(executable, arrays, executable.in_place if in_place else {})
        builder.build()
        self.segments: list[Segment] = builder.segments
        self.outputs = builder.output_specs
        self.makers = [(empty_maker(dtype), shape) for shape, dtype in self.outputs]
        self.doubles = builder.doubles
        self.commit: Segment | None = builder.commit
        self.checks = builder.checks
        self.arena_bytes = builder.arena.nbytes
        self.launches: list[Launch] = builder.all_launches
        self.executable = executable
        plain = not (self.doubles or self.checks or self.commit or builder.in_place)
        plain = plain and len(builder.natives) == 1
        self.straight = builder.natives[0] if plain and len(self.segments) == 1 else None

    def call(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Run on arrays of the shapes and strides that the frame was built for."""
        results = [make(shape) for make, shape in self.makers]
        arguments = (*arrays, *results)
        for segment in self.segments:
            if segment(arguments):  # only the overlap check reports, before anything is written
                return self.executable.run_apart(arrays)
        for condition, message in self.checks:
            if not condition[()]:
                raise CheckFailed(message)
        if self.commit is not None:
            self.commit(arguments)
        if self.doubles:
            results = [results[i].copy() if again else results[i] for i, again in self.doubles]
        return results


class _Builder:
    """Builds one frame; thrown away afterwards."""

    def __init__(self, executable: Executable, arrays: Sequence[Any], in_place: dict[int, Node]):
        self.executable = executable
        self.in_place = in_place
        self.plan = executable.plan
        self.graph = executable.plan.graph
        self.arena = Arena()
        self.symbols: dict[str, int] = {}
        self.places: dict[int, Operand] = {}
        self.copies: dict[tuple[int, ...], Operand] = {}
        self.pending: list[Launch | GemmLaunch] = []
        self.all_launches: list[Launch] = []
        self.items: list[list[Launch | GemmLaunch] | _HostCall] = []
        self.segments: list[Segment] = []
        self.output_specs: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.doubles: list[tuple[int, bool]] = []
        self.checks: list[tuple[np.ndarray[Any, Any], str]] = []
        self.commit: Segment | None = None
        self.natives: list[Callable[..., int]] = []
        self.bind(arrays)

    # inputs and outputs ----------------------------------------------------------------------

    def bind(self, arrays: Sequence[Any]) -> None:
        """Give every graph input its place and every symbol its value."""
        for index, (node, array) in enumerate(zip(self.graph.inputs, arrays, strict=True)):
            if is_scalar_input(node):
                continue
            for size, actual in zip(node.shape, array.shape, strict=True):
                self.bind_size(node, size, actual)
            buffer = Buffer("argument", index, array.nbytes)
            self.places[id(node)] = Operand(buffer, array_layout(array), node.dtype)

    def bind_size(self, node: Node, size: Any, actual: int) -> None:
        if type(size) is not SymInt:
            if size != actual:
                raise ValueError(f"{node.params['name']}: expected {node.type}, got size {actual}")
            return
        (mono, factor), *rest = size.poly.items()
        if not rest and factor == 1 and len(mono) == 1 and mono[0][0] == "sym":
            self.symbols[mono[0][1]] = actual

    def size(self, size: Any) -> int:
        return evaluate(size, self.symbols) if type(size) is SymInt else int(size)

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        return tuple(map(self.size, shape))

    def place_outputs(self) -> None:
        """Outputs go to fresh arrays; one that appears twice is copied afterwards."""
        first: dict[int, int] = {}
        base = len(self.graph.inputs)
        for node in self.graph.outputs:
            again = id(node) in first
            if not again:
                shape = self.shape(node.shape)
                number = first[id(node)] = len(self.output_specs)
                self.output_specs.append((shape, node.dtype.numpy))
                buffer = Buffer("argument", base + number, 0)
                self.places[id(node)] = Operand(buffer, contiguous(shape), node.dtype)
            self.doubles.append((first[id(node)], again))
        if not any(again for _, again in self.doubles):
            self.doubles = []

    def new_value(self, node: Node) -> Operand:
        """A place for a stored node: its output array, else the arena."""
        found = self.places.get(id(node))
        target = self.in_place.get(id(node))
        if found is None and target is not None:
            found = self.places[id(node)] = self.places[id(target)]
        if found is None:
            found = self.places[id(node)] = self.temporary(self.shape(node.shape), node.dtype)
        return found

    def temporary(self, shape: tuple[int, ...], dtype: Any) -> Operand:
        count = prod(shape)
        buffer = self.arena.new(max(count, 1) * dtype.itemsize)
        return Operand(buffer, contiguous(shape), dtype)

    # views -----------------------------------------------------------------------------------

    def operand(self, node: Node, views: Sequence[Node]) -> Operand:
        """The place of a value seen through views; copies where a reshape must."""
        operand = self.given(node)
        key: tuple[int, ...] = (id(node),)
        for view in views:
            key = (*key, id(view))
            layout = apply_view(operand.layout, view, self.size)
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
        array = np.asarray(evaluate_node(node, []), order="C")  # keeps 0-d arrays 0-d
        buffer = Buffer("constant", 0, array.nbytes, array)
        operand = Operand(buffer, contiguous(array.shape), node.dtype)
        self.places[id(node)] = operand
        return operand

    def copied(self, source: Operand) -> Operand:
        """A row-major copy."""
        target = self.temporary(source.layout.shape, source.dtype)
        self.copy(source, target)
        return target

    def copy(self, source: Operand, target: Operand) -> None:
        program = self.executable.copy_program(source.dtype)
        nest = Nest.plain("map", source.layout.shape)
        self.launch(program, nest, [source], [target])

    # launches --------------------------------------------------------------------------------

    def launch(
        self, program: LoopProgram, nest: Nest, loads: list[Operand], stores: list[Operand]
    ) -> None:
        """Append the launches of a program."""
        for launch in plan_launches(self, program, nest, loads, stores):
            self.pending.append(launch)
            self.all_launches.append(launch)

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
        """A product joins the native segment; any other library call ends it."""
        if is_native(step.node):
            product = plan_gemm(self, step.node)
            if product is not None:
                self.pending.append(product)
            return
        arguments = [self.host_argument(x) for x in step.node.inputs]
        self.flush()
        results = [(n, self.new_value(n)) for n in step.stores]
        self.items.append(_HostCall(self, step, arguments, results))

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
        if self.pending:
            self.items.append(self.pending)
            self.pending = []

    def build(self) -> None:
        """Plan all steps, then the arena, then the native programs."""
        self.place_outputs()
        for step in self.plan.steps:
            if isinstance(step, KernelStep):
                self.kernel_step(step)
            else:
                self.host_step(step)
        self.flush()
        if self.in_place and not isinstance(self.items[0], list):
            self.items.insert(0, [])
        before = len(self.items)
        for target, value in self.graph.effects:
            if self.places[id(value)] is not self.places[id(target)]:
                self.copy(self.places[id(value)], self.places[id(target)])
        self.flush()
        self.plan_arena()
        segments = [self.segment(item) for item in self.items]
        self.segments = segments[:before]
        if len(segments) > before:
            self.commit = segments[before]
        for condition, message in self.graph.checks:
            self.checks.append((self.places[id(condition)].fixed_array(), message))

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
        for condition, _ in self.graph.checks:
            self.places[id(condition)].buffer.touch(time + 1)
        self.arena.plan()

    def segment(self, item: list[Launch | GemmLaunch] | _HostCall) -> Segment:
        """A native program, or a call of the host library."""
        if isinstance(item, _HostCall):
            item.prepare()
            return item
        steps: list[Step] = []
        patches: list[Patch] = []
        keep: list[Any] = [self.arena.memory]
        check = self.overlap_check(patches) if item is self.items[0] else None
        if check is not None:
            steps.append(check.step)
            keep.append(check)
        for launch in item:
            steps.append(launch.step(patches, keep))
        count = len(self.graph.inputs) + len(self.output_specs)
        program = Program(steps, patches, count, keep)
        if check is not None:
            check.table[0] = program.status_address
        run = program.run
        self.natives.append(run)
        return lambda arguments: run(*arguments)

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


class _HostCall:
    """A library step on arrays."""

    def __init__(self, builder: _Builder, step: HostStep, arguments: list[Any], results: Any):
        self.node = builder.concrete(step.node)
        self.inputs = builder.graph.inputs
        self.arguments = arguments
        self.results: list[tuple[Node, Operand]] = results
        self.getters: list[Callable[[tuple[Any, ...]], Any]] = []
        self.targets: list[Callable[[tuple[Any, ...]], Any]] = []

    @property
    def operands(self) -> list[Operand]:
        held = [x for x in self.arguments if isinstance(x, Operand)]
        return held + [o for _, o in self.results]

    def prepare(self) -> None:
        """Arrays of the arena are made once; those of arguments at every call."""
        self.getters = [self.getter(x) for x in self.arguments]
        self.targets = [operand.getter() for _, operand in self.results]

    def getter(self, argument: Any) -> Callable[[tuple[Any, ...]], Any]:
        if isinstance(argument, Operand):
            return argument.getter()
        if isinstance(argument, tuple):
            node = argument[1]
            index = self.inputs.index(node)
            return lambda arguments: np.asarray(arguments[index], node.dtype.numpy)
        return lambda arguments: argument

    def __call__(self, arguments: tuple[Any, ...]) -> int:
        arrays = [get(arguments) for get in self.getters]
        if self.node.op.name == "matmul":
            matmul(arrays[0], arrays[1], self.targets[0](arguments))
            return 0
        value = evaluate_node(self.node, arrays)
        for (node, _), target in zip(self.results, self.targets, strict=True):
            part = value[node.params["index"]] if node.op.name == "get" else value
            target(arguments)[...] = part
        return 0
