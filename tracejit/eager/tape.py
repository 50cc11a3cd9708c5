"""The eager tape: which node a tensor has, what a node keeps alive, and captures in progress.

A tensor that requires grad holds its node. While a capture runs, every tensor has one: those
without `requires_grad` are noted in the capture. Invariant: a node's `saved` array is kept only
if some gradient rule reads it (found by tracing the rule), with the version it had.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.errors import Location, user_location
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType, TupleType

if TYPE_CHECKING:
    from tracejit.tensor import Tensor


class Storage:
    """What tensors that share memory share besides: how often it was written to, and where.

    hidden  how many of the writes a backward pass does not notice: those through ``.data``.
    """

    __slots__ = ("version", "hidden", "changed_at")

    def __init__(self) -> None:
        self.version = 0
        self.hidden = 0
        self.changed_at: Location | None = None

    @property
    def noticed(self) -> int:
        """The version that autograd goes by, and that users see."""
        return self.version - self.hidden


class DataStorage(Storage):
    """The storage as ``.data`` shows it: writes count here, and as hidden ones in the original."""

    __slots__ = ("original", "own")

    def __init__(self, original: Storage) -> None:
        self.original = original
        self.own = 0
        self.changed_at = None

    @property
    def version(self) -> int:
        """That of the original: views are replayed by it."""
        return self.original.version

    @version.setter
    def version(self, value: int) -> None:
        written = value - self.original.version
        self.own += written
        self.original.version += written
        self.original.hidden += written

    @property
    def hidden(self) -> int:  # type: ignore[override]
        """Writes that were not made through this view."""
        return self.original.version - self.own


def storage_of(tensor: Tensor) -> Storage:
    """The tensor's storage record, made at first need."""
    storage = tensor._storage
    if storage is None:
        storage = tensor._storage = Storage()
    return storage


class Saved:
    """An array that a gradient rule will read, and the version it must still have."""

    __slots__ = ("array", "storage", "version", "hidden")

    def __init__(self, array: Any, storage: Storage | None):
        self.array = array
        self.storage = storage
        self.version = 0 if storage is None else storage.version
        self.hidden = 0 if storage is None else storage.hidden

    @property
    def is_current(self) -> bool:
        """Whether no write that autograd notices has changed the memory since."""
        return self.storage is None or self.storage.noticed == self.version - self.hidden

    @property
    def was_changed(self) -> bool:
        """Whether any write has changed the memory since."""
        return self.storage is not None and self.storage.version != self.version


class Leaf(Saved):
    """The mark of a leaf's node: gradients that arrive here accumulate in ``tensor.grad``.

    older  references to other nodes of the leaf: earlier ones, whose saved values it does not have
           any more, and those of captures.
    """

    __slots__ = ("tensor", "older")

    def __init__(self, tensor: Tensor, older: tuple[Any, ...] = ()):
        super().__init__(None, None)
        self.tensor = weakref.ref(tensor)
        self.older = older

    def add(self, node: Node) -> None:
        """`node` stands for the leaf as well."""
        self.older = (*(r for r in self.older if r() is not None), weakref.ref(node))


class Constant(Saved):
    """The value of a tensor without gradient: what a capture computed it from is not its history"""

    __slots__ = ()


class SavedCall(Saved):
    """What a compiled call keeps for its backward pass; its results are freed one by one.

    spent    results whose gradient reads a value that is freed.
    shadows  what gradients of gradients put on the tape for the nodes within the call.
    """

    __slots__ = ("spent", "shadows")

    def __init__(self, array: Any) -> None:
        super().__init__(array, None)
        self.spent: set[int] = set()
        self.shadows: list[dict[Node, Node]] = []


FREED = Saved(None, None)
NEEDS = Saved(None, None)
"""The mark of a node whose rule reads saved values of its inputs, and whose own is not kept."""


def root_of(tensor: Tensor) -> Tensor:
    """The tensor whose memory this one views (itself if it is no view)."""
    return tensor if tensor._base is None else tensor._base


def type_of(tensor: Tensor) -> TensorType:
    """The concrete type of the tensor's data."""
    array = tensor._array
    return TensorType(dtypes.from_numpy(array.dtype), array.shape, tensor._device)


def make_input(tensor: Tensor, name: str = "x") -> Node:
    """A node that stands for the tensor's present value."""
    return OPS["input"](type=type_of(tensor), name=name)


def autograd_node(tensor: Tensor) -> Node:
    """The node of a tensor that requires grad; a leaf gets one at first use."""
    node = tensor._node
    if node is None:
        node = tensor._node = make_input(tensor)
        node.saved = Leaf(tensor)
        return node
    held = node.saved
    if held is not None and type(held) is Leaf and held.array is not None:
        if held.version != storage_of(tensor).version:  # changed unseen: a new value, a new node
            known = tuple(r for r in held.older if r() is not None)
            older = (*known, weakref.ref(node))
            node = tensor._node = make_input(tensor)
            node.saved = Leaf(tensor, older)
            return node
    base = tensor._base
    if base is not None and base._requires_grad and tensor._seen != storage_of(tensor).version:
        node = tensor._node = replay_views(tensor, node_of(base))
        tensor._seen = storage_of(tensor).version
    return node


def leaf_nodes(tensor: Tensor) -> list[Node]:
    """All nodes that stand for the tensor on the tape: several if a leaf was changed unseen."""
    node = node_of(tensor)
    if state.capture is not None or type(node.saved) is not Leaf:
        return [node]
    alive = [reference() for reference in node.saved.older]
    return [node, *(n for n in alive if n is not None)]


def replay_views(tensor: Tensor, node: Node) -> Node:
    """The node of a view, from the present node of its base."""
    for op, params in tensor._view:
        node = op(node, **params)
    return node


def on_root(tensor: Tensor) -> Tensor:
    """The same view, of what its base has become a view of (`dispatch.become_view`)."""
    base = tensor._base
    if base is not None and base._base is not None:
        tensor._base, tensor._view = base._base, (*base._view, *tensor._view)
    return tensor


def node_of(tensor: Tensor) -> Node:
    """The node whose value is the tensor's present value, in a capture or on the tape."""
    capture = state.capture
    if capture is not None:
        return capture.node_of(tensor)
    if tensor._requires_grad:
        return autograd_node(tensor)
    return make_input(tensor)


def attach(tensor: Tensor, node: Node, requires_grad: bool) -> None:
    """Give a fresh result its node."""
    if requires_grad:
        tensor._requires_grad = True
        tensor._node = node
    if state.capture is not None:
        state.capture.set_node(tensor, node)


# --- what to save ----------------------------------------------------------------------------

_needs: dict[Any, tuple[tuple[int, ...], bool]] = {}


def rule_needs(node: Node, mask: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
    """Which inputs' values, and whether the output's, the gradient rule of `node` reads.

    Found by running the rule once on placeholders and looking at what its result reaches.
    """
    op = node.op
    names = tuple(sorted(node.params)) if node.params else ()
    key = (op, mask, tuple([x.type.dtype for x in node.inputs]), names)
    found = _needs.get(key)
    if found is None:
        found = _needs[key] = _trace_rule(op, node, mask)
    return found


def nodes_read(node: Node, active: set[Node]) -> list[Node]:
    """The nodes, of those a gradient reaches, that must not be freed for the rule of `node` to run:
    itself, unless its rule reads nothing, and those whose values it reads.
    """
    if node.op.name == "call":
        return [node]
    if node.op.name == "get":
        return []
    wanted, output = rule_needs(node, tuple([x in active for x in node.inputs]))
    if not wanted and not output:
        return []
    found = [node]
    for x in (node.inputs[i] for i in wanted):
        while x.saved is None and x.op.name in ("cast", "broadcast_to"):
            x = x.inputs[0]
        if x in active:
            found.append(x)
    return found


def _trace_rule(op: Op, node: Node, mask: tuple[bool, ...]) -> tuple[tuple[int, ...], bool]:
    if op.vjp is None:
        return (), False
    make = OPS["input"]
    xs = [make(type=x.type, name=f"x{i}") for i, x in enumerate(node.inputs)]
    if isinstance(node.type, TupleType):
        g: Any = tuple(make(type=t, name=f"g{i}") for i, t in enumerate(node.type.items))
        items = tuple(make(type=t, name=f"y{i}") for i, t in enumerate(node.type.items))
        parts = op.vjp(g, items, *xs, **node.params)
        outs: tuple[Node, ...] = items
    else:
        g = make(type=node.type, name="g")
        outs = (make(type=node.type, name="y"),)
        parts = op.vjp(g, outs[0], *xs, **node.params)
    wanted = [p for p, m in zip(parts, mask, strict=True) if m and isinstance(p, Node)]
    reached = {id(n) for n in topological(wanted)}
    inputs = tuple(i for i, x in enumerate(xs) if id(x) in reached)
    return inputs, any(id(y) in reached for y in outs)


def save_for_backward(node: Node, operands: Sequence[Any], outputs: tuple[Tensor, ...]) -> None:
    """Keep alive what the rule of `node` will read: values of inputs and of outputs.

    `operands` are tensors or numbers; a cast or broadcast operand is saved as it was before.
    """
    mask = tuple([getattr(x, "_requires_grad", False) for x in operands])
    wanted, output = rule_needs(node, mask)
    for i in wanted:
        if hasattr(operands[i], "_array"):
            constant = state.capture is not None and not operands[i]._requires_grad
            save_value(_own_node(operands[i], node.inputs[i]), operands[i],
                       Constant if constant else Saved)  # fmt: skip
    if wanted and not output and node.saved is None:
        node.saved = NEEDS
    if output:
        if isinstance(node.type, TupleType):
            node.saved = Saved(tuple(t._array for t in outputs), None)
        else:
            save_value(node, outputs[0])


def _own_node(tensor: Tensor, recorded: Node) -> Node:
    if tensor._requires_grad or state.capture is not None:
        return node_of(tensor)
    while recorded.op.name != "input":  # a fresh input under a cast or broadcast
        recorded = recorded.inputs[0]
    return recorded


def save_value(node: Node, tensor: Tensor, kind: type[Saved] = Saved) -> None:
    """Keep the tensor's array, with the version it has now, on its node."""
    held = node.saved
    if held is None or held is FREED or held is NEEDS:
        node.saved = kind(tensor._array, storage_of(tensor))
        if state.saving is not None:
            state.saving.append(node)
    elif type(held) is Leaf:
        held.array, held.storage = tensor._array, storage_of(tensor)
        held.version, held.hidden = held.storage.version, held.storage.hidden


def bump_version(tensor: Tensor) -> None:
    """Note that the tensor's memory was written to, and where."""
    note_write(tensor, user_location())


def note_write(tensor: Tensor, place: Location | None) -> None:
    """The memory of a tensor was written to, by the user's code at `place`."""
    storage = storage_of(tensor)
    storage.version += 1
    storage.changed_at = place


def note_writes(tensors: Sequence[Tensor], places: Sequence[Location | None]) -> None:
    """As `note_write`, for several."""
    for tensor, place in zip(tensors, places, strict=True):
        storage = tensor._storage or storage_of(tensor)
        storage.version += 1
        storage.changed_at = place


def changed_message(saved: Saved, op: str) -> str:
    """What to say about a saved value that was overwritten."""
    storage = saved.storage
    assert storage is not None
    place = f" at {storage.changed_at.full()}" if storage.changed_at is not None else ""
    return (
        f"a tensor needed for the gradient of {op} was changed by an in-place operation{place} "
        f"(version {storage.noticed}, expected {saved.version - saved.hidden}); "
        "clone it before the change"
    )
