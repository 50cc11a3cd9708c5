"""Library steps about order that run natively on the CPU: running extremes, the first of a sort.

Invariant: as in `library_steps`, a rule's launches give what the op's NumPy reference gives, bit
for bit; it leaves other nodes to a host call.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tracejit import config
from tracejit.codegen.order_kernels import extreme_rows_source, extreme_source, topk_source
from tracejit.dtypes import int64
from tracejit.ir.plan import HostStep
from tracejit.runtime.launch import Operand
from tracejit.runtime.recorded import plain
from tracejit.transforms.views import Layout, base_and_views, contiguous

if TYPE_CHECKING:
    from tracejit.runtime.builder import Builder

_MOST_HELD = 64  # of a row, which an insertion moves


def axis_last(operand: Operand, axis: int) -> Operand:
    """A view with one axis moved to the end."""
    shape, strides, offset = operand.layout

    def moved(items: tuple[int, ...]) -> tuple[int, ...]:
        return (*items[:axis], *items[axis + 1 :], items[axis])

    return Operand(operand.buffer, Layout(moved(shape), moved(strides), offset), operand.dtype)


def give(builder: Builder, step: HostStep, found: list[Operand], axis: int) -> None:
    """Copy results, whose axis stands last, to where the plan wants them."""
    for part in step.stores:
        target = builder.new_value(part)
        builder.copy(found[part.params["index"]], axis_last(target, axis))


def plan_order(builder: Builder, step: HostStep) -> bool:
    """Append the launches of `cumextreme` or `topk`; False for other ops and dtypes."""
    name = step.node.op.name
    if name not in ("cumextreme", "topk"):
        return False
    source = builder.operand(*base_and_views(step.node.inputs[0]))
    if not source.layout.shape or source.dtype.short in ("b1", "f16"):
        return False
    return _topk(builder, step, source) if name == "topk" else _extreme(builder, step, source)


def _topk(builder: Builder, step: HostStep, source: Operand) -> bool:
    axis, k, largest = (step.node.params[key] for key in ("axis", "k", "largest"))
    k = builder.size(k)
    if not 0 < plain(k) <= _MOST_HELD or not builder.tiles:
        return False
    rows = builder.row_major(axis_last(source, axis))
    shape = rows.layout.shape
    found = [builder.temporary((*shape[:-1], k), d) for d in (source.dtype, int64)]
    units = prod(shape[:-1])
    if units:
        text = topk_source(source.dtype.short, largest)
        words: list[int | Operand] = [*found, rows, shape[-1], k]
        grain = config.parallel_grain // (2 * shape[-1])
        builder.table_launch(f"topk_{source.dtype.short}", text, words, units, grain)
    give(builder, step, found, axis)
    return True


def _extreme(builder: Builder, step: HostStep, source: Operand) -> bool:
    axis, largest = step.node.params["axis"], step.node.params["largest"]
    values = builder.row_major(source)
    shape = values.layout.shape
    found = [builder.temporary(shape, d) for d in (source.dtype, int64)]
    for part in step.stores:  # written at once where the plan wants it, as a rule
        target = builder.new_value(part)
        if target.layout == contiguous(shape):
            found[part.params["index"]] = target
    outer, count, width = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    columns = max(1, min(width, builder.columns))
    units = outer * -(-width // columns)
    if units and count:
        along = extreme_source if width == 1 else extreme_rows_source
        text = along(source.dtype.short, largest)
        words = [*found, values, count, width, columns]
        grain = config.parallel_grain // (4 * columns * count)
        builder.table_launch(f"extreme_{source.dtype.short}", text, words, units, grain)
    for part in step.stores:
        held, target = found[part.params["index"]], builder.new_value(part)
        if held is not target:
            builder.copy(held, target)
    return True
