"""A Plan: the ordered steps that compute a graph, over buffers, for every shape that it stands for.

A step is a kernel (a fused group with its loop shape) or a host step (a library call on arrays).
Invariant: every value that a step reads is a graph input or stored by an earlier step; nothing here
knows a concrete size, stride or address (a frame adds those).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tracejit.errors import VerifyError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.text import Namer, print_node

GIVEN = ("input", "constant", "size")  # values that no step computes
SHAPES = ("map", "row", "column", "full")

# Steps that a value cannot make impossible: their indices are checked before anything is written.
_SURE_KINDS = frozenset({"movement", "indexing", "contraction", "scan"})
_SURE = frozenset({"window_max", "window_sum", "window_put", "window_pick", "searchsorted"})


@dataclass(eq=False)
class KernelStep:
    """A fused group: one kernel.

    name     for people, from the ops.
    shape    one of SHAPES.
    domain   the sizes of the iteration space.
    axes     (first, last) of the run of reduced axes of the domain; (0, 0) for a map.
    body     nodes computed here, each after its inputs (recomputed ones included).
    reads    stored values that it loads.
    stores   nodes it stores.
    """

    name: str
    shape: str
    domain: tuple[Any, ...]
    axes: tuple[int, int]
    body: list[Node]
    reads: list[Node]
    stores: list[Node]


@dataclass(eq=False)
class HostStep:
    """A library call on arrays (GEMM, sort, scatter...): `node`, whose results are `stores`."""

    name: str
    node: Node
    reads: list[Node]
    stores: list[Node]


Step = KernelStep | HostStep


@dataclass(eq=False)
class Plan:
    """``Plan(graph, steps, why_not)``: the graph's results are inputs or stored by the steps."""

    graph: Graph
    steps: list[Step]
    why_not: list[str] = field(default_factory=list)
    notes: str = ""

    def __str__(self) -> str:
        return print_plan(self)

    @property
    def kernels(self) -> list[KernelStep]:
        """The steps that are kernels."""
        return [s for s in self.steps if isinstance(s, KernelStep)]

    @property
    def may_raise(self) -> bool:
        """Whether a step may find that it cannot be done for these values: a singular matrix."""
        hosts = [s.node.op for s in self.steps if isinstance(s, HostStep)]
        return any(op.kind not in _SURE_KINDS and op.name not in _SURE for op in hosts)


def verify_plan(plan: Plan) -> Plan:
    """`plan` itself; raises VerifyError if a step reads what is not stored yet."""
    known = {id(n) for n in (*plan.graph.inputs, *plan.graph.nodes()) if n.op.name in GIVEN}
    for step in plan.steps:
        for node in step.reads:
            if id(node) not in known:
                raise VerifyError(f"plan step {step.name} reads {node!r}, which is not stored yet")
        if isinstance(step, KernelStep) and step.shape not in SHAPES:
            raise VerifyError(f"plan step {step.name} has the unknown shape {step.shape!r}")
        for node in step.stores:
            if id(node) in known:
                raise VerifyError(f"plan step {step.name} stores {node!r} a second time")
        known.update(id(n) for n in step.stores)
    for node in plan.graph.results:
        if id(node) not in known:
            raise VerifyError(f"plan of {plan.graph.name}: nobody stores the result {node!r}")
    return plan


def _names(name: Namer, nodes: Iterable[Node]) -> str:
    return ", ".join(f"{name(n)}: {n.type}" for n in nodes)


def _given(roots: Iterable[Node], known: set[int]) -> list[Node]:
    """Constants and views on the way to `roots`, which cost nothing; they become known."""
    found: list[Node] = []
    for node in roots:
        if id(node) not in known and node.op.name != "input":
            known.add(id(node))
            found += [*_given(node.inputs, known), node]
    return found


def _print_line(node: Node, name: Namer) -> str:
    text, kind = print_node(node, name)
    place = f"  # {node.loc}" if node.loc is not None and node.op.name not in GIVEN else ""
    return f"       {text:48s} : {kind}{place}".rstrip()


def print_plan(plan: Plan) -> str:
    """The plan as text: one block per step, with the user's lines."""
    name = Namer()
    for node in plan.graph.inputs:
        name(node)
    lines = [f"# {plan.notes}"] if plan.notes else []
    lines.append(f"plan {plan.graph.name}({_names(name, plan.graph.inputs)}) {{")
    for number, step in enumerate(plan.steps):
        if isinstance(step, HostStep):
            given = _given(step.node.inputs, set(map(id, step.reads)))
            text, kind = print_node(step.node, name)
            lines.append(f"  {number}: call {text} : {kind}")
            lines += [_print_line(node, name) for node in given]
            continue
        sizes = ",".join(map(repr, step.domain))
        lines.append(f"  {number}: {step.shape} kernel {step.name} over [{sizes}]")
        lines.append(f"     reads  {_names(name, step.reads)}")
        known = set(map(id, step.reads))
        for node in step.body:
            lines += [_print_line(n, name) for n in _given(node.inputs, known)]
            lines.append(_print_line(node, name))
            known.add(id(node))
        lines.append(f"     stores {_names(name, step.stores)}")
    for target, value in plan.graph.effects:
        lines.append(f"  write {name(target)} <- {name(value)}")
    lines.append(f"  return {', '.join(name(n) for n in plan.graph.outputs)}".rstrip())
    lines.append("}")
    return "\n".join(lines)
