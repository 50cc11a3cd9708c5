"""Convolutions and gradients of filters as native steps: products over windows, sums of taps.

x comes already padded (see `ops.convolution`). Invariant: eager and compiled code come here with
the same shapes, so their bits agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import config
from tracejit.codegen.depthwise_kernels import (
    CHUNK,
    MOST_TAPS,
    depthwise_source,
    depthwise_weight_source,
)
from tracejit.codegen.window_kernels import FILTERS, filters_source
from tracejit.ir.node import Node
from tracejit.runtime import window_gemm
from tracejit.runtime.gemm_cut import sum_source
from tracejit.runtime.gemm_step import GemmLaunch
from tracejit.runtime.launch import Operand
from tracejit.runtime.recorded import call
from tracejit.runtime.tables import ArrayAt
from tracejit.transforms.views import Layout, base_and_views, contiguous

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder

_SLIVER = 32  # columns of packed windows that micro kernels take at a time, about
_FEW_TILES, _MOST_PARTS = 8, 16
_LEAST_DEPTH = 512  # windows of a part
_FEW_FILTERS = 4  # of a channel, up to which a convolution is a sum of rows
_LITERAL_STEPS = 4  # distances that direct kernels know


class WindowLaunch(GemmLaunch):
    """A product over windows: it may have an epilogue, but is no part of a chain."""


def _image(builder: Builder, node: Node) -> Operand:
    """x with neighbours along the last axis."""
    x = builder.operand(*base_and_views(node))
    dense = x.layout.strides[-1] == 1 or x.layout.shape[-1] == 1
    return x if dense else builder.copied(x)


def _filters(builder: Builder, node: Node) -> Operand:
    """Row-major filters: where channels in and out have changed places, by a kernel that reads
    runs of them.
    """
    w = builder.operand(*base_and_views(node))
    shape, strides, _ = w.layout
    if 0 in shape or strides == contiguous(shape).strides:
        return w
    taps = call(_tap_offsets, 1, shape[2:], (1,) * (len(shape) - 2), (0, *strides[2:]), 1, 0)
    result = builder.temporary(shape, w.dtype)
    words: list[Any] = [result, w, *shape[:2], prod(shape[2:]), *strides[:2], ArrayAt(taps)]
    units = -(-shape[0] // FILTERS)
    grain = config.parallel_grain // (2 * FILTERS * prod(shape[1:]))
    source = filters_source(w.dtype.short)
    builder.table_launch("filters", source, words, units, grain)
    return result


def _tap_offsets(
    channels: int, sizes: Sequence[int], dilations: Sequence[int], strides: Sequence[int],
    item: int, more: int = _SLIVER,
) -> np.ndarray:  # fmt: skip
    """Bytes from a window to each of its taps, channel by channel, and a vector of zeros."""
    offsets = np.arange(channels) * strides[0]
    for n, d, s in zip(sizes, dilations, strides[1:], strict=True):
        offsets = np.add.outer(offsets, np.arange(n) * (d * s))
    return np.append(offsets.reshape(-1) * item, np.zeros(more, np.int64)).astype(np.int64)


def _row_starts(
    counts: Sequence[int], steps: Sequence[int], strides: Sequence[int], item: int
) -> np.ndarray:
    """Bytes from an image to the first window of each row of windows."""
    offsets = np.zeros((), np.int64)
    for n, step, s in zip(counts[:-1], steps, strides, strict=False):
        offsets = np.add.outer(offsets, np.arange(n) * (step * s))
    return (offsets.reshape(-1) * item).astype(np.int64)


def _windows(
    x: Operand, channels: Any, counts: Sequence[Any], how: dict[str, Any]
) -> window_gemm.Windows:  # fmt: skip
    """The windows of x; windows of single elements, one beside the other, are one row."""
    item, strides, steps = x.dtype.itemsize, x.layout.strides, how["steps"]
    sizes, dilations = how["sizes"], how["dilations"]
    taps = call(_tap_offsets, channels, sizes, dilations, strides[1:], item)
    if all(n == 1 for n in (*sizes, *steps)) and x.layout.strides == _dense_planes(x.layout):
        counts, strides, steps = (prod(counts),), (*strides[:2], 1), (1,)
    starts = call(_row_starts, tuple(counts), steps, tuple(strides[2:]), item)
    return window_gemm.Windows(
        taps, starts, prod(counts[:-1]), counts[-1], steps[-1] * item, steps[-1],
        strides[0] * item,
    )  # fmt: skip


def _dense_planes(layout: Layout) -> tuple[Any, ...]:
    """The strides that the layout has if its spatial axes are row-major."""
    return (*layout.strides[:2], *contiguous(layout.shape[2:]).strides)


def _places(batch: int, groups: int, *steps: Sequence[int]) -> np.ndarray:
    """For each image and group, the bytes to its A, B and C; `steps` are pairs of them."""
    table = np.empty((batch * groups, 3), np.int64)
    for column, (image, group) in enumerate(steps):
        outer = np.add.outer(np.arange(batch) * image, np.arange(groups) * group)
        table[:, column] = outer.reshape(-1)
    return table


def _is_depthwise(node: Node, filters: tuple[Any, ...]) -> bool:
    """Whether a filter meets a single channel, and so few filters do that direct loops win;
    `filters` is their shape.
    """
    few = bool(filters[1] == 1) and bool(filters[0] <= _FEW_FILTERS * node.params["groups"])
    return few and len(filters) <= 5 and prod(node.params["sizes"]) <= MOST_TAPS


def _direct(
    builder: Builder, node: Node, x: Operand, filters: Any, counts: Sequence[Any]
) -> tuple[tuple[int, int], list[Any]]:  # fmt: skip
    """Literal distances of windows and taps, and the words that direct kernels share."""
    how, strides, rank = node.params, x.layout.strides, len(counts)
    along = [s * n for s, n in zip(strides[2:], how["steps"], strict=True)]
    within = [s * n for s, n in zip(strides[2:], how["dilations"], strict=True)]
    rows = zip(x.layout.shape[2:], counts, along, within, how["sizes"], how["dilations"],
               how["steps"], strict=True)  # fmt: skip
    words: list[Any] = [filters, filters // how["groups"], *strides[:2]]
    words += [word for row in rows for word in row]
    step, gap = how["steps"][rank - 1], how["dilations"][rank - 1]
    near = strides[-1] == 1
    literal = tuple(n if near and n <= _LITERAL_STEPS else 0 for n in (step, gap))
    return (literal[0], literal[1]), words


def _depthwise(builder: Builder, node: Node) -> bool:
    x, out = _image(builder, node.inputs[0]), builder.new_value(node)
    w = _filters(builder, node.inputs[1])
    batch, filters, *counts = out.layout.shape
    if 0 in out.layout.shape:
        return True
    literal, words = _direct(builder, node, x, filters, counts)
    source = depthwise_source(out.dtype.short, node.params["sizes"], *literal)
    grain = config.parallel_grain // (prod(counts) * prod(node.params["sizes"]))
    builder.table_launch("depthwise", source, [out, x, w, *words], batch * filters, grain)
    return True


def _depthwise_weight(builder: Builder, node: Node) -> bool:
    x, out = _image(builder, node.inputs[0]), builder.new_value(node)
    g = builder.row_major(builder.operand(*base_and_views(node.inputs[1])))
    batch, filters, *counts = g.layout.shape
    taps = prod(node.params["sizes"])
    if 0 in out.layout.shape:
        return True
    room = builder.temporary((filters, taps, CHUNK), out.dtype)
    literal, words = _direct(builder, node, x, filters, counts)
    source = depthwise_weight_source(out.dtype.short, node.params["sizes"], *literal)
    grain = config.parallel_grain // call(max, 1, batch * prod(counts) * taps)
    words = [out, g, x, room, batch, *words]
    builder.table_launch("depthwise_weight", source, words, filters, grain)
    return True


def convolve(builder: Builder, node: Node) -> bool:
    """Filters times windows, an image at a time, or all images where one has few windows."""
    if _is_depthwise(node, builder.shape(node.inputs[1].shape)):
        return _depthwise(builder, node)
    x, out = _image(builder, node.inputs[0]), builder.new_value(node)
    w = _filters(builder, node.inputs[1])
    how, groups = node.params, node.params["groups"]
    batch, filters, *counts = out.layout.shape
    channels = w.layout.shape[1]
    m, k, places = filters // groups, channels * prod(how["sizes"]), prod(counts)
    if 0 in out.layout.shape:
        return True
    if k == 0:
        builder.copy(builder.constant(np.zeros(1, out.dtype.numpy), out.layout.shape, out.dtype),
                     out)  # fmt: skip
        return True
    item = out.dtype.itemsize
    windows = _windows(x, channels, counts, how)
    whole = builder.temporary((filters, batch, *counts), out.dtype) if _merges(
        batch, places) else None  # fmt: skip
    n, matrices = (places, batch) if whole is None else (places * batch, 1)
    steps = (
        (0, m * k * item),
        (x.layout.strides[0] * item, channels * x.layout.strides[1] * item),
        (filters * n * item, m * n * item),
    )
    offsets = call(_places, matrices, groups, *steps)
    product = window_gemm.convolution(
        out.dtype.numpy, (m, n, k), windows, matrices * groups, offsets
    )
    target = out if whole is None else whole
    builder.pending.append(WindowLaunch(product, [w, x, target], node.loc))
    if whole is not None:
        order = (1, 0, *range(2, 2 + len(counts)))
        seen = Layout(out.layout.shape, tuple(whole.layout.strides[i] for i in order))
        builder.copy(Operand(whole.buffer, seen, whole.dtype), out)
    return True


def _merges(batch: Any, places: Any) -> bool:
    """Whether windows of several images should share slivers, which one image would not fill."""
    filled = -(-places // _SLIVER) * _SLIVER
    return bool(batch > 1 and filled * 11 > places * 12)


def convolve_weight(builder: Builder, node: Node) -> bool:
    """The gradient of filters: gradients of results times windows, image by image."""
    if _is_depthwise(node, builder.shape(node.shape)):
        return _depthwise_weight(builder, node)
    x, out = _image(builder, node.inputs[0]), builder.new_value(node)
    g = builder.row_major(builder.operand(*base_and_views(node.inputs[1])))
    how, groups = node.params, node.params["groups"]
    batch, filters, *counts = g.layout.shape
    channels = out.layout.shape[1]
    m, n, places = filters // groups, channels * prod(how["sizes"]), prod(counts)
    if 0 in out.layout.shape:
        return True
    if batch * places == 0:
        builder.copy(builder.constant(np.zeros(1, out.dtype.numpy), out.layout.shape, out.dtype),
                     out)  # fmt: skip
        return True
    item = out.dtype.itemsize
    windows = _windows(x, channels, counts, how)
    parts = call(_parts, m, n, groups, batch, places)
    images = batch // parts
    target = out if parts == 1 else builder.temporary((parts, *out.layout.shape), out.dtype)
    steps = (
        (images * filters * places * item, m * places * item),
        (images * x.layout.strides[0] * item, channels * x.layout.strides[1] * item),
        (filters * n * item, m * n * item),
    )
    offsets = call(_places, parts, groups, *steps)
    product = window_gemm.gradient(
        out.dtype.numpy, (m, n, filters * places), windows, parts * groups, offsets, images
    )
    builder.pending.append(WindowLaunch(product, [g, x, target], node.loc))
    if parts > 1:
        words: list[Any] = [out, target, parts, n, filters * n, n]
        grain = config.parallel_grain // (parts * n)
        builder.table_launch("sum_of_parts", sum_source(out.dtype.short), words, filters, grain)
    return True


def _parts(m: int, n: int, groups: int, batch: int, places: int) -> int:
    """How many parts the images are cut into, so that there are tiles for several threads."""
    tiles = groups * -(-m // 240) * -(-n // 160)
    wanted = min(-(-_FEW_TILES // tiles), _MOST_PARTS, batch, batch * places // _LEAST_DEPTH)
    return next((p for p in range(wanted, 1, -1) if batch % p == 0), 1)
