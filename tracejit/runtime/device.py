"""What a device must be able to do, and the devices of this process.

Everything above (arrays, frames, eager code) knows a device by this protocol alone; `sim_device`
implements it over NumPy and the simulator, `cuda_device` over CuPy and the driver. Invariant: an
allocation lives as long as its `Allocation` object, and is handed out again only after that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tracejit import config
from tracejit.errors import DeviceError, at_user_line
from tracejit.ir.types import Device
from tracejit.runtime.pinned import Staging

Array = np.ndarray[Any, Any]
THREADS = 256  # of a block
_CHECK = """def kernel(t):
    if block() * threads() + thread() == 0:
        fault = ptr_i64(word(t, 1), 1)
        held = load_i64(fault, 0)
        failed = select(held == 0, word(t, 2), held)
        store_i64(fault, 0, select(load_b1(ptr_b1(word(t, 0), 0), 0), held, failed))
"""


class Backend:
    """One device. Addresses are plain integers; kernels are the text of `codegen.cuda`."""

    def __init__(self, device: Device):
        self.device = device
        self.allocated = 0
        self.peak = 0
        self.launches = 0
        self.replays = 0
        self.syncs = 0
        self.faults: Allocation | None = None
        self.checks_made = 0
        self.outstanding: dict[int, Exception] = {}
        self.staging: Staging | None = None

    # memory ------------------------------------------------------------------------------------

    def alloc(self, nbytes: int) -> tuple[int, Any]:
        """The address of `nbytes` bytes aligned to 256, and what keeps them alive.

        Raises OutOfMemoryError.
        """
        raise NotImplementedError

    def free(self, address: int, held: Any) -> None:
        """Give memory back; the device may still be using it for work that was asked before."""
        raise NotImplementedError

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous host array to the device."""
        raise NotImplementedError

    def reserve_pinned(self, nbytes: int) -> Array:
        """Bytes of host memory that the device reads by itself (page-locked)."""
        raise NotImplementedError

    def upload_later(self, address: int, array: Array) -> None:
        """As `upload` from page-locked memory: without waiting, in the order of the work."""
        raise NotImplementedError

    def mark(self) -> Any:
        """An object whose `done` says whether the work asked so far is done."""
        raise NotImplementedError

    def send(self, address: int, array: Array) -> None:
        """As `upload`, but the host goes on at once; see `pinned`."""
        if self.staging is None:
            self.staging = Staging(self.reserve_pinned, self.upload_later, self.mark)
        self.staging.send(address, array)

    def download(self, address: int, array: Array) -> None:
        """Copy from the device into a contiguous host array, when all work asked before is done."""
        raise NotImplementedError

    # checks ------------------------------------------------------------------------------------

    def check_kernel(self) -> Any:
        """The kernel that notes a failed check, over the table of `check_words`."""
        if self.faults is None:
            self.faults = Allocation(self, 8)
            self.upload(self.faults.address, np.zeros(1, np.int64))
        return self.load("check", _CHECK, 3)

    def check_words(self, flag: int, error: Exception) -> Array:
        """A table that raises `error` at the next synchronisation if the bool at address `flag` is
        false when it is run.

        The device notes the first check that fails; nobody waits for it.
        """
        assert self.faults is not None
        self.checks_made += 1
        self.outstanding[self.checks_made] = error
        return np.array([flag, self.faults.address, self.checks_made], np.int64)

    def check_later(self, flag: int, error: Exception) -> None:
        """Launch such a check now."""
        kernel = self.check_kernel()
        self.launch(kernel, self.check_words(flag, error), 1)

    def raise_faults(self) -> None:
        """Raise the error of the first check that failed since the last synchronisation."""
        if not self.outstanding:
            return
        assert self.faults is not None
        number = np.zeros(1, np.int64)
        self.download(self.faults.address, number)
        error = self.outstanding.get(int(number[0]))
        self.outstanding.clear()
        if number[0]:
            self.upload(self.faults.address, np.zeros(1, np.int64))
        if error is not None:
            raise error

    # work --------------------------------------------------------------------------------------

    def load(self, name: str, source: str, words: int) -> Any:
        """A kernel ready to launch, for tables of `words` words. Raises CompileError."""
        raise NotImplementedError

    def launch(self, kernel: Any, table: Array, threads: int) -> None:
        """Run a kernel with at least `threads` threads in blocks of 256; does not wait."""
        raise NotImplementedError

    def matmul(self, a: Any, b: Any, out: Any) -> None:
        """`out = a @ b` for device arrays of one float dtype; `out` is contiguous."""
        raise NotImplementedError

    def record(self, steps: Sequence[LaunchStep | ProductStep]) -> Recording:
        """The steps as one unit of work, in their order; nothing is run. Raises DeviceError."""
        raise DeviceError(f"{self.device} cannot record work")

    @property
    def queue(self) -> int:
        """What tells apart the queues that work of this thread may go to."""
        return 0

    def exported(self, array: Any) -> Any:
        """A device array as an object that other libraries take. Raises BufferError."""
        raise BufferError(f"memory of {self.device} cannot be shared with other libraries")

    def synchronize(self) -> None:
        """Wait for all work; raises DeviceError for what went wrong in it."""
        raise NotImplementedError

    def release_cached(self) -> None:
        """Give memory that is kept for later back to the system."""

    def reserved(self) -> int:
        """Bytes held, in use or kept for later."""
        return self.allocated

    def describe(self) -> dict[str, Any]:
        """Name, compute capability and memory of the device."""
        raise NotImplementedError

    def count(self, change: int) -> None:
        """Book-keeping of allocated bytes."""
        self.allocated += change
        self.peak = max(self.peak, self.allocated)


class LaunchStep(NamedTuple):
    """A launch to record, with a copy of its table."""

    kernel: Any
    table: Array
    threads: int


class ProductStep(NamedTuple):
    """A matrix product to record, of device arrays."""

    a: Any
    b: Any
    out: Any


class Recording:
    """Recorded steps (on a GPU: a CUDA graph); keeps alive what they use of the device."""

    def update(self, number: int, table: Array) -> None:
        """Give launch `number` of the steps another table from the next replay on."""
        raise NotImplementedError

    def replay(self) -> None:
        """Run all steps, in order; does not wait."""
        raise NotImplementedError


class Allocation:
    """Bytes on a device."""

    __slots__ = ("backend", "address", "nbytes", "held")

    def __init__(self, backend: Backend, nbytes: int):
        self.backend = backend
        self.nbytes = nbytes
        self.address, self.held = backend.alloc(max(nbytes, 1))
        backend.count(nbytes)

    def __del__(self) -> None:
        held = getattr(self, "held", None)  # unset if alloc raised
        if held is not None:
            self.backend.count(-self.nbytes)
            self.backend.free(self.address, held)


# --- synchronisation -----------------------------------------------------------------------------

_allowed = threading.local()


@contextmanager
def sync_allowed() -> Iterator[None]:
    """The user asked for a value (item(), print, a branch, an explicit copy)."""
    before = getattr(_allowed, "depth", 0)
    _allowed.depth = before + 1
    try:
        yield
    finally:
        _allowed.depth = before


def note_sync(backend: Backend, what: str) -> None:
    """The host is about to wait for the device; raises under `config.forbid_sync`."""
    backend.syncs += 1
    if config.forbid_sync and not getattr(_allowed, "depth", 0):
        raise DeviceError(at_user_line(
            f"{what} makes the host wait for {backend.device} (TRACEJIT_FORBID_SYNC=1)"
        ))  # fmt: skip


# --- the devices of this process -----------------------------------------------------------------

SIM_DEVICES = 2
_backends: dict[Device, Backend] = {}
_lock = threading.Lock()
_makers: dict[str, Callable[[Device], Backend]] = {}


def backend_of(device: Device) -> Backend:
    """The backend of a device, started at first need.

    Raises DeviceError in one sentence: a missing package, driver or GPU, an index out of range.
    """
    found = _backends.get(device)
    if found is None:
        with _lock:
            found = _backends.get(device)
            if found is None:
                found = _backends[device] = _make(device)
    return found


def _make(device: Device) -> Backend:
    if device.type == "sim":
        from tracejit.runtime.sim_device import SimDevice  # brings the simulator

        if (device.index or 0) >= SIM_DEVICES:
            raise DeviceError(at_user_line(
                f"there is no {device}: simulated devices are numbered 0 to {SIM_DEVICES - 1}"
            ))  # fmt: skip
        return SimDevice(Device("sim", device.index or 0))
    if device.type == "cuda":
        from tracejit.runtime.cuda_device import CudaDevice  # brings CuPy

        return CudaDevice(Device("cuda", device.index or 0))
    raise DeviceError(at_user_line(f"{device} is not a device with memory of its own"))


def started() -> Sequence[Backend]:
    """The devices in use."""
    return list(_backends.values())
