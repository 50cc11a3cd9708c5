"""`build(graph) -> Executable`: passes, fusion, kernels and frames behind one object.

Invariant: an executable is made once per graph and then only gains frames and kernels; any number
of threads may run it at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from tracejit import config
from tracejit.codegen.compiler import CompiledKernel, compile_kernel
from tracejit.codegen.cpu import Variant
from tracejit.codegen.loops import LoopProgram, build_program, is_scalar_input
from tracejit.codegen.sources import annotated_source, written
from tracejit.dtypes import DType, float16
from tracejit.errors import CompileError, DTypeError, ShapeError, VerifyError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.ir.plan import KernelStep, Plan, verify_plan
from tracejit.ir.sizes import SymInt, all_sizes_alike
from tracejit.ir.types import TensorType
from tracejit.ops import control
from tracejit.runtime.frame import Blueprint, Frame, Leaves
from tracejit.runtime.placement import Readings
from tracejit.transforms import fuse, memory, pipeline

Array = np.ndarray[Any, Any]

# What a fault of the compiler itself may raise; errors of the user's own come out of tracing.
FAULTS = (
    AssertionError, ArithmeticError, AttributeError, LookupError, NotImplementedError, OSError,
    RecursionError, TypeError, ValueError, VerifyError,
)  # fmt: skip

MAX_FRAMES = 256  # shapes kept; beyond that the oldest goes
MAX_ARENA_BYTES = 1 << 28  # of all idle frames but the newest
MAX_REPLAYED_BYTES = 1 << 24  # the same where a record makes frames: pages in use are dearer then
MAX_BLUEPRINTS = 8  # recorded ways to build frames
MAX_RECORDS = 16  # tries to get one, some of which hold for one size only


@contextmanager
def as_compile_error(doing: str) -> Iterator[None]:
    """Turn a fault of the compiler into a CompileError, so that callers can fall back."""
    try:
        with all_sizes_alike():
            yield
    except (CompileError, DTypeError, ShapeError):
        raise  # the last two are about the arrays that were given
    except FAULTS as error:
        raise CompileError(f"{doing}: {type(error).__name__}: {error}") from error


class Kernel:
    """A compiled variant of a fused group.

    `name`, `shape` ('map', 'tile', 'row', 'column', 'full'), `nodes` (what it computes), `source`
    (with the user's lines), `llvm`, `asm`, `address`; `scratch` are the row values it needs room
    for.
    """

    def __init__(self, program: LoopProgram, variant: Variant, light: bool):
        step = program.step
        text, self.scratch = written(program, variant)
        self.compiled: CompiledKernel = compile_kernel(step.name, text, light)
        self.name = step.name
        self.shape = variant.shape
        self.nodes = tuple(step.body)
        self.variant = variant
        self.address = self.compiled.address
        self._program = program

    @property
    def step(self) -> KernelStep:
        """The fused group that it computes."""
        return self._program.step

    @property
    def source(self) -> str:
        return annotated_source(self._program, self.variant)

    @property
    def llvm(self) -> str:
        return self.compiled.llvm

    @property
    def asm(self) -> str:
        return self.compiled.asm

    def __repr__(self) -> str:
        return f"<{self.shape} kernel {self.name}: {len(self.nodes)} ops>"


def _input(name: str, dtype: DType, shape: tuple[int, ...]) -> Node:
    return OPS["input"](name=name, type=TensorType(dtype, shape))


class HelperPrograms:
    """Programs that frames add by themselves: copies, and passes over partial results."""

    def __init__(self) -> None:
        self.programs: dict[tuple[str, ...], LoopProgram] = {}

    def copy(self, dtype: DType, how: str = "copy") -> LoopProgram:
        """One load, one store; `how` is "copy", or "add_zero" (as a sum with zeros: no -0.0)."""
        key = (how, dtype.short)
        if key not in self.programs:
            x = _input("x", dtype, (2,))
            copy = OPS["reshape"](x, shape=(2,)) if how == "copy" else x + full_like(x, 0)
            step = KernelStep("copy", "map", (2,), (0, 0), [copy], [x], [copy])
            self.programs[key] = build_program(step)
        return self.programs[key]

    def accumulate(self, dtype: DType) -> LoopProgram:
        """Add an array to another in place."""
        key = ("accumulate", dtype.short)
        if key not in self.programs:
            total, x = _input("total", dtype, (2,)), _input("x", dtype, (2,))
            sum_ = total + x
            step = KernelStep("accumulate", "map", (2,), (0, 0), [sum_], [total, x], [sum_])
            self.programs[key] = build_program(step)
        return self.programs[key]

    def combine(self, op: str, dtype: DType, shape: str) -> LoopProgram:
        """The same reduction over partial results."""
        key = (op, dtype.short, shape)
        if key not in self.programs:
            domain = (2,) if shape == "full" else (2, 2, 2)
            axis = 0 if shape == "full" else 1
            x = _input("x", dtype, domain)
            total = OPS[op](x, axes=(axis,))
            name = f"{shape}_{op.removeprefix('reduce_')}_of_partial_results"
            step = KernelStep(name, shape, domain, (axis, axis + 1), [total], [x], [total])
            self.programs[key] = build_program(step)
        return self.programs[key]


_helpers = HelperPrograms()


class Executable:
    """A graph ready to run. See `build`."""

    def __init__(self, graph: Graph, light: bool = False):
        self.light = light
        stages: dict[str, Graph] = {}
        lowered = pipeline.run(graph, stages)
        self.stages: dict[str, Graph | Plan] = {**stages}
        self.plan: Plan = fuse.run(lowered)
        if config.check >= 1:
            verify_plan(self.plan)
        self.stages["plan"] = self.plan
        pipeline.show("plan", self.plan)
        self.why_not = self.plan.why_not
        self.graph = self.plan.graph
        at_end = self.plan.may_raise or "memory" in pipeline.disabled_passes()
        self.in_place = {} if at_end else memory.in_place(self.plan)
        self.readings = Readings(self.plan)
        self.has_epilogues = "epilogue" not in pipeline.disabled_passes()
        self._programs: dict[int, LoopProgram] = {}
        self._kernels: dict[tuple[int, Variant], Kernel] = {}
        self._frames: dict[Any, list[Frame]] = {}
        self._blueprints: dict[bool, list[Blueprint]] = {True: [], False: []}
        self._records_left = -1  # not known yet
        self._lock = threading.RLock()
        inputs = list(enumerate(self.graph.inputs))
        self._arrays = [(i, n.dtype.numpy) for i, n in inputs if not is_scalar_input(n)]
        self._scalars = [(i, n.dtype) for i, n in inputs if is_scalar_input(n)]

    # what frames ask for ---------------------------------------------------------------------

    def program_of(self, step: KernelStep) -> LoopProgram:
        """The loop program of a kernel step."""
        found = self._programs.get(id(step))
        if found is None:
            found = self._programs[id(step)] = build_program(step)
        return found

    def kernel(self, program: LoopProgram, variant: Variant) -> Kernel:
        """The compiled kernel of a variant."""
        key = (id(program), variant)
        found = self._kernels.get(key)
        if found is None:
            light = self.light or self._is_single(program)
            found = self._kernels[key] = Kernel(program, variant, light)
        return found

    def _is_single(self, program: LoopProgram) -> bool:
        """Whether the plan runs a kernel over a single element: nothing to vectorise."""
        step = program.step
        if self._programs.get(id(step)) is not program:
            return False  # a helper, whose domain says nothing
        return all(type(n) is int and n == 1 for n in step.domain)

    def copy_program(self, dtype: DType, how: str = "copy") -> LoopProgram:
        return _helpers.copy(dtype, how)

    def accumulate_program(self, dtype: DType) -> LoopProgram:
        return _helpers.accumulate(dtype)

    def combine_program(self, op: str, dtype: DType, shape: str) -> LoopProgram:
        return _helpers.combine(op, dtype, shape)

    # running -----------------------------------------------------------------------------------

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels compiled so far, in the order in which they were needed."""
        return list(self._kernels.values())

    def on_device(self) -> list[str]:
        """What a device makes of the program, for people; nothing on the CPU."""
        return []

    def run(self, arrays: Sequence[Any]) -> list[Array]:
        """The graph's outputs for these inputs; effects are written into the inputs.

        Outputs are fresh arrays. Scalar inputs are Python numbers. Raises CheckFailed if a check
        of the graph does not hold, before anything is written.
        """
        arguments, key = self._accept(arrays)
        frame = self._idle(key) or self._new_frame(key, arguments)
        try:
            return frame.call(arguments)
        finally:
            held = self._frames.get(key)
            if held is not None:
                held.append(frame)

    def run_apart(self, arguments: Sequence[Any]) -> list[Array]:
        """Run a call whose arrays overlap: effects are written when all is read."""
        key = ("apart", *self._accept(arguments)[1])
        frame = self._idle(key) or self._new_frame(key, arguments, False)
        try:
            return frame.call(arguments)
        finally:
            held = self._frames.get(key)
            if held is not None:
                held.append(frame)

    def own_frame(self, arrays: Sequence[Any]) -> Frame:
        """A frame for callers that check layouts themselves; it serves one call at a time.

        `frame.straight`, if a run is one native call, takes the inputs and fresh outputs (made by
        `frame.makers`); otherwise `frame.call(inputs)` gives the outputs.
        """
        arguments, key = self._accept(arrays)
        found = self._idle(key)
        if found is not None:
            return found
        with self._lock, as_compile_error(f"planning {self.graph.name}"):
            return self.frame(arguments, True)

    def frame(self, arguments: Sequence[Any], in_place: bool) -> Frame:
        """The plan made concrete for the layouts of these arguments.

        From the second frame on, if sizes vary, building is recorded, and further sizes replay it.
        """
        known = self._blueprints[in_place]
        for blueprint in known:
            made = blueprint.frame_for(arguments)
            if made is not None:
                return made
        if self._records_left > 0 and len(known) < MAX_BLUEPRINTS:
            self._records_left -= 1
            recorded = Blueprint(self, arguments, in_place, Leaves(self.graph, arguments))
            if recorded.is_native:
                if recorded.is_general:
                    known.append(recorded)
                return recorded.frame()
        built = Blueprint(self, arguments, in_place)
        if self._records_left < 0:
            varies = any(type(n) is SymInt for x in self.graph.inputs for n in x.shape)
            self._records_left = MAX_RECORDS if varies and built.is_native else 0
        return built.frame()

    def _idle(self, key: tuple[Any, ...]) -> Frame | None:
        """A frame for this key that no call uses, now the caller's."""
        try:
            return self._frames[key].pop()
        except (KeyError, IndexError):
            return None

    def prepare(self, arrays: Sequence[Any]) -> None:
        """Plan and compile for these layouts without running."""
        arguments, key = self._accept(arrays)
        if key not in self._frames:
            frame = self._new_frame(key, arguments)
            self._frames[key].append(frame)

    def _accept(self, arrays: Sequence[Any]) -> tuple[list[Any], tuple[Any, ...]]:
        """Exact arrays and exact numbers, and the key of their shapes and strides."""
        arguments = list(arrays)
        if len(arguments) != len(self.graph.inputs):
            count = len(self.graph.inputs)
            raise TypeError(f"{self.graph.name} takes {count} inputs, got {len(arguments)}")
        for i, dtype in self._scalars:
            number = arguments[i]
            if dtype is float16:
                number = np.float16(number)
            arguments[i] = float(number) if dtype.kind == "f" else int(number)
        key: list[Any] = []
        for i, expected in self._arrays:
            array = arguments[i]
            if type(array) is not np.ndarray or array.dtype is not expected:
                array = arguments[i] = self._convert(i, array, expected)
            key += (array.shape, array.strides)
        return arguments, tuple(key)

    def _convert(self, index: int, value: Any, expected: np.dtype[Any]) -> Array:
        """An argument that is no plain array as one; raises DTypeError where dtypes differ."""
        array = np.asarray(value)
        if array.dtype != expected:
            node = self.graph.inputs[index]
            raise DTypeError(f"{node.params['name']}: expected {node.type}, got {array.dtype}")
        return array

    def _new_frame(
        self, key: tuple[Any, ...], arrays: Sequence[Any], in_place: bool = True
    ) -> Frame:
        """Build a frame; compiling and planning are one thread's work at a time."""
        with self._lock:
            most = MAX_REPLAYED_BYTES if self._blueprints[in_place] else MAX_ARENA_BYTES
            while len(self._frames) >= MAX_FRAMES or self._idle_bytes() > most:
                del self._frames[next(iter(self._frames))]  # the new frame may get its memory
            with as_compile_error(f"planning {self.graph.name}"):
                frame = self.frame(arrays, in_place)
            self._frames.setdefault(key, [])
            return frame

    def _idle_bytes(self) -> int:
        """What the frames that no call uses hold in their arenas."""
        return sum(frame.arena_bytes for held in self._frames.values() for frame in held)


def build(graph: Graph, light: bool = False) -> Executable:
    """Compile a graph for the CPU; `light` where it will only see little data (see
    `compile_kernel`).

    Example: ``build(graph).run([x, w])`` gives the list of the graph's outputs as new arrays.
    Kernels are compiled when a layout first needs them, and never for a new size. Raises
    CompileError where that fails; the graph itself can still be interpreted.
    """
    with as_compile_error(f"compiling {graph.name}"):
        return Executable(graph, light)


@lru_cache(256)
def _loop_part(text: str) -> Executable:
    return build(control.graph_of(text))


control.RUN[0] = lambda text, arrays: _loop_part(text).run(list(arrays))
