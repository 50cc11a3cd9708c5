"""A capture in progress: every tensor has a node, and what is met for the first time is an input.

Invariant: a tensor's trace node stands for its present value, also after in-place writes and
writes through views; writes to tensors that existed before the capture are effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracejit.eager.tape import Leaf, autograd_node, replay_views, storage_of, type_of
from tracejit.ir.node import Node
from tracejit.ir.op import OPS

if TYPE_CHECKING:
    from tracejit.tensor import Tensor


class ScalarSource:
    """A Python number read from ``container[key]`` that is an input of the trace."""

    __slots__ = ("container", "key", "node", "value")

    def __init__(self, container: Any, key: Any, node: Node, value: Any):
        self.container = container
        self.key = key
        self.node = node
        self.value = value


class Capture:
    """The nodes of one run of a function.

    inputs   (tensor, node) for every tensor that was met but not made here.
    writes   tensors that existed before and were written to, by id.
    grads    tensors that existed before and whose ``.grad`` was assigned, by id.
    checks   conditions that a replay must verify before effects take place.
    unsound  (reason, location) if something happened that a replay could not repeat.
    """

    def __init__(self) -> None:
        self.inputs: list[tuple[Tensor, Node]] = []
        self.input_ids: dict[int, Node] = {}
        self.writes: dict[int, Tensor] = {}
        self.grads: dict[int, Tensor] = {}
        self.scalars: list[ScalarSource] = []
        self.checks: list[tuple[Node, str]] = []
        self.leaf_resets: list[Tensor] = []
        self.unsound: list[tuple[str, Any]] = []
        self.random_streams: list[Any] = []

    def node_of(self, tensor: Tensor) -> Node:
        """The node of the tensor's present value; a tensor not met before becomes an input."""
        trace = tensor._trace
        if trace is None or trace[0] is not self:
            return self.add_input(tensor)
        if tensor._base is not None and trace[2] != storage_of(tensor).version:
            node = replay_views(tensor, self.node_of(tensor._base))
            self.set_node(tensor, node)
            return node
        node = trace[1]
        return node  # type: ignore[no-any-return]

    def set_node(self, tensor: Tensor, node: Node) -> None:
        version = 0 if tensor._base is None else storage_of(tensor).version
        tensor._trace = (self, node, version)

    def owns(self, tensor: Tensor) -> bool:
        """Whether the tensor was made during this capture."""
        trace = tensor._trace
        return trace is not None and trace[0] is self and id(tensor) not in self.input_ids

    def add_input(self, tensor: Tensor) -> Node:
        """The node of a tensor that existed before: its autograd node, or a fresh input."""
        if tensor._requires_grad:
            node = autograd_node(tensor)
        else:
            node = OPS["input"](type=type_of(tensor), name=f"x{len(self.inputs)}")
        self.inputs.append((tensor, node))
        self.input_ids[id(tensor)] = node
        self.set_node(tensor, node)
        return node

    def add_scalar(self, container: Any, key: Any, node: Node, value: Any) -> None:
        self.scalars.append(ScalarSource(container, key, node, value))

    def write(self, tensor: Tensor, node: Node) -> None:
        """Note that a root tensor now has the value of `node`."""
        if tensor._trace is None or tensor._trace[0] is not self:
            self.add_input(tensor)
        if id(tensor) in self.input_ids:
            self.writes[id(tensor)] = tensor
        self.set_node(tensor, node)

    def new_leaf(self, tensor: Tensor, value: Node) -> None:
        """A leaf was written to unseen by autograd: from here on its leaf node is a new one."""
        leaf = OPS["detach"](value)
        leaf.saved = Leaf(tensor)
        tensor._node = leaf
        self.leaf_resets.append(tensor)
        self.write(tensor, leaf)

    def assign_grad(self, tensor: Tensor) -> None:
        """Note that ``tensor.grad`` was set or cleared."""
        if not self.owns(tensor):
            self.grads[id(tensor)] = tensor

    def refuse(self, reason: str, location: Any) -> None:
        """Something happened that a replay could not repeat."""
        self.unsound.append((reason, location))

    def finish(self) -> None:
        """Leaves that got a new node in the capture are plain leaves again."""
        for tensor in self.leaf_resets:
            tensor._node = None
