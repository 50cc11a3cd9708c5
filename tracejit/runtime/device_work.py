"""What a frame asks a device to do: launches and products, planned and then made ready.

A planned launch names buffers; `work_of` turns it into work, whose addresses are known but for
those of a call's arguments. Invariant: all that differs between two calls of a frame is in
`KernelWork.words`' patches and in the arguments that a product names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.codegen.cuda import many_source, per_thread_source, threads_of
from tracejit.errors import DeviceCheckFailed
from tracejit.runtime.device import THREADS, Backend
from tracejit.runtime.launch import Launch, Operand
from tracejit.runtime.program import Patch
from tracejit.runtime.table_launch import table_of
from tracejit.runtime.tables import At

Words = np.ndarray[Any, Any]
MANY_WORDS = 512  # of one launch: 4096 bytes of kernel parameters are what every GPU takes
MOST_THREADS = 1 << 20  # a launch of more threads gains nothing from company


class CallWords:
    """The words of a launch and how a call sets those that are its arguments.

    `patches` name words of the one table.
    """

    def __init__(self, table: Words, patches: Sequence[Patch]):
        self.table = table
        floats = table.view(np.float64)
        self.pointers = [
            (p.word.word, p.argument, p.offset) for p in patches if p.kind == "pointer"
        ]
        self.numbers = [
            (floats if p.kind == "float64" else table, p.word.word, p.argument)
            for p in patches
            if p.kind != "pointer"
        ]

    def filled(self, arguments: Sequence[Any]) -> Words:
        """The table for a call."""
        table = self.table
        for place, index, offset in self.pointers:
            table[place] = arguments[index].address + offset
        for words, place, index in self.numbers:
            words[place] = arguments[index]
        return table

    @property
    def arguments(self) -> set[int]:
        """The positions of the arguments that set words."""
        return {i for _, i, _ in self.pointers} | {i for _, _, i in self.numbers}


class KernelWork:
    """One launch, ready but for its arguments."""

    def __init__(self, kernel: Any, words: CallWords, threads: int):
        self.kernel = kernel
        self.words = words
        self.threads = threads

    def table(self, arguments: Sequence[Any]) -> Words:
        """Its table for a call."""
        return self.words.filled(arguments)

    def run(self, backend: Backend, arguments: Sequence[Any]) -> None:
        """Ask the device for it."""
        backend.launch(self.kernel, self.words.filled(arguments), self.threads)


class CheckWork(KernelWork):
    """A check of a compiled function: each call notes anew what fails at the next wait."""

    def __init__(self, backend: Backend, get: Callable[[Sequence[Any]], Any], message: str):
        super().__init__(backend.check_kernel(), CallWords(np.zeros(3, np.int64), []), 1)
        self.backend = backend
        self.get = get
        self.message = message

    def table(self, arguments: Sequence[Any]) -> Words:
        flag = self.get(arguments).address
        return self.backend.check_words(flag, DeviceCheckFailed(self.message))

    def run(self, backend: Backend, arguments: Sequence[Any]) -> None:
        backend.launch(self.kernel, self.table(arguments), 1)


class ProductWork:
    """A matrix product by the device's library. `operands` are A, B and C."""

    def __init__(self, operands: Sequence[Operand]):
        self.a, self.b, self.c = (operand.getter() for operand in operands)
        held = [o.buffer.index if o.buffer.kind == "argument" else None for o in operands]
        self.reads = [i for i in held[:2] if i is not None]
        self.writes = [i for i in held[2:] if i is not None]

    def arrays(self, arguments: Sequence[Any]) -> tuple[Any, Any, Any]:
        """A, B and C of a call."""
        given: Any = arguments
        return self.a(given), self.b(given), self.c(given)

    def run(self, backend: Backend, arguments: Sequence[Any]) -> None:
        """Ask the device for it."""
        backend.matmul(*self.arrays(arguments))


Work = KernelWork | ProductWork


# --- planned launches ----------------------------------------------------------------------------


class DeviceTableLaunch:
    """A hand-written kernel, a thread for each unit of work."""

    def __init__(self, backend: Backend, name: str, source: str, words: Any, units: int):
        self.words = [*words, units]
        self.units = units
        text = per_thread_source(source, len(words))
        self.kernel = backend.load(name, text, len(self.words))
        self.operands = [w for w in words if isinstance(w, Operand)]

    def work(self, backend: Backend) -> Work:
        patches: list[Patch] = []
        table = table_of(self.words, patches)
        return KernelWork(self.kernel, CallWords(table.numbers(), patches), self.units)


class Product:
    """A matrix product: A, B and C."""

    def __init__(self, operands: list[Operand]):
        self.operands = operands

    def work(self, backend: Backend) -> Work:
        return ProductWork(self.operands)


class Condition:
    """A check of a compiled function: it fails at the next synchronisation."""

    def __init__(self, operand: Operand, message: str):
        self.operands = [operand]
        self.message = message

    def work(self, backend: Backend) -> Work:
        get: Any = self.operands[0].getter()
        return CheckWork(backend, get, self.message)


class DeviceBundle:
    """Equal kernels on several tables as one launch: blocks are shared out among the tables."""

    def __init__(self, launches: Sequence[Launch]):
        self.launches = list(launches)
        self.operands: list[Operand] = [o for launch in launches for o in launch.operands]

    def work(self, backend: Backend) -> Work:
        first: Any = self.launches[0].kernel
        stride = first.words + 1
        words = np.zeros(1 + stride * len(self.launches), np.int64)
        words[0] = len(self.launches)
        patches: list[Patch] = []
        blocks = 0
        for number, launch in enumerate(self.launches):
            own: list[Patch] = []
            table = launch.fill(own)
            row = 1 + stride * number
            words[row] = blocks
            words[row + 1 : row + stride] = table.numbers()
            patches += [p._replace(word=At(table, row + 1 + p.word.word)) for p in own]
            blocks += max(1, -(-_threads(launch) // THREADS))
        text = many_source(first.text, first.words)
        kernel = backend.load(f"many_{first.name}", text, len(words))
        return KernelWork(kernel, CallWords(words, patches), blocks * THREADS)


def bundles_of(launches: Sequence[Launch]) -> list[DeviceBundle | Launch]:
    """As few launches as their parameters allow; equal counts, so that equal kernels do."""
    kernel: Any = launches[0].kernel
    most = max(1, (MANY_WORDS - 1) // (kernel.words + 1))
    count = -(-len(launches) // most)
    size = -(-len(launches) // count)
    parts = [launches[i : i + size] for i in range(0, len(launches), size)]
    return [DeviceBundle(p) if len(p) > 1 else p[0] for p in parts]


def may_bundle(launch: Launch) -> bool:
    """Whether a launch leaves room on the device for others of its kind."""
    return launch.kernel.shape in ("map", "column", "full") and _threads(launch) <= MOST_THREADS


def _threads(launch: Launch) -> int:
    kernel: Any = launch.kernel
    return threads_of(kernel.variant, launch.sizes, launch.extras)


def work_of(launch: Any, backend: Backend) -> Work:
    """A planned launch made ready; the arena has its addresses."""
    if not isinstance(launch, Launch):
        made: Work = launch.work(backend)
        return made
    patches: list[Patch] = []
    words = CallWords(launch.fill(patches).numbers(), patches)
    kernel: Any = launch.kernel
    return KernelWork(kernel.loaded, words, _threads(launch))
