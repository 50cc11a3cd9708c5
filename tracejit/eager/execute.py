"""Runs one op on arrays, now. The choice of how is made here and nowhere else.

Ops that IEEE or integer arithmetic fixes run on NumPy while they are small; all other pointwise
ops and all reductions run the project's own kernels, the very ones that compiled code uses, so
that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import config
from tracejit.eager.quiet import quiet
from tracejit.ir.op import OPS, Op
from tracejit.late import LateModule
from tracejit.runtime.device import backend_of
from tracejit.runtime.device_array import DeviceArray, copy_array, moved
from tracejit.runtime.timing import PROFILERS, timed

if TYPE_CHECKING:
    from tracejit.runtime import gemm, single, target
else:  # the compiler, which a process may not need at all
    gemm = LateModule("tracejit.runtime.gemm")
    single = LateModule("tracejit.runtime.single")
    target = LateModule("tracejit.runtime.target")

THREADED_SIZE = 1 << 17
"""Elements from which an exact op runs as a threaded kernel instead of on NumPy."""
PAYING_SIZE = 1 << 25
"""Elements in all from which that saves more time than the kernel's compilation takes."""

_KERNEL_REDUCTIONS = frozenset(
    {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "logsumexp"}
)
_THREADED = frozenset(
    {"cumsum", "cumprod", "cumextreme", "topk", "gather", "take", "scatter", "scatter_add",
     "take_add", "concatenate", "window_max", "window_sum", "window_put", "windows_add"}
)  # fmt: skip
"""Exact ops with native forms that give NumPy's bits; of large operands these are faster."""


def execute(op: Op, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
    """The array (or tuple of arrays) that `op` gives for `arrays`, which may broadcast."""
    if PROFILERS:
        with timed(op.name, native=True):
            return _execute(op, arrays, params)
    return _execute(op, arrays, params)


def _execute(op: Op, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
    for a in arrays:
        if type(a) is DeviceArray:
            return target.run_on_device(op, arrays, params, a.backend)
    kind = op.kind
    if op.name == "get":
        return arrays[0][params["index"]]  # of a tuple of arrays, wherever those are
    if kind == "elementwise":
        if not op.exact or (_is_large(arrays) and _pays(op, arrays)):
            return single.run_op(op, arrays, params)
        return _on_numpy(op.numpy, arrays, params)
    if op.name == "matmul":
        return gemm.matmul(arrays[0], arrays[1])
    if kind == "contraction" and arrays[0].dtype.kind == "f":
        return single.run_op(op, arrays, params)
    if kind == "composite" or op.name in _KERNEL_REDUCTIONS:
        if arrays[0].size and (arrays[0].dtype.kind == "f" or _is_large(arrays)):
            return single.run_op(op, arrays, params)
    if op.name in _THREADED and _is_large(arrays):
        return single.run_op(op, arrays, params)
    if kind == "random" and params["type"].size:
        device = params["type"].device
        if device.type != "cpu":
            return target.run_on_device(op, arrays, params, backend_of(device))
        return single.run_op(op, [int(a) for a in arrays], params)
    if op.name == "while_loop":
        _ = single.run_op  # once it is there, programs do the rounds
    if op.name == "to_device":
        return moved(arrays[0], params["device"])
    return _on_numpy(op.numpy, arrays, params)


def beside_constants(arrays: Sequence[Any], nodes: Sequence[Any]) -> list[Any]:
    """Operands of which some are on a device: constants go there (see `runtime.target`)."""
    return target.beside_constants(arrays, nodes)


def known_call(op: Op, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
    """The function that runs the op on arrays of these types, if `execute` has used one before.

    Then their types need no checking. None for ops that no kernel runs, or none always.
    """
    if (op.kind == "composite" or op.name in _KERNEL_REDUCTIONS) and not PROFILERS:
        return single.known_call(op, arrays, params)
    return None


def dense_copy(array: Any) -> Any:
    """A row-major copy on the array's device: of a large one by threads, in tiles if transposed."""
    if type(array) is np.ndarray and array.size and _is_large((array,)):
        return single.run_op(OPS["alias"], [array], {})
    return copy_array(array)


def ordered_copy(array: Any) -> Any:
    """A copy without gaps that keeps the order of the axes in memory; row-major where elements
    repeat, and on devices."""
    if type(array) is not np.ndarray or array.flags.c_contiguous or 0 in array.strides:
        return dense_copy(array)
    order = sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]))
    return dense_copy(array.transpose(order)).transpose(np.argsort(order))


def _on_numpy(function: Callable[..., Any], arrays: Sequence[Any], params: dict[str, Any]) -> Any:
    result = quiet(function, *arrays, **params)
    if type(result) is np.ndarray:
        return result
    if isinstance(result, tuple):
        return tuple(np.asarray(r) for r in result)
    return np.asarray(result)


_met: dict[tuple[Op, Any], int] = {}  # elements that NumPy has done


def _pays(op: Op, arrays: Sequence[Any]) -> bool:
    """Whether the op has had enough to do on large arrays, this one included, for a kernel."""
    key = (op, arrays[0].dtype)
    met = _met.get(key, 0)
    if met < PAYING_SIZE:
        _met[key] = met = met + max(a.size for a in arrays)
    return met >= PAYING_SIZE


def _is_large(arrays: Sequence[Any]) -> bool:
    for a in arrays:
        if a.size >= THREADED_SIZE:
            return config.threads > 1
    return False
