"""A launch of a hand-written kernel: a table of words, some of them addresses of operands.

Invariant: like every launch it only names buffers; a step is made when the arena has its addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tracejit.codegen.compiler import compile_kernel
from tracejit.runtime.launch import Operand
from tracejit.runtime.program import Patch, Step
from tracejit.runtime.recorded import call
from tracejit.runtime.tables import At, Place, Table


class AnyLaunch(Protocol):
    """What a native segment is made of."""

    operands: list[Operand]

    def step(self, patches: list[Patch], keep: list[Any]) -> Step:
        """The step of the program; what a call must set is added to `patches`."""


class TableLaunch:
    """One call of a kernel given by its source. `words` are numbers or operands (their address)."""

    def __init__(
        self, name: str, source: str, words: Sequence[int | Operand], units: int, grain: int
    ):
        self.name = name
        self.kernel = compile_kernel(name, source)
        self.words = list(words)
        self.units = units
        self.grain = call(max, 1, grain)
        self.operands = [w for w in words if isinstance(w, Operand)]

    def step(self, patches: list[Patch], keep: list[Any]) -> Step:
        """The step of the program."""
        table = table_of(self.words, patches)
        keep.extend((self.kernel, *(o.buffer.array for o in self.operands)))
        return Step(self.kernel.address, At(table), self.units, self.grain, name=self.name)


def table_of(words: Sequence[Any], patches: list[Patch]) -> Table:
    """A table of numbers and operands; what a call must set is added to `patches`."""
    table = Table(words)
    for place, word in enumerate(words):
        if isinstance(word, Operand):
            offset = word.layout.offset * word.dtype.itemsize
            if word.buffer.kind == "argument":
                patches.append(Patch(At(table, place), word.buffer.index, offset))
                table.words[place] = 0
            else:
                table.words[place] = Place(word.buffer, offset)
    return table
