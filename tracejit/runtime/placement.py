"""Where products and joins of parts put their results, so that nobody has to copy them later.

A value that is only read transposed and regrouped is stored in the order in which it is read; the
parts of a join are stored where they lie in the whole. Invariant: only values whose writer can
store to any layout are placed (see `is_placeable`), and which bits are stored does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep, Plan
from tracejit.runtime import gemm
from tracejit.runtime.gemm_step import is_native, reads_as_tall
from tracejit.runtime.launch import Operand
from tracejit.transforms.views import (
    Layout,
    apply_view,
    base_and_views,
    contiguous,
    reshape_layout,
)

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder

_JOINS = frozenset({"sum_of_parts", "concatenate"})
Chain = tuple[Node, ...]


class Readings:
    """Of each value of a plan that may be placed, the view chains through which it is read."""

    def __init__(self, plan: Plan):
        self.joins: list[Node] = []
        self.chains: dict[int, list[Chain]] = {}
        for step in plan.steps:
            if isinstance(step, HostStep) and is_placeable(step.node):
                self.chains[id(step.node)] = []
                if step.node.op.name in _JOINS:
                    self.joins.append(step.node)
        for step in plan.steps:
            nodes = [step.node] if isinstance(step, HostStep) else step.body
            for node in nodes:
                for x in node.inputs:
                    base, views = base_and_views(x)
                    if id(base) in self.chains and node.op.name not in _JOINS:
                        self.chains[id(base)].append(views)


def is_placeable(node: Node) -> bool:
    """Whether the node's writer can store to other than row-major places."""
    return is_native(node) or node.op.name in _JOINS


def place_all(builder: Builder, readings: Readings) -> None:
    """Give places to joins, to their parts and to products, where that saves copies."""
    for node in readings.joins:
        if id(node) not in builder.places:
            layout = _as_read(builder, node, readings.chains[id(node)])
            builder.places[id(node)] = builder.temporary_as(layout, node.dtype)
        _place_parts(builder, node, readings)
    for step in builder.plan.steps:
        if isinstance(step, HostStep) and is_native(step.node):
            _place_product(builder, step.node, readings.chains[id(step.node)])


def _place_product(builder: Builder, node: Node, chains: list[Chain]) -> None:
    if id(node) in builder.places or id(node) in builder.in_place or reads_as_tall(node):
        return
    layout = _as_read(builder, node, chains)
    if layout.strides != contiguous(layout.shape).strides and _takes_product(layout):
        builder.places[id(node)] = builder.temporary_as(layout, node.dtype)


def _takes_product(layout: Layout) -> bool:
    """Whether each matrix of the layout has rows of neighbouring elements."""
    (_, n), (row, column) = layout.shape[-2:], layout.strides[-2:]
    return column == 1 and row >= n


def _as_read(builder: Builder, node: Node, chains: Sequence[Chain]) -> Layout:
    """Row-major, or the layout under which fewer of the views have to copy."""
    best = contiguous(builder.shape(node.shape))
    least = _copies(builder, best, chains)
    for chain in chains if least else ():
        wanted = _order_of(builder, node, chain)
        if wanted is not None:
            count = _copies(builder, wanted, chains)
            if count < least:
                best, least = wanted, count
    return best


def _copies(builder: Builder, layout: Layout, chains: Sequence[Chain]) -> int:
    return sum(_end_of(builder, layout, chain)[1] is None for chain in chains)


def _end_of(builder: Builder, layout: Layout, chain: Chain) -> tuple[int, Layout | None]:
    """The layout after a chain; or the number of the view that has to copy, and None."""
    for number, view in enumerate(chain):
        found = apply_view(layout, view, builder.size, builder.shape)
        if found is None:
            return number, None
        layout = found
    return len(chain), layout


def _order_of(builder: Builder, node: Node, chain: Chain) -> Layout | None:
    """The layout under which what stands before the chain's first copy is row-major."""
    stop, end = _end_of(builder, contiguous(builder.shape(node.shape)), chain)
    if end is not None or not stop:
        return None
    return _undone(builder, contiguous(builder.shape(chain[stop - 1].shape)), chain[:stop])


def _undone(builder: Builder, layout: Layout, chain: Chain) -> Layout | None:
    """The layout of a base for which `chain` gives `layout`; None if there is none."""
    for view in reversed(chain):
        shape = builder.shape(view.inputs[0].shape)
        if view.op.name == "reshape":
            found = reshape_layout(layout, shape)
            if found is None:
                return None
            layout = found
        elif view.op.name == "transpose":
            places = {p: i for i, p in enumerate(view.params["perm"])}
            strides = tuple(layout.strides[places[axis]] for axis in range(len(shape)))
            layout = Layout(shape, strides, layout.offset)
        else:
            return None
    return layout


def _place_parts(builder: Builder, node: Node, readings: Readings) -> None:
    """Let products that are parts of a join store straight into it."""
    out, axis = builder.places[id(node)], node.params["axis"]
    shapes = [builder.shape(x.shape) for x in node.inputs]
    covered = sum(shape[axis] for shape in shapes) == out.layout.shape[axis]
    if 0 in out.layout.shape or not covered or not _keeps_zeros(node):
        return
    at = 0
    starts = builder.shape(node.params["starts"]) if "starts" in node.params else None
    for number, (x, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
        start = at if starts is None else starts[number]
        at += shape[axis]
        base, chain = base_and_views(x)
        if not is_native(base) or id(base) not in readings.chains or reads_as_tall(base):
            continue
        if id(base) in builder.places or id(base) in builder.in_place:
            continue
        offset = out.layout.offset + start * out.layout.strides[axis]
        layout = _undone(builder, Layout(shape, out.layout.strides, offset), chain)
        if layout is not None and _takes_product(layout):
            builder.places[id(base)] = Operand(out.buffer, layout, out.dtype)


def _keeps_zeros(node: Node) -> bool:
    """Whether parts may be stored as they are: a sum with zeros has no -0.0, and neither has a
    product of tracejit's own.
    """
    if node.op.name == "concatenate":
        return True
    short = node.dtype.short in ("f32", "f64")
    return short and gemm.provider(node.dtype.numpy).library.call == "builtin"
