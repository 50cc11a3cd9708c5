"""What a backward graph takes from its forward graph: saved, or worked out again.

Source of the idea: a minimum cut between forward and backward (as in "Recomputation with min-cut",
AOTAutograd's partitioner). Invariant: results do not change, only what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.ir.node import Node, topological
from tracejit.ir.types import TupleType

_FREE_KINDS = ("movement", "source", "structure")
RECOMPUTE_COST = 40
"""A value is worked out again rather than saved while its chain costs less, in additions."""


def residuals(
    gradients: Sequence[Node],
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    seeds: Sequence[Node],
) -> list[Node]:
    """Forward nodes whose values the backward graph should be given.

    Inputs of the graph are always at hand; so is what follows from them by cheap pointwise ops.
    """
    forward = {id(n) for n in topological(outputs)}
    at_hand = {id(n): 0 for n in (*inputs, *seeds)}
    saved: list[Node] = []
    read = _read_by_backward(gradients, forward)
    for node in topological(gradients):
        if id(node) in at_hand:
            continue
        cost = _recompute_cost(node, at_hand)
        if id(node) not in forward:
            continue
        if cost is not None and cost <= RECOMPUTE_COST:
            at_hand[id(node)] = cost
        elif id(node) in read:
            saved.append(node)
            at_hand[id(node)] = 0
    return saved


def _recompute_cost(node: Node, at_hand: dict[int, int]) -> int | None:
    """Additions per element to work the node out from what is at hand; None if it cannot be."""
    if node.op.kind not in ("elementwise", *_FREE_KINDS) or isinstance(node.type, TupleType):
        return None
    total = node.op.cost if node.op.kind == "elementwise" else 0
    for value in node.inputs:
        if id(value) not in at_hand:
            return None
        total += at_hand[id(value)]
    return total


def _read_by_backward(gradients: Sequence[Node], forward: set[int]) -> set[int]:
    """Ids of values that backward nodes read (and of gradients that are forward values)."""
    read = {id(g) for g in gradients}
    for user in topological(gradients):
        if id(user) not in forward:
            read.update(id(value) for value in user.inputs)
    return read
