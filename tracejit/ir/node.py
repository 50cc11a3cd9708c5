"""A node *is* its value: an op applied to inputs, with its type and the user's line.

Invariant: a node never changes after it is made (`saved` is the eager tape's note of the array
that a gradient rule will read, and is not part of the node's meaning).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracejit.dtypes import DType
from tracejit.errors import Location
from tracejit.ir import op as op_module
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import Device, TensorType, TupleType, Type


class Node:
    """``Node(op, inputs, params, type, loc)``. Arithmetic on nodes makes nodes."""

    __slots__ = ("op", "inputs", "params", "type", "loc", "saved", "__weakref__")

    op: Op
    inputs: tuple[Node, ...]
    params: dict[str, Any]
    type: Any  # TensorType, or TupleType for ops with several results
    loc: Location | None
    saved: Any

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        params: dict[str, Any],
        type: Type,
        loc: Location | None = None,
    ):
        self.op = op
        self.inputs = inputs
        self.params = params
        self.type = type
        self.loc = loc
        self.saved = None

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def device(self) -> Device:
        return self.type.device

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    def replace(self, inputs: tuple[Node, ...]) -> Node:
        """The same op on other inputs of the same types."""
        return Node(self.op, inputs, self.params, self.type, self.loc)

    def __getitem__(self, index: int) -> Node:
        """Projection of an op with several results."""
        if not isinstance(self.type, TupleType):
            raise TypeError(f"{self.op.name} has one result")
        return OPS["get"](self, index=index)

    def __add__(self, other: Any) -> Node:
        return _binary("add", self, other)

    def __radd__(self, other: Any) -> Node:
        return _binary("add", other, self)

    def __sub__(self, other: Any) -> Node:
        return _binary("sub", self, other)

    def __rsub__(self, other: Any) -> Node:
        return _binary("sub", other, self)

    def __mul__(self, other: Any) -> Node:
        return _binary("mul", self, other)

    def __rmul__(self, other: Any) -> Node:
        return _binary("mul", other, self)

    def __truediv__(self, other: Any) -> Node:
        return _binary("div", self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return _binary("div", other, self)

    def __neg__(self) -> Node:
        return OPS["neg"](self)

    def __lt__(self, other: Any) -> Node:
        return _binary("lt", self, other)

    def __le__(self, other: Any) -> Node:
        return _binary("le", self, other)

    def __gt__(self, other: Any) -> Node:
        return _binary("gt", self, other)

    def __ge__(self, other: Any) -> Node:
        return _binary("ge", self, other)

    def __and__(self, other: Any) -> Node:
        return _binary("bitwise_and", self, other)

    def __or__(self, other: Any) -> Node:
        return _binary("bitwise_or", self, other)

    def __invert__(self) -> Node:
        return OPS["bitwise_not"](self)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{x.op.name}:{x.type}" for x in self.inputs)
        return f"<{self.op.name}({inputs}) : {self.type}>"


def full_like(node: Node, value: Any) -> Node:
    """A constant of `node`'s type."""
    return OPS["full"](value=value, type=node.type)


def _binary(name: str, left: Any, right: Any) -> Node:
    if not isinstance(left, Node):
        left = full_like(right, left)
    elif not isinstance(right, Node):
        right = full_like(left, right)
    return OPS[name](left, right)


op_module._classes.append(Node)


def is_tensor(node: Node) -> bool:
    """Whether the node has one result."""
    return isinstance(node.type, TensorType)


def topological(roots: Iterable[Node]) -> list[Node]:
    """Every node reachable from `roots`, each after its inputs. No recursion: traces are deep."""
    order: list[Node] = []
    done: set[Node] = set()
    for root in roots:
        if root in done:
            continue
        done.add(root)
        stack = [(root, iter(root.inputs))]
        while stack:
            node, rest = stack[-1]
            for child in rest:
                if child not in done:
                    done.add(child)
                    stack.append((child, iter(child.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order
