"""Gradients through a compiled call: one node on the tape whose rule is a compiled backward graph.

The forward program also gives what the backward needs and cannot cheaply work out again from the
inputs. Invariant: the backward graph is `backpropagate` of the captured graph, so that eager and
compiled gradients are one computation; under `create_graph` its nodes go on the tape themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.eager.tape import (
    FREED,
    NEEDS,
    Leaf,
    Saved,
    SavedCall,
    autograd_node,
    changed_message,
    node_of,
    storage_of,
    type_of,
)
from tracejit.errors import CompileError, TraceWarning, at_user_line, user_stacklevel
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import at_sizes, interpret
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, size_source
from tracejit.ir.types import TensorType, TupleType
from tracejit.jit.shapes import size_givers
from tracejit.jit.source import Refusal
from tracejit.runtime.device_array import DeviceArray
from tracejit.runtime.target import build
from tracejit.runtime.timing import PROFILERS, timed
from tracejit.tensor import Tensor
from tracejit.transforms.grad import Cotangents, backpropagate, depends_on, on_way
from tracejit.transforms.partition import residuals

_CALL, _GET = OPS["call"], OPS["get"]


class EagerSaves:
    """What the eager tape saved of the same run: what a backward pass may rely on unchanged.

    inputs, outputs  positions of input tensors (numbers come after `tensors` of them), of outputs,
                     each with the results whose gradients read it.
    spends           for each result with a gradient those whose gradients read what its backward
                     pass frees.
    frees, reads     for each the nodes whose saved values it frees, those it reads.
    writes           by position of an input, how many writes of the call change its memory, also
                     through what it is a view of (`roots`: what the memory of each belongs to).
    """

    def __init__(
        self, tensors: int, inputs: dict[int, set[int]], outputs: dict[int, set[int]],
        spends: Sequence[set[int]], frees: Sequence[set[Node]], reads: Sequence[set[Node]],
        roots: dict[int, int], written: Sequence[int],
    ):  # fmt: skip
        self.tensors = tensors
        self.inputs = inputs
        self.outputs = outputs
        self.spends = spends
        self.frees = frees
        self.reads = reads
        changed = [roots[i] for i in written]
        self.writes = {i: changed.count(root) for i, root in roots.items() if root in changed}

    def may_read(self, position: int) -> bool:
        """Whether backward may read the input again: eager would notice a change of it."""
        return position >= self.tensors or position in self.inputs


class BackwardPass:
    """The backward graph from some results of a call, and its program once it has run.

    found        the gradient of each input of the call that has one.
    why_not      why it is interpreted: its kernels could not be made.
    """

    def __init__(self, call: Differentiable, results: Sequence[int], candidates: Sequence[int]):
        self.call = call
        self.candidates = candidates  # positions of the inputs that it may read
        gradients = backpropagate(
            [call.outputs[i] for i in results], [call.seeds[i] for i in results], call.targets
        )
        self.found = {n: g for n, g in zip(call.targets, gradients, strict=True) if g is not None}
        self.gradients = list(self.found.values())
        self.built: Any = None
        self.why_not: str | None = None

    def close(self) -> None:
        """Make the graph; inputs: the path's inputs that are read, what it saved, the seeds."""
        call = self.call
        known: dict[int, Node] = {id(n): n for n in (*call.inputs, *call.seeds)}
        for i, node in enumerate(call.saved):  # also an input's value before the call wrote to it
            known[id(node)] = OPS["input"](type=node.type, name=f"saved{i}")
        saved = [known[id(n)] for n in call.saved]
        results = rebuild(self.gradients, known)
        nodes = topological(results)
        read = {id(n) for n in nodes}
        self.read_inputs = [i for i, n in enumerate(call.inputs) if id(n) in read]
        givers = size_givers(nodes, [call.inputs[i] for i in self.candidates])
        self.read_inputs += [self.candidates[i] for i in givers]
        self.read_saved = [i for i, n in enumerate(saved) if id(n) in read]
        self.read_seeds = [i for i, n in enumerate(call.seeds) if id(n) in read]
        inputs = [call.inputs[i] for i in self.read_inputs]
        inputs += [saved[i] for i in self.read_saved]
        inputs += [call.seeds[i] for i in self.read_seeds]
        self.graph = Graph("backward", tuple(inputs), tuple(results))

    @property
    def program(self) -> Any:
        """The compiled graph, made at first use."""
        if self.built is None:
            self.built = build(self.graph)
        return self.built

    def run(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """The gradients for these inputs; interpreted, with a warning, if kernels fail."""
        if PROFILERS:
            with timed("compiled backward", native=True):
                return self._run(arrays)
        return self._run(arrays)

    def _run(self, arrays: Sequence[Any]) -> Sequence[Any]:
        if self.why_not is None:
            try:
                return self.program.run(arrays) if self.gradients else ()
            except CompileError as error:
                if any(type(a) is DeviceArray for a in arrays):
                    raise
                self.built, self.why_not = None, str(error)
                warnings.warn(
                    f"tracejit: a compiled function's gradient is interpreted: {error}",
                    TraceWarning, stacklevel=user_stacklevel(),
                )  # fmt: skip
        with np.errstate(all="ignore"):
            return interpret(self.graph, [np.asarray(a) for a in arrays])


class Differentiable:
    """The gradient of one path: which inputs and outputs take part, and the backward program."""

    def __init__(
        self, inputs: Sequence[Node], wrt: Sequence[int], outputs: Sequence[Node],
        tracked: Sequence[int], written: Sequence[int], spent: Sequence[bool],
        new_leaves: Sequence[tuple[int, Node]], eager: EagerSaves,
    ):  # fmt: skip
        self._last: tuple[Any, TupleType] = ((), TupleType(()))  # shapes of results, their types
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
        self.targets = targets
        self.whole = whole = BackwardPass(self, usable, range(len(self.inputs)))
        self.live = [i for i, n in zip(self.wrt, targets, strict=True) if n in whole.found]
        self.reached = [n for n in targets if n in whole.found]
        self.passes = {frozenset(usable): whole}
        self.ways: dict[int, set[Node]] = {}
        self.mutated = set(written)
        at_hand = [n for i, n in enumerate(inputs) if self._may_read(i)]
        kept = [n for i, n in enumerate(outputs) if i in eager.outputs]
        self.saved = residuals(whole.gradients, [*at_hand, *self.seeds], self.outputs, kept)
        self.extra, self.saved_at = _places(self.saved, outputs, eager)
        below = topological(whole.gradients)
        self.constants = _constants(self.outputs, targets, {*below, *self.saved})
        reached = {id(n) for n in below}
        self.needed_on_tape = [i for i, n in enumerate(inputs) if id(n) in reached]
        self.unwatched = [i for i in self.needed_on_tape if not self._may_read(i)]
        whole.close()
        self.held = {*whole.read_inputs, *self.needed_on_tape}  # inputs that a call keeps
        if len(usable) > 1:
            self.held.update(size_givers([n for n in below if n.inputs], self.inputs))

    def _may_read(self, position: int) -> bool:
        """Whether an input has the value in the backward pass that the call met."""
        return self.eager.may_read(position) and position not in self.mutated

    def _positions(self, reached: set[Node], targets: Sequence[Node]) -> list[int]:
        return [i for i, n in zip(self.wrt, targets, strict=True) if n in reached]

    @property
    def graph(self) -> Graph:
        """The backward graph from all results."""
        return self.whole.graph

    @property
    def program(self) -> Any:
        """The program of `graph`."""
        return self.whole.program

    @property
    def built(self) -> list[Any]:
        """The backward programs that have run."""
        return [p.built for p in self.passes.values() if p.built is not None]

    def _pass_from(self, given: frozenset[int]) -> BackwardPass:
        """The backward pass from these results alone: zeros for the others would not do, for a
        derivative may be infinite."""
        found = self.passes.get(given)
        if found is None:
            found = BackwardPass(self, sorted(given), sorted(self.held))
            found.close()
            self.passes[given] = found
        return found

    def attach(
        self, tensors: Sequence[Tensor], numbers: Sequence[Any], outputs: Sequence[Any],
        results: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """Put the call on the tape: `results`, in the order of `tracked`, get its projections."""
        kinds = self._kinds(outputs)
        calls = {i: self._call(tensors, below, kinds) for i, below in self.freed.items()}
        for call in calls.values():
            call.saved = FREED
        if not self.spent:
            usable = self._call(tensors, self.live or self.wrt, kinds)
            usable.saved = self._save(tensors, numbers, outputs, results)
            calls = dict.fromkeys(range(len(results)), usable) | calls
        for i, result in enumerate(results):
            result._requires_grad = True
            result._node = Node(_GET, (calls[i],), {"index": i}, kinds.items[i])

    def _kinds(self, outputs: Sequence[Any]) -> TupleType:
        """The types of the tracked results; those of the last call if shapes are the same."""
        shapes = [outputs[i].shape for i in self.tracked]
        if shapes != self._last[0]:
            items = [o.type.with_shape(s) for o, s in zip(self.outputs, shapes, strict=True)]
            self._last = shapes, TupleType(tuple(items))
        return self._last[1]

    def _call(self, tensors: Sequence[Tensor], below: Sequence[int], kinds: TupleType) -> Node:
        """The call on the tape, above the inputs at the positions `below`."""
        parents = tuple([_tape_node(tensors[i]) for i in below])
        return Node(_CALL, parents, {"rule": self, "result": kinds}, kinds)

    def _save(
        self, tensors: Sequence[Tensor], numbers: Sequence[Any], outputs: Sequence[Any],
        results: Sequence[Tensor],
    ) -> SavedCall:  # fmt: skip
        """What the backward program reads, with the versions it must still have then."""
        own = self.eager.tensors  # other paths of the tree may have added inputs since
        values: list[Any] = [*tensors[:own], *numbers[: len(self.inputs) - own]]
        kept: list[Any] = [None] * len(values)
        for i in self.held:
            kept[i] = values[i]
        watched = [
            (storage_of(tensors[i]), self._version(i, tensors[i]), by, i)
            for i, by in self.eager.inputs.items()
        ]
        for at, result in zip(self.tracked, results, strict=True):
            if at in self.eager.outputs:
                storage, by = storage_of(result), self.eager.outputs[at]
                watched.append((storage, storage.noticed, by, -1 - at))
        before = {i: self._version(i, tensors[i]) for i in self.unwatched}
        return SavedCall((kept, watched, [outputs[i] for i in self.saved_at], before))

    def _version(self, position: int, tensor: Any) -> int:
        """The version of an input when its value was read: before this call wrote to it."""
        return storage_of(tensor).noticed - self.eager.writes.get(position, 0)

    def backward(self, walk: Any, node: Node, g: Cotangents) -> list[Node | None]:
        """The rule: runs the backward program on what the call saved.

        An input gets a gradient only from results that got one themselves.
        """
        if node.saved is FREED or self._was_freed(node, g):
            raise RuntimeError(at_user_line(
                "backward through the same graph a second time: its saved values were freed; "
                "pass retain_graph=True to the first backward"))  # fmt: skip
        tensors, watched, saved, _ = node.saved.array
        chosen = self._pass_from(g.given)
        for storage, version, by, place in watched:
            if storage.noticed != version and (by & g.given or self._reads(chosen, place)):
                stale = Saved(None, storage)
                stale.version, stale.hidden = version, 0
                raise RuntimeError(at_user_line(changed_message(stale, "a compiled function")))
        if not self.live:  # no gradient flows, though the results depend on leaves
            return [None] * len(node.inputs)
        if walk.create_graph:
            made = self._on_tape(walk, node, g, chosen)
        else:
            arrays = [_array(tensors[i]) for i in chosen.read_inputs]
            arrays += [saved[i] for i in chosen.read_saved]
            arrays += [walk.evaluate(g[i]) for i in chosen.read_seeds]
            made = []
            for array, gradient in zip(chosen.run(arrays), chosen.gradients, strict=True):
                made.append(OPS["input"](type=_concrete(gradient.type, array), name="g"))
                walk.evaluate.set(made[-1], array)
        of = dict(zip(chosen.found, made, strict=True))
        return [of.get(n) for n in self.reached]

    def _reads(self, chosen: BackwardPass, place: int) -> bool:
        """Whether a backward graph reads an input, or (from -1 downwards) an output."""
        if place >= 0:
            return place in chosen.read_inputs
        return any(self.saved_at[i] == -1 - place for i in chosen.read_saved)

    def inputs_of(self, call: Node, position: int) -> list[Node]:
        """Of the nodes above which the call is on the tape those that a result depends on."""
        if position not in self.ways:
            self.ways[position] = on_way(self.outputs[position], self.targets)
        return [x for n, x in self._parents(call).items() if n in self.ways[position]]

    def free(self, call: Node, positions: Sequence[int]) -> None:
        """Backward has run from the results at `positions`: what they share with others is gone."""
        saved = call.saved
        for i in positions:
            saved.spent |= self.eager.spends[i]
            for made in (self._parents(call), *saved.shadows):
                for node in self.eager.frees[i] & made.keys():
                    if type(made[node].saved) is not Leaf:
                        made[node].saved = FREED
        if len(saved.spent | self.freed.keys()) == len(self.outputs):
            call.saved = FREED

    def _was_freed(self, call: Node, g: Cotangents) -> bool:
        """Whether an earlier backward pass freed what the gradient of one of the results reads."""
        saved = call.saved
        if not saved.spent.isdisjoint(g.given):
            return True
        return any(
            made[node].saved is FREED
            for made in (self._parents(call), *saved.shadows)
            for i in g.given
            for node in self.eager.reads[i] & made.keys()
        )

    def _parents(self, call: Node) -> dict[Node, Node]:
        """The nodes above which the call is on the tape, by the nodes they are in the path."""
        return dict(zip(self.reached or self.targets, call.inputs, strict=True))

    def _on_tape(
        self, walk: Any, call: Node, g: Cotangents, chosen: BackwardPass
    ) -> list[Node]:  # fmt: skip
        """Gradients of gradients: the backward graph itself, over the tape's nodes."""
        tensors, _, saved, before = call.saved.array
        parents = dict(zip(self.live or self.wrt, call.inputs, strict=True))
        known: dict[int, Node] = {}
        for i, (node, tensor) in enumerate(zip(self.inputs, tensors, strict=True)):
            if isinstance(tensor, Tensor):
                if storage_of(tensor).noticed == before.get(i, storage_of(tensor).noticed):
                    known[id(node)] = walk.node(tensor)
                else:
                    known[id(node)] = _gone(tensor, before[i], parents.get(i))
            elif tensor is not None:
                known[id(node)] = OPS["full"](value=tensor, type=node.type)
        for seed, value in zip(self.seeds, g, strict=True):
            known[id(seed)] = value
        known |= {id(n): x for n, x in self._parents(call).items() if n.inputs}  # new leaves
        sizes = self._sizes(tensors, g)
        for node in self.constants:
            known[id(node)] = OPS["detach"](*rebuild([node], known, sizes))
        roots = [*chosen.gradients, *(self.saved[i] for i in chosen.read_saved)]
        made = rebuild(roots, known, sizes)
        for i, node in zip(chosen.read_saved, made[len(chosen.gradients) :], strict=True):
            walk.evaluate.set(node, saved[i])
        self._note_shadow(call, known)
        return made[: len(chosen.gradients)]

    def _note_shadow(self, call: Node, made: dict[int, Node]) -> None:
        """Where eager has the call's own nodes below a gradient, there are copies of them now: what
        frees the ones frees the others.
        """
        inside = set().union(*self.eager.frees)
        shadow = {n: made[id(n)] for n in inside if n.op.name != "input" and id(n) in made}
        for node in shadow.values():
            if node.saved is None:
                node.saved = NEEDS
        call.saved.shadows.append(shadow)

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


def differentiable(*args: Any) -> Differentiable:
    """`Differentiable(*args)`; Refusal if a derivative is not known."""
    try:
        return Differentiable(*args)
    except NotImplementedError as error:  # eager raises it too, if backward is asked for
        raise Refusal(str(error).partition("\n")[0]) from None


def _constants(
    outputs: Sequence[Node], targets: Sequence[Node], read: set[Node]
) -> list[Node]:  # fmt: skip
    """What the gradients read of the values without gradient: eager has no history of them."""
    order = topological(outputs)
    active = depends_on(order, targets)
    read = {n for n in read if isinstance(n.type, TensorType)}  # of several results each by itself
    return [n for n in order if n in read and n not in active and n.inputs]


def _gone(tensor: Tensor, version: int, parent: Node | None) -> Node:
    """The node of a value that was overwritten since: what was computed from it is among the saved
    values, and reading it raises."""
    node = OPS["input"](type=type_of(tensor), name="gone") if parent is None else (
        OPS["alias"](parent))  # fmt: skip
    node.saved = Saved(tensor._array, storage_of(tensor))
    node.saved.version, node.saved.hidden = version, 0
    return node


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
    """`roots` over other nodes at the boundary `known`, with `sizes` for the symbolic ones.

    What was made is added to `known`.
    """
    done = known
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
