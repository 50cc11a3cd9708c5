"""Checks a graph: every node's type is what its type rule gives, and the DAG is well formed.

Invariant: the rules that are run are the very ones that built the graph.
"""

from __future__ import annotations

from tracejit.errors import VerifyError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.text import print_graph


def verify(graph: Graph) -> Graph:
    """`graph` itself; raises VerifyError that shows the lines around the fault."""
    known = {id(n) for n in graph.inputs}
    for node in graph.inputs:
        if node.op.name != "input":
            _fail(graph, node, f"an input must be made by op input, not {node.op.name}")
    names = [n.params["name"] for n in graph.inputs]
    if len(set(names)) != len(names):
        raise VerifyError(f"graph {graph.name}: two inputs have the same name: {names}")
    for node in topological(graph.results):
        if OPS.get(node.op.name) is not node.op:
            _fail(graph, node, f"op {node.op.name} is not registered")
        if node.op.name == "input":
            if id(node) not in known:
                _fail(graph, node, f"reads %{node.params['name']}, which is not among the inputs")
            continue
        _check_type(graph, node)
    for target, value in graph.effects:
        if id(target) not in known:
            _fail(graph, target, "an effect must write to an input")
        if target.type != value.type:
            _fail(graph, value, f"an effect writes {value.type} to an input of type {target.type}")
    for condition, message in graph.checks:
        if str(condition.type) != "b1[]":
            _fail(graph, condition, f"check {message!r} needs b1[], not {condition.type}")
    return graph


def _check_type(graph: Graph, node: Node) -> None:
    try:
        inferred = node.op.infer(tuple(x.type for x in node.inputs), **node.params)
    except (RuntimeError, TypeError, ValueError) as error:
        _fail(graph, node, f"the type rule refuses it: {error}")
    if inferred != node.type:
        _fail(graph, node, f"is typed {node.type}, but its rule gives {inferred}")


def _fail(graph: Graph, node: Node, message: str) -> None:
    place = f" ({node.loc.full()})" if node.loc is not None else ""
    text = print_graph(graph, mark=node, around=5)
    raise VerifyError(f"graph {graph.name}, {node.op.name}{place}: {message}\n{text}")
