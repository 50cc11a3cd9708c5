"""Runs a graph on NumPy, one op at a time: the reference meaning of the IR.

Invariant: reads only `op.numpy`; nothing of the compiler takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.sizes import SymInt, evaluate, hint_of, symbol_name
from tracejit.ir.types import TensorType, TupleType


def interpret(graph: Graph, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays of `graph.results` (outputs, then effect values) for the given inputs.

    Sizes that vary are read off the inputs' shapes; one that no input has keeps its hint.
    """
    if len(arguments) != len(graph.inputs):
        raise TypeError(f"graph {graph.name} takes {len(graph.inputs)} inputs")
    values: dict[int, Any] = {id(n): np.asarray(a) for n, a in zip(graph.inputs, arguments)}
    sizes = sizes_met(graph)
    for node in graph.inputs if sizes else ():
        for size, actual in zip(node.shape, values[id(node)].shape, strict=True):
            name = symbol_name(size)
            if name is not None:
                sizes[name] = actual
    for node in graph.nodes():
        values[id(node)] = evaluate_node(node, [values[id(x)] for x in node.inputs], sizes)
    return [values[id(n)] for n in graph.results]


def sizes_met(graph: Graph) -> dict[str, int]:
    """The symbols of the graph's sizes with values that they had in one run."""
    envs: dict[int, Any] = {}
    for node in (*graph.inputs, *graph.nodes()):
        kinds = node.type.items if isinstance(node.type, TupleType) else (node.type,)
        for size in (size for kind in kinds for size in kind.shape):
            if type(size) is SymInt:
                envs[id(size.env)] = size.env
    sizes: dict[str, int] = {}
    for env in envs.values():  # paths of several captures meet in a graph; the first one's count
        sizes = {**env.hints, **sizes}
    return sizes


def evaluate_node(node: Node, arrays: Sequence[Any], sizes: dict[str, int] | None = None) -> Any:
    """One op on NumPy arrays, its result in the dtype of the node's type."""
    if sizes:
        params = {k: at_sizes(v, sizes) for k, v in node.params.items()}
    else:
        params = concrete_params(node.params)
    with np.errstate(all="ignore"):
        result = node.op.numpy(*arrays, **params)
    if isinstance(node.type, TensorType):
        return np.asarray(result, node.type.dtype.numpy)
    return tuple(np.asarray(r, t.dtype.numpy) for r, t in zip(result, node.type.items, strict=True))


def at_sizes(value: Any, sizes: dict[str, int]) -> Any:
    """A parameter of a node with a call's own numbers for the sizes that vary."""
    if type(value) is SymInt:
        return evaluate(value, sizes)
    if isinstance(value, TensorType):
        return value.with_shape(at_sizes(value.shape, sizes))
    return tuple(at_sizes(v, sizes) for v in value) if type(value) is tuple else value


def concrete_params(params: dict[str, Any]) -> dict[str, Any]:
    """`params` with every symbolic size replaced by the value it had."""
    return {k: _concrete(v) for k, v in params.items()} if params else params


def _concrete(value: Any) -> Any:
    kind = type(value)
    if kind is SymInt:
        return hint_of(value)
    if kind is tuple:
        return tuple([n if type(n) is int else _concrete(n) for n in value])
    if isinstance(value, tuple):
        return tuple(map(_concrete, value))
    if isinstance(value, TensorType):
        return value.with_shape(_concrete(value.shape))
    return value
