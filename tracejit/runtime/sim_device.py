"""The `sim` device: memory in NumPy buffers at made-up addresses, kernels on the simulator.

It has the address space, the launches and the explicit copies of a GPU, so whatever passes here
needs no host memory. Invariant: an address means nothing to the host; new memory holds no zeros.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.codegen.simt import Memory, SimFault, simulate
from tracejit.errors import DeviceError, OutOfMemoryError
from tracejit.ir.types import Device
from tracejit.runtime import gemm
from tracejit.runtime.device import (
    THREADS,
    Array,
    Backend,
    LaunchStep,
    ProductStep,
    Recording,
)

_FIRST, _ALIGNMENT = 1 << 44, 512
MEMORY_BYTES = 4 << 30  # what the simulated device pretends to have


class SimKernel:
    """A kernel's name and text; it is run as it stands."""

    __slots__ = ("name", "source")

    def __init__(self, name: str, source: str):
        self.name = name
        self.source = source


class _Mark:
    """A point in the queue of copies."""

    def __init__(self, device: SimDevice, number: int):
        self.device = device
        self.number = number

    @property
    def done(self) -> bool:
        return self.number <= self.device.copies_asked - len(self.device.copies)


class SimRecording(Recording):
    """Steps with the tables they were recorded with: like a graph's, they change by `update`."""

    def __init__(self, device: SimDevice, steps: Sequence[LaunchStep | ProductStep]):
        self.device = device
        self.steps = [
            s._replace(table=s.table.copy()) if isinstance(s, LaunchStep) else s for s in steps
        ]

    def update(self, number: int, table: Array) -> None:
        step = self.steps[number]
        assert isinstance(step, LaunchStep) and step.table.shape == table.shape
        self.steps[number] = step._replace(table=table.copy())

    def replay(self) -> None:
        self.device.replays += 1
        for step in self.steps:
            if isinstance(step, LaunchStep):
                self.device.run(*step)
            else:
                self.device.matmul(*step)


class SimDevice(Backend, Memory):
    """A device that is not there; see the file's head. `seed` shuffles the threads."""

    def __init__(self, device: Device):
        super().__init__(device)
        self.starts: list[int] = []
        self.blocks: dict[int, Array] = {}
        self.next = _FIRST + ((device.index or 0) << 40)
        self.seed = 0
        self.kernels: dict[str, SimKernel] = {}
        self.copies: list[tuple[int, Array]] = []
        self.copies_asked = 0

    def alloc(self, nbytes: int) -> tuple[int, Any]:
        if self.allocated + nbytes > MEMORY_BYTES:
            raise OutOfMemoryError(
                f"{self.device} is out of memory: {nbytes} bytes asked, "
                f"{self.allocated} of {MEMORY_BYTES} in use"
            )
        address = self.next
        size = -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        self.next += size + _ALIGNMENT
        block = np.full(-(-nbytes // 16) * 16, 0xFF, np.uint8)  # NaN as floats
        bisect.insort(self.starts, address)
        self.blocks[address] = block
        return address, block

    def free(self, address: int, held: Any) -> None:
        self.catch_up()
        self.blocks.pop(address, None)
        place = bisect.bisect_left(self.starts, address)
        if place < len(self.starts) and self.starts[place] == address:
            del self.starts[place]

    def reserve_pinned(self, nbytes: int) -> Array:
        return np.zeros(nbytes, np.uint8)

    def upload_later(self, address: int, array: Array) -> None:
        """The copy is put off as long as it can be: whoever reuses its source too early is seen."""
        self.copies.append((address, array))
        self.copies_asked += 1

    def mark(self) -> Any:
        return _Mark(self, self.copies_asked)

    def catch_up(self) -> None:
        """Do the copies that were put off."""
        copies, self.copies = self.copies, []
        for address, array in copies:
            self.upload(address, array)

    def find(self, address: int) -> tuple[int, Array]:
        place = bisect.bisect_right(self.starts, address) - 1
        if place >= 0:
            start = self.starts[place]
            block = self.blocks[start]
            if address - start <= len(block):
                return start, block
        raise SimFault(f"address {address:#x} is in no allocation of {self.device}")

    def host(self, address: int, nbytes: int) -> Array:
        """The bytes at an address, as memory of the host."""
        start, block = self.find(address)
        at = address - start
        if at + nbytes > len(block):
            raise DeviceError(f"a copy of {nbytes} bytes leaves its allocation on {self.device}")
        return block[at : at + nbytes]

    def upload(self, address: int, array: Array) -> None:
        self.catch_up()
        if array.nbytes:
            self.host(address, array.nbytes)[:] = array.reshape(-1).view(np.uint8)

    def download(self, address: int, array: Array) -> None:
        self.catch_up()
        if array.nbytes:
            array.reshape(-1).view(np.uint8)[:] = self.host(address, array.nbytes)

    def load(self, name: str, source: str, words: int) -> SimKernel:
        found = self.kernels.get(source)
        if found is None:
            found = self.kernels[source] = SimKernel(name, source)
        return found

    def record(self, steps: Sequence[LaunchStep | ProductStep]) -> Recording:
        return SimRecording(self, steps)

    def launch(self, kernel: SimKernel, table: Array, threads: int) -> None:
        self.launches += 1
        self.run(kernel, table, threads)

    def run(self, kernel: SimKernel, table: Array, threads: int) -> None:
        """A launch that is not counted as one."""
        self.catch_up()
        self.seed += 1
        grid = max(1, -(-threads // THREADS))
        simulate(self, kernel.name, kernel.source, table, grid, THREADS, self.seed)

    def view(self, array: Any) -> Array:
        """A device array as an array of the host, sharing the simulated memory."""
        start, block = self.find(array.address)
        size = array.dtype.itemsize
        flat = block[: len(block) // size * size].view(array.dtype)
        first = flat[(array.address - start) // size :]
        return np.lib.stride_tricks.as_strided(first, array.shape, array.strides)

    def matmul(self, a: Any, b: Any, out: Any) -> None:
        self.catch_up()
        if out.size:
            self.view(out)[...] = gemm.matmul(self.view(a), self.view(b))

    def synchronize(self) -> None:
        """Work but for copies is done as soon as it is asked for."""
        self.catch_up()
        self.raise_faults()

    def describe(self) -> dict[str, Any]:
        return {"name": "tracejit simulator", "capability": (9, 0), "memory": MEMORY_BYTES}
