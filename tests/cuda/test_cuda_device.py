"""The CUDA device's own code, over stand-ins for CuPy and the driver that work on host memory.

The stand-in driver gets the kernel's text where a real one gets PTX, and runs it on the simulator
with the parameters that `cuLaunchKernel` was given. So everything but CUDA itself is executed:
packing of parameters, streams, pool, copies, products, errors. Invariant: the stand-ins offer only
names that CuPy 14 and cuda-bindings 13 document.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn.functional as F
from tracejit import dtypes
from tracejit.codegen.simt import Memory, SimFault, simulate
from tracejit.errors import DeviceError, OutOfMemoryError
from tracejit.ir.graph import Graph
from tracejit.ir.op import OPS
from tracejit.ir.types import Device, TensorType
from tracejit.runtime import cuda_device, device
from tracejit.runtime.device_array import from_host
from tracejit.runtime.device_frame import DeviceExecutable
from tracejit.runtime.executable import build

BLOCKS: dict[int, np.ndarray] = {}


class HostMemory(Memory):
    """Allocations at their real addresses."""

    def find(self, address: int) -> tuple[int, np.ndarray]:
        for start, block in BLOCKS.items():
            if start <= address <= start + len(block):
                return start, block
        raise SimFault(f"nobody owns {address:#x}")


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemory(MemoryError):
    pass


class Result(enum.Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_LAUNCH_FAILED = 719


class Current(contextlib.AbstractContextManager):
    def __exit__(self, *exc: object) -> None: ...


class Stream(Current):
    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.ptr, self.waits = 7, 0

    def synchronize(self) -> None:
        self.waits += 1


class Card(Current):
    compute_capability = "90"

    def __init__(self, index: int):
        self.id = index


class Pool:
    def malloc(self, size: int) -> Any:
        if size > 1 << 30:
            raise OutOfMemory("Out of memory")
        block = np.full(size + 512, 0xFF, np.uint8)
        start = -(-block.ctypes.data // 256) * 256
        view = block[start - block.ctypes.data :][: -(-size // 16) * 16]
        BLOCKS[start] = view
        return SimpleNamespace(ptr=start, block=block)

    def free_all_blocks(self) -> None: ...

    def total_bytes(self) -> int:
        return sum(map(len, BLOCKS.values()))


def memcpy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    assert stream == 7 and kind in (1, 2)
    ctypes.memmove(target, source, size)


def launch(function: Any, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int,
           stream: int, parameters: int, extra: int) -> tuple[Result]:  # fmt: skip
    assert (gy, gz, by, bz, shared, stream, extra) == (1, 1, 1, 1, 0, 7, 0)
    words, _, source = function.partition("\n")
    (place,) = (ctypes.c_uint64 * 1).from_address(parameters)
    table = np.array((ctypes.c_int64 * int(words)).from_address(place))
    simulate(HostMemory(), "launched", source, table, gx, bx)
    return (Result.CUDA_SUCCESS,)


def array(shape: Any, dtype: Any, pointer: Any, strides: Any) -> np.ndarray:
    start, block = HostMemory().find(pointer)
    flat = block[: len(block) // dtype.itemsize * dtype.itemsize].view(dtype)
    first = flat[(pointer - start) // dtype.itemsize :]
    return np.lib.stride_tricks.as_strided(first, shape, strides)


@pytest.fixture
def cuda(monkeypatch):
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, memcpyAsync=memcpy,
        memcpyHostToDevice=1, memcpyDeviceToHost=2,
        getDeviceProperties=lambda i: {"name": b"stand-in", "totalGlobalMem": 1 << 30,
                                       "multiProcessorCount": 2},
    )  # fmt: skip
    parts = SimpleNamespace(
        runtime=runtime, Device=Card, Stream=Stream, MemoryPool=Pool,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemory),
        UnownedMemory=lambda ptr, size, owner, device_id: ptr,
        MemoryPointer=lambda memory, offset: memory + offset,
    )  # fmt: skip
    cupy = SimpleNamespace(
        cuda=parts, ndarray=array, matmul=lambda a, b, out: np.matmul(a, b, out=out)
    )
    driver = SimpleNamespace(
        CUresult=Result, cuLaunchKernel=launch,
        cuModuleLoadData=lambda image: (Result.CUDA_SUCCESS, image.rstrip(b"\0").decode()),
        cuModuleGetFunction=lambda module, name: (Result.CUDA_SUCCESS, module),
    )  # fmt: skip
    monkeypatch.setattr(cuda_device, "packages", lambda: (cupy, driver))
    monkeypatch.setattr(
        cuda_device, "compile_ptx", lambda name, source, words, cc: f"{words}\n{source}"
    )
    monkeypatch.setattr(device, "_backends", {})
    yield driver
    BLOCKS.clear()


def step(x: Any, w: Any) -> Any:
    w.grad = None
    loss = (torch.softmax(torch.tanh(x @ w) * 2, -1).log() + F.dropout(x[:, :3], 0.5)).sum()
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
    return loss


def test_a_step_has_the_values_of_the_cpu(cuda) -> None:
    found = {}
    for where in ("cpu", "cuda"):
        torch.manual_seed(2)
        x, w = torch.randn(5, 4).to(where), torch.randn(4, 3).to(where).requires_grad_()
        found[where] = [step(x, w).item() for _ in range(3)], w.tolist()
        assert str(w.device).startswith(where)
    np.testing.assert_allclose(found["cuda"][0], found["cpu"][0], rtol=1e-6)
    np.testing.assert_allclose(found["cuda"][1], found["cpu"][1], rtol=1e-5)


def test_a_frame_on_the_device(cuda) -> None:
    """A fused graph, as `compile` runs it, twice in one frame."""
    kind = TensorType(dtypes.float32, (6, 8))
    x, y = (OPS["input"](name=n, type=kind) for n in "xy")
    total = OPS["reduce_sum"](OPS["tanh"](x) * y + x, axes=(0, 1))
    graph = Graph("fused", (x, y), (total,))
    fused = DeviceExecutable(graph, device.backend_of(Device("cuda")))
    for seed in range(2):
        rng = np.random.default_rng(seed)
        arrays = [rng.standard_normal((6, 8), np.float32) for _ in "xy"]
        (got,) = fused.run([from_host(a, Device("cuda")) for a in arrays])
        (want,) = build(graph).run(arrays)
        assert got.to_host() == want


def test_the_host_waits_only_when_asked(cuda) -> None:
    x = torch.ones(1000, device="cuda")
    backend = device.backend_of(Device("cuda"))
    y = (x * 2).sum()
    assert backend.own_stream.waits == 0
    assert y.item() == 2000 and backend.own_stream.waits > 0
    torch.cuda.synchronize()
    assert torch.cuda.get_device_name() == "stand-in"
    assert torch.cuda.get_device_capability() == (9, 0)


def test_errors_of_the_device(cuda) -> None:
    with pytest.raises(OutOfMemoryError, match="cuda:0 is out of memory"):
        torch.empty(1 << 30, device="cuda")
    with pytest.raises(DeviceError, match="'cuda:1' does not exist: 1 found"):
        torch.ones(2).to("cuda:1")
    x = torch.ones(4, device="cuda")
    cuda.cuLaunchKernel = lambda *arguments: (Result.CUDA_ERROR_LAUNCH_FAILED,)
    with pytest.raises(DeviceError, match="CUDA_ERROR_LAUNCH_FAILED"):
        x + 1
    cuda.cuLaunchKernel = launch
    assert (x + 1).tolist() == [2, 2, 2, 2]
