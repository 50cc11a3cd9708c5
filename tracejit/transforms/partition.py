"""What a backward graph takes from its forward graph: saved, or worked out again.

The cheapest set of values to save is a minimum cut between what the forward pass must compute and
what the backward pass reads, each value weighing its bytes (the idea of AOTAutograd's min-cut
partitioner). Invariant: results do not change, only what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.ir.node import Node, topological
from tracejit.ir.sizes import hints_of, product
from tracejit.ir.types import TensorType
from tracejit.transforms.maxflow import INFINITE, FlowNetwork

_RECOMPUTABLE = ("elementwise", "movement", "source", "random")
_PER_VALUE = 64
"""Weight of saving anything at all, in bytes: of equal cuts the one with fewer values wins."""


def residuals(
    gradients: Sequence[Node], at_hand: Sequence[Node], outputs: Sequence[Node],
    kept: Sequence[Node] = (),
) -> list[Node]:  # fmt: skip
    """Forward nodes whose values the backward graph should be given.

    at_hand  inputs that may be read again at no cost; other inputs count as values to save.
    kept     values that are stored in any case: saving them costs nothing.

    Pointwise values, views, constants and counter-based random numbers can be worked out again;
    all others are computed once.
    """
    forward = list(topological(outputs))
    known = {id(n) for n in at_hand}
    free = {id(n) for n in kept}
    position = {id(n): i for i, n in enumerate(forward)}
    source, sink = 2 * len(forward), 2 * len(forward) + 1
    network = FlowNetwork(2 * len(forward) + 2)
    for i, node in enumerate(forward):
        weight = 1 if id(node) in free else _weight(node)
        network.add_edge(2 * i, 2 * i + 1, 0 if id(node) in known else weight)
        if id(node) in known or node.op.name == "input" or not _is_recomputable(node):
            network.add_edge(source, 2 * i, INFINITE)
        else:
            for value in node.inputs:
                network.add_edge(2 * position[id(value)] + 1, 2 * i, INFINITE)
    for node in _read_by_backward(gradients, position):
        network.add_edge(2 * position[id(node)] + 1, sink, INFINITE)
    below = network.sink_side(source, sink)
    return [
        node
        for i, node in enumerate(forward)
        if 2 * i not in below and 2 * i + 1 in below and id(node) not in known
    ]


def _is_recomputable(node: Node) -> bool:
    if not isinstance(node.type, TensorType):
        return False
    return node.op.kind in _RECOMPUTABLE or node.op.name in ("detach", "alias", "with_value")


def _weight(node: Node) -> int:
    if not isinstance(node.type, TensorType):
        return INFINITE  # its projections can be saved, the tuple cannot
    size = node.type.dtype.itemsize
    return int(product(hints_of(node.type.shape))) * size + _PER_VALUE


def _read_by_backward(gradients: Sequence[Node], forward: dict[int, int]) -> list[Node]:
    """Forward values that backward nodes read, and gradients that are forward values."""
    found = {id(g): g for g in gradients if id(g) in forward}
    for user in topological(gradients):
        if id(user) not in forward:
            found.update({id(v): v for v in user.inputs if id(v) in forward})
    return list(found.values())
