"""An NVIDIA GPU: memory and streams from CuPy, kernels as PTX through the driver.

Everything is asked for on one non-blocking stream of the device, so work runs in program order and
memory is given back in that order. CuPy and cuda.bindings are imported when the first CUDA device
is used; without them, without a driver or without the GPU asked for there is one clear sentence.
Invariant: the host waits for the device in `download` and `synchronize` alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from tracejit.codegen.ptx import ENTRY, compile_ptx
from tracejit.errors import CompileError, DeviceError, OutOfMemoryError, at_user_line
from tracejit.ir.types import Device
from tracejit.runtime.cublas import Cublas, is_empty, load_library
from tracejit.runtime.cuda_graph import CudaRecording
from tracejit.runtime.device import (
    THREADS,
    Allocation,
    Array,
    Backend,
    LaunchStep,
    ProductStep,
    Recording,
)
from tracejit.runtime.program import address_of

_INSTALL = (
    "device 'cuda' needs CuPy and cuda-bindings: pip install 'tracejit[cuda]' on a machine with "
    "an NVIDIA driver"
)
_lock = threading.Lock()


@cache
def packages() -> tuple[Any, Any]:
    """CuPy and the driver's bindings. Raises DeviceError if they are not installed."""
    try:
        import cupy
        from cuda.bindings import driver
    except ImportError as error:
        raise DeviceError(at_user_line(f"{_INSTALL} ({error})")) from None
    return cupy, driver


def device_count() -> int:
    """The GPUs that can be used: 0 without packages, driver or GPU."""
    if find_spec("cupy") is None:
        return 0
    try:
        cupy, _ = packages()
        return int(cupy.cuda.runtime.getDeviceCount())
    except DeviceError:
        return 0
    except RuntimeError:  # CuPy's CUDARuntimeError: no driver
        return 0


def _checked(index: int) -> Any:
    """CuPy, if there is a GPU of that index."""
    cupy, _ = packages()
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except RuntimeError as error:
        message = f"device 'cuda': no usable NVIDIA driver ({error})"
        raise DeviceError(at_user_line(message)) from None
    if index >= count:
        raise DeviceError(at_user_line(
            f"device 'cuda:{index}' does not exist: {count} found"))  # fmt: skip
    return cupy


class CudaDevice(Backend):
    """One GPU. `stream` is the CuPy stream that all work is asked for on."""

    def __init__(self, device: Device):
        super().__init__(device)
        self.index = device.index or 0
        self.cupy = _checked(self.index)
        self.driver = packages()[1]
        self.card = self.cupy.cuda.Device(self.index)
        with self.card:
            self.own_stream = self.cupy.cuda.Stream(non_blocking=True)
            self.pool = self.cupy.cuda.MemoryPool()
        self.chosen = threading.local()
        capability = self.card.compute_capability
        self.cc = (int(capability[:-1]), int(capability[-1]))
        self.blas: Cublas | None = None
        self.modules: dict[tuple[str, int], Any] = {}

    @property
    def stream(self) -> Any:
        """The stream of this thread: the device's own, or one the user chose."""
        return getattr(self.chosen, "stream", None) or self.own_stream

    @contextmanager
    def _here(self, doing: str) -> Iterator[Any]:
        """This device and its stream are current; CUDA's errors become DeviceErrors."""
        stream = self.stream
        try:
            with self.card, stream:
                yield stream
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise OutOfMemoryError(f"{self.device} is out of memory: {error}") from None
        except self.cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(f"{self.device}, {doing}: {error}") from None

    # memory ------------------------------------------------------------------------------------

    def alloc(self, nbytes: int) -> tuple[int, Any]:
        with self._here(f"allocating {nbytes} bytes"):
            memory = self.pool.malloc(nbytes)
        return int(memory.ptr), memory

    def free(self, address: int, held: Any) -> None:
        """The pool takes it back when `held` dies, and gives it to later work of the stream."""

    def upload(self, address: int, array: Array) -> None:
        with self._here("a copy to the device") as stream:
            self.cupy.cuda.runtime.memcpyAsync(
                address, address_of(array), array.nbytes,
                self.cupy.cuda.runtime.memcpyHostToDevice, stream.ptr,
            )  # fmt: skip

    def reserve_pinned(self, nbytes: int) -> Array:
        with self._here(f"page-locking {nbytes} bytes"):
            memory = self.cupy.cuda.alloc_pinned_memory(nbytes)
        return np.frombuffer(memory, np.uint8, nbytes)

    def upload_later(self, address: int, array: Array) -> None:
        self.upload(address, array)  # CUDA itself does not wait where memory is page-locked

    def mark(self) -> Any:
        with self._here("an event") as stream:
            event = self.cupy.cuda.Event(disable_timing=True)
            event.record(stream)
        return event

    def download(self, address: int, array: Array) -> None:
        with self._here("a copy to the host") as stream:
            self.cupy.cuda.runtime.memcpyAsync(
                address_of(array), address, array.nbytes,
                self.cupy.cuda.runtime.memcpyDeviceToHost, stream.ptr,
            )  # fmt: skip
            stream.synchronize()

    # work --------------------------------------------------------------------------------------

    def load(self, name: str, source: str, words: int) -> Any:
        key = (source, words)
        with _lock:
            found = self.modules.get(key)
            if found is None:
                text = compile_ptx(name, source, words, self.cc)
                with self._here(f"loading kernel {name}"):
                    found = self.modules[key] = self._function(name, text)
        return found

    def _function(self, name: str, ptx: str) -> Any:
        driver = self.driver
        error, module = driver.cuModuleLoadData(ptx.encode() + b"\0")
        if error != driver.CUresult.CUDA_SUCCESS:
            raise CompileError(f"kernel {name}: the driver refuses its PTX ({error.name})")
        error, function = driver.cuModuleGetFunction(module, ENTRY.encode())
        if error != driver.CUresult.CUDA_SUCCESS:
            raise CompileError(f"kernel {name}: no entry in its module ({error.name})")
        return function

    def launch(self, kernel: Any, table: Array, threads: int) -> None:
        self.launches += 1
        blocks = max(1, -(-threads // THREADS))
        parameters = np.array([address_of(table)], np.uintp)
        stream = self.stream
        with self.card:
            (error,) = self.driver.cuLaunchKernel(
                kernel, blocks, 1, 1, THREADS, 1, 1, 0, stream.ptr, address_of(parameters), 0
            )
        if error != self.driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"{self.device}: a kernel cannot be launched ({error.name})")

    def array(self, array: Any) -> Any:
        """A device array as CuPy's, sharing memory."""
        allocation = array.allocation
        memory = self.cupy.cuda.UnownedMemory(
            allocation.address, max(allocation.nbytes, 1), allocation, self.index
        )
        pointer = self.cupy.cuda.MemoryPointer(memory, array.offset)
        return self.cupy.ndarray(array.shape, array.dtype, pointer, array.strides)

    def exported(self, array: Any) -> Any:
        return self.array(array)

    def matmul(self, a: Any, b: Any, out: Any) -> None:
        if is_empty(a, out):
            if out.size:
                with self._here("filling with zeros") as stream:
                    self.cupy.cuda.runtime.memsetAsync(out.address, 0, out.nbytes, stream.ptr)
            return
        with self._here("a matrix product") as stream:
            if self.blas is None:
                self.blas = Cublas(load_library(), lambda count: Allocation(self, count))
            self.blas.matmul(a, b, out, stream.ptr)

    def record(self, steps: Sequence[LaunchStep | ProductStep]) -> Recording:
        return CudaRecording(self, steps)

    @property
    def queue(self) -> int:
        return int(self.stream.ptr)

    def synchronize(self) -> None:
        with self._here("its work so far") as stream:
            stream.synchronize()
        self.raise_faults()

    def release_cached(self) -> None:
        with self._here("giving memory back"):
            self.pool.free_all_blocks()

    def reserved(self) -> int:
        """Bytes that the pool holds, in use or not."""
        return int(self.pool.total_bytes())

    def describe(self) -> dict[str, Any]:
        facts = self.cupy.cuda.runtime.getDeviceProperties(self.index)
        name = facts["name"]
        return {
            "name": name.decode() if isinstance(name, bytes) else str(name),
            "capability": self.cc,
            "memory": int(facts["totalGlobalMem"]),
            "processors": int(facts["multiProcessorCount"]),
        }
