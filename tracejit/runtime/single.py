"""`run_op`: one op on arrays, now, with the kernels that compiled code uses.

The one-node graph goes through the same passes, fusion and code generator as any other, so eager
and compiled results agree bit for bit. Invariant: a result never shares memory with an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType, from_numpy
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType
from tracejit.runtime.buffers import empty_maker
from tracejit.runtime.driver import Driver
from tracejit.runtime.executable import Executable, build
from tracejit.runtime.frame import Frame
from tracejit.runtime.launch import Launch
from tracejit.runtime.native import MAX_WORDS
from tracejit.runtime.threads import ready_driver

Array = np.ndarray[Any, Any]
Call = Callable[[Sequence[Any]], Any]

_MAX_CALLS = 4096
_LITTLE = 512  # elements: vectors save less in ten thousand calls than full compilation costs
_calls: dict[Any, Call] = {}
_executables: dict[Any, Executable] = {}


def run_op(
    op: Op, arrays: Sequence[Any], params: dict[str, Any], dtype: np.dtype[Any] | None = None
) -> Any:
    """The result of `op` on `arrays`, as a new array (a tuple for ops with several results).

    Operands of elementwise ops broadcast; numbers count as 0-d arrays. `dtype` converts the result.
    Raises what the op's type rule raises. Example: ``run_op(OPS["exp"], [x], {})``.
    """
    try:
        key: Any = (op, dtype, *[(a.dtype, a.shape, a.strides) for a in arrays], *params.items())
    except AttributeError:
        return run_op(op, [np.asarray(a) for a in arrays], params, dtype)
    call = _calls.get(key)
    if call is None:
        call = _calls[key] = _new_call(op, arrays, params, dtype)
        while len(_calls) > _MAX_CALLS:
            del _calls[next(iter(_calls))]
    return call(arrays)


def known_call(op: Op, arrays: Sequence[Any], params: dict[str, Any]) -> Call | None:
    """How `run_op` ran the op on arrays of these types before (they fit it, then), else None."""
    key: list[Any] = [op, None]
    for a in arrays:
        if type(a) is not np.ndarray:
            return None
        key.append((a.dtype, a.shape, a.strides))
    return _calls.get((*key, *params.items()))


def _new_call(
    op: Op, arrays: Sequence[Array], params: dict[str, Any], dtype: np.dtype[Any] | None
) -> Call:
    """How to run the op on arrays of these dtypes, shapes and strides."""
    order = _order(op, arrays, params)
    if order:
        return _in_order(op, order, params, dtype)
    shapes = tuple((a.dtype, a.shape) for a in arrays)
    key = (op, dtype, *shapes, *params.items())
    executable = _executables.get(key)
    if executable is None:
        little = all(a.size <= _LITTLE for a in arrays)
        graph = op_graph(op, arrays, params, dtype)
        executable = _executables[key] = build(graph, light=little and _is_little(graph))
        while len(_executables) > _MAX_CALLS:
            del _executables[next(iter(_executables))]
    several = len(executable.graph.outputs) > 1
    exact = [a if type(a) is np.ndarray else np.asarray(a) for a in arrays]
    frame = executable.frame(exact, True)
    if not several and all(type(a) is np.ndarray for a in arrays):
        fast = _direct_call(frame, len(arrays))
        if fast is not None:
            return fast
    run = executable.run
    if several:
        return lambda arrays: tuple(run(arrays))
    return lambda arrays: run(arrays)[0]


def _order(op: Op, arrays: Sequence[Array], params: dict[str, Any]) -> tuple[int, ...]:
    """The order in memory that NumPy would give the axes of a pointwise result, as for the ops that
    NumPy runs; () for row-major order. Composites without an axis are pointwise too."""
    is_pointwise = op.kind == "elementwise" or (op.kind == "composite" and not params)
    if not is_pointwise or op.multiple or all(a.flags.c_contiguous for a in arrays):
        return ()
    few = [np.asarray(a)[tuple([slice(0, 2)] * np.ndim(a))] for a in arrays]  # of the same strides
    if any(a.size == 0 for a in few):
        return ()
    flags: Any = [*[["readonly"] for _ in few], ["writeonly", "allocate"]]
    found = np.nditer(
        [*few, None], ["external_loop", "buffered"], flags,
        op_dtypes=[a.dtype for a in few] + [np.dtype(np.int8)], order="K", casting="unsafe",
    ).operands[-1]  # fmt: skip
    order = tuple(sorted(range(found.ndim), key=lambda i: (-found.strides[i], i)))
    return () if list(order) == sorted(order) else order


def _in_order(
    op: Op, order: tuple[int, ...], params: dict[str, Any], dtype: np.dtype[Any] | None
) -> Call:
    """The op on operands whose axes have been put into that order, which makes them dense."""
    back = tuple(sorted(range(len(order)), key=lambda i: order[i]))

    def call(arrays: Sequence[Any]) -> Any:
        full = [a.reshape((1,) * (len(order) - a.ndim) + a.shape) for a in arrays]
        return run_op(op, [a.transpose(order) for a in full], params, dtype).transpose(back)

    return call


def _is_little(graph: Graph) -> bool:
    """Whether all results are small too."""
    return all(node.type.size <= _LITTLE for node in graph.outputs)


def apply_op(op: Op, inputs: Sequence[Node], params: dict[str, Any]) -> tuple[Node, ...]:
    """The results of one op on inputs that broadcast where it is pointwise."""
    operands = inputs
    if op.kind == "elementwise":
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        operands = [x if x.shape == shape else OPS["broadcast_to"](x, shape=shape) for x in inputs]
    result = op(*operands, **params)
    if op.multiple:
        return tuple(result[i] for i in range(len(result.type.items)))
    return (result,)


def op_graph(
    op: Op, arrays: Sequence[Array], params: dict[str, Any], dtype: np.dtype[Any] | None = None
) -> Graph:
    """The graph of one op on operands of these dtypes and shapes."""
    inputs = tuple(
        OPS["input"](name=f"x{i}", type=TensorType(from_numpy(a.dtype), a.shape))
        for i, a in enumerate(arrays)
    )
    outputs = apply_op(op, inputs, params)
    if dtype is not None:
        target: DType = from_numpy(dtype)
        outputs = tuple(x if x.dtype is target else OPS["cast"](x, dtype=target) for x in outputs)
    return Graph(op.name, inputs, outputs)


def _direct_call(frame: Frame, count: int) -> Call | None:
    """One launch without temporaries needs no frame: its table is passed word by word."""
    shape, dtype = frame.outputs[0]
    make = empty_maker(dtype)
    if frame.segments and not frame.launches:
        return None
    if not frame.launches:
        return lambda arrays: make(shape)
    only = frame.launches[0]
    if len(frame.launches) != 1 or len(frame.segments) != 1 or not isinstance(only, Launch):
        return None
    found = _words(only, count)
    if found is None:
        return None
    template, places, result = found
    native_driver: Driver = ready_driver()
    launch, kernel = native_driver.launch, only.kernel
    head = (kernel.address, only.units, only.grain)

    def call(arrays: Sequence[Any]) -> Array:
        out = make(shape)
        words = template.copy()
        for place, index in places:
            words[place] = arrays[index]
        words[result] = out
        launch(*head, *words)
        return out

    call.kernel = kernel  # type: ignore[attr-defined]  # keeps the code alive
    return call


def _words(launch: Launch, count: int) -> tuple[list[Any], list[tuple[int, int]], int] | None:
    """The table as Python words, where the operands go, and where the result goes."""
    if launch.words or any(not isinstance(x, int) for x in launch.extras):
        return None
    words: list[Any] = list(launch.sizes)
    places: list[tuple[int, int]] = []
    result = -1
    for operand, strides in zip(launch.operands, launch.strides, strict=True):
        if operand.buffer.kind != "argument" or operand.layout.offset:
            return None
        if operand.buffer.index == count:
            result = len(words)
        else:
            places.append((len(words), operand.buffer.index))
        words += [0, *strides]
    words += launch.extras
    return (words, places, result) if result >= 0 and len(words) <= MAX_WORDS else None
