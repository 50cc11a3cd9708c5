"""Frames and executables of devices: the plan of a graph as a list of launches.

Views, loop nests, lifetimes and tables are those of CPU frames; only memory, kernels and library
calls are the device's. Invariant: running a frame asks the device for work in the plan's order and
waits for it only where a check, or an op without a kernel, needs a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.codegen.cpu import Variant
from tracejit.codegen.cpu_reduce import RowEmitter
from tracejit.codegen.cuda import DeviceVariant, device_emitter, vector_width
from tracejit.codegen.loops import LoopProgram, Value
from tracejit.errors import DeviceError, DTypeError
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import evaluate_node
from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep
from tracejit.ir.types import CPU, placed
from tracejit.runtime.arena import Arena
from tracejit.runtime.builder import Builder
from tracejit.runtime.bundle import bundled
from tracejit.runtime.cublas import matrix_of
from tracejit.runtime.device import Allocation, Backend
from tracejit.runtime.device_array import DeviceArray, from_host, maker
from tracejit.runtime.device_graph import Replayer
from tracejit.runtime.device_library import plan_on_device
from tracejit.runtime.device_work import (
    Condition,
    DeviceTableLaunch,
    Product,
    bundles_of,
    may_bundle,
    work_of,
)
from tracejit.runtime.executable import Executable, Kernel
from tracejit.runtime.frame import Frame, input_layouts
from tracejit.runtime.host_call import HostCall
from tracejit.runtime.launch import Collapsed, Operand
from tracejit.runtime.overlap import span
from tracejit.runtime.table_launch import AnyLaunch
from tracejit.transforms import decompose, pipeline
from tracejit.transforms.views import base_and_views, contiguous_strides

_VECTOR_BYTES = 16


class DeviceKernel:
    """A device variant of a fused group: `source` (with the user's lines), `ptx()`, `scratch`."""

    compiled = None  # the driver does that

    def __init__(self, program: LoopProgram, variant: DeviceVariant, backend: Backend):
        made = device_emitter(program, variant)
        self.scratch: tuple[Value, ...] = made.plan.scratch if isinstance(made, RowEmitter) else ()
        self.text = made.source()
        self.words = made.layout.length
        self.name = program.step.name
        self.shape = variant.shape
        self.nodes = tuple(program.step.body)
        self.variant = variant
        self.step = program.step
        self.loaded = backend.load(self.name, self.text, self.words)
        self.address = id(self.loaded)  # equal texts are one kernel, as addresses say on the CPU
        self._program = program

    @property
    def source(self) -> str:
        v = self.variant
        title = f"# {self.name}: {v.shape} kernel, rank {v.rank}, access {v.classes}"
        return f"{title}\n{device_emitter(self._program, v, True).source()}"

    def ptx(self, cc: tuple[int, int] = (9, 0)) -> str:
        """What LLVM makes of it for an architecture."""
        from tracejit.codegen.ptx import compile_ptx  # brings llvmlite

        return compile_ptx(self.name, self.text, self.words, cc)

    def __repr__(self) -> str:
        return f"<{self.shape} device kernel {self.name}: {len(self.nodes)} ops>"


class _DeviceArena(Arena):
    """Temporaries in one allocation of the device."""

    def __init__(self, backend: Backend):
        super().__init__()
        self.backend = backend

    def reserve(self) -> None:
        self.memory: Any = _bytes(self.backend, self.nbytes)
        self.address = self.memory.address

    def view(self, buffer: Any) -> Any:
        return self.memory[buffer.offset : buffer.offset + buffer.nbytes]


def _bytes(backend: Backend, nbytes: int) -> Any:
    count = max(nbytes, 1)
    return DeviceArray(Allocation(backend, count), 0, (count,), (1,), np.dtype(np.uint8))


class _HostCall(HostCall):
    """An op for which the device has no kernel: its arrays go to the host and back."""

    def __call__(self, arguments: tuple[Any, ...]) -> int:
        arrays = [get(arguments) for get in self.getters]
        what = f"{self.node.op.name}, which has no kernel here,"
        host = [x.to_host(what) if isinstance(x, DeviceArray) else x for x in arrays]
        value = evaluate_node(self.node, host)
        for (node, _), target in zip(self.results, self.targets, strict=True):
            part = value[node.params["index"]] if node.op.name == "get" else value
            target(arguments)[...] = part
        return 0


class _DeviceBuilder(Builder):
    """Builds one frame of a device."""

    host_call = _HostCall
    columns = 1  # threads are many: neighbouring columns are neighbouring threads
    tiles = False

    def __init__(self, executable: DeviceExecutable, arrays: Sequence[Any], in_place: Any):
        super().__init__(executable, input_layouts(executable.graph, arrays), in_place)
        self.backend = executable.backend
        self.arena = _DeviceArena(self.backend)
        self.aligned = [
            not isinstance(a, DeviceArray) or a.address % _VECTOR_BYTES == 0 for a in arrays
        ]

    def kernel(
        self, program: LoopProgram, variant: Variant, operands: list[Operand], nest: Collapsed
    ) -> Kernel:
        width = 0
        if variant.shape == "map":
            width = vector_width(program, variant.classes)
        if width and not self._fits(operands, nest, width):
            width = 0
        exact = DeviceVariant(*variant, width)
        return self.executable.kernel(program, exact)  # type: ignore[arg-type]

    def _fits(self, operands: Sequence[Operand], nest: Collapsed, width: int) -> bool:
        """Whether every vector of a row is one of every operand that is read densely."""
        if len(nest.sizes) > 1 and nest.sizes[-1] % width:
            return False
        dense = [k for k, strides in enumerate(nest.strides) if strides[-1] == 1]
        rows_fit = not any(s % width for k in dense for s in nest.strides[k][:-1])
        return rows_fit and all(self._is_aligned(operands[k], width) for k in dense)

    def _is_aligned(self, operand: Operand, width: int) -> bool:
        """Whether the operand's first element begins a vector."""
        if operand.buffer.kind == "index":
            return True
        size = operand.dtype.itemsize
        if operand.layout.offset * size % (size * width):
            return False
        if operand.buffer.kind != "argument" or operand.buffer.index >= len(self.aligned):
            return True
        return self.aligned[operand.buffer.index]

    def table_launch(
        self, name: str, source: str, words: Sequence[Any], units: int, grain: int
    ) -> None:
        launch = DeviceTableLaunch(self.backend, name, source, words, units)
        self.pending.append(launch)  # type: ignore[arg-type]

    def condition(self, operand: Operand, number: int) -> AnyLaunch:
        message = self.graph.checks[number][1]
        return Condition(operand, message)  # type: ignore[return-value]

    def held(self, array: np.ndarray[Any, Any]) -> Any:
        return from_host(array, self.backend.device)

    def bundled(
        self, item: list[AnyLaunch], foreign: set[int], uses: dict[int, int]
    ) -> list[AnyLaunch]:
        if "bundle" in pipeline.disabled_passes():
            return item
        return bundled(item, foreign, bundles_of, may_bundle)  # type: ignore[arg-type]

    def place_values(self) -> None:
        """The device's products store row by row."""

    def host_step(self, step: HostStep) -> None:
        if not plan_on_device(self, step):
            super().host_step(step)

    def product(self, node: Node) -> bool:
        if node.op.name != "matmul" or node.dtype.kind != "f":
            return False
        a, b = (self._factor(self.operand(*base_and_views(x))) for x in node.inputs)
        place = self.new_value(node)
        shape = place.layout.shape
        dense = place.layout.strides == contiguous_strides(shape)
        target = place if dense else self.temporary(shape, place.dtype)
        self.pending.append(Product([a, b, target]))  # type: ignore[arg-type]
        if not dense:
            self.copy(target, place)
        return True

    def _factor(self, operand: Operand) -> Operand:
        """An operand, or a copy where cuBLAS could not read it as it lies."""
        layout = operand.layout
        found = matrix_of(*layout.shape[-2:], *layout.strides[-2:])
        return self.copied(operand) if found is None else operand

    def segment(self, item: Any) -> Any:
        if isinstance(item, HostCall):
            item.prepare()
            return item
        return [work_of(x, self.backend) for x in item]

    def rewritten(self) -> set[int]:
        """The positions of arguments that the frame writes."""
        count = len(self.graph.inputs)
        targets = [*self.in_place.values(), *(target for target, _ in self.graph.effects)]
        written = {self.places[id(n)].buffer.index for n in targets}
        return written | set(range(count, count + len(self.output_specs)))

    def overlaps(self) -> Callable[[Sequence[Any]], bool]:
        """Whether arrays of a call overlap one that is written in place."""
        targets = {id(target) for target in self.in_place.values()}
        arrays = [
            (self.places[id(n)].buffer.index, span(self.places[id(n)]), id(n) in targets)
            for n in self.graph.inputs
            if id(n) in self.places
        ]
        if not targets:
            return lambda arguments: False

        def check(arguments: Sequence[Any]) -> bool:
            spans = [(arguments[i].address, low, high, own) for i, (low, high), own in arrays]
            return any(
                own and i != j and a + low < b + other_high and b + other_low < a + high
                for i, (a, low, high, own) in enumerate(spans)
                for j, (b, other_low, other_high, _) in enumerate(spans)
            )

        return check


class DeviceFrame(Frame):
    """One instantiated plan on a device. ``frame.call(arrays)`` asks for its work."""

    def __init__(self, executable: DeviceExecutable, arrays: Sequence[Any], in_place: bool = True):
        builder = _DeviceBuilder(executable, arrays, executable.in_place if in_place else {})
        builder.build()
        builder.arena.reserve()
        self.segments = [builder.segment(item) for item in builder.items]
        self.outputs = builder.output_specs
        backend = self.backend = executable.backend
        self.queue = backend.queue
        self.replayer = Replayer(backend, self.segments, len(arrays), builder.rewritten())
        self.makers: list[Any] = [(maker(dtype, backend), shape) for shape, dtype in self.outputs]
        self.messages = [message for _, message in executable.graph.checks]
        self.arena_bytes = builder.arena.nbytes
        self.launches = builder.launches
        self.executable = executable
        self.straight = None
        self.overlaps = builder.overlaps()
        self.aligned = [
            i for i, array in enumerate(arrays)
            if isinstance(array, DeviceArray) and array.address % _VECTOR_BYTES == 0
        ]  # fmt: skip
        self.keep = builder.arena

    def call(self, arrays: Sequence[Any]) -> list[Any]:
        """Run on arrays of the shapes, strides and alignment that the frame was built for."""
        for i in self.aligned:
            if arrays[i].address % _VECTOR_BYTES:
                return self.executable.run(arrays)
        if self.overlaps(arrays):
            return self.executable.run_apart(arrays)
        if self.backend.queue != self.queue:  # its temporaries are in use in another order
            return self.executable.run(arrays)
        results = [make(shape) for make, shape in self.makers]
        arguments = (*arrays, *results)
        if not self.replayer.run(arguments):
            self._launch(arguments)
        return results

    def _launch(self, arguments: tuple[Any, ...]) -> None:
        backend = self.backend
        for segment in self.segments:
            if isinstance(segment, list):
                for work in segment:
                    work.run(backend, arguments)
            else:
                segment(arguments)


class DeviceExecutable(Executable):
    """A graph ready to run on a device; `graph` itself names no device."""

    def __init__(self, graph: Graph, backend: Backend):
        self.backend = backend
        self.newest: Replayer | None = None
        super().__init__(decompose.for_devices(without_device(graph)))

    def kernel(self, program: LoopProgram, variant: Any) -> Any:
        key = (id(program), variant)
        found = self._kernels.get(key)
        if found is None:
            made: Any = DeviceKernel(program, variant, self.backend)
            found = self._kernels[key] = made
        return found

    def frame(self, arguments: Sequence[Any], in_place: bool) -> Frame:
        made = DeviceFrame(self, arguments, in_place)
        self.newest = made.replayer
        return made

    def on_device(self) -> list[str]:
        """How the frame made last launches its work, and which ops travel to the host."""
        lines = [f"{self.backend.device}: not run yet"]
        if self.newest is not None:
            lines = [f"{self.backend.device}: {self.newest.describe()}"]
            lines += [f"{name} goes through the host" for name in self.newest.on_host]
        return lines

    def _accept(self, arrays: Sequence[Any]) -> tuple[list[Any], tuple[Any, ...]]:
        arguments = list(arrays)
        if len(arguments) != len(self.graph.inputs):
            count = len(self.graph.inputs)
            raise TypeError(f"{self.graph.name} takes {count} inputs, got {len(arguments)}")
        for i, dtype in self._scalars:
            number = np.asarray(arguments[i]).astype(dtype.numpy)
            arguments[i] = float(number) if dtype.kind == "f" else int(number)
        key: list[Any] = [self.backend.queue]
        for i, expected in self._arrays:
            array = arguments[i]
            if not isinstance(array, DeviceArray):
                array = arguments[i] = self._placed(i, array)
            elif array.backend is not self.backend:
                raise DeviceError(
                    f"{self.graph.name}: tensors on {array.where} and {self.backend.device}"
                )
            if array.dtype != expected:
                node = self.graph.inputs[i]
                raise DTypeError(f"{node.params['name']}: expected {node.type}, got {array.dtype}")
            key += (array.shape, array.strides, array.address % _VECTOR_BYTES == 0)
        return arguments, tuple(key)

    def _placed(self, index: int, value: Any) -> DeviceArray:
        """A number of the host (a 0-d array) on the device; larger arrays are refused."""
        array = np.asarray(value)
        if array.ndim:
            raise DeviceError(
                f"{self.graph.name}: tensors on cpu and {self.backend.device}; move one with .to()"
            )
        return from_host(array, self.backend.device)


# --- graphs and devices --------------------------------------------------------------------------


def without_device(graph: Graph) -> Graph:
    """The same computation with types that name no device."""
    new: dict[int, Node] = {}
    for node in (*graph.inputs, *graph.nodes()):
        inputs = tuple(new[id(x)] for x in node.inputs)
        params = {k: placed(v, CPU) for k, v in node.params.items()}
        new[id(node)] = Node(node.op, inputs, params, placed(node.type, CPU), node.loc)
    return Graph(
        graph.name,
        tuple(new[id(n)] for n in graph.inputs),
        tuple(new[id(n)] for n in graph.outputs),
        tuple((new[id(t)], new[id(v)]) for t, v in graph.effects),
        tuple((new[id(c)], message) for c, message in graph.checks),
    )
