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
from tracejit.ir.interpret import at_sizes
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, size_source
from tracejit.ir.types import TupleType
from tracejit.jit.shapes import size_givers
from tracejit.runtime.target import build
from tracejit.tensor import Tensor
from tracejit.transforms.grad import Cotangents, backpropagate, on_way
from tracejit.transforms.partition import residuals


class EagerSaves:
    """What the eager tape saved of the same run: what a backward pass may rely on unchanged.

    Positions of input tensors (numbers come after `tensors` of them) and of outputs.
    """

    def __init__(self, tensors: int, inputs: set[int], outputs: set[int]):
        self.tensors = tensors
        self.inputs = inputs
        self.outputs = outputs

    def may_read(self, position: int) -> bool:
        """Whether backward may read the input again: eager would notice a change of it."""
        return position >= self.tensors or position in self.inputs


class Differentiable:
    """The gradient of one path: which inputs and outputs take part, and the backward program."""

    def __init__(
        self, inputs: Sequence[Node], wrt: Sequence[int], outputs: Sequence[Node],
        tracked: Sequence[int], written: Sequence[int], spent: Sequence[bool],
        new_leaves: Sequence[tuple[int, Node]], eager: EagerSaves,
    ):  # fmt: skip
        self.wrt = [*wrt, *(i for i, _ in new_leaves)]  # positions among the path's inputs
        self.eager = eager
        self.tracked = list(tracked)  # positions among the path's outputs
        self.inputs = list(inputs)  # tensors, then numbers
        self.outputs = [outputs[i] for i in tracked]
        self.seeds = [OPS["input"](type=n.type, name=f"g{i}") for i, n in enumerate(self.outputs)]
        targets = [*(inputs[i] for i in wrt), *(n for _, n in new_leaves)]
        self.freed = {  # results that backward has run from inside the call: the inputs below
            i: self._positions(on_way(self.outputs[i], targets), targets)
            for i, gone in enumerate(spent) if gone
        }  # fmt: skip
        usable = [i for i in range(len(self.outputs)) if i not in self.freed]
        self.spent = not usable
        reach: dict[Node, int] = {}
        found = backpropagate(
            [self.outputs[i] for i in usable], [self.seeds[i] for i in usable], targets, reach=reach
        )
        self.live = [i for i, g in zip(self.wrt, found, strict=True) if g is not None]
        self.seeds_of = [  # for each gradient the results it is made from
            {at for bit, at in enumerate(usable) if reach[n] >> bit & 1}
            for n, g in zip(targets, found, strict=True) if g is not None
        ]  # fmt: skip
        self.gradients = [g for g in found if g is not None]
        at_hand = [n for i, n in enumerate(inputs) if eager.may_read(i)]
        kept = [n for i, n in enumerate(outputs) if i in eager.outputs]
        self.saved = residuals(self.gradients, [*at_hand, *self.seeds], self.outputs, kept)
        self.mutated = set(written)
        self.extra, self.saved_at = _places(self.saved, outputs, eager)
        self._program: Any = None
        reached = {id(n) for n in topological(self.gradients)}
        self.needed_on_tape = [i for i, n in enumerate(inputs) if id(n) in reached]
        self.unwatched = [i for i in self.needed_on_tape if not eager.may_read(i)]
        self.graph = self._backward_graph()

    def _positions(self, reached: set[Node], targets: Sequence[Node]) -> list[int]:
        return [i for i, n in zip(self.wrt, targets, strict=True) if n in reached]

    def _backward_graph(self) -> Graph:
        """Inputs: the path's inputs that are read, the residuals, the seeds."""
        known: dict[int, Node] = {id(n): n for n in (*self.inputs, *self.seeds)}
        for i, node in enumerate(self.saved):
            if id(node) not in known:
                known[id(node)] = OPS["input"](type=node.type, name=f"saved{i}")
        results = rebuild(self.gradients, known)
        nodes = topological(results)
        read = {id(n) for n in nodes}
        self.read_inputs = [i for i, n in enumerate(self.inputs) if id(n) in read]
        self.read_inputs += size_givers(nodes, self.inputs)
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
        self, tensors: Sequence[Tensor], numbers: Sequence[Any], outputs: Sequence[Any],
        results: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """Put the call on the tape: `results`, in the order of `tracked`, get its projections."""
        kinds = TupleType(tuple(
            _concrete(o.type, outputs[i]) for o, i in zip(self.outputs, self.tracked)
        ))  # fmt: skip
        calls = {i: self._call(tensors, below, kinds) for i, below in self.freed.items()}
        for call in calls.values():
            call.saved = FREED
        if not self.spent:
            usable = self._call(tensors, self.live or self.wrt, kinds)
            usable.saved = self._save(tensors, numbers, outputs, results)
            calls = dict.fromkeys(range(len(results)), usable) | calls
        for i, result in enumerate(results):
            result._requires_grad = True
            result._node = calls[i][i]

    def _call(self, tensors: Sequence[Tensor], below: Sequence[int], kinds: TupleType) -> Node:
        """The call on the tape, above the inputs at the positions `below`."""
        parents = (_tape_node(tensors[i]) for i in below)
        return OPS["call"](*parents, rule=self, result=kinds)

    def _save(
        self, tensors: Sequence[Tensor], numbers: Sequence[Any], outputs: Sequence[Any],
        results: Sequence[Tensor],
    ) -> Saved:  # fmt: skip
        """What the backward program reads, with the versions it must still have then."""
        own = self.eager.tensors  # other paths of the tree may have added inputs since
        values: list[Any] = [*tensors[:own], *numbers[: len(self.inputs) - own]]
        kept: list[Any] = [None] * len(values)
        for i in {*self.read_inputs, *self.needed_on_tape}:
            kept[i] = values[i]
        watched = [
            (storage_of(tensors[i]), self._version(i, tensors[i])) for i in self.eager.inputs
        ]
        for at, result in zip(self.tracked, results, strict=True):
            if at in self.eager.outputs:
                watched.append((storage_of(result), storage_of(result).noticed))
        before = {i: self._version(i, tensors[i]) for i in self.unwatched}
        return Saved((kept, watched, [outputs[i] for i in self.saved_at], before), None)

    def _version(self, position: int, tensor: Any) -> int:
        """The version of an input when its value was read: before this call wrote to it."""
        return storage_of(tensor).noticed - (position in self.mutated)

    def backward(self, walk: Any, node: Node, g: Cotangents) -> list[Node | None]:
        """The rule: runs the backward program on what the call saved.

        An input gets a gradient only from results that got one themselves.
        """
        if node.saved is FREED or node.saved is None:
            raise RuntimeError(at_user_line(
                "backward through the same graph a second time: its saved values were freed; "
                "pass retain_graph=True to the first backward"))  # fmt: skip
        tensors, watched, saved, _ = node.saved.array
        for storage, version in watched:
            if storage.noticed != version:
                stale = Saved(None, storage)
                stale.version, stale.hidden = version, 0
                raise RuntimeError(at_user_line(changed_message(stale, "a compiled function")))
        if not self.live:  # no gradient flows, though the results depend on leaves
            return [None] * len(node.inputs)
        if walk.create_graph:
            made = self._on_tape(walk, node, g)
            return [m if seeds & g.given else None for m, seeds in zip(made, self.seeds_of)]
        arrays = [_array(tensors[i]) for i in self.read_inputs]
        arrays += [saved[i] for i in self.read_saved]
        arrays += [walk.evaluate(g[i]) for i in self.read_seeds]
        results: list[Node | None] = []
        found = zip(self.program.run(arrays), self.gradients, self.seeds_of, strict=True)
        for array, gradient, seeds in found:
            if not seeds & g.given:
                results.append(None)
                continue
            result = OPS["input"](type=_concrete(gradient.type, array), name="g")
            walk.evaluate.set(result, array)
            results.append(result)
        return results

    def _on_tape(self, walk: Any, call: Node, g: Cotangents) -> list[Node | None]:
        """Gradients of gradients: the backward graph itself, over the tape's nodes."""
        tensors, _, saved, before = call.saved.array
        parents = dict(zip(self.live or self.wrt, call.inputs, strict=True))
        known: dict[int, Node] = {}
        for i, (node, tensor) in enumerate(zip(self.inputs, tensors, strict=True)):
            if isinstance(tensor, Tensor):
                if storage_of(tensor).noticed == before.get(i, storage_of(tensor).noticed):
                    known[id(node)] = walk.node(tensor)
                else:  # what was read is gone; what was computed from it is among `saved`
                    fresh = OPS["input"](type=node_of(tensor).type, name="gone")
                    known[id(node)] = parents.get(i, fresh)
            elif tensor is not None:
                known[id(node)] = OPS["full"](value=tensor, type=node.type)
        for seed, value in zip(self.seeds, g, strict=True):
            known[id(seed)] = value
        roots = [*self.gradients, *(self.saved[i] for i in self.read_saved)]
        made = rebuild(roots, known, self._sizes(tensors, g))
        for i, node in zip(self.read_saved, made[len(self.gradients) :], strict=True):
            walk.evaluate.set(node, saved[i])
        return list(made[: len(self.gradients)])

    def _sizes(self, tensors: Sequence[Any], g: Sequence[Node]) -> dict[str, int]:
        """The numbers of the call for the sizes that vary, from what is at hand: few inputs are."""
        shapes = [
            (seed.type.shape, value.type.shape) for seed, value in zip(self.seeds, g, strict=True)
        ]
        for node, tensor in zip(self.inputs, tensors, strict=True):
            if isinstance(tensor, Tensor):
                shapes.append((node.type.shape, tensor._array.shape))
        return {
            size_source(size): n
            for pattern, shape in shapes
            for size, n in zip(pattern, shape, strict=True)
            if type(size) is SymInt and type(n) is int
        }


def _places(
    saved: Sequence[Node], outputs: Sequence[Node], eager: EagerSaves
) -> tuple[list[Node], list[int]]:
    """Saved values that need an output of their own, and where each is among all outputs.

    A result that eager saved too is shared with the user, who may not change it; of others the
    program gives a private copy.
    """
    position = {id(outputs[i]): i for i in sorted(eager.outputs, reverse=True)}
    extra: list[Node] = []
    for node in saved:
        if id(node) not in position:
            position[id(node)] = len(outputs) + len(extra)
            extra.append(node)
    return extra, [position[id(n)] for n in saved]


def _tape_node(tensor: Tensor) -> Node:
    return autograd_node(tensor) if tensor._requires_grad else node_of(tensor)


def _array(value: Any) -> Any:
    return value._array if isinstance(value, Tensor) else value


def _concrete(kind: Any, array: Any) -> Any:
    return kind.with_shape(array.shape)


def rebuild(
    roots: Sequence[Node], known: dict[int, Node], sizes: dict[str, int] | None = None
) -> list[Node]:
    """`roots` over other nodes at the boundary `known`, with `sizes` for the symbolic ones."""
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
        inputs = tuple(done[id(x)] for x in node.inputs)
        if sizes:
            params = {k: at_sizes(v, sizes) for k, v in node.params.items()}
            done[id(node)] = node.op(*inputs, **params)
            done[id(node)].loc = node.loc
        else:
            done[id(node)] = node.replace(inputs)
        stack.pop()
    return [done[id(r)] for r in roots]
