"""From a finished capture to a path of the tree: inputs found, results described, effects named.

Invariant: every tensor the capture met has a source from which a replay reads it afresh; what has
none, or what a replay could not do again, is refused with a reason and a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager import tape
from tracejit.eager.backward import leaves_below
from tracejit.eager.capture import Branch, Capture
from tracejit.eager.integers import LiftedInt
from tracejit.eager.scalars import CallNumber, SymFloat
from tracejit.eager.tape import (
    FREED,
    nodes_read,
    replay_views,
    root_of,
    rule_needs,
    storage_of,
)
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, size_key
from tracejit.ir.types import TensorType
from tracejit.jit.differentiate import EagerSaves
from tracejit.jit.effects import Effects
from tracejit.jit.guards import TensorInput, layout_of, overlaps_itself
from tracejit.jit.layouts import (
    Order,
    inputs_that_order,
    may_have_order_of,
    order_of,
    order_of_result,
)
from tracejit.jit.naming import Describer, graph_name
from tracejit.jit.readset import Entry, ReadSet, Refusal, Source
from tracejit.jit.replay import Finish, Result
from tracejit.jit.source import source_key as source_key
from tracejit.jit.structure import Structure
from tracejit.jit.tree import Leaf, reachable
from tracejit.tensor import Tensor
from tracejit.transforms.grad import on_way


class SourceNumber(CallNumber):
    """A number that is an input of the trace because its value at `source` varies."""

    __slots__ = ("source",)

    def __init__(self, source: Source):
        super().__init__(source.read)
        self.source = source


class Inputs:
    """The tree's inputs: tensors and numbers, each with its canonical node."""

    def __init__(self) -> None:
        self.tensors: list[TensorInput] = []
        self.nodes: list[Node] = []
        self.positions: dict[Any, int] = {}  # source key -> position
        self.scalars: list[tuple[Any, Node]] = []  # (read, node)
        self.scalar_keys: dict[str, int] = {}

    def types(self) -> dict[Any, TensorType]:
        """The types of the tensors by their sources."""
        return {key: self.nodes[i].type for key, i in self.positions.items()}

    def fit(self, capture: Capture, readset: ReadSet) -> bool:
        """Whether a capture met the tensors with the sizes varying that vary here."""
        known = self.types()
        for tensor, node in capture.inputs:
            source = readset.seen.get(id(tensor))
            held = None if source is None else known.get(source_key(source))
            if (
                held is not None
                and held.shape
                and ([*map(size_key, held.shape)] != [*map(size_key, node.type.shape)])
            ):
                return False
        return True


class PathBuilder:
    """Turns one capture into a path (branches, leaf) over the canonical nodes of a tree."""

    def __init__(
        self, capture: Capture, readset: ReadSet, inputs: Inputs, nodes: Any,
        names: tuple[str, ...],
    ):  # fmt: skip
        self.capture = capture
        self.readset = readset
        self.inputs = inputs
        self.nodes = nodes
        self.words = Describer(readset, names)
        self.known: dict[int, Node] = {}
        self.done: dict[int, Node] | None = None  # `known` and what was made canonical since
        self.held: list[Node] = []  # keeps the ids in `done` from being used again
        self.finish = Finish()
        self.outputs: list[Node] = []
        self.orders: dict[int, Order] = {}  # of outputs that are not in row-major order
        self.by_tensor: dict[int, Result] = {}
        self.made: list[tuple[Tensor, Result]] = []  # tensors that are outputs of the program
        self.seen_after: list[Tensor] = []  # tensors that others can see after the call
        if capture.raised:
            self._meet_all()

    def build(self, value: Any, effects: Effects) -> tuple[list[tuple[Node, Branch]], Leaf]:
        """The path to the result `value` and to what was stored elsewhere; raises Refusal."""
        capture = self.capture
        for tensor, node in capture.inputs:
            self._tensor_input(tensor, node)
        for tensor, node in capture.inputs:
            if tensor._base is not None and id(root_of(tensor)) in capture.writes:
                self._shared_input(tensor, node)
        structure = Structure(value, lambda v: id(v) in self.readset.seen)
        for leaf in structure.leaves:
            if type(leaf) is LiftedInt:
                leaf.scalar_node()
        for scalar in capture.scalars:
            self._scalar_input(scalar)
        if structure.problem is not None:
            raise Refusal(structure.problem)
        self._custom_results()
        stored = [tensor for _, tensor in effects.tensors]
        self.seen_after = [t for t in (*structure.leaves, *stored, *self._final_grads())
                           if isinstance(t, Tensor)]  # fmt: skip
        if capture.picks_show({id(root_of(t)) for t in self.seen_after}):
            raise Refusal("uses a view at a place that a tensor gives (x[i] with i a 0-d tensor)")
        self.finish.results = [self._result(v) for v in structure.leaves]
        self.finish.build = structure.build
        self.finish.is_single = bool(structure.leaves) and value is structure.leaves[0]
        self.finish.draws = list(capture.draws)
        self.finish.prints = [(p, self._printed(p)) for p in capture.prints]
        self._gradients()
        writes = [self._effect(t) for t in capture.writes.values()]
        self._layouts()
        checks = [(self._node(n), message) for n, message in capture.checks]
        branches = [(self._node(b.node), b) for b in capture.branches]
        self.finish.output_count = len(self.outputs)
        self._one_device()
        leaf = Leaf(self.outputs, writes, checks, self.finish)
        leaf.orders = self.orders
        self.finish.assigns = [(e.source, self._result(tensor)) for e, tensor in effects.tensors]
        self.finish.constants = effects.constants
        self.finish.counters = effects.counters
        leaf.outputs = tuple(self.outputs)
        return branches, leaf

    def _meet_all(self) -> None:
        """All tensors that the run could read are inputs: an error may have been of their types."""
        for entry in self.readset.entries:
            if isinstance(entry.value, Tensor) and id(entry.value) not in self.capture.input_ids:
                self.capture.add_input(entry.value)
        self.capture.env.fix()

    def _one_device(self) -> None:
        """A program runs on one device; numbers (0-d tensors of the CPU) may come from outside."""
        tensors = [t for t, _ in self.made]
        tensors += self.capture.writes.values()
        tensors += [t for t, _ in self.capture.inputs if t._array.ndim]
        devices = {str(t.device): None for t in tensors}
        if len(devices) > 1:
            raise Refusal(f"works with tensors on {' and '.join(devices)}")

    # --- inputs -----------------------------------------------------------------------------

    def _source_of(self, tensor: Tensor) -> Source | None:
        source = self.readset.seen.get(id(tensor))
        if source is not None:
            return source
        for owner, _ in self.capture.inputs:
            if owner._grad is tensor or self._initial_grad(owner) is tensor:
                above = self.readset.seen.get(id(owner))
                return None if above is None else above.then("attr", "_grad")
            if owner._base is tensor:
                above = self.readset.seen.get(id(owner))
                return None if above is None else above.then("attr", "_base")
        return None

    def _initial_grad(self, owner: Tensor) -> Tensor | None:
        held = self.capture.grads.get(id(owner))
        return None if held is None else held[1]

    def _tensor_input(self, tensor: Tensor, node: Node) -> None:
        source = self._source_of(tensor)
        if source is None:
            raise Refusal(
                f"reads a tensor ({node.type}) that cannot be traced back to an argument, global, "
                "closure variable or attribute"
            )
        key = source_key(source)
        position = self.inputs.positions.get(key)
        if position is None:
            is_module = source.parent is not None and source.parent.key in (
                "_parameters", "_buffers")  # fmt: skip
            position = self.inputs.positions[key] = len(self.inputs.tensors)
            name = graph_name(self.words.tensor(tensor, source))
            role = "param" if tensor._is_parameter else None
            canonical = self.nodes.input(key, node.type, name, role)
            wanted = TensorInput(source, node.type, tensor, is_module)
            self.inputs.tensors.append(wanted)
            self.inputs.nodes.append(canonical)
        self._bound(node, self.inputs.nodes[position])

    def _shared_input(self, tensor: Tensor, node: Node) -> None:
        """A view of memory that the trace writes to is computed from what it views: its own
        memory would show writes too early or too late."""
        self.inputs.tensors[self._position(tensor)].chain = tensor._view
        base = self.capture.input_ids[id(root_of(tensor))]
        if tensor._requires_grad:
            return
        if any(type(n) is SymInt for n in (*node.type.shape, *base.type.shape)):
            keys = {source_key(s) for t in (tensor, root_of(tensor))
                    if (s := self._source_of(t)) is not None}  # fmt: skip
            raise Refusal("writes to memory that inputs of varying size share", frozenset(keys))
        self._bound(node, self._node(replay_views(tensor, base)))

    def _scalar_input(self, scalar: Any) -> None:
        number = len(self.inputs.scalars)
        label = (
            f"{scalar.label}#{sum(s.label == scalar.label for s in self.capture.scalars[:number])}"
        )
        position = self.inputs.scalar_keys.get(label)
        if position is None or scalar.label == "random offset":
            count = len([k for k in self.inputs.scalar_keys if k.startswith(scalar.label)])
            label = f"{scalar.label}#{count}"
            position = self.inputs.scalar_keys[label] = number
            path = self.words.number(scalar.label, scalar.read)
            name = f"n{number}" if path is None else graph_name(path)
            canonical = self.nodes.input(label, scalar.node.type, name, "scalar")
            self.inputs.scalars.append((scalar.read, canonical))
        self._bound(scalar.node, self.inputs.scalars[position][1])

    # --- values -----------------------------------------------------------------------------

    def _custom_results(self) -> None:
        """What custom functions gave is what their forward computed."""
        for result, value, storage, version in self.capture.custom.values():
            if storage.version != version:
                raise Refusal("changes in place what a function with a custom gradient gave")
            self._bound(result, self._node(value))

    def _needs_custom_rule(self, tensor: Tensor) -> bool:
        """Whether a later backward pass through the tensor would run a custom rule."""
        if self.capture.hooked & self._way(tensor):
            return True
        below = topological([self.capture.node_of(tensor)]) if self.capture.custom else ()
        return any(n.op.name == "call" and n.saved is not FREED for n in below)

    def _bound(self, node: Node, canonical: Node) -> None:
        """From now on `node` is `canonical`, whatever it is computed from."""
        self.known[id(node)] = canonical
        self.done = None

    def _node(self, node: Node) -> Node:
        if self.done is None:
            self.done = dict(self.known)
        fresh = reachable([node], self.done)
        for below in fresh:
            if below.op.name == "input":
                self._stray_input(below)
        self.held.append(node)
        self.nodes.fill(fresh, self.done)
        return self.done[id(node)]

    def _stray_input(self, node: Node) -> None:
        raise Refusal(f"uses a value ({node.type}) made outside the function in a way that "
                      "cannot be traced")  # fmt: skip

    def _output(self, node: Node) -> int:
        canonical = self._node(node)
        for i, held in enumerate(self.outputs):
            if held is canonical:
                return i
        self.outputs.append(canonical)
        return len(self.outputs) - 1

    def _result(self, value: Any) -> Result:
        if type(value) is SymInt:
            node = OPS["size"](value=value)
            return Result("number", self._output(node), convert=int)
        if type(value) is SymFloat:
            return Result("number", self._output(value.node), convert=float)
        if type(value) is LiftedInt:
            return Result("number", self._output(value.scalar_node()), convert=int)
        found = self.by_tensor.get(id(value))
        if found is None:
            found = self.by_tensor[id(value)] = self._tensor_result(value)
        return found

    def _tensor_result(self, tensor: Tensor) -> Result:
        capture = self.capture
        if id(tensor) in capture.input_ids:
            return Result("input", self._position(tensor))
        if not capture.owns(tensor):
            source = self._source_of(tensor)
            if source is None:
                raise Refusal(
                    "returns a tensor that it did not make and that cannot be traced back"
                )
            capture.node_of(tensor)
            self._tensor_input(tensor, capture.input_ids[id(tensor)])
            return Result("input", self._position(tensor))
        if tensor._requires_grad and tensor.is_leaf:
            raise Refusal("returns a leaf that it made (requires_grad_() on a value of its own)")
        base = tensor._base
        if base is not None and self._is_visible(tensor, base):
            seen, chain = self._shown(tensor, base)
            return Result("view", -1, chain, self._result(seen), tensor._requires_grad)
        index = len(self.outputs)
        self.outputs.append(self._node(capture.node_of(tensor)))
        result = Result("output", index, requires_grad=tensor._requires_grad)
        self.made.append((tensor, result))
        order = order_of_result(tensor._array)
        if order:
            self.orders[index] = order
        return result

    def _shown(self, tensor: Tensor, base: Tensor) -> tuple[Tensor, Any]:
        """Of what a view is a view, and how: of the input through which the run made it, whose own
        sizes may vary; else of `base`.
        """
        chain = tensor._view
        inputs = [t for t, _ in self.capture.inputs if t._base is base]
        for seen in sorted(inputs, key=lambda t: -len(t._view)):
            count = len(seen._view)
            if count < len(chain) and all(a is b for a, b in zip(seen._view, chain)):
                return seen, chain[count:]
        return base, chain

    def _printed(self, printed: Any) -> list[Result]:
        """The tensors and numbers of one call of `print`."""
        return [
            Result("output" if convert is None else "number", self._output(node), convert=convert)
            for node, convert in zip(printed.nodes, printed.convert, strict=True)
        ]

    def tracked_values(self) -> list[tuple[Tensor, Result]]:
        """The outputs that require grad, as tensors of the captured run and as results."""
        tracked = [(t, r) for t, r in self.made if t._requires_grad]
        if any(self._needs_custom_rule(t) for t, _ in tracked):
            raise Refusal("a custom gradient (autograd.Function, a hook) that is needed after the "
                          "call; compile the training step, with its backward")  # fmt: skip
        return tracked

    def reads_freed(self, tensor: Tensor) -> bool:
        """Whether backward has been run on the tensor's graph, which freed what it reads."""
        return any(n.saved is FREED for n in self._read_by(tensor))

    def _read_by(self, tensor: Tensor) -> set[Node]:
        """The nodes of the tape that must not be freed for the gradient of a result."""
        way = self._way(tensor)
        return {x for n in way for x in nodes_read(n, way)}

    def _way(self, tensor: Tensor) -> set[Node]:
        """The nodes of the call, and its inputs, that a gradient of a result passes."""
        node = self.capture.node_of(tensor)
        inputs = {n for t, n in self.capture.inputs if t._requires_grad}
        way = on_way(node, [*inputs, *(leaf for leaf, _ in leaves_below([node]))])
        return way - (set(topological(list(inputs))) - inputs)

    def has_stale_saves(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the run overwrote a value of its own that the gradients of `tensors` need."""
        return any(
            n.saved is not None and n.op.name != "input" and not n.saved.is_current
            for n in topological([self.capture.node_of(t) for t in tensors])
        )

    def eager_saves(self, tracked: Sequence[Tensor]) -> EagerSaves:
        """What the tape of the captured run keeps for the backward pass of the results `tracked`"""
        values = [_values_read(self._way(t)) for t in tracked]

        def readers(node: Node) -> set[int]:
            return {i for i, nodes in enumerate(values) if _is_saved(node) and node in nodes}

        inputs = {self._position(t): by for t, _ in self.capture.inputs
                  if (by := readers(self.capture.input_ids[id(t)]))}  # fmt: skip
        outputs = {r.index: by for t, r in self.made if (by := readers(self.capture.node_of(t)))}
        reads = [self._read_by(t) for t in tracked]
        given = {n for _, n in self.capture.inputs} & set().union(*reads)
        frees = [{n for n in self._way(t) if n in given or _is_freed_with(n)} for t in tracked]
        spends = [{j for j, r in enumerate(reads) if f & r - given} for f in frees]
        return EagerSaves(
            len(self.inputs.tensors), inputs, outputs, spends,
            [self._among(t, freed) for t, freed in zip(tracked, frees, strict=True)],
            [self._among(t, read) for t, read in zip(tracked, reads, strict=True)],
            {self._position(t): id(root_of(t)) for t, _ in self.capture.inputs},
            self.finish.written,
        )  # fmt: skip

    def _among(self, tensor: Tensor, found: set[Node]) -> set[Node]:
        """The canonical nodes of those `found` that a result was made canonical from."""
        self._node(self.capture.node_of(tensor))
        assert self.done is not None
        return {self.done[id(n)] for n in found if id(n) in self.done}

    def new_leaves(self) -> list[tuple[int, Node]]:
        """Leaves that were written to unseen by autograd: (input position, node from then on)."""
        return [
            (self._position(t), self._node(n))
            for t, n in self.capture.new_leaves
            if id(t) in self.capture.input_ids
        ]

    def _is_visible(self, view: Tensor, base: Tensor) -> bool:
        """Whether it shows after the call, by its strides too, that `view` is a view of `base`."""
        if id(base) in self.capture.input_ids or not self.capture.owns(base):
            return True
        if sum(root_of(t) is base for t in self.seen_after) > 1:
            return True
        return not view._array.flags.c_contiguous

    def _position(self, tensor: Tensor) -> int:
        source = self._source_of(tensor)
        assert source is not None
        return self.inputs.positions[source_key(source)]

    # --- effects ----------------------------------------------------------------------------

    def _effect(self, tensor: Tensor) -> tuple[Node, Node]:
        position = self._position(tensor)
        self.finish.written.append(position)
        self.finish.written_at.append(storage_of(tensor).changed_at)
        node = self._node(self.capture.node_of(tensor))
        return self.inputs.nodes[position], node

    def _layouts(self) -> None:
        """Inputs whose order in memory the run depends on must lie in the same way again."""
        asked: dict[int, bool] = {}
        for node, exact in self.capture.layouts:
            for below in may_have_order_of([node]):
                asked[id(below)] = exact or asked.get(id(below), False)
        made = [self.capture.node_of(t) for t, _ in self.made]
        steering = inputs_that_order([*made, *self.capture.ordering])
        for tensor, node in self.capture.inputs:
            wanted = self.inputs.tensors[self._position(tensor)]
            if id(node) in asked:
                wanted.layout = layout_of(tensor._array, asked[id(node)])
            if id(node) in steering and tensor._device.type == "cpu":
                wanted.order = order_of(tensor._array)
            if id(root_of(tensor)) in self.capture.writes:
                wanted.is_written = True
                if overlaps_itself(tensor._array):
                    raise Refusal("writes to a tensor whose elements share memory")

    def _gradients(self) -> None:
        for tensor, before in self.capture.grads.values():
            now = tensor._grad
            source = self._source_of(tensor)
            if source is None:
                raise Refusal("sets the .grad of a tensor that cannot be traced back")
            present = before is not None
            self.readset.entries.append(
                Entry(source.then("attr", "_grad").then("type"), "is", type(before))
            )
            if now is before:
                if present and id(before) not in self.capture.input_ids:
                    pass  # read for its presence only
                continue
            result = None if now is None else self._result(now)
            self.finish.grads.append((self._position(tensor), result))

    def _final_grads(self) -> list[Any]:
        return [tensor._grad for tensor, _ in self.capture.grads.values()]


def _values_read(way: set[Node]) -> set[Node]:
    """The nodes of the tape whose values the gradient that passes `way` reads."""
    found: set[Node] = set()
    for node in way:
        if node.op.vjp is None:
            continue
        wanted, own = rule_needs(node, tuple([x in way for x in node.inputs]))
        if own:
            found.add(node)
        for value in (node.inputs[i] for i in wanted):
            found.add(value)
            while value.op.name in ("cast", "broadcast_to"):  # the operand is what was saved
                value = value.inputs[0]
                found.add(value)
    return found


def _is_saved(node: Node) -> bool:
    return node.saved is not None and node.saved is not FREED and node.saved.array is not None


def _is_freed_with(node: Node) -> bool:
    """Whether a backward pass through the node frees what it saved."""
    return bool(node.inputs) and node.saved is not None and type(node.saved) is not tape.Leaf
