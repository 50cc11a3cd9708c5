"""Groups of nodes that become one kernel, and what fusion asks of a node.

Invariant: an answer depends on ops, dtypes, symbolic sizes and axes only, never on a concrete size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.ir.node import Node
from tracejit.ir.sizes import is_one, size_key
from tracejit.transforms.views import AxisMap, base_and_views

UNCHECKED = 1 << 30  # the rank of what no check needs
REDUCTIONS = frozenset({"reduce_sum", "reduce_prod", "reduce_max", "reduce_min"})


def is_pointwise(node: Node) -> bool:
    """Whether each element depends on one element of every input (of a gather: of the index)."""
    return node.op.kind in ("elementwise", "random") or node.op.name == "gather"


def reads_anywhere(node: Node, x: Node) -> bool:
    """Whether the node reads elements of its input `x` at places that only a run knows."""
    return node.op.name == "gather" and x is node.inputs[0]


def is_reduction(node: Node) -> bool:
    """Whether the node reduces a run of axes in a kernel (over no axes it is left to the host)."""
    return node.op.name in REDUCTIONS and bool(node.params["axes"])


def reads_positions(node: Node) -> bool:
    """Whether the node reads positions or computed places, which have no strides to merge."""
    return node.op.name == "gather" or any(
        base_and_views(x)[0].op.name == "iota" for x in node.inputs
    )


def needs_merged_axes(shape: str, domain: Sequence[Any], axes: tuple[int, int]) -> bool:
    """Whether the loop shape has to walk several axes as one."""
    first, last = axes
    runs = {
        "row": [domain[first:last]],
        "column": [domain[:first], domain[first:last], domain[last:]],
    }.get(shape, [])
    return any(sum(not is_one(n) for n in run) > 1 for run in runs)


def reduction_shape(node: Node) -> str:
    """'full' over all axes, 'row' over the last ones, else 'column'."""
    axes, ndim = node.params["axes"], node.inputs[0].ndim
    if len(axes) == ndim:
        return "full"
    return "row" if axes[-1] == ndim - 1 else "column"


def sizes_key(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Hashable; equal keys mean equal shapes for all values of the symbols."""
    return tuple(map(size_key, shape))


class Group:
    """Nodes of one kernel to be. `level` says 'element' or 'row' of each; `lift` the row's axes."""

    def __init__(self, number: int, shape: str, domain: tuple[Any, ...], axes: tuple[int, int]):
        self.number = number
        self.shape = shape
        self.domain = domain
        self.key = sizes_key(domain)
        self.axes = axes
        self.nodes: list[Node] = []
        self.level: dict[int, str] = {}
        self.lift: dict[int, AxisMap] = {}
        self.above = 0  # bit set of the groups that this one depends on, directly or not
        self.rank = UNCHECKED  # the first check that needs it: those run first
        self.bit = 1 << number
        self.is_read = False  # whether any group ever depended on it


def lifted(group: Group, node: Node) -> AxisMap:
    """The axis map by which a row-level value is spread over the group's domain."""
    return group.lift[id(node)]


def compose(outer: AxisMap, inner: AxisMap) -> AxisMap:
    """The axis map of `inner` seen through `outer`."""
    return tuple(None if a is None else inner[a] for a in outer)


def reduction_lift(node: Node) -> AxisMap:
    """Axes of the reduced value along each axis of what was reduced (None along the reduced)."""
    shape, axes = node.inputs[0].shape, node.params["axes"]
    lift: list[int | None] = []
    count = 0
    for i, n in enumerate(shape):
        if i in axes:
            lift.append(None)
            continue
        lift.append(None if is_one(n) else count)
        count += 1
    return tuple(lift)


def row_lift(group: Group, shape: Sequence[Any]) -> AxisMap | None:
    """How a value of `shape` lies along the rows of a row group: its axis for each domain axis."""
    outer = group.domain[: group.axes[0]]
    own = [(size_key(n), i) for i, n in enumerate(shape) if not is_one(n)]
    if [k for k, _ in own] != [size_key(n) for n in outer if not is_one(n)]:
        return None
    labels = iter([i for _, i in own])
    lift = [None if is_one(n) else next(labels) for n in outer]
    return tuple(lift) + (None,) * (len(group.domain) - len(outer))


def group_name(shape: str, nodes: Sequence[Node]) -> str:
    """A readable name: the loop shape and the last ops, in order."""
    ops: list[str] = []
    for node in nodes:
        name = node.op.name.replace("reduce_", "")
        if name not in ("cast", "where") and name not in ops:
            ops.append(name)
    return "_".join([shape, *(ops[-4:] or ["copy"])])
