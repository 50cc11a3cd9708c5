"""Gradients: a transformation of the graph that adds nodes and removes none.

One walk serves eager ``.backward()``, compiled training steps and gradients of any order, because
the gradient of a graph is again a graph. Invariant: a node's cotangent is complete before its
rule runs (reverse topological order).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.errors import DTypeError, TracejitError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS, UNKNOWN
from tracejit.ir.types import TensorType, TupleType
from tracejit.ops.movement import zeros

Cotangent = Any  # a Node, or a dict from result index to Node for ops with several results


class Cotangents(tuple[Node, ...]):
    """The gradients of all results of a node: zeros for those that none has reached.

    `given` holds the positions of the others.
    """

    given: frozenset[int]

    def __new__(cls, found: dict[int, Node], kinds: TupleType) -> Cotangents:
        items = (found[i] if i in found else zeros(t) for i, t in enumerate(kinds.items))
        made = super().__new__(cls, items)
        made.given = frozenset(found)
        return made


def backpropagate(
    outputs: Sequence[Node],
    cotangents: Sequence[Node],
    wrt: Sequence[Node],
    on_gradient: Callable[[Node, Node], Node] | None = None,
    call_rule: Callable[[Node, Any], Sequence[Node | None]] | None = None,
    order: Sequence[Node] | None = None,
    reach: dict[Node, int] | None = None,
) -> list[Node | None]:
    """The gradients with respect to `wrt`, given the `cotangents` of `outputs`.

    on_gradient(node, g)  is asked at every node on the way and may replace g (tensor hooks).
    call_rule(node, g)    runs the rule of ops whose gradient is code, not a graph (kind
                          ``structure`` with ``vjp`` given by the user).
    order                 ``topological(outputs)``, for callers that have it.
    reach                 is filled in: per node the bits of the outputs whose gradients arrive.
    None stands for "does not depend on it".
    """
    if order is None:
        order = topological(outputs)
    active = depends_on(order, wrt)
    pending: dict[Node, Cotangent] = {}
    for i, (output, g) in enumerate(zip(outputs, cotangents, strict=True)):
        if output in active:
            _accumulate(pending, output, g)
            if reach is not None:
                reach[output] = reach.get(output, 0) | 1 << i
    kept = set(wrt)
    found: dict[Node, Node] = {}
    for node in reversed(order):
        if node not in pending:
            continue
        g = pending.pop(node)
        if on_gradient is not None and isinstance(g, Node):
            g = on_gradient(node, g)
        if node in kept:
            found[node] = g
        if node.inputs and node in active:
            _apply_rule(node, g, active, pending, call_rule, reach)
    return [found.get(n) for n in wrt]


def depends_on(order: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes through which a gradient reaches one of `wrt`."""
    active = set(wrt)
    for node in order:
        for x in node.inputs:
            if x in active:
                if _passes(node):
                    active.add(node)
                break
    return active


def on_way(output: Node, wrt: Sequence[Node]) -> set[Node]:
    """The nodes that a gradient of `output` passes on its way to `wrt`, both ends included."""
    active = depends_on(topological([output]), wrt)
    found: set[Node] = set()
    stack = [output]
    while stack:
        node = stack.pop()
        if node in active and node not in found:
            found.add(node)
            if _passes(node):  # a leaf that was written to is a detached value
                stack.extend(node.inputs)
    return found


def _passes(node: Node) -> bool:
    """Whether a gradient goes through the node at all."""
    if node.op.name == "detach":
        return False
    return isinstance(node.type, TupleType) or node.type.dtype.kind == "f"


def _apply_rule(
    node: Node,
    g: Cotangent,
    active: set[Node],
    pending: dict[Node, Cotangent],
    call_rule: Callable[[Node, Any], Sequence[Node | None]] | None,
    reach: dict[Node, int] | None,
) -> None:
    if active.isdisjoint(node.inputs):
        return
    if node.op.name == "get":
        held = pending.setdefault(node.inputs[0], {})
        index = node.params["index"]
        held[index] = held[index] + g if index in held else g
        if reach is not None:
            reach[node.inputs[0]] = reach.get(node.inputs[0], 0) | reach[node]
        return
    if isinstance(g, dict):
        g = Cotangents(g, node.type)
    if call_rule is not None and node.op.name == "call":
        parts = call_rule(node, g)
    else:
        parts = apply_vjp(node, g)
    for i, (value, part) in enumerate(zip(node.inputs, parts, strict=True)):
        if part is None or value not in active:
            continue
        if part is UNKNOWN:
            raise NotImplementedError(_unknown(node, i))
        _accumulate(pending, value, part)
        if reach is not None:
            reach[value] = reach.get(value, 0) | reach[node]


def _unknown(node: Node, position: int) -> str:
    place = "" if node.loc is None else f"\n  at {node.loc.full()}"
    name = node.op.names[position]
    return f"the derivative of {node.op.name} by its input {name} is not known{place}"


def apply_vjp(node: Node, g: Any) -> Sequence[Node | None]:
    """The gradient rule of one node; the new nodes carry the node's line."""
    if node.op.vjp is None:
        return [None] * len(node.inputs)
    parts = node.op.vjp(g, node, *node.inputs, **node.params)
    if node.loc is not None:
        known = {node, *node.inputs}
        stack = [p for p in parts if isinstance(p, Node)]
        while stack:
            new = stack.pop()
            if new.loc is None and new not in known and new.op.name != "input":
                new.loc = node.loc
                known.add(new)
                stack.extend(new.inputs)
    return tuple(parts)


def _accumulate(pending: dict[Node, Cotangent], node: Node, g: Node) -> None:
    if g.type.shape != node.type.shape:
        raise TracejitError(f"gradient of {node.op.name} has type {g.type}, expected {node.type}")
    held = pending.get(node)
    pending[node] = g if held is None else held + g


def grad(graph: Graph, wrt: Sequence[int] | None = None) -> Graph:
    """The graph of the gradients of `graph`'s one scalar output.

    `wrt` are positions of inputs (default: all floating ones). The new graph has the same inputs
    and gives the gradients in that order, zeros where the output does not depend on an input.
    """
    if len(graph.outputs) != 1 or graph.outputs[0].shape != ():
        raise DTypeError(f"grad needs one scalar output; {graph.name} gives "
                         f"{', '.join(str(n.type) for n in graph.outputs)}")  # fmt: skip
    output = graph.outputs[0]
    positions = wrt if wrt is not None else [
        i for i, n in enumerate(graph.inputs) if n.dtype.kind == "f"
    ]  # fmt: skip
    one = OPS["full"](value=1.0, type=output.type)
    nodes = [graph.inputs[i] for i in positions]
    gradients = backpropagate([output], [one], nodes)
    results = [zeros(n.type) if g is None else g for n, g in zip(nodes, gradients, strict=True)]
    return Graph(f"{graph.name}_grad", graph.inputs, tuple(results))


def vjp_graph(graph: Graph, wrt: Sequence[int]) -> Graph:
    """The backward graph of `graph`: takes its inputs and a cotangent ``g0, g1, ...`` for each
    floating output, gives the gradients of the inputs at positions `wrt`."""
    seeds, outputs = [], []
    for i, node in enumerate(graph.outputs):
        if isinstance(node.type, TensorType) and node.dtype.kind == "f":
            seeds.append(OPS["input"](type=node.type, name=f"g{i}"))
            outputs.append(node)
    nodes = [graph.inputs[i] for i in wrt]
    gradients = backpropagate(outputs, seeds, nodes)
    results = [zeros(n.type) if g is None else g for n, g in zip(nodes, gradients, strict=True)]
    return Graph(f"{graph.name}_backward", (*graph.inputs, *seeds), tuple(results))
