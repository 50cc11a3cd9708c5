"""Stand-ins for CuPy, the driver and cuBLAS that work on host memory.

The driver gets the kernel's text where a real one gets PTX, and runs it on the simulator with the
parameters it was given; a graph copies parameters when it is given them, as CUDA does. Invariant:
names, arguments and results are those that CuPy 14, cuda-bindings 13 and cuBLAS document.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tracejit.codegen.simt import Memory, SimFault, simulate

BLOCKS: dict[int, np.ndarray] = {}
STREAM = 7
CAPTURED: list[list[Callable[[], None]]] = []  # work of the stream while it is captured
PENDING: list[str] = []  # errors of kernels that the next wait reports


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
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_LAUNCH_FAILED = 719


class Current(contextlib.AbstractContextManager):
    def __exit__(self, *exc: object) -> None: ...


class Stream(Current):
    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.ptr, self.waits = STREAM, 0

    def synchronize(self) -> None:
        self.waits += 1
        if PENDING:
            raise CUDARuntimeError(PENDING.pop())

    def record(self, event: Any = None) -> Any:
        return SimpleNamespace(done=False)


class Event:
    """Done once somebody has asked for the second time: copies take a while."""

    def __init__(self, block: bool = False, disable_timing: bool = False):
        self.asked = 0

    def record(self, stream: Any = None) -> None:
        self.asked = 0

    @property
    def done(self) -> bool:
        self.asked += 1
        return self.asked > 1


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


def asked(work: Callable[[], None]) -> None:
    """Run work of the stream, or note it while the stream is captured."""
    (CAPTURED[-1].append if CAPTURED else lambda work: work())(work)


def memcpy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    assert stream == STREAM and kind in (1, 2) and not CAPTURED
    ctypes.memmove(target, source, size)


def memset(target: int, value: int, size: int, stream: int) -> None:
    assert stream == STREAM
    asked(lambda: ctypes.memset(target, value, size) and None)


def table_at(function: str, parameters: int) -> np.ndarray:
    """A copy of the table that a kernel's one parameter holds."""
    words = int(function.partition("\n")[0])
    (place,) = (ctypes.c_uint64 * 1).from_address(parameters)
    return np.array((ctypes.c_int64 * words).from_address(place))


def run(function: str, table: np.ndarray, grid: int, block: int) -> None:
    simulate(HostMemory(), "launched", function.partition("\n")[2], table, grid, block)


def launch(function: Any, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int,
           stream: int, parameters: int, extra: int) -> tuple[Result]:  # fmt: skip
    assert (gy, gz, by, bz, shared, stream, extra) == (1, 1, 1, 1, 0, STREAM, 0)
    table = table_at(function, parameters)
    asked(lambda: run(function, table, gx, bx))
    return (Result.CUDA_SUCCESS,)


# --- graphs --------------------------------------------------------------------------------------

Node = Callable[[], None] | tuple[Any, ...]


class Parameters:
    """CUDA_KERNEL_NODE_PARAMS"""

    func: Any = None
    gridDimX = gridDimY = gridDimZ = blockDimX = blockDimY = blockDimZ = sharedMemBytes = 0
    kernelParams = extra = 0

    def node(self) -> tuple[Any, ...]:
        assert (self.gridDimY, self.gridDimZ, self.blockDimY, self.blockDimZ) == (1, 1, 1, 1)
        return self.func, table_at(self.func, self.kernelParams), self.gridDimX, self.blockDimX


def add_node(graph: list[Any], before: list[Any], count: int, node: Any) -> tuple[Result, int]:
    assert len(before) == count and before == ([len(graph) - 1] if graph else [])
    graph.append(node.node() if isinstance(node, Parameters) else list(node))
    return Result.CUDA_SUCCESS, len(graph) - 1


def set_parameters(executable: list[Any], node: int, given: Parameters) -> tuple[Result]:
    assert isinstance(executable[node], tuple)
    executable[node] = given.node()
    return (Result.CUDA_SUCCESS,)


def launch_graph(executable: list[Any], stream: int) -> tuple[Result]:
    assert stream == STREAM and not CAPTURED
    for node in executable:
        if isinstance(node, tuple):
            run(*node)
        else:
            for work in node:
                work()
    return (Result.CUDA_SUCCESS,)


def begin_capture(stream: int, mode: Any) -> tuple[Result]:
    assert stream == STREAM and not CAPTURED and mode == "relaxed"
    CAPTURED.append([])
    return (Result.CUDA_SUCCESS,)


def driver() -> SimpleNamespace:
    ok = Result.CUDA_SUCCESS
    return SimpleNamespace(
        CUresult=Result, cuLaunchKernel=launch, CUDA_KERNEL_NODE_PARAMS=Parameters,
        CUstreamCaptureMode=SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED="relaxed"),
        cuModuleLoadData=lambda image: (ok, image.rstrip(b"\0").decode()),
        cuModuleGetFunction=lambda module, name: (ok, module),
        cuGraphCreate=lambda flags: (ok, []), cuGraphAddKernelNode=add_node,
        cuGraphAddChildGraphNode=add_node,
        cuGraphInstantiate=lambda graph, flags: (ok, list(graph)),
        cuGraphExecKernelNodeSetParams=set_parameters, cuGraphLaunch=launch_graph,
        cuGraphExecDestroy=lambda executable: (ok,), cuGraphDestroy=lambda graph: (ok,),
        cuStreamBeginCapture=begin_capture, cuStreamEndCapture=lambda s: (ok, CAPTURED.pop()),
    )  # fmt: skip


# --- cuBLAS --------------------------------------------------------------------------------------

_TYPES = {0: (np.float32, ctypes.c_float), 1: (np.float64, ctypes.c_double),
          2: (np.float16, ctypes.c_float)}  # fmt: skip


def column_major(address: int, kind: int, rows: int, columns: int, step: int) -> np.ndarray:
    dtype = np.dtype(_TYPES[kind][0])
    assert step >= max(rows, 1)
    start, block = HostMemory().find(address)
    flat = block[address - start :]
    assert len(flat) >= ((columns - 1) * step + rows) * dtype.itemsize
    flat = flat[: len(flat) // dtype.itemsize * dtype.itemsize].view(dtype)
    strides = (dtype.itemsize, step * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)


def gemm(handle: Any, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
         a: int, kind_a: int, lda: int, stride_a: int, b: int, kind_b: int, ldb: int, stride_b: int,
         beta: int, c: int, kind_c: int, ldc: int, stride_c: int, count: int, compute: int,
         algorithm: int) -> int:  # fmt: skip
    """C = alpha op(A) op(B) + beta C, column by column, `count` times."""
    assert handle.value == 99 and kind_a == kind_b == kind_c and algorithm == -1
    dtype, factor = _TYPES[kind_a]
    assert compute == (70 if dtype is np.float64 else 68)
    x, y = factor.from_address(alpha).value, factor.from_address(beta).value
    size = np.dtype(dtype).itemsize
    wide = np.float64 if dtype is np.float64 else np.float32

    def work() -> None:
        for i in range(count):
            first = column_major(a + i * stride_a * size, kind_a, *((k, m) if ta else (m, k)), lda)
            other = column_major(b + i * stride_b * size, kind_b, *((n, k) if tb else (k, n)), ldb)
            out = column_major(c + i * stride_c * size, kind_c, m, n, ldc)
            left, right = (first.T if ta else first), (other.T if tb else other)
            assert (x, y) == (1, 0)
            out[...] = left.astype(wide) @ right.astype(wide)

    asked(work)
    return 0


def create(place: int) -> int:
    ctypes.c_uint64.from_address(place).value = 99
    return 0


class Function:
    """A C function: `argtypes` can be set, and count the arguments."""

    def __init__(self, call: Callable[..., int]):
        self.call = call
        self.argtypes: list[Any] = []

    def __call__(self, *arguments: Any) -> int:
        assert len(arguments) == len(self.argtypes)
        return self.call(*arguments)


def library() -> SimpleNamespace:
    return SimpleNamespace(
        cublasCreate_v2=Function(create), cublasDestroy_v2=Function(lambda handle: 0),
        cublasSetStream_v2=Function(lambda handle, stream: 0),
        cublasSetWorkspace_v2=Function(lambda handle, place, size: int(place % 256 != 0)),
        cublasGemmStridedBatchedEx=Function(gemm),
    )  # fmt: skip


# --- CuPy ----------------------------------------------------------------------------------------


def pinned(size: int) -> Any:
    """cupy.cuda.alloc_pinned_memory: an object with the buffer protocol and `ptr`."""
    return np.zeros(size, np.uint8)


def cupy() -> SimpleNamespace:
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, memcpyAsync=memcpy,
        memsetAsync=memset, memcpyHostToDevice=1, memcpyDeviceToHost=2,
        getDeviceProperties=lambda i: {"name": b"stand-in", "totalGlobalMem": 1 << 30,
                                       "multiProcessorCount": 2},
    )  # fmt: skip
    parts = SimpleNamespace(
        runtime=runtime, Device=Card, Stream=Stream, Event=Event, MemoryPool=Pool,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemory), alloc_pinned_memory=pinned,
    )  # fmt: skip
    return SimpleNamespace(cuda=parts)
