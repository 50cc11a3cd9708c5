"""Matrix products by cuBLAS's C interface, on a stream and a workspace of our own.

CuPy refuses cuBLAS while a stream is captured into a graph, hence not through it; one function,
cublasGemmStridedBatchedEx, serves all dtypes. Invariant: TF32 is never used (cuBLAS's default
mode), and what a call needs beside its operands is the workspace of its stream.

Source of names, numbers and meanings: the cuBLAS library documentation, NVIDIA.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tracejit.errors import DeviceError, at_user_line

WORKSPACE_BYTES = 32 << 20  # what cuBLAS's documentation advises for Hopper; 4 MiB before
_NORMAL, _TRANSPOSED = 0, 1  # cublasOperation_t
_DEFAULT_ALGORITHM = -1  # cublasGemmAlgo_t
# dtype -> cudaDataType_t, cublasComputeType_t, type of the two factors
_KINDS: dict[str, tuple[int, int, Any]] = {
    "e": (2, 68, ctypes.c_float),
    "f": (0, 68, ctypes.c_float),
    "d": (1, 70, ctypes.c_double),
}
_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_OPERAND = [_POINTER, _INT, _INT, _LONG]
_ARGUMENTS = {
    "cublasCreate_v2": [_POINTER],
    "cublasDestroy_v2": [_POINTER],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmStridedBatchedEx": [
        _POINTER, *[_INT] * 5, _POINTER, *_OPERAND, *_OPERAND, _POINTER, *_OPERAND, *[_INT] * 3,
    ],
}  # fmt: skip


class Matrix(NamedTuple):
    """How cuBLAS is told of a matrix: whether its columns are the dense axis, and the other step.

    `transposed` False: rows lie one after the other, `step` elements apart.
    """

    transposed: bool
    step: int


def matrix_of(rows: int, columns: int, row_step: int, column_step: int) -> Matrix | None:
    """A matrix of these strides (in elements) for cuBLAS, or None if it has to be copied first."""
    if column_step == 1 or columns == 1:
        step = columns if rows == 1 else row_step
        if step >= columns:
            return Matrix(False, step)
    if row_step == 1 or rows == 1:
        step = rows if columns == 1 else column_step
        if step >= rows:
            return Matrix(True, step)
    return None


def runs_of(shape: Sequence[int], steps: Sequence[Sequence[int]]) -> tuple[int, list[int], int]:
    """The last batch axes as one: its size, the operands' steps along it, and how many axes.

    Axes join as long as every operand walks them evenly.
    """
    size, strides, joined = 1, [0] * len(steps), 0
    for axis in range(len(shape) - 1, -1, -1):
        own = [s[axis] for s in steps]
        if shape[axis] != 1 and size != 1:
            if any(o != s * size for o, s in zip(own, strides, strict=True)):
                break
        elif shape[axis] != 1:
            strides = own
        size *= shape[axis]
        joined += 1
    return size, strides, joined


class Cublas:
    """cuBLAS on one device. `library` gives the C functions; `reserve` memory of the device."""

    def __init__(self, library: Any, reserve: Any):
        self.library = library
        self.reserve = reserve
        self.handles: dict[int, tuple[Any, Any]] = {}  # stream -> handle, workspace
        self.lock = threading.Lock()
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise DeviceError(at_user_line(f"a matrix product: {name} failed with status {status}"))

    def _handle(self, stream: int) -> Any:
        held = self.handles.get(stream)
        if held is None:
            handle = ctypes.c_void_p()
            self._call("cublasCreate_v2", ctypes.addressof(handle))
            workspace = self.reserve(WORKSPACE_BYTES)
            self._call("cublasSetStream_v2", handle, stream)
            self._call("cublasSetWorkspace_v2", handle, workspace.address, WORKSPACE_BYTES)
            held = self.handles[stream] = handle, workspace
        return held[0]

    def matmul(self, a: Any, b: Any, out: Any, stream: int) -> None:
        """`out = a @ b` on a stream: arrays with equal batch axes, `out` dense, none empty."""
        m, n, k = out.shape[-2], out.shape[-1], a.shape[-1]
        kind, compute, factor = _KINDS[out.dtype.char]
        first, second = _matrix(a), _matrix(b)
        one, zero = factor(1), factor(0)
        lead = out.shape[:-2]
        steps = [[s // x.itemsize for s in x.strides[:-2]] for x in (a, b, out)]
        count, along, joined = runs_of(lead, steps)
        # C = A B row by row is C' = B' A' column by column, which is how cuBLAS counts.
        with self.lock:
            handle = self._handle(stream)
            for pa, pb, pc in _places(lead[: len(lead) - joined], steps, (a, b, out)):
                self._call(
                    "cublasGemmStridedBatchedEx", handle,
                    _TRANSPOSED if second.transposed else _NORMAL,
                    _TRANSPOSED if first.transposed else _NORMAL,
                    n, m, k, ctypes.addressof(one),
                    pb, kind, second.step, along[1], pa, kind, first.step, along[0],
                    ctypes.addressof(zero), pc, kind, n, along[2],
                    count, compute, _DEFAULT_ALGORITHM,
                )  # fmt: skip


def _matrix(x: Any) -> Matrix:
    found = matrix_of(*x.shape[-2:], *(s // x.itemsize for s in x.strides[-2:]))
    assert found is not None, "frames copy operands that cuBLAS cannot read"
    return found


def _places(lead: Sequence[int], steps: Any, arrays: Sequence[Any]) -> Iterator[tuple[int, ...]]:
    """The addresses of the matrices that begin each run of the joined batch axes."""
    for at in np.ndindex(*lead):
        yield tuple(
            x.address + x.itemsize * sum(i * s for i, s in zip(at, own, strict=False))
            for x, own in zip(arrays, steps, strict=True)
        )


def is_empty(a: Any, out: Any) -> bool:
    """Whether there is nothing to add up: `out` has no elements, or they are all 0."""
    return not prod(out.shape) or not a.shape[-1]


def load_library() -> Any:
    """cuBLAS's shared library, from the wheels or CUDA_HOME. Raises DeviceError if it is missing.

    Where to look is known to cuda-pathfinder, which cuda-bindings brings.
    """
    from cuda import pathfinder

    try:
        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    except (OSError, RuntimeError) as error:  # pathfinder's own errors are RuntimeErrors
        reason = str(error).partition("\n")[0]
        raise DeviceError(at_user_line(
            f"matrix products on 'cuda' need cuBLAS: pip install 'tracejit[cuda]' ({reason})"
        )) from None  # fmt: skip
