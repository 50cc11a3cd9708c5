"""Runs a graph on NumPy, one op at a time: the reference meaning of the IR.

Invariant: reads only `op.numpy`; nothing of the compiler takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.sizes import SymInt, hint_of
from tracejit.ir.types import TensorType


def interpret(graph: Graph, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays of `graph.results` (outputs, then effect values) for the given inputs."""
    if len(arguments) != len(graph.inputs):
        raise TypeError(f"graph {graph.name} takes {len(graph.inputs)} inputs")
    values: dict[int, Any] = {id(n): np.asarray(a) for n, a in zip(graph.inputs, arguments)}
    for node in graph.nodes():
        values[id(node)] = evaluate_node(node, [values[id(x)] for x in node.inputs])
    return [values[id(n)] for n in graph.results]


def evaluate_node(node: Node, arrays: Sequence[Any]) -> Any:
    """One op on NumPy arrays, its result in the dtype of the node's type."""
    with np.errstate(all="ignore"):
        result = node.op.numpy(*arrays, **concrete_params(node.params))
    if isinstance(node.type, TensorType):
        return np.asarray(result, node.type.dtype.numpy)
    return tuple(np.asarray(r, t.dtype.numpy) for r, t in zip(result, node.type.items, strict=True))


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
