"""The intermediate representation: types, nodes, graphs, their text and their checks."""

from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import SizeEnv, SymInt
from tracejit.ir.types import CPU, Device, TensorType, TupleType

__all__ = [
    "CPU",
    "Device",
    "Graph",
    "Node",
    "OPS",
    "Op",
    "SizeEnv",
    "SymInt",
    "TensorType",
    "TupleType",
]
