"""Library steps that run natively: writes to parts of a result, scattering, running sums.

Each rule appends launches to the frame under construction. Invariant: a rule takes a node only if
its launches give what the op's NumPy reference gives, bit for bit; other nodes stay host calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import config
from tracejit.codegen.library_kernels import row_scan_source, scan_source, scatter_source
from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep
from tracejit.runtime.convolve_steps import convolve, convolve_weight
from tracejit.runtime.launch import Operand
from tracejit.runtime.order_steps import plan_order
from tracejit.runtime.window_steps import (
    pad_planes,
    window_max,
    window_put,
    window_sum,
    windows_add,
)
from tracejit.transforms.views import (
    Layout,
    base_and_views,
    contiguous,
    diagonal_layout,
    reshape_layout,
    slice_layout,
)

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder

Rule = Callable[["Builder", Node], bool]
_MOST_WINDOWS = 64  # positions within a window, each of which takes a launch


def plan_library(builder: Builder, step: HostStep) -> bool:
    """Append the launches of a library step; False if it has to be a host call."""
    node = step.node
    if node.op.name == "window_max":
        return window_max(builder, node, step.stores)
    if plan_order(builder, step):
        return True
    rule = _RULES.get(node.op.name)
    return rule is not None and rule(builder, node)


# writes to parts ---------------------------------------------------------------------------------


def _part(place: Operand, layout: Layout) -> Operand:
    return Operand(place.buffer, layout, place.dtype)


def write(builder: Builder, node: Node, target: Operand, how: str = "copy") -> None:
    """Write a value, seen through its views, to a part of a buffer.

    Last views that regroup axes are undone on the target instead where its strides allow that.
    """
    base, chain = base_and_views(node)
    views = list(chain)
    tail = len(views)
    while tail and views[tail - 1].op.name == "reshape":
        tail -= 1
    if tail < len(views):
        before = builder.shape(views[tail].inputs[0].shape)
        regrouped = reshape_layout(target.layout, before)
        if regrouped is not None and 0 not in before:
            target = _part(target, regrouped)
            views = views[:tail]
    source = builder.operand(base, views)
    if source.buffer is not target.buffer or source.layout != target.layout:
        builder.copy(source, target, how)  # else its writer has put it there (see `placement`)


def _slice_scatter(builder: Builder, node: Node) -> bool:
    x, y = node.inputs
    out = builder.new_value(node)
    shape = builder.shape(y.shape)
    if shape != out.layout.shape:
        write(builder, x, out)
    starts, steps = (builder.shape(node.params[key]) for key in ("starts", "steps"))
    write(builder, y, _part(out, slice_layout(out.layout, shape, starts, steps)))
    return True


def _concatenate(builder: Builder, node: Node) -> bool:
    out = builder.new_value(node)
    axis, at = node.params["axis"], 0
    for x in node.inputs:
        shape = builder.shape(x.shape)
        write(builder, x, _part(out, _run(out.layout, shape, axis, at)))
        at += shape[axis]
    return True


def _run(layout: Layout, shape: tuple[int, ...], axis: int, start: int) -> Layout:
    """The elements from `start` on along one axis."""
    starts = tuple(start if i == axis else 0 for i in range(len(shape)))
    return slice_layout(layout, shape, starts, (1,) * len(shape))


def _sum_of_parts(builder: Builder, node: Node) -> bool:
    out = builder.new_value(node)
    axis, starts = node.params["axis"], builder.shape(node.params["starts"])
    shapes = [builder.shape(x.shape) for x in node.inputs]
    if sum(shape[axis] for shape in shapes) != out.layout.shape[axis]:
        _fill(builder, out, 0)
    for x, shape, start in zip(node.inputs, shapes, starts, strict=True):
        write(builder, x, _part(out, _run(out.layout, shape, axis, start)), "add_zero")
    return True


def _fill(builder: Builder, out: Operand, value: Any) -> None:
    array = np.asarray(value, out.dtype.numpy)
    builder.copy(builder.constant(array, out.layout.shape, out.dtype), out)


def _pad(builder: Builder, node: Node) -> bool:
    if pad_planes(builder, node):
        return True
    out = builder.new_value(node)
    shape, low = builder.shape(node.inputs[0].shape), builder.shape(node.params["low"])
    if shape != out.layout.shape:
        _fill(builder, out, node.params["value"])
    layout = slice_layout(out.layout, shape, low, (1,) * len(shape))
    write(builder, node.inputs[0], _part(out, layout))
    return True


def _diagonal_scatter(builder: Builder, node: Node) -> bool:
    x, y = node.inputs
    out = builder.new_value(node)
    write(builder, x, out)
    params = node.params
    axes = params["axis1"], params["axis2"]
    layout = diagonal_layout(out.layout, builder.shape(y.shape), params["offset"], axes)
    write(builder, y, _part(out, layout))
    return True


def _windows_add(builder: Builder, node: Node) -> bool:
    """Rows of sums where the CPU can; else a launch for each position within the window, which
    adds its elements where they lie.
    """
    if builder.tiles and windows_add(builder, node):
        return True
    params = node.params
    sizes, steps, dilations = (builder.shape(params[k]) for k in ("sizes", "steps", "dilations"))
    if prod(sizes) > _MOST_WINDOWS:
        return False
    out = builder.new_value(node)
    source = builder.operand(*base_and_views(node.inputs[0]))
    lead = len(out.layout.shape)
    _fill(builder, out, 0)
    shape = source.layout.shape[:lead]
    for at in np.ndindex(*sizes):
        starts, jumps = [0] * lead, [1] * lead
        for axis, place, step, dilation in zip(params["axes"], at, steps, dilations, strict=True):
            starts[axis], jumps[axis] = place * dilation, step
        window = slice_layout(out.layout, shape, starts, jumps)
        offset = sum(i * s for i, s in zip(at, source.layout.strides[lead:], strict=True))
        part = Layout(shape, source.layout.strides[:lead], source.layout.offset + offset)
        builder.accumulate(_part(source, part), _part(out, window))
    return True


# scattering --------------------------------------------------------------------------------------


def _scatter(builder: Builder, node: Node) -> bool:
    how = _HOW.get(node.params.get("reduce", node.op.name))
    x, index, y = node.inputs
    axis, size = node.params["axis"], x.dtype
    if how is None or size.short == "f16" or (how != "set" and size.kind == "b"):
        return False
    shape, index_shape = builder.shape(x.shape), builder.shape(index.shape)
    by_row = node.op.name == "take_add"
    others = [i for i in range(len(shape)) if i != axis]
    if not by_row and any(shape[i] != index_shape[i] for i in others):
        return False
    outer, width = prod(shape[:axis]), prod(shape[axis + 1 :])
    count = prod(index_shape) if by_row else index_shape[axis]
    out = builder.new_value(node)
    write(builder, x, out)
    places, steps = _places(builder, index, (outer, count, width), by_row)
    source = builder.row_major(builder.operand(*base_and_views(y)))
    columns = max(1, min(width, builder.columns))
    units = outer * -(-width // columns)
    if not units or not count:
        return True
    text = scatter_source(size.short, how, steps[2] == 0)
    words = [out, source, places, count, shape[axis], width, columns, *steps]
    grain = config.parallel_grain // (4 * columns * count)
    builder.table_launch(f"{node.op.name}_{size.short}", text, words, units, grain)
    return True


def _places(
    builder: Builder, index: Node, sizes: tuple[int, int, int], by_row: bool
) -> tuple[Operand, Sequence[int]]:
    """The index and its strides over (outer, count, width)."""
    outer, count, width = sizes
    operand = builder.operand(*base_and_views(index))
    if by_row:
        return builder.row_major(operand), (0, 1, 0)
    seen = reshape_layout(operand.layout, (outer, count, width))
    if seen is None:
        operand = builder.copied(operand)
        seen = contiguous((outer, count, width))
    strides = [0 if n == 1 else s for n, s in zip(seen.shape, seen.strides, strict=True)]
    return _part(operand, seen), strides


_HOW = {"scatter": "set", "scatter_add": "add", "take_add": "add", "prod": "prod"}


# running sums ------------------------------------------------------------------------------------


_SUMMED_AS_THEY_ARE = ("f32", "f64", "i64")  # sums of narrower integers are wider in a register


def _scan(builder: Builder, node: Node) -> bool:
    x, axis = node.inputs[0], node.params["axis"]
    if x.dtype.short == "f16" or x.dtype.kind == "b" or node.dtype is not x.dtype:
        return False
    shape = builder.shape(x.shape)
    out = builder.new_value(node)
    source = builder.row_major(builder.operand(*base_and_views(x)))
    outer, count, width = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    columns = max(1, min(width, builder.columns))
    units = outer * -(-width // columns)
    if not units or not count:
        return True
    how = "add" if node.op.name == "cumsum" else "prod"
    in_register = width == 1 and x.dtype.short in _SUMMED_AS_THEY_ARE
    text = (row_scan_source if in_register else scan_source)(x.dtype.short, how)
    words = [out, source, count, width, columns]
    grain = config.parallel_grain // (4 * columns * count)
    builder.table_launch(f"{node.op.name}_{x.dtype.short}", text, words, units, grain)
    return True


_RULES: dict[str, Rule] = {
    "slice_scatter": _slice_scatter,
    "concatenate": _concatenate,
    "sum_of_parts": _sum_of_parts,
    "pad": _pad,
    "diagonal_scatter": _diagonal_scatter,
    "windows_add": _windows_add,
    "window_put": window_put,
    "window_sum": window_sum,
    "scatter": _scatter,
    "scatter_add": _scatter,
    "scatter_reduce": _scatter,
    "take_add": _scatter,
    "cumsum": _scan,
    "cumprod": _scan,
    "convolve": convolve,
    "convolve_weight": convolve_weight,
}
