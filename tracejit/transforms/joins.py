"""Sums of disjoint slices written into zeros become one write of the parts.

The gradient of `split`, `chunk` or slices of one tensor is a sum of tensors that are zero outside a
slice each; adding them up costs a pass over memory per part. Invariant: no bit changes; `0.0 + x`
turns -0.0 into 0.0, which `sum_of_parts` does as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit.ir.graph import Graph, rebuilt, users_of
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import SymInt, size_key
from tracejit.ir.types import TensorType
from tracejit.ops.declare import NUMERIC, check_domain, check_same
from tracejit.transforms.simplify import constant_value


def _infer(types: Sequence[TensorType], *, axis: int, starts: Any, size: Any) -> TensorType:
    check_domain("sum_of_parts", types, NUMERIC)
    whole = [t.with_shape((*t.shape[:axis], size, *t.shape[axis + 1 :])) for t in types]
    check_same("sum_of_parts", whole)
    return whole[0]


def _numpy(*parts: np.ndarray, axis: int, starts: Any, size: Any) -> np.ndarray:
    shape = parts[0].shape
    total = np.zeros((*shape[:axis], size, *shape[axis + 1 :]), parts[0].dtype)
    for part, start in zip(parts, starts, strict=True):
        where = (slice(None),) * axis + (slice(start, start + part.shape[axis]),)
        total[where] += part
    return total


def _vjp(g: Node, out: Node, *parts: Node, axis: int, starts: Any, size: Any) -> tuple[Node, ...]:
    slices = []
    for part, start in zip(parts, starts, strict=True):
        low = tuple(start if i == axis else 0 for i in range(part.ndim))
        high = tuple(a + n for a, n in zip(low, part.shape, strict=True))
        slices.append(OPS["slice"](g, starts=low, stops=high, steps=(1,) * part.ndim))
    return tuple(slices)


sum_of_parts = Op(
    "sum_of_parts", "movement", _infer, _numpy, _vjp,
    "Zeros with parts added at `starts` along `axis`, where they do not overlap.",
    names=("*parts",),
)  # fmt: skip


class _Part(NamedTuple):
    """A value added to zeros from `start` to `stop` along one axis."""

    value: Node
    axis: int
    start: Any
    stop: Any


def run(graph: Graph) -> Graph:
    """`graph` with sums of disjoint parts joined."""
    nodes = graph.nodes()
    users = users_of(nodes)
    results = {id(n) for n in graph.results}
    parts: dict[int, list[_Part]] = {}
    for node in nodes:
        found = _part_of(node) if node.op.name == "slice_scatter" else None
        if node.op.name == "add":
            alone = all(len(users[id(x)]) == 1 and id(x) not in results for x in node.inputs)
            sides = [parts.get(id(x)) for x in node.inputs]
            found = _together(*sides) if alone and all(sides) else None  # type: ignore[arg-type]
        if found:
            parts[id(node)] = found
    new: dict[int, Node] = {id(n): n for n in graph.inputs}
    count = 0
    for node in nodes:
        held = parts.get(id(node), ())
        if len(held) > 1:
            new[id(node)] = _joined(node, held, new)
            count += 1
            continue
        new[id(node)] = rebuilt(node, new)
    notes = f"{count} rewrites{' (sum_of_parts)' if count else ''}"
    return graph.with_results([new[id(n)] for n in graph.results], notes)


def _joined(node: Node, parts: Sequence[_Part], new: dict[int, Node]) -> Node:
    axis = parts[0].axis
    made = sum_of_parts(
        *(new[id(p.value)] for p in parts),
        axis=axis, starts=tuple(p.start for p in parts), size=node.shape[axis],
    )  # fmt: skip
    made.loc = node.loc
    return made


def _part_of(node: Node) -> list[_Part] | None:
    """The part of zeros that a slice_scatter writes, if it is cut along one axis in steps of 1."""
    zero, value = node.inputs
    number = constant_value(zero)
    if number is None or number != 0 or str(number).startswith("-") or node.dtype.kind == "b":
        return None
    starts, stops = node.params["starts"], node.params["stops"]
    if any(type(s) is SymInt or s != 1 for s in node.params["steps"]):
        return None
    cut = [
        i for i, n in enumerate(node.shape)
        if size_key(starts[i]) != 0 or size_key(stops[i]) != size_key(n)
    ]  # fmt: skip
    if len(cut) != 1:
        return None
    return [_Part(value, cut[0], starts[cut[0]], stops[cut[0]])]


def _together(a: list[_Part], b: list[_Part]) -> list[_Part] | None:
    """Both lists in order, if all parts are along one axis and known not to overlap."""
    rest = [*a, *b]
    if any(p.axis != rest[0].axis for p in rest):
        return None
    if all(type(s) is not SymInt for p in rest for s in (p.start, p.stop)):
        rest.sort(key=lambda p: (p.start, p.stop))
        apart = all(p.stop <= q.start for p, q in zip(rest, rest[1:], strict=False))
        return rest if apart else None
    return _chain(rest)


def _chain(rest: list[_Part]) -> list[_Part] | None:
    """Parts with symbolic bounds, each starting where another stops."""
    stops = {size_key(p.stop) for p in rest}
    first = [p for p in rest if size_key(p.start) not in stops]
    if len(first) != 1:
        return None
    ordered = first
    while len(ordered) < len(rest):
        end = size_key(ordered[-1].stop)
        following = [p for p in rest if size_key(p.start) == end and p is not ordered[-1]]
        if len(following) != 1:
            return None
        ordered = [*ordered, following[0]]
    return ordered
