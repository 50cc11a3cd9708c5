"""Movement ops as views: which axes go where (for fusion), and strides (for frames).

Invariant: a chain of views is read from the stored value outwards, and nothing here copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tracejit.ir.node import Node
from tracejit.ir.sizes import is_one, size_key

VIEW_OPS = frozenset(
    {"transpose", "broadcast_to", "reshape", "slice", "flip", "windows", "diagonal", "as_strided"}
)
REPEATING = frozenset({"broadcast_to", "windows", "as_strided"})  # elements may appear again
AxisMap = tuple[int | None, ...]


def base_and_views(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """The value that a chain of views starts from, and the views in order of application."""
    if node.op.name not in VIEW_OPS:
        return node, ()
    views = [node]
    node = node.inputs[0]
    while node.op.name in VIEW_OPS:
        views.append(node)
        node = node.inputs[0]
    views.reverse()
    return node, tuple(views)


def axis_map(shape: Sequence[Any], views: Sequence[Node]) -> AxisMap | None:
    """For each axis of the last view the source axis it walks along, None where it repeats.

    Gives None as a whole if the chain does more than permute, repeat and regroup literal ones.
    Literal axes of size 1 count as repeated.
    """
    current: list[int | None] = [None if is_one(n) else i for i, n in enumerate(shape)]
    sizes: tuple[Any, ...] = tuple(shape)
    for view in views:
        name = view.op.name
        if name == "transpose":
            current = [current[p] for p in view.params["perm"]]
        elif name == "broadcast_to":
            current = [*(None for _ in range(view.ndim - len(sizes))), *current]
        elif name == "reshape":
            moved = _regroup(current, sizes, view.shape)
            if moved is None:
                return None
            current = moved
        elif [size_key(n) for n in sizes] != [size_key(n) for n in view.shape] or name == "flip":
            return None
        sizes = view.shape
    return tuple(current)


def _regroup(
    current: list[int | None], before: Sequence[Any], after: Sequence[Any]
) -> list[int | None] | None:
    """Axis labels after a reshape that only adds or drops literal ones, else None."""
    kept = [(size_key(n), a) for n, a in zip(before, current, strict=True) if not is_one(n)]
    if [k for k, _ in kept] != [size_key(n) for n in after if not is_one(n)]:
        return None
    labels = iter([a for _, a in kept])
    return [None if is_one(n) else next(labels) for n in after]


def regroups_ones_only(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether a reshape does no more than add or drop literal ones."""
    return _regroup(list(range(len(before))), before, after) is not None


def identity_map(shape: Sequence[Any]) -> AxisMap:
    """The map of a chain that moves nothing."""
    return tuple(None if is_one(n) else i for i, n in enumerate(shape))


class Layout(NamedTuple):
    """Where the elements of a view lie: element (i, j...) at offset + i*strides[0] + ..."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements. Axes of size 0 or 1 count as what they are."""
    strides = [1] * len(shape)
    step = 1
    for i in range(len(shape) - 1, 0, -1):
        step *= shape[i] or 1
        strides[i - 1] = step
    return tuple(strides)


def contiguous(shape: Sequence[int]) -> Layout:
    """The layout of a row-major array."""
    return Layout(tuple(shape), contiguous_strides(shape))


def apply_view(
    layout: Layout,
    view: Node,
    size: Callable[[Any], int],
    shape_of: Callable[[Sequence[Any]], tuple[int, ...]] | None = None,
) -> Layout | None:
    """The layout after one movement op; None if a reshape would have to copy.

    `size` turns a symbolic size into a number, `shape_of` a whole shape (it may remember those).
    """
    shape = tuple(map(size, view.shape)) if shape_of is None else shape_of(view.shape)
    strides, offset, params = list(layout.strides), layout.offset, view.params
    name = view.op.name
    if name == "transpose":
        return Layout(shape, tuple(strides[p] for p in params["perm"]), offset)
    if name == "broadcast_to":
        extra = len(shape) - len(strides)
        # by the numbers: a size may be 1 by a fact only, as (s0 - 4) // 4 + 1
        own = (0,) * extra + tuple(
            0 if n == 1 and m != 1 else s
            for n, m, s in zip(layout.shape, shape[extra:], strides, strict=True)
        )
        return Layout(shape, own, offset)
    if name == "slice":
        steps, starts = (tuple(map(size, params[key])) for key in ("steps", "starts"))
        return slice_layout(layout, shape, starts, steps)
    if name == "flip":
        for axis in params["axes"]:
            offset += max(shape[axis] - 1, 0) * strides[axis]
            strides[axis] = -strides[axis]
        return Layout(shape, tuple(strides), offset)
    if name == "windows":
        return _windows(layout, view, shape, size)
    if name == "diagonal":
        return diagonal_layout(layout, shape, params["offset"], (params["axis1"], params["axis2"]))
    if name == "as_strided":
        own = tuple(size(n) * strides[0] for n in params["steps"])
        return Layout(shape, own, offset + size(params["offset"]) * strides[0])
    return reshape_layout(layout, shape)


def slice_layout(
    layout: Layout, shape: tuple[int, ...], starts: Sequence[int], steps: Sequence[int]
) -> Layout:
    """Elements start, start + step... along every axis, `shape` of them."""
    offset = layout.offset
    if 0 not in shape:
        offset += sum(a * s for a, s in zip(starts, layout.strides, strict=True))
    strides = tuple(a * s for a, s in zip(steps, layout.strides, strict=True))
    return Layout(shape, strides, offset)


def diagonal_layout(
    layout: Layout, shape: tuple[int, ...], offset: int, axes: tuple[int, int]
) -> Layout:
    """The diagonal over two axes, as the last axis."""
    down, across = (layout.strides[a] for a in axes)
    kept = tuple(s for i, s in enumerate(layout.strides) if i not in axes)
    first = -offset * down if offset < 0 else offset * across
    return Layout(shape, (*kept, down + across), layout.offset + (first if 0 not in shape else 0))


def _windows(
    layout: Layout, view: Node, shape: tuple[int, ...], size: Callable[[Any], int]
) -> Layout:
    strides, extra = list(layout.strides), []
    steps, dilations = view.params["steps"], view.params["dilations"]
    for axis, step, dilation in zip(view.params["axes"], steps, dilations, strict=True):
        extra.append(strides[axis] * size(dilation))
        strides[axis] *= size(step)
    return Layout(shape, (*strides, *extra), layout.offset)


def reshape_layout(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout under another shape of as many elements, or None if it takes a copy.

    Runs of axes that lie evenly in memory are merged, then cut as the new shape asks.
    """
    if shape == layout.shape:
        return layout
    if 0 in shape:
        return Layout(shape, contiguous_strides(shape), layout.offset)
    runs: list[list[int]] = []  # [elements, stride of the last axis]
    for n, s in zip(layout.shape, layout.strides, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == n * s:
            runs[-1] = [runs[-1][0] * n, s]
        else:
            runs.append([n, s])
    strides = [0] * len(shape)
    at = len(runs) - 1
    left, step = runs[at] if runs else (1, 1)
    for axis in range(len(shape) - 1, -1, -1):
        n = shape[axis]
        if left == 1 and n != 1:
            at -= 1
            if at < 0:
                return None
            left, step = runs[at]
        if left % n:
            return None
        strides[axis] = step
        left //= n
        step *= n
    return Layout(shape, tuple(strides), layout.offset)
