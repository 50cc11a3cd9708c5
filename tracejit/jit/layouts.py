"""How results lie in memory: a replay gives them in the order in which the captured run gave them.

Invariant: a trace is replayed only where the inputs from which a result may have its order lie as
they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.node import Node

Order = tuple[int, ...]

_NEW_ORDER = ("contraction", "random", "source")
"""Kinds of ops whose results are in row-major order, however their inputs lie in memory."""


def order_of(array: Any) -> Order:
    """The axes longer than 1 from the largest steps to the smallest, () if that is row-major order.

    Axes along which elements repeat come last, as negative numbers.
    Example: ``order_of(np.ones((2, 3)).T)`` is ``(1, 0)``.
    """
    if array.flags.c_contiguous:
        return ()
    axes = [i for i, n in enumerate(array.shape) if n != 1]
    moving = sorted((i for i in axes if array.strides[i]), key=lambda i: -abs(array.strides[i]))
    found = (*moving, *(-1 - i for i in axes if not array.strides[i]))
    return () if list(found) == axes else found


def order_of_result(array: Any) -> Order:
    """All axes from the largest steps to the smallest; () for row-major order, and where elements
    repeat. Gaps (of a slice) are none of a result's."""
    if type(array) is not np.ndarray or not order_of(array) or 0 in array.strides:
        return ()
    return tuple(sorted(range(array.ndim), key=lambda i: -abs(array.strides[i])))


def inverse(order: Order) -> Order:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(order)), key=lambda i: order[i]))


def may_have_order_of(roots: Sequence[Node]) -> list[Node]:
    """Inputs from which the roots may have their order in memory."""
    found: list[Node] = []
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.op.name == "input":
            found.append(node)
        elif node.op.kind not in _NEW_ORDER:
            stack.extend(node.inputs)
    return found


def inputs_that_order(roots: Sequence[Node]) -> set[int]:
    """Ids of the inputs of several dimensions from which results may have their order."""
    several = [n for n in roots if len(n.type.shape) > 1]
    return {id(n) for n in may_have_order_of(several) if len(n.type.shape) > 1}
