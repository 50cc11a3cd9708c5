"""What a kernel computes, free of targets: values over a loop nest, from a plan's kernel step.

A value is a load, a constant, a table word, an op or a reduction at the loop's present point.
Movement ops are gone: they are the views through which a load looks at stored memory.
Invariant: a program holds no size, stride or address, so one program serves every shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tracejit.codegen.scalars import literal
from tracejit.dtypes import DType, float16, int64
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.plan import KernelStep
from tracejit.ir.sizes import is_one, size_key
from tracejit.transforms.groups import is_reduction, reduction_lift
from tracejit.transforms.views import AxisMap, base_and_views

SAVE_COST = 8  # additions from which a value is kept for a later loop rather than recomputed


_STEMS = {"load": "x", "iota": "index", "word": "scalar", "const": "c", "step": "step"}


@dataclass(eq=False)
class Value:
    """One value of the loop body.

    kind   'load', 'iota', 'gather' (these have `views`), 'const', 'word', 'step' (a word: the
           stride of a gather's axis), 'op', 'random' or 'reduce'.
    node   the node it stands for; the stored value of a load.
    args   values read.
    slot   number among the loads (and iotas), or among the words.
    loop   the first inner loop in which it can be computed.
    """

    kind: str
    node: Node
    dtype: DType
    args: tuple[Value, ...] = ()
    views: tuple[Node, ...] = ()
    slot: int = -1
    loop: int = 0
    number: int = -1

    @property
    def name(self) -> str:
        """Its name in kernel source."""
        op = self.node.op.name.replace("reduce_", "").rstrip("_")
        return f"{_STEMS.get(self.kind, op)}_{self.number}"


@dataclass(eq=False)
class Store:
    """A value written out: per 'element' of the domain, or once per 'row' (reductions, too)."""

    node: Node
    value: Value
    level: str
    lift: AxisMap | None = None


@dataclass(eq=False)
class LoopProgram:
    """A kernel's values in order; `loads` and `words` in the order of their slots."""

    step: KernelStep
    values: list[Value] = field(default_factory=list)
    loads: list[Value] = field(default_factory=list)
    words: list[Value] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)

    @property
    def reductions(self) -> list[Value]:
        """The reductions, in order."""
        return [v for v in self.values if v.kind == "reduce"]

    @property
    def mixed(self) -> bool:
        """Whether it computes with floats of several widths: float16 is one more than float32."""
        floats = {v.dtype for v in self.values if v.dtype.kind == "f"}
        return len(floats) > 1 or float16 in floats

    @property
    def loops(self) -> int:
        """How many inner loops a row takes."""
        last = [v.args[0].loop for v in self.reductions]
        last += [s.value.loop for s in self.stores if s.level == "element"]
        return max(last, default=-1) + 1


def is_scalar_input(node: Node) -> bool:
    """Whether the node is a number in the table rather than an array in memory."""
    return node.op.name == "size" or (
        node.op.name == "input" and node.params.get("role") == "scalar"
    )


def row_store_lift(step: KernelStep, shape: Sequence[Any]) -> AxisMap:
    """The axis of a per-row value along each axis of the domain."""
    labels = iter([i for i, n in enumerate(shape) if not is_one(n)])
    outer = step.domain[: step.axes[0]]
    lift = [None if is_one(n) else next(labels) for n in outer]
    return (*lift, *(None for _ in step.domain[len(outer) :]))


class Builder:
    """Expands the stored nodes of a step into values."""

    def __init__(self, step: KernelStep):
        self.step = step
        self.program = LoopProgram(step)
        self.body = {id(n) for n in step.body}
        self.roots = {id(n) for n in step.stores}
        self.memo: dict[tuple[int, ...], Value] = {}
        self.constants: dict[str, Value] = {}
        self.keep: list[Node] = []  # nodes made here: their ids are keys

    def build(self) -> LoopProgram:
        """The program of the step."""
        domain = [size_key(n) for n in self.step.domain]
        for node in self.step.body:
            same = [size_key(n) for n in node.shape] == domain
            if same and not is_reduction(node) and id(node) not in self.roots:
                self.compute(node, ())  # in order, so that no expansion runs deep
        for node in self.step.stores:
            self.program.stores.append(self.store(node, domain))
        self.prune()
        return self.program

    def store(self, node: Node, domain: list[Any]) -> Store:
        """How one stored node is computed and written."""
        if is_reduction(node):
            return Store(node, self.compute(node, ()), "row", reduction_lift(node))
        if [size_key(n) for n in node.shape] == domain:
            return Store(node, self.root(node, ()), "element")
        lift = row_store_lift(self.step, node.shape)
        sizes = tuple(1 if a is None else node.shape[a] for a in lift)
        spread = OPS["broadcast_to"](OPS["reshape"](node, shape=sizes), shape=self.step.domain)
        self.keep.append(spread)
        return Store(node, self.root(node, (spread.inputs[0], spread)), "row", lift)

    def root(self, node: Node, views: tuple[Node, ...]) -> Value:
        """A stored node; one that is a view itself is a copy of what it shows."""
        if base_and_views(node)[1]:
            return self.expand(node.inputs[0], (node, *views))
        return self.compute(node, views)

    def expand(self, node: Node, views: tuple[Node, ...]) -> Value:
        """The value of `node` seen through `views`, whose last shape is the domain."""
        base, own = base_and_views(node)
        return self.compute(base, (*own, *views))

    def compute(self, node: Node, views: tuple[Node, ...]) -> Value:
        key = (id(node),) if is_reduction(node) and id(node) in self.body else (
            id(node), *map(id, views)
        )  # fmt: skip
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.make(node, views)
        return found

    def make(self, node: Node, views: tuple[Node, ...]) -> Value:
        """A new value for `node`."""
        if node.op.name == "full":
            return self.constant(node)
        if node.op.name == "iota":
            return self.add_load(Value("iota", node, node.dtype, views=views))
        if is_scalar_input(node):
            value = Value("word", node, node.dtype, slot=len(self.program.words))
            self.program.words.append(value)
            return self.add(value)
        if id(node) not in self.body:
            return self.add_load(Value("load", node, node.dtype, views=views))
        if is_reduction(node):
            arg = self.expand(node.inputs[0], ())
            return self.add(Value("reduce", node, node.dtype, (arg,), loop=arg.loop + 1))
        if node.op.name == "gather":
            return self.gather(node, views)
        if node.op.kind == "random":
            args = tuple(self.expand(self.spread(x), ()) for x in node.inputs)
            return self.add(Value("random", node, node.dtype, args, loop=_latest(args)))
        args = tuple(self.expand(x, views) for x in node.inputs)
        return self.add(Value("op", node, node.dtype, args, loop=_latest(args)))

    def constant(self, node: Node) -> Value:
        """A constant; equal ones are one value, whatever their shapes."""
        text = literal(node.params["value"], node.dtype)
        found = self.constants.get(text)
        if found is None or found.dtype is not node.dtype:
            found = self.constants[text] = self.add(Value("const", node, node.dtype))
        return found

    def gather(self, node: Node, views: tuple[Node, ...]) -> Value:
        """An element of stored memory at a computed place along one axis."""
        index = self.expand(node.inputs[1], views)
        step = Value("step", node, int64, slot=len(self.program.words))
        self.program.words.append(step)
        self.add(step)
        args = (index, step)
        return self.add_load(Value("gather", node, node.dtype, args, views, loop=index.loop))

    def spread(self, node: Node) -> Node:
        """A 0-d value over the whole domain."""
        spread = OPS["broadcast_to"](node, shape=self.step.domain)
        self.keep.append(spread)
        return spread

    def add(self, value: Value) -> Value:
        self.program.values.append(value)
        return value

    def add_load(self, value: Value) -> Value:
        self.program.loads.append(value)
        return self.add(value)

    def prune(self) -> None:
        """Drop values that no store needs, and number the rest."""
        program = self.program
        used: set[int] = set()
        stack = [s.value for s in program.stores]
        while stack:
            value = stack.pop()
            if id(value) not in used:
                used.add(id(value))
                stack.extend(value.args)
        program.values = [v for v in program.values if id(v) in used]
        program.loads = [v for v in program.loads if id(v) in used]
        program.words = [v for v in program.words if id(v) in used]
        for number, value in enumerate(program.values):
            value.number = number
        for group in (program.loads, program.words):
            for slot, value in enumerate(group):
                value.slot = slot


def _latest(args: Sequence[Value]) -> int:
    return max((a.loop for a in args), default=0)


def build_program(step: KernelStep) -> LoopProgram:
    """The loop program of a kernel step."""
    return Builder(step).build()
