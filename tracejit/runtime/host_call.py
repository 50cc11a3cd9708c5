"""Library steps that have no native form: NumPy on arrays, between two native segments.

Invariant: the result is copied into the place that the frame planned for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.errors import CheckFailed
from tracejit.ir.interpret import evaluate_node
from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep
from tracejit.runtime.gemm import matmul
from tracejit.runtime.launch import Operand

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder


class HostCall:
    """One node evaluated on arrays; a segment of its frame."""

    def __init__(self, builder: Builder, step: HostStep, arguments: list[Any], results: Any):
        self.node = builder.concrete(step.node)
        self.inputs = builder.graph.inputs
        self.arguments = arguments
        self.results: list[tuple[Node, Operand]] = results
        self.getters: list[Callable[[tuple[Any, ...]], Any]] = []
        self.targets: list[Callable[[tuple[Any, ...]], Any]] = []

    @property
    def operands(self) -> list[Operand]:
        held = [x for x in self.arguments if isinstance(x, Operand)]
        return held + [o for _, o in self.results]

    def prepare(self) -> None:
        """Arrays of the arena are made once; those of arguments at every call."""
        self.getters = [self.getter(x) for x in self.arguments]
        self.targets = [operand.getter() for _, operand in self.results]

    def getter(self, argument: Any) -> Callable[[tuple[Any, ...]], Any]:
        if isinstance(argument, Operand):
            return argument.getter()
        if isinstance(argument, tuple):
            node = argument[1]
            index = self.inputs.index(node)
            return lambda arguments: np.asarray(arguments[index], node.dtype.numpy)
        return lambda arguments: argument

    def __call__(self, arguments: tuple[Any, ...]) -> int:
        arrays = [get(arguments) for get in self.getters]
        if self.node.op.name == "matmul":
            matmul(arrays[0], arrays[1], self.targets[0](arguments))
            return 0
        try:
            value = evaluate_node(self.node, arrays)
        except (ArithmeticError, IndexError, RuntimeError, ValueError) as error:
            raise CheckFailed(f"{self.node.op.name}: {error}") from error
        for (node, _), target in zip(self.results, self.targets, strict=True):
            part = value[node.params["index"]] if node.op.name == "get" else value
            target(arguments)[...] = part
        return 0
