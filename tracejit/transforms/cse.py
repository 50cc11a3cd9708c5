"""Common subexpressions: equal ops on equal inputs become one node.

Invariant: two nodes are merged only if op, inputs, every parameter (-0.0 is not 0.0, 1 is not 1.0)
and type are the same for all values of the symbols; the first one's line is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.ir.graph import Graph, rebuilt
from tracejit.ir.node import Node
from tracejit.ir.sizes import SymInt, size_key
from tracejit.ir.types import TensorType, TupleType


def value_key(value: Any) -> Any:
    """A hashable key of a parameter; equal keys mean the same value, bit for bit."""
    if type(value) is SymInt:
        return size_key(value)
    if isinstance(value, tuple):
        return tuple(map(value_key, value))
    if isinstance(value, (float, np.floating)):
        return (type(value).__name__, repr(float(value)))
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, (TensorType, TupleType)):
        return ("type", value.key())
    if isinstance(value, DType):
        return ("dtype", value.short)
    return (type(value).__name__, value)


def params_key(params: dict[str, Any]) -> tuple[Any, ...]:
    """`value_key` of all parameters, in the order of their names."""
    if not params:
        return ()
    return tuple((name, value_key(params[name])) for name in sorted(params))


def node_key(node: Node) -> tuple[Any, ...]:
    """Equal keys mean equal values, given that equal inputs are the same nodes."""
    inputs = tuple(id(x) for x in node.inputs)
    return (node.op.name, inputs, params_key(node.params), node.type.key())


def run(graph: Graph) -> Graph:
    """`graph` in which no two nodes are the same op on the same inputs."""
    new: dict[int, Node] = {id(n): n for n in graph.inputs}
    seen: dict[tuple[Any, ...], Node] = {}
    merged = 0
    for node in graph.nodes():
        kept = rebuilt(node, new)
        found = seen.setdefault(node_key(kept), kept)
        merged += found is not kept
        new[id(node)] = found
    notes = f"{merged} rewrites" + (" (merge_equal)" if merged else "")
    return graph.with_results([new[id(n)] for n in graph.results], notes)
