"""Steps over sliding windows that run natively: sums of windows, maxima and their gradients.

Each rule appends launches to the frame under construction (see `library_steps`). Invariant: the
results are those of the ops' NumPy meanings, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracejit import config
from tracejit.codegen.depthwise_kernels import MOST_TAPS, window_sum_source
from tracejit.codegen.window_kernels import (
    UNROLLED,
    add_source,
    max_element_source,
    max_source,
    pad_source,
    put_element_source,
    put_source,
)
from tracejit.ir.node import Node
from tracejit.runtime.launch import Operand
from tracejit.transforms.views import Layout, base_and_views, contiguous

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder


_FEW_PLANES = 16  # are padded by pieces
_LITERAL_STEPS = 4  # distances of windows that a kernel knows


class _Windows(NamedTuple):
    """The window axes of a tensor, in numbers."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    dilations: tuple[int, ...]


def _windows_of(builder: Builder, node: Node) -> _Windows:
    params = node.params
    sizes, steps, dilations = (builder.shape(params[k]) for k in ("sizes", "steps", "dilations"))
    return _Windows(tuple(params["axes"]), sizes, steps, dilations)


def _fits(how: _Windows, ndim: int, node: Node) -> bool:
    """Whether kernels know the dtype, and the window axes are the last ones in their order."""
    rank = len(how.axes)
    in_order = how.axes == tuple(range(ndim - rank, ndim))
    return in_order and 0 < rank <= 3 and node.dtype.short != "f16" and node.dtype.kind != "b"


def _outer(layout: Layout, rank: int) -> tuple[int, int, int] | None:
    """The axes before the last `rank` as two: the second's size, their strides; else None."""
    runs: list[list[int]] = []
    for n, s in zip(layout.shape[:-rank], layout.strides[:-rank], strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1] = [runs[-1][0] * n, s]
        else:
            runs.append([n, s])
    if len(runs) > 2:
        return None
    runs = [[1, 0]] * (2 - len(runs)) + runs
    return runs[1][0], runs[0][1], runs[1][1]


def _launch(
    builder: Builder,
    name: str,
    source: str,
    words: Sequence[int | Operand],
    units: int,
    work: int,
) -> None:
    if units:
        grain = config.parallel_grain // max(1, 4 * work)
        builder.table_launch(name, source, words, units, grain)


def _axis_words(
    how: _Windows, n: Sequence[int], c: Sequence[int], s: Sequence[int], w: Sequence[int]
) -> list[int]:
    """The words of the axes, see `window_kernels`."""
    rows = zip(n, c, s, w, how.sizes, how.dilations, how.steps, strict=True)
    return [word for row in rows for word in row]


def pad_planes(builder: Builder, node: Node) -> bool:
    """A border around planes, the last two axes, in one pass."""
    x = node.inputs[0]
    low, high = (builder.shape(node.params[k]) for k in ("low", "high"))
    shape = builder.shape(x.shape)
    if not builder.tiles or len(shape) < 3 or node.dtype.short == "f16" or node.dtype.kind == "b":
        return False
    if any(n != 0 for n in (*low[:-2], *high[:-2])) or bool(prod(shape[:-2]) < _FEW_PLANES):
        return False
    if bool(prod(shape) == 0):
        return False
    out = builder.new_value(node)
    if out.layout.strides != contiguous(out.layout.shape).strides:
        return False
    source, outer = _planes(builder, x, 2)
    value = np.asarray(node.params["value"], node.dtype.numpy)
    strides = source.layout.strides[-2:]
    words: list[Any] = [
        *(out, source, builder.constant(value, (1,), node.dtype), *outer, *shape[-2:], *strides),
        *(low[-2], high[-2], low[-1], high[-1]),
    ]
    text = pad_source(node.dtype.short, bool(strides[1] == 1))
    _launch(builder, "pad", text, words, prod(shape[:-2]), prod(out.layout.shape[-2:]) // 4)
    return True


def windows_add(builder: Builder, node: Node) -> bool:
    """Sums over windows, plane by plane."""
    how, shape = _windows_of(builder, node), builder.shape(node.shape)
    rank, lead = len(how.axes), len(shape)
    if not _fits(how, lead, node):
        return False
    source = builder.operand(*base_and_views(node.inputs[0]))
    outer = _outer(_leading(source.layout, lead), rank)
    if outer is None:
        source = builder.copied(source)
        outer = _outer(_leading(source.layout, lead), rank)
        assert outer is not None
    counts, strides = source.layout.shape[lead - rank : lead], source.layout.strides
    words: list[int | Operand] = [
        *(builder.new_value(node), source, *outer),
        *_axis_words(how, shape[-rank:], counts, strides[lead - rank : lead], strides[lead:]),
    ]
    step = how.steps[-1] if how.steps[-1] <= _LITERAL_STEPS else 0
    text = add_source(node.dtype.short, rank, step, strides[lead - 1] == 1)
    work = prod(shape[-rank:]) + prod(counts) * prod(how.sizes)
    _launch(builder, node.op.name, text, words, prod(shape[:-rank]), work)
    return True


def _leading(layout: Layout, count: int) -> Layout:
    return Layout(layout.shape[:count], layout.strides[:count], layout.offset)


def window_put(builder: Builder, node: Node) -> bool:
    """The gradient of a maximum: each window's value goes where the index says."""
    how, shape = _windows_of(builder, node), builder.shape(node.shape)
    rank = len(how.axes)
    if not _fits(how, len(shape), node):
        return False
    source, index = (builder.row_major(builder.operand(*base_and_views(x))) for x in node.inputs)
    outer = _outer(source.layout, rank)
    assert outer is not None
    counts, strides = source.layout.shape[-rank:], source.layout.strides[-rank:]
    steps = contiguous(shape[-rank:]).strides
    offsets = [
        sum(i * d * s for i, d, s in zip(at, how.dilations, steps, strict=True))
        for at in np.ndindex(*how.sizes)
    ]
    words: list[int | Operand] = [
        *(builder.new_value(node), source, index, *outer),
        *_axis_words(how, shape[-rank:], counts, strides, (0,) * rank),
        *offsets,
    ]
    kinds = node.dtype.short, node.inputs[1].dtype.short
    if not builder.tiles:
        text = put_element_source(*kinds, rank)
        _launch(builder, node.op.name, text, words, prod(shape), prod(how.sizes))
        return True
    text = put_source(*kinds, rank)
    work = prod(shape[-rank:]) + prod(counts)
    _launch(builder, node.op.name, text, words, prod(shape[:-rank]), work)
    return True


def window_sum(builder: Builder, node: Node) -> bool:
    """Sums of windows, row by row."""
    x = node.inputs[0]
    how, shape = _windows_of(builder, node), builder.shape(x.shape)
    rank = len(how.axes)
    if not _fits(how, len(shape), x) or prod(how.sizes) > MOST_TAPS:
        return False
    source, outer = _planes(builder, x, rank)
    counts = builder.shape(node.shape)[-rank:]
    along, within = _distances(source, how)
    words: list[int | Operand] = [
        *(builder.new_value(node), source, *outer),
        *_axis_words(how, shape[-rank:], counts, along, within),
    ]
    near = source.layout.strides[-1] == 1
    step, gap = (n if near and n <= _LITERAL_STEPS else 0
                 for n in (how.steps[-1], how.dilations[-1]))  # fmt: skip
    text = window_sum_source(x.dtype.short, how.sizes, step, gap)
    _launch(builder, "window_sum", text, words, prod(shape[:-rank]), prod(counts) * prod(how.sizes))
    return True


def _planes(builder: Builder, x: Node, rank: int) -> tuple[Operand, tuple[int, int, int]]:
    """An operand, or its copy, whose axes before the windows' are two, and these (see `_outer`)."""
    source = builder.operand(*base_and_views(x))
    outer = _outer(source.layout, rank)
    if outer is None:
        source = builder.copied(source)
        outer = _outer(source.layout, rank)
        assert outer is not None
    return source, outer


def _distances(source: Operand, how: _Windows) -> tuple[list[int], list[int]]:
    """The source's strides from window to window and within one, along the window axes."""
    strides = source.layout.strides[-len(how.axes) :]
    along = [s * step for s, step in zip(strides, how.steps, strict=True)]
    return along, [s * gap for s, gap in zip(strides, how.dilations, strict=True)]


def window_max(builder: Builder, node: Node, stores: Sequence[Node]) -> bool:
    """Maxima of windows and where they are, row by row."""
    x = node.inputs[0]
    how, shape = _windows_of(builder, node), builder.shape(x.shape)
    rank = len(how.axes)
    if not _fits(how, len(shape), x):
        return False
    source, outer = _planes(builder, x, rank)
    types = node.type.items
    found = {n.params["index"]: builder.new_value(n) for n in stores}
    result = [
        found.get(i) or builder.temporary(builder.shape(t.shape), t.dtype)
        for i, t in enumerate(types)
    ]
    counts = builder.shape(types[0].shape)[-rank:]
    along, within = _distances(source, how)
    words: list[int | Operand] = [
        *(result[0], source, result[1], *outer),
        *_axis_words(how, shape[-rank:], counts, along, within),
    ]
    kinds = x.dtype.short, types[1].dtype.short
    if not builder.tiles:
        text = max_element_source(*kinds, rank)
        units = prod(shape[:-rank]) * prod(counts)
        _launch(builder, "window_max", text, words, units, prod(how.sizes))
        return True
    few = how.sizes if prod(how.sizes) <= UNROLLED else ()
    step = how.steps[-1] if within[-1] == 1 and how.steps[-1] <= _LITERAL_STEPS else 0
    text = max_source(*kinds, rank, step, few)
    work = prod(counts) * prod(how.sizes)
    _launch(builder, "window_max", text, words, prod(shape[:-rank]), work)
    return True
