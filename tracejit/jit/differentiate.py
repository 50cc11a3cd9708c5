"""Gradients through a compiled call: one node on the tape whose rule is a compiled backward graph.

The forward program also gives what the backward needs and cannot cheaply work out again from the
inputs. Invariant: the backward graph is `backpropagate` of the captured graph, so that eager and
compiled gradients are one computation; under `create_graph` its nodes go on the tape themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.tape import FREED, Saved, autograd_node, changed_message, node_of, storage_of
from tracejit.errors import at_user_line
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.types import TupleType
from tracejit.jit.replay import Result
from tracejit.runtime.executable import build
from tracejit.tensor import Tensor
from tracejit.transforms.grad import backpropagate
from tracejit.transforms.partition import residuals


class Differentiable:
    """The gradient of one path: which inputs and outputs take part, and the backward program."""

    def __init__(
        self, inputs: Sequence[Node], wrt: Sequence[int], outputs: Sequence[Node],
        tracked: Sequence[int], written: Sequence[int], spent: bool,
    ):  # fmt: skip
        self.spent = spent  # backward has run inside the call: what it saved is freed
        self.wrt = list(wrt)  # positions among the path's inputs
        self.tracked = list(tracked)  # positions among the path's outputs
        self.inputs = list(inputs)
        self.outputs = [outputs[i] for i in tracked]
        self.seeds = [
            OPS["input"](type=n.type, name=f"g{i}") for i, n in enumerate(self.outputs)
        ]
        targets = [inputs[i] for i in wrt]
        found = [None] * len(targets) if spent else backpropagate(self.outputs, self.seeds, targets)
        self.live = [i for i, g in zip(wrt, found, strict=True) if g is not None]
        self.gradients = [g for g in found if g is not None]
        self.saved = residuals(self.gradients, self.inputs, self.outputs, self.seeds)
        self.mutated = set(written)
        self._program: Any = None
        self.graph = self._backward_graph()
        self.spent_node = OPS["call"](
            *targets, rule=self, result=TupleType(tuple(n.type for n in self.outputs))
        )
        self.spent_node.saved = FREED

    def _backward_graph(self) -> Graph:
        """Inputs: the path's inputs that are read, the residuals, the seeds."""
        known: dict[int, Node] = {id(n): n for n in (*self.inputs, *self.seeds)}
        for i, node in enumerate(self.saved):
            if id(node) not in known:
                known[id(node)] = OPS["input"](type=node.type, name=f"saved{i}")
        results = _rebuild(self.gradients, known)
        read = {id(n) for n in topological(results)}
        self.read_inputs = [i for i, n in enumerate(self.inputs) if id(n) in read]
        self.read_saved = [i for i, n in enumerate(self.saved) if id(known[id(n)]) in read]
        self.read_seeds = [i for i, n in enumerate(self.seeds) if id(n) in read]
        inputs = [self.inputs[i] for i in self.read_inputs]
        inputs += [known[id(self.saved[i])] for i in self.read_saved]
        inputs += [self.seeds[i] for i in self.read_seeds]
        return Graph("backward", tuple(inputs), tuple(results))

    @property
    def program(self) -> Any:
        if self._program is None:
            self._program = build(self.graph)
        return self._program

    def attach(
        self, tensors: Sequence[Any], outputs: Sequence[Any], leaves: Sequence[Any],
        results: Sequence[Result],
    ) -> None:  # fmt: skip
        """Put the call on the tape: its tracked results get the node's projections."""
        if self.spent:
            for leaf, result in zip(leaves, results, strict=True):
                if result.kind == "output" and result.index in self.tracked:
                    leaf._requires_grad = True
                    leaf._node = self.spent_node[self.tracked.index(result.index)]
            return
        if not self.live:
            return
        parents = tuple(_tape_node(tensors[i]) for i in self.live)
        kinds = TupleType(tuple(_concrete(o.type, outputs[i]) for o, i in
                                zip(self.outputs, self.tracked, strict=True)))  # fmt: skip
        call = OPS["call"](*parents, rule=self, result=kinds)
        first = len(outputs) - len(self.saved)
        versions = [self._version(i, t) for i, t in enumerate(tensors)]
        call.saved = Saved(
            (list(tensors), versions, list(outputs[first:])), None
        )  # fmt: skip
        for leaf, result in zip(leaves, results, strict=True):
            if result.kind == "output" and result.index in self.tracked:
                leaf._requires_grad = True
                leaf._node = call[self.tracked.index(result.index)]

    def _version(self, position: int, tensor: Any) -> int:
        """The version of an input when its value was read: before this call wrote to it."""
        if not isinstance(tensor, Tensor):
            return 0
        return storage_of(tensor).version - (position in self.mutated)  # type: ignore[no-any-return]

    def backward(self, walk: Any, node: Node, g: tuple[Node, ...]) -> list[Node | None]:
        """The rule: runs the backward program on what the call saved."""
        if node.saved is FREED or node.saved is None:
            raise RuntimeError(at_user_line(
                "backward through the same graph a second time: its saved values were freed; "
                "pass retain_graph=True to the first backward"))  # fmt: skip
        tensors, versions, saved = node.saved.array
        for i in self.read_inputs:
            if isinstance(tensors[i], Tensor) and storage_of(tensors[i]).version != versions[i]:
                stale = Saved(None, storage_of(tensors[i]))
                stale.version = versions[i]
                raise RuntimeError(at_user_line(changed_message(stale, "a compiled function")))
        if walk.create_graph:
            return self._on_tape(walk, tensors, g)
        arrays = [_array(tensors[i]) for i in self.read_inputs]
        arrays += [saved[i] for i in self.read_saved]
        arrays += [walk.evaluate(g[i]) for i in self.read_seeds]
        results = []
        for array, gradient in zip(self.program.run(arrays), self.gradients, strict=True):
            made = OPS["input"](type=_concrete(gradient.type, array), name="g")
            walk.evaluate.set(made, array)
            results.append(made)
        return results

    def _on_tape(self, walk: Any, tensors: Sequence[Any], g: tuple[Node, ...]) -> list[Node | None]:
        """Gradients of gradients: the backward graph itself, over the tape's nodes."""
        known: dict[int, Node] = {}
        for node, tensor in zip(self.inputs, tensors, strict=True):
            if isinstance(tensor, Tensor):
                known[id(node)] = walk.node(tensor)
            else:
                known[id(node)] = OPS["full"](value=tensor, type=node.type)
        for seed, value in zip(self.seeds, g, strict=True):
            known[id(seed)] = value
        return list(_rebuild(self.gradients, known))


def _tape_node(tensor: Tensor) -> Node:
    return autograd_node(tensor) if tensor._requires_grad else node_of(tensor)


def _array(value: Any) -> Any:
    return value._array if isinstance(value, Tensor) else value


def _concrete(kind: Any, array: Any) -> Any:
    return kind.with_shape(array.shape)


def _rebuild(roots: Sequence[Node], known: dict[int, Node]) -> list[Node]:
    """`roots` over other nodes at the boundary `known`."""
    done: dict[int, Node] = dict(known)
    stack = list(roots)
    while stack:
        node = stack[-1]
        if id(node) in done:
            stack.pop()
            continue
        missing = [x for x in node.inputs if id(x) not in done]
        if missing:
            stack.extend(missing)
            continue
        done[id(node)] = node.replace(tuple(done[id(x)] for x in node.inputs))
        stack.pop()
    return [done[id(r)] for r in roots]
