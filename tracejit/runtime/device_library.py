"""Ops for which devices have kernels of their own, where the CPU calls NumPy: sort and the like.

Invariant: a rule takes a step only if its launches give what the op's NumPy reference gives, bit
for bit; other steps stay host calls.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from tracejit.codegen.order_kernels import extreme_source, merge_source, search_source
from tracejit.dtypes import int64
from tracejit.ir.plan import HostStep
from tracejit.runtime.launch import Operand
from tracejit.runtime.order_steps import axis_last, give
from tracejit.transforms.views import Layout, base_and_views

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder

Rule = Callable[["Builder", HostStep], bool]


def plan_on_device(builder: Builder, step: HostStep) -> bool:
    """Append the launches of a library step; False if the device has no kernels for it."""
    rule = _RULES.get(step.node.op.name)
    return rule is not None and rule(builder, step)


def _source(builder: Builder, node: Any) -> Operand:
    return builder.operand(*base_and_views(node))


def _sort(builder: Builder, step: HostStep) -> bool:
    return _sorted(builder, step, step.node.params["descending"], None)


def _topk(builder: Builder, step: HostStep) -> bool:
    return _sorted(builder, step, step.node.params["largest"], builder.size(step.node.params["k"]))


def _sorted(builder: Builder, step: HostStep, descending: bool, count: Any) -> bool:
    """Merges of ever longer runs between two pairs of buffers; the first `count` of each row."""
    node = step.node
    axis = node.params["axis"]
    source = _source(builder, node.inputs[0])
    if not source.layout.shape:
        return False
    values = builder.copied(axis_last(source, axis))
    shape, kind = values.layout.shape, values.dtype
    n, units = shape[-1], prod(shape)
    if not units:
        for part in step.stores:
            builder.new_value(part)
        return True
    places = builder.temporary(shape, int64)
    width = 1
    while width == 1 or width < n:
        out, order = builder.temporary(shape, kind), builder.temporary(shape, int64)
        text = merge_source(kind.short, descending, width == 1)
        words: list[int | Operand] = [out, order, values, places, n, width, width.bit_length() + 1]
        builder.table_launch(f"merge_{kind.short}", text, words, units, 1)
        values, places, width = out, order, 2 * width
    found = [values, places]
    if count is not None:
        found = [_first(part, count) for part in found]
    give(builder, step, found, axis)
    return True


def _first(rows: Operand, count: Any) -> Operand:
    """The first elements of each row."""
    shape, strides, offset = rows.layout
    return Operand(rows.buffer, Layout((*shape[:-1], count), strides, offset), rows.dtype)


def _searchsorted(builder: Builder, step: HostStep) -> bool:
    node = step.node
    rows, x = (builder.row_major(_source(builder, v)) for v in node.inputs)
    out = builder.new_value(step.stores[0])
    n, units = rows.layout.shape[-1], prod(x.layout.shape)
    if not units:
        return True
    each = 0 if len(rows.layout.shape) == 1 else x.layout.shape[-1]
    text = search_source(x.dtype.short, node.params["right"])
    words: list[int | Operand] = [out, rows, x, n, each, n.bit_length() + 1]
    builder.table_launch(f"search_{x.dtype.short}", text, words, units, 1)
    return True


def _cumextreme(builder: Builder, step: HostStep) -> bool:
    node = step.node
    source = _source(builder, node.inputs[0])
    if not source.layout.shape or source.dtype.kind == "b":
        return False
    values = builder.row_major(source)
    shape, axis = values.layout.shape, node.params["axis"]
    out = builder.temporary(shape, values.dtype), builder.temporary(shape, int64)
    width = prod(shape[axis + 1 :])
    if prod(shape):
        text = extreme_source(values.dtype.short, node.params["largest"])
        words: list[int | Operand] = [*out, values, shape[axis], width]
        units = prod(shape[:axis]) * width
        builder.table_launch(f"extreme_{values.dtype.short}", text, words, units, 1)
    for part in step.stores:
        builder.copy(out[part.params["index"]], builder.new_value(part))
    return True


_RULES: dict[str, Rule] = {
    "sort": _sort,
    "topk": _topk,
    "searchsorted": _searchsorted,
    "cumextreme": _cumextreme,
}
