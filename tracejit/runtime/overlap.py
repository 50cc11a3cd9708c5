"""Steps that stop a run: arrays that overlap one written in place, checks that do not hold.

Invariant: such a step comes before every step that writes what it guards, so a call that it refuses
has written nothing but its own memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.codegen.compiler import compile_kernel
from tracejit.runtime.launch import Operand
from tracejit.runtime.program import STATUS, Patch, Step
from tracejit.runtime.tables import At, Place, Table

_HEAD, _WIDTH = 2, 4
_SOURCE = """def kernel(t, lo, hi):
    count = word(t, 1)
    faults = 0
    for i in range(count):
        a = 2 + 4 * i
        for j in range(count):
            b = 2 + 4 * j
            apart = (word(t, a) + word(t, a + 2) <= word(t, b) + word(t, b + 1)) | (
                word(t, b) + word(t, b + 2) <= word(t, a) + word(t, a + 1))
            counts = (word(t, a + 3) != 0) & (i != j) & (word(t, b + 2) > word(t, b + 1))
            faults += select(apart, 0, select(counts, 1, 0))
    store_i64(ptr_i64(word(t, 0)), 0, select(faults > 0, -1, 0))
"""
_CONDITION = """def kernel(t, lo, hi):
    held = load_b1(ptr_b1(word(t, 1), 0), 0)
    store_i64(ptr_i64(word(t, 0), 1), 0, select(held, 0, word(t, 2)))
"""
OVERLAP = -1  # the status of a run whose arrays overlap; that of the failed check i is i + 1


class OverlapCheck:
    """The step and its table: status address, count, (address, first and last byte, target)..."""

    def __init__(self, arrays: Sequence[tuple[Operand, bool]], patches: list[Patch]):
        self.kernel = compile_kernel("overlap_check", _SOURCE, light=True)
        table = Table([STATUS, len(arrays), *[0] * (_WIDTH * len(arrays))])
        for number, (operand, is_target) in enumerate(arrays):
            place = _HEAD + _WIDTH * number
            first, last = span(operand)
            table.words[place + 1 : place + _WIDTH] = (first, last, int(is_target))
            patches.append(Patch(At(table, place), operand.buffer.index))
        self.step = Step(self.kernel.address, At(table), 1, 1, name="overlap check")


class ConditionCheck:
    """A launch that stops the run with status `number` + 1 if its condition is false."""

    def __init__(self, condition: Operand, number: int):
        self.kernel = compile_kernel("check", _CONDITION, light=True)
        self.operands = [condition]
        self.number = number

    def step(self, patches: list[Patch], keep: list[Any]) -> Step:
        """The step of the program."""
        (condition,) = self.operands
        table = Table([STATUS, 0, self.number + 1])
        if condition.buffer.kind == "argument":
            patches.append(Patch(At(table, 1), condition.buffer.index))
        else:
            table.words[1] = Place(condition.buffer)
        keep.extend((self.kernel, condition.buffer.array))
        return Step(self.kernel.address, At(table), 1, 1, name="check")


def span(operand: Operand) -> tuple[int, int]:
    """The first byte and the one after the last that the operand covers, from its address."""
    if 0 in operand.layout.shape:
        return 0, 0
    steps = [(n - 1) * s for n, s in zip(operand.layout.shape, operand.layout.strides, strict=True)]
    size = operand.dtype.itemsize
    low = sum(x for x in steps if x < 0)
    high = sum(x for x in steps if x > 0)
    return low * size, (high + 1) * size
