"""Hooks on a module's backward pass, built from tensor hooks on its inputs and outputs.

Invariant: a module's hooks run once the gradients of all its inputs that the pass reaches are
known; outputs and inputs without gradient are None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tracejit.eager.tape import node_of
from tracejit.ir.node import Node
from tracejit.ir.types import TupleType
from tracejit.tensor import Tensor


def _needs_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value._requires_grad


class BackwardWatch:
    """Watches the gradients of one call of a module."""

    def __init__(self, module: Any):
        self.module = module
        self.input_nodes: dict[int, int] = {}  # id of an input's node -> its position
        self.kept: list[Node] = []  # keeps those ids valid
        self.output_nodes: dict[int, Node] = {}
        self.input_count = self.output_count = 0
        self._clear()

    def _clear(self) -> None:
        self.grad_output: dict[int, Any] = {}
        self.grad_input: dict[int, Any] = {}

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, those that need gradients as fresh views that are watched."""
        fresh = list(args)
        for i, x in enumerate(args):
            if _needs_grad(x):
                view = x.view_as(x)
                if _needs_grad(view):
                    view.register_hook(self._on_input(i))
                    node = node_of(view)
                    self.input_nodes[id(node)] = i
                    self.kept.append(node)
                    fresh[i] = view
        self.input_count = len(args)
        return tuple(fresh)

    def leave(self, output: Any) -> Any:
        """The output, its gradients watched."""
        several = isinstance(output, (tuple, list))
        items = list(output) if several else [output]
        for i, y in enumerate(items):
            if _needs_grad(y):
                items[i] = view = y.view_as(y)
                if _needs_grad(view):
                    view.register_hook(self._on_output(i))
                    self.output_nodes[i] = node_of(view)
        self.output_count = len(items)
        if not several:
            return items[0]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)

    def _on_output(self, i: int) -> Callable[[Tensor], Any]:
        def hook(g: Tensor) -> Any:
            self.grad_output[i] = g
            if len(self.grad_output) < len(self.output_nodes):
                return None
            return self._all_outputs(i)

        return hook

    def _all_outputs(self, last: int) -> Any:
        """Every output's gradient is known: the pre-hooks may replace them."""
        replaced = None
        for hook in list(self.module._backward_pre_hooks.values()):
            result = hook(self.module, self._tuple(self.grad_output, self.output_count))
            if result is not None:
                given = result if isinstance(result, tuple) else (result,)
                self.grad_output = {i: g for i, g in enumerate(given) if g is not None}
                replaced = self.grad_output.get(last)
        if not self.input_nodes:
            self._run(None)
        return replaced

    def _on_input(self, i: int) -> Callable[[Tensor], Any]:
        def hook(g: Tensor) -> Any:
            self.grad_input[i] = g
            starts = [self.output_nodes[k] for k in self.grad_output if k in self.output_nodes]
            due = _reached(starts, self.input_nodes)
            return self._run(i) if due <= self.grad_input.keys() else None

        return hook

    def _run(self, last: int | None) -> Any:
        grads = self._tuple(self.grad_input, self.input_count)
        outputs = self._tuple(self.grad_output, self.output_count)
        for hook in list(self.module._backward_hooks.values()):
            result = hook(self.module, grads, outputs)
            if result is not None:
                grads = result if isinstance(result, tuple) else (result,)
        self._clear()
        return None if last is None else grads[last]

    @staticmethod
    def _tuple(held: dict[int, Any], count: int) -> tuple[Any, ...]:
        return tuple(held.get(i) for i in range(count))


def _reached(starts: Iterable[Node], goals: dict[int, int]) -> set[int]:
    """Positions of the inputs from which a gradient path leads to one of the nodes `starts`."""
    found: set[int] = set()
    seen: set[int] = set()
    stack = list(starts)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in goals:
            found.add(goals[id(node)])
        elif node.op.name != "detach" and (
            isinstance(node.type, TupleType) or node.type.dtype.kind == "f"
        ):
            stack.extend(node.inputs)
    return found
