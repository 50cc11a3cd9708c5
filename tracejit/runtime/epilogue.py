"""Epilogues: a kernel over a product's result runs panel by panel while the panel is in cache.

The kernel that reads the result moves up to the product, which calls it for the rows of a panel as
soon as all their tiles are done (`native_gemm`). Invariant: the kernel reads of the product exactly
the rows it is called for, and what it writes nobody uses before.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tracejit.runtime import gemm
from tracejit.runtime.arena import Buffer
from tracejit.runtime.bundle import accesses
from tracejit.runtime.gemm_step import GemmLaunch
from tracejit.runtime.launch import Launch, Operand
from tracejit.runtime.overlap import ConditionCheck
from tracejit.runtime.program import Patch, Step
from tracejit.runtime.recorded import plain
from tracejit.runtime.table_launch import AnyLaunch
from tracejit.runtime.threads import get_num_threads
from tracejit.transforms.views import contiguous_strides

_PANELS_PER_THREAD = 4  # with fewer the last epilogue would keep the other threads waiting
_NEAR = 12  # launches after a product that are looked at


class ProductWithEpilogue:
    """A product and the kernel that runs on its finished panels."""

    def __init__(self, product: GemmLaunch, launch: Launch, units_per_row: Any):
        self.product = product
        self.launch = launch
        self.kernel = launch.kernel
        self.units_per_row = units_per_row
        self.operands: list[Operand] = [*product.operands, *launch.operands]

    def step(self, patches: list[Patch], keep: list[object]) -> Step:
        """The step of the product, its descriptor completed."""
        step = self.product.step(patches, keep)
        after = self.launch.step(patches, keep)
        epilogue = gemm.Epilogue(after.kernel, after.table, self.units_per_row)
        self.product.product.add_epilogue(epilogue)
        return step._replace(name=f"{step.name} + {after.name}")


def with_epilogues(item: Sequence[AnyLaunch], foreign: set[int]) -> list[AnyLaunch]:
    """The launches of a segment, those that fit joined to the products they read.

    `foreign` are ids of buffers of the caller that may overlap others: launches that write them
    stay where they are.
    """
    result = list(item)
    at = 0
    while at < len(result):
        product = result[at]
        if isinstance(product, GemmLaunch):
            for place in range(at + 1, min(at + 1 + _NEAR, len(result))):
                launch = result[place]
                if not isinstance(launch, Launch) or not _reads(launch, product):
                    continue
                units = units_per_row(product, launch)
                if units and _may_move(launch, product, result[at + 1 : place], foreign):
                    result[at] = ProductWithEpilogue(product, launch, units)
                    del result[place]
                    break
        at += 1
    return result


def _panels(product: GemmLaunch) -> Any:
    """Groups of tiles that share their rows, through the whole batch."""
    return product.product.step.units // product.product.tiles[1]


def _reads(launch: Launch, product: GemmLaunch) -> bool:
    result = product.operands[2].buffer
    return any(o.buffer is result for o in launch.operands[: len(launch.program.loads)])


def units_per_row(product: GemmLaunch, launch: Launch) -> Any:
    """Units of the launch for each row of the product; 0 if it does not go row by row."""
    if launch.kernel.shape not in ("map", "row"):
        return 0
    c = product.operands[2]
    n = product.product.n
    if c.layout.strides != contiguous_strides(c.layout.shape):
        return 0
    if prod(launch.sizes) != prod(c.layout.shape):
        return 0
    length = launch.sizes[-1] if launch.kernel.shape == "row" else 1
    if n % length or launch.units * length != prod(c.layout.shape):
        return 0
    whole = list(contiguous_strides(launch.sizes))
    for number, operand in enumerate(launch.operands[: len(launch.strides)]):
        if operand.buffer is c.buffer:
            is_load = number < len(launch.program.loads)
            same = launch.strides[number] == whole and operand.layout.offset == c.layout.offset
            if not is_load or not same:
                return 0
    return n // length


def _may_move(
    launch: Launch, product: GemmLaunch, between: Sequence[AnyLaunch], foreign: set[int]
) -> bool:
    """Whether the launch may run within the product, before the launches `between`, and had
    better do so.
    """
    reads, writes = (_ids(buffers) for buffers in accesses(launch))
    if writes & foreign or writes & _ids([o.buffer for o in product.operands]):
        return False
    for other in between:
        if isinstance(other, ConditionCheck):
            return False  # what comes after a check may rely on it
        read, written = (_ids(buffers) for buffers in accesses(other))
        if written & (reads | writes) or read & writes:
            return False
    step = product.product.step
    if plain(step.units) <= plain(step.grain):
        return plain(launch.units) <= plain(launch.grain)
    return plain(_panels(product)) >= _PANELS_PER_THREAD * get_num_threads()


def _ids(buffers: Sequence[Buffer]) -> set[int]:
    return {id(buffer) for buffer in buffers}
