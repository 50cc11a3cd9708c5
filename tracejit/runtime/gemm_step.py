"""Matrix products as steps of a frame's program: layouts, batches, copies where the library needs.

Invariant: a product gets the descriptor that eager `gemm.matmul` gives it, so the bits agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import config
from tracejit.errors import Location
from tracejit.ir.node import Node
from tracejit.runtime import gemm
from tracejit.runtime.gemm_cut import part_places, part_steps, sum_source
from tracejit.runtime.launch import Operand
from tracejit.runtime.program import Patch, Step
from tracejit.runtime.recorded import call
from tracejit.runtime.tables import Place
from tracejit.transforms.views import Layout, base_and_views, contiguous, reshape_layout

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder


class GemmLaunch:
    """One product. `operands` are A, B and C, `loc` the user's line."""

    def __init__(self, product: gemm.Product, operands: list[Operand], loc: Location | None):
        self.product = product
        self.operands = operands
        self.loc = loc

    def step(self, patches: list[Patch], keep: list[Any]) -> Step:
        """The step of the program; operands that come as arguments are added to `patches`."""
        places = (self.product.a, self.product.b, self.product.c)
        for place, operand in zip(places, self.operands, strict=True):
            offset = operand.layout.offset * operand.dtype.itemsize
            if operand.buffer.kind == "argument":
                patches.append(Patch(place, operand.buffer.index, offset))
            else:
                place.table.words[place.word] = Place(operand.buffer, offset)
        keep.extend((*self.product.keep, *(o.buffer.array for o in self.operands)))
        return self.product.step._replace(name="matmul", loc=self.loc)


def reading(layout: Layout) -> gemm.Layout | None:
    """How the matrices of an operand lie, or None if they must be copied first."""
    (m, n), (row, column) = layout.shape[-2:], layout.strides[-2:]
    if (column == 1 or n <= 1) and (m <= 1 or row >= n):
        return gemm.Layout(max(n, 1) if m <= 1 else row)
    if (row == 1 or m <= 1) and (n <= 1 or column >= m):
        return gemm.Layout(max(m, 1) if n <= 1 else column, True)
    return None


def is_native(node: Node) -> bool:
    """Whether the product runs by address; the others go through `gemm.matmul`."""
    return node.op.name == "matmul" and node.dtype.short in ("f32", "f64")


def reads_as_tall(node: Node) -> bool:
    """Whether a batch of left matrices may meet one right matrix: then C is written as one."""
    return any(view.op.name == "broadcast_to" for view in base_and_views(node.inputs[1])[1])


def plan_gemm(builder: Builder, node: Node) -> None:
    """Append the launch of a product, if it has elements."""
    a, b = (builder.operand(*base_and_views(x)) for x in node.inputs)
    c = builder.new_value(node)
    is_one = prod(a.layout.shape[:-2]) == 1
    if c.layout == contiguous(c.layout.shape):
        a, b, batch = _tall(a, b)
    else:
        batch = a.layout.shape[:-2]
    operands = []
    layouts = []
    for operand in (a, b):
        found = reading(operand.layout)
        if found is None:
            operand = builder.copied(operand)
            found = gemm.Layout(operand.layout.shape[-1])
        operands.append(operand)
        layouts.append(found)
    a, b = operands
    (m, k), n = a.layout.shape[-2:], b.layout.shape[-1]
    if m * n * prod(batch) == 0:
        return
    leading = n if c.layout.shape[-2:] != (m, n) or m <= 1 else c.layout.strides[-2]
    parts = gemm.parts_of(node.dtype.numpy, m, n, k) if is_one else 1
    if parts > 1:
        layouts.append(gemm.Layout(leading))
        _plan_parts(builder, (m, n, k // parts), layouts, [a, b, c], node.loc)
        return
    offsets = None
    if batch:
        strides = [o.layout.strides[: len(batch)] for o in (a, b, c)]
        offsets = call(_offsets, node.dtype.itemsize, batch, *strides)
    product = gemm.product(
        node.dtype.numpy, (m, n, k), layouts[0], layouts[1], gemm.Layout(leading),
        matrices=prod(batch), offsets=offsets,
    )  # fmt: skip
    builder.pending.append(GemmLaunch(product, [a, b, c], node.loc))


def _plan_parts(
    builder: Builder, sizes: tuple[int, int, int], layouts: Sequence[gemm.Layout],
    operands: Sequence[Operand], loc: Location | None,
) -> None:  # fmt: skip
    """A product cut along its inner dimension, of which `sizes` name a part, and the launch that
    adds up the parts.
    """
    (m, n, k), (a, b, c) = sizes, operands
    parts, dtype, own = a.layout.shape[-1] // k, c.dtype, gemm.Layout(n)
    left, right = layouts[:2]
    places = call(part_places, dtype.itemsize, parts, part_steps(sizes, layouts))
    scratch = builder.temporary((parts, m, n), dtype)
    product = gemm.product(dtype.numpy, sizes, left, right, own, matrices=parts, offsets=places)
    builder.pending.append(GemmLaunch(product, [a, b, scratch], loc))
    words: list[Any] = [c, scratch, parts, n, m * n, layouts[2].leading]
    grain = config.parallel_grain // (parts * n)
    builder.table_launch("sum_of_parts", sum_source(dtype.short), words, m, grain)


def _tall(a: Operand, b: Operand) -> tuple[Operand, Operand, tuple[int, ...]]:
    """A batch that meets the same right matrix every time is one tall matrix."""
    batch = a.layout.shape[:-2]
    if not batch or any(b.layout.strides[:-2]) or a.layout != contiguous(a.layout.shape):
        return a, b, batch
    k = a.layout.shape[-1]
    tall = reshape_layout(a.layout, (prod(a.layout.shape[:-1]), k))
    if tall is None:
        return a, b, batch
    right = Layout(b.layout.shape[-2:], b.layout.strides[-2:], b.layout.offset)
    return Operand(a.buffer, tall, a.dtype), Operand(b.buffer, right, b.dtype), ()


def _offsets(size: int, batch: Sequence[int], *strides: Sequence[int]) -> Any:
    """For every matrix of the batch, the bytes from the operands' beginnings to its A, B and C."""
    table = np.empty((prod(batch), 3), np.int64)
    for column, steps in enumerate(strides):
        offsets = np.zeros((), np.int64)
        for count, step in zip(batch, steps, strict=True):
            offsets = np.add.outer(offsets, np.arange(count) * (step * size))
        table[:, column] = offsets.reshape(-1)
    return table
