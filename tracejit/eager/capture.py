"""A capture in progress: every tensor has a node, and what is met for the first time is an input.

Invariant: a tensor's trace node stands for its present value, also after in-place writes and
writes through views; writes to tensors that existed before the capture are effects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.integers import LiftedInt, fits
from tracejit.eager.scalars import CallNumber, SymFloat
from tracejit.eager.tape import (
    Leaf,
    Saved,
    autograd_node,
    on_root,
    replay_views,
    storage_of,
    type_of,
)
from tracejit.errors import Location, user_location
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SizeEnv, evaluate
from tracejit.ir.types import Device, TensorType, placed
from tracejit.runtime.device_array import host_copy

if TYPE_CHECKING:
    from tracejit.tensor import Tensor

_F64 = TensorType(dtypes.float64, ())
_I64 = TensorType(dtypes.int64, ())

MOST_SHOWN = 1000
"""Elements of a tensor whose text a trace may depend on."""
MOST_DECISIONS = 4
"""Decisions that one capture may take on a lifted int before it counts as one that steers."""


class ScalarInput:
    """A number that every call reads afresh: `node` stands for it.

    `read` is a `CallNumber`, or gives the number from the sizes of the call.
    """

    __slots__ = ("read", "node", "value", "label")

    def __init__(
        self, read: CallNumber | Callable[[dict[str, int]], Any], node: Node, value: Any, label: str
    ):
        self.read = read
        self.node = node
        self.value = value
        self.label = label


class Branch:
    """A value that left the trace for Python and steered it: `node` had `outcome`."""

    __slots__ = ("node", "kind", "outcome", "location")

    def __init__(self, node: Node, kind: str, outcome: Any, location: Location | None):
        self.node = node
        self.kind = kind
        self.outcome = outcome
        self.location = location


class Draw:
    """What a generator gave in the trace: `count` counters (perhaps symbolic)."""

    __slots__ = ("generator", "count")

    def __init__(self, generator: Any, count: Any):
        self.generator = generator
        self.count = count


class Capture:
    """The nodes of one run of a function.

    inputs    (tensor, node) for every tensor that was met but not made here.
    writes    tensors that existed before and were written to, by id.
    grads     tensors whose ``.grad`` was read or assigned, with the gradient they had before.
    scalars   numbers that are inputs.
    branches  values that steered the run, in order.
    checks    conditions that a replay must verify before effects take place.
    conditions  what input numbers must give again: (read, value) pairs, for the guards; `read`
              takes the arguments of the call.
    steering  lifted ints (by their keys) that steered Python, and how often.
    prints    calls of `print`, with what they were given (`jit.prints.Printed`).
    layouts   (node, exact) of tensors whose order in memory steered the run.
    ordering  nodes of tensors whose order in memory others have, whatever they are computed from.
    picks     (result, where from, version of that, how to make it a view) of indexing by 0-d
              tensors: views that the trace takes for copies.
    unsound   (reason, location) of what a replay could not repeat.
    keys      tensors that were hashed, by id, with the code that did it last.
    missed    (tensor, name) of attributes that the user's code looked for in vain.
    hooked    nodes on which the run put a hook.
    raised    whether an error was about to be raised: types of tensors that it did not meet matter.
    caught    messages of errors that a replay might not meet again: they may depend on elements.
    custom    results of ``autograd.Function`` by the id of their node: (node, node of what forward
              computed, storage, its version then).
    """

    def __init__(
        self, symbolic: Callable[[Tensor, SizeEnv], Any] | None = None, lift_items: Any = ()
    ):
        self.env = SizeEnv()
        self.env.as_float = self._float_of_size
        self.symbolic = symbolic
        self.lift_items = lift_items
        self.inputs: list[tuple[Tensor, Node]] = []
        self.input_ids: dict[int, Node] = {}
        self.writes: dict[int, Tensor] = {}
        self.grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.scalars: list[ScalarInput] = []
        self.branches: list[Branch] = []
        self.checks: list[tuple[Node, str]] = []
        self.conditions: list[tuple[Callable[[tuple[Any, ...]], Any], Any]] = []
        self.steering: dict[Any, int] = {}
        self.draws: list[Draw] = []
        self.prints: list[Any] = []
        self.unsound: list[tuple[str, Location | None]] = []
        self.leaves_before: dict[int, tuple[Tensor, Node | None]] = {}
        self.new_leaves: list[tuple[Tensor, Node]] = []
        self.shape_inputs: list[tuple[Tensor, tuple[Any, ...]]] = []
        self.layouts: list[tuple[Node, bool]] = []
        self.ordering: list[Node] = []
        self.picks: list[tuple[Tensor, Tensor, int, Callable[[], None]]] = []
        self.used_backward = False
        self.keys: dict[int, tuple[Tensor, Any]] = {}
        self.missed: list[tuple[Tensor, str]] = []
        self.caught: list[str] = []
        self.raised = False
        self.hooked: set[Node] = set()
        self.custom: dict[int, tuple[Node, Node, Any, int]] = {}

    # --- nodes ------------------------------------------------------------------------------

    def node_of(self, tensor: Tensor) -> Node:
        """The node of the tensor's present value; a tensor not met before becomes an input."""
        trace = tensor._trace
        if trace is None or trace[0] is not self:
            node = self.add_input(tensor)
            base = tensor._base
            if base is None or id(base) not in self.writes:
                return node
            node = replay_views(tensor, self.node_of(base))  # its memory was written to meanwhile
            self.set_node(tensor, node)
            return node
        if tensor._base is not None and trace[2] != storage_of(tensor).version:
            node = replay_views(tensor, self.node_of(tensor._base))
            self.set_node(tensor, node)
            return node
        return trace[1]

    def set_node(self, tensor: Tensor, node: Node) -> None:
        """`node` stands for the tensor from here on."""
        version = 0 if tensor._base is None else storage_of(tensor).version
        tensor._trace = (self, node, version)

    def owns(self, tensor: Tensor) -> bool:
        """Whether the tensor was made during this capture."""
        trace = tensor._trace
        return trace is not None and trace[0] is self and id(tensor) not in self.input_ids

    def add_input(self, tensor: Tensor) -> Node:
        """The node of a tensor that existed before the capture."""
        kind = self.symbolic(tensor, self.env) if self.symbolic is not None else None
        if kind is not None:
            node = OPS["input"](type=kind, name=f"x{len(self.inputs)}")
            if tensor._requires_grad and tensor.is_leaf:
                node.saved = Leaf(tensor)
                autograd_node(tensor).saved.add(node)  # asked about the tensor, eager finds both
            self.shape_inputs.append((tensor, kind.shape))
        elif tensor._requires_grad:
            node = autograd_node(tensor)
        else:
            node = OPS["input"](type=type_of(tensor), name=f"x{len(self.inputs)}")
        self.inputs.append((tensor, node))
        self.input_ids[id(tensor)] = node
        self.set_node(tensor, node)
        return node

    def write(self, tensor: Tensor, node: Node) -> None:
        """Note that a root tensor now has the value of `node`."""
        if tensor._trace is None or tensor._trace[0] is not self:
            self.add_input(tensor)
        if id(tensor) in self.input_ids:
            self.writes[id(tensor)] = tensor
        elif tensor._array.ndim > 1:
            self.ordering.append(tensor._trace[1])  # written to, it lies as it was made
        self.set_node(tensor, node)

    def new_leaf(self, tensor: Tensor, value: Node) -> None:
        """A leaf was written to unseen by autograd: from here on its leaf node is a new one."""
        leaf = OPS["detach"](value)
        leaf.saved = Leaf(tensor)
        self.leaves_before.setdefault(id(tensor), (tensor, tensor._node))
        tensor._node = leaf
        self.new_leaves.append((tensor, leaf))
        self.write(tensor, leaf)

    @property
    def has_numbers(self) -> bool:
        """Whether traced numbers or sizes exist, which the user's objects may have been given."""
        return bool(self.env.hints or self.scalars or self.lift_items)

    def finish(self) -> None:
        """Leaves that got a new node are plain leaves again, escaped sizes plain numbers."""
        self.env.closed = True
        for tensor, before in self.leaves_before.values():
            tensor._node = before if tensor._requires_grad else None
        for tensor, node in self.new_leaves:  # what was computed from there still leads to the leaf
            if tensor._requires_grad:
                autograd_node(tensor).saved.add(node)
        self.leaves_before.clear()  # a leaf made in here lives on only if the user holds it
        self.new_leaves = [(t, n) for t, n in self.new_leaves if id(t) in self.input_ids]

    # --- gradients --------------------------------------------------------------------------

    def touch_grad(self, tensor: Tensor) -> None:
        """``tensor.grad`` is read or about to be assigned; a replay must find the same kind."""
        if id(tensor) not in self.grads and not self.owns(tensor):
            self.node_of(tensor)
            self.grads[id(tensor)] = (tensor, tensor._grad)

    # --- numbers ----------------------------------------------------------------------------

    def add_scalar(
        self, read: CallNumber | Callable[[dict[str, int]], Any], value: Any, label: str
    ) -> Node:
        """A number that is an input of the trace."""
        kind = _F64 if isinstance(value, float) else _I64
        node = OPS["input"](type=kind, name=f"n{len(self.scalars)}", role="scalar")
        node.saved = Saved(np.asarray(value, kind.dtype.numpy), None)  # for backward in here
        self.scalars.append(ScalarInput(read, node, value, label))
        return node

    def lift_scalar(self, container: Any, key: Any, value: Any) -> SymFloat:
        """A number read by library code from ``container[key]``: always an input."""
        label, value = f"{id(container)}[{key!r}]", float(value)
        held = [s.node for s in self.scalars if s.label == label]
        node = held[0] if held else self.add_scalar(
            lambda sizes: float(container[key]), value, label
        )  # fmt: skip
        return SymFloat(self, node, value, lambda args: float(container[key]), label)

    def _float_of_size(self, size: Any) -> SymFloat:
        node = OPS["cast"](OPS["size"](value=size), dtype=dtypes.float64)
        return SymFloat(self, node, float(size.hint))

    def random_inputs(self, generator: Any, key: int, first: int, count: Any) -> tuple[Node, Node]:
        """The key and first counter of a draw as inputs; the generator moves on at replay."""
        before = [d.count for d in self.draws if d.generator is generator]
        self.draws.append(Draw(generator, count))
        key_node = self._generator_key(generator, key)
        offset = self.add_scalar(
            lambda sizes: generator.offset + sum(evaluate(n, sizes) for n in before),
            first, "random offset",
        )  # fmt: skip
        return key_node, offset

    def _generator_key(self, generator: Any, key: int) -> Node:
        label = f"key of {id(generator)}"
        for scalar in self.scalars:
            if scalar.label == label:
                return scalar.node
        return self.add_scalar(lambda sizes: generator.key, key, label)

    # --- devices ----------------------------------------------------------------------------

    def moved(self, source: Tensor, result: Tensor, device: Device) -> Tensor:
        """`result` is a copy of `source` on another device.

        What the trace made of nothing (a factory's tensor) is made there in a replay; another move
        is refused: a program runs on one device.
        """
        order = topological([self.node_of(source)])
        if any(n.op.name == "input" and n.params.get("role") != "scalar" for n in order):
            self.refuse(f"moves a tensor from {source.device} to {device}", user_location())
            self.set_node(result, OPS["input"](type=type_of(result), name="moved"))
            return result
        new: dict[int, Node] = {}
        for node in order:
            inputs = tuple(new[id(x)] for x in node.inputs)
            params = {k: placed(v, device) for k, v in node.params.items()}
            is_number = node.op.name == "input"
            kind = node.type if is_number else placed(node.type, device)
            new[id(node)] = node if is_number else Node(node.op, inputs, params, kind, node.loc)
        self.set_node(result, new[id(order[-1])])
        return result

    # --- memory -----------------------------------------------------------------------------

    def picked(self, result: Tensor, tensor: Tensor, become_view: Callable[[], None]) -> None:
        """`result` is a view of `tensor` at a place that the trace must not depend on."""
        root = tensor if tensor._base is None else tensor._base
        origin = next((base for made, base, *_ in self.picks if made is root), root)
        result._storage = storage_of(origin)
        self.picks.append((result, origin, storage_of(origin).version, become_view))

    def settle_picks(self, written: Tensor) -> None:
        """Before a write to their memory, picks become what they are in eager code: the run goes on
        with views, and is not kept."""
        root = written if written._base is None else written._base
        origins = {id(base) for made, base, *_ in self.picks if root is made or root is base}
        for made, base, _, become_view in self.picks:
            if id(base) in origins and made._base is None:
                become_view()
        on_root(written)

    def picks_show(self, seen: set[int]) -> bool:
        """Whether anybody can tell that the picks are views; `seen` are ids of the tensors whose
        memory is visible after the call."""
        for result, origin, version, _ in self.picks:
            if storage_of(origin).version != version:
                return True
            outlives = id(origin) in seen or not self.owns(origin)
            if outlives and id(result) in seen:
                return True
        return False

    def ask_layout(self, tensor: Tensor, exact: bool = False) -> None:
        """The run depends on how the tensor lies in memory: whether its elements are in row-major
        order, or (`exact`) on its very strides."""
        self.layouts.append((self.node_of(tensor), exact))
        root = tensor if tensor._base is None else tensor._base
        if id(root) in self.input_ids:  # written to, it still lies as it did
            self.layouts.append((self.input_ids[id(root)], exact))

    # --- values that leave for Python -------------------------------------------------------

    def leave(self, tensor: Tensor, value: Any, kind: str) -> Any:
        """A value goes to Python: a branch point, or (once it has varied) a traced number."""
        location = user_location()
        node = self.node_of(tensor)
        if kind in ("item", "bool", "int", "float") and node.shape:
            self.has_one_element(node)
        site = None if location is None else (location.code, location.offset)
        is_float = kind == "item" and tensor._array.dtype.kind == "f"
        if is_float and site in self.lift_items:
            scalar = OPS["reshape"](node, shape=()) if node.shape else node
            if scalar.dtype is not dtypes.float64:
                scalar = OPS["cast"](scalar, dtype=dtypes.float64)
            number = OPS["detach"](scalar)
            number.saved = Saved(np.asarray(value, np.float64), None)
            return SymFloat(self, number, float(value))
        self.branches.append(Branch(node, kind, value, location))
        return value

    def has_one_element(self, node: Node) -> None:
        """Eager code has checked that a value has a single element: it must have again."""
        for size in node.type.shape:
            assert size == 1  # noted as a fact if the size varies

    def decide(
        self, node: Node, outcome: bool, read: Callable[[tuple[Any, ...]], bool] | None = None
    ) -> bool:
        """A comparison of a traced number steers Python."""
        if read is not None:
            self.conditions.append((read, outcome))
            return outcome
        self.branches.append(Branch(node, "bool", outcome, user_location()))
        return outcome

    def pin(self, number: SymFloat, kind: str = "item") -> float:
        """Python needs a traced number itself (kind 'text': to show it)."""
        if number.read is not None:
            self.conditions.append((number.read, number.hint))
            return number.hint
        self.branches.append(Branch(number.node, kind, number.hint, user_location()))
        return number.hint

    def number_input(self, number: LiftedInt) -> Node:
        """The scalar input that a lifted int is where it meets a tensor."""
        for scalar in self.scalars:
            if scalar.label == number.label:
                return scalar.node
        read = number.read
        self.conditions.append((lambda args: fits(read(args)), True))
        return self.add_scalar(CallNumber(read), number.hint, number.label)

    def steer(
        self, number: LiftedInt, read: Callable[[tuple[Any, ...]], Any], outcome: Any
    ) -> None:
        """A decision was taken on a lifted int: a call must come to the same."""
        if self.env.closed:
            return
        self.conditions.append((read, outcome))
        for root in number.roots:
            self.steering[root] = self.steering.get(root, 0) + 1

    def pin_int(self, number: LiftedInt) -> None:
        """Python needs a lifted int itself: it steers, and is not to be lifted again."""
        if self.env.closed:
            return
        self.conditions.append((number.read, number.hint))
        self.fix(number)

    def fix(self, number: LiftedInt) -> None:
        """The next captures do not lift the numbers that this one comes from."""
        for root in number.roots:
            self.steering[root] = MOST_DECISIONS + 1

    def leave_shape(self, source: Tensor, results: tuple[Tensor, ...], op: str) -> None:
        """A result whose shape depends on data: its indices steer the trace."""
        node = self.node_of(source)
        outcome = tuple(host_copy(r._array).tobytes() for r in results)
        self.branches.append(Branch(node, op, outcome, user_location()))
        for result in results:
            values = tuple(host_copy(result._array).tolist())
            self.set_node(result, OPS["constant"](values=values, type=type_of(result)))

    def leave_text(self, tensor: Tensor) -> None:
        """The values of a tensor become text: they steer the trace, as long as they are few."""
        where = user_location()
        if tensor._array.size > MOST_SHOWN:
            self.refuse("makes text of a large tensor", where)
            return
        self.branches.append(Branch(self.node_of(tensor), "text", tensor._array.tolist(), where))

    def leave_array(self, tensor: Tensor) -> None:
        """`.numpy()` shares memory with the trace: what happens to it there is out of sight."""
        self.refuse("tensor.numpy() inside a compiled function", user_location())

    def foreign_array(self, tensor: Tensor) -> None:
        """A tensor over a NumPy array that Python code holds."""
        self.refuse("a NumPy array becomes a tensor inside a compiled function", user_location())

    def foreign_data(self) -> None:
        """``tensor([...])`` of a sequence that holds arrays, tensors or traced numbers."""
        self.refuse("tensor() of arrays or tensors inside a compiled function", user_location())

    def note_error(self, message: str, of_types: bool) -> None:
        """An error is about to be raised. If the function catches it, it does so for these sizes;
        unless only types matter, the elements may matter as well.
        """
        self.raised = True
        self.env.fix()
        if of_types:
            self.caught = [m for m in self.caught if m != message]
        else:
            self.caught.append(message)

    def refuse(self, reason: str, location: Location | None) -> None:
        """Something happened that a replay could not repeat."""
        self.unsound.append((reason, location))
