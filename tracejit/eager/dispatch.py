"""From tensors to tensors: promotion, broadcasting, execution, recording.

`pointwise` serves elementwise ops (operands promote and broadcast), `apply` all others (operands
are as the op wants them), `view` the ops whose result shares memory. Invariant: the data path
lets NumPy broadcast; only the record spells casts and broadcasts out.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.execute import execute, known_call
from tracejit.eager.modes import state
from tracejit.eager.quiet import quiet
from tracejit.eager.tape import attach, node_of, on_root, save_for_backward, storage_of, type_of
from tracejit.errors import (
    DeviceError,
    DTypeError,
    LinAlgError,
    ShapeError,
    TracejitError,
    at_user_line,
    user_location,
)
from tracejit.ir.interpret import concrete_params
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import SymInt, hint_of
from tracejit.ir.types import TensorType
from tracejit.runtime.device_array import DeviceArray, share_memory
from tracejit.tensor import Tensor, new_tensor

NO_PARAMS: dict[str, Any] = {}


def is_scalar(value: Any) -> bool:
    """Whether a value is a Python (or NumPy) number rather than a tensor."""
    return isinstance(value, (bool, int, float, np.generic)) or hasattr(value, "scalar_node")


def fail(op: Op, operands: Sequence[Any], error: Exception) -> Exception:
    """The error to raise for `op`: names the op, the types and the user's line."""
    types = ", ".join(str(type_of(x)) if isinstance(x, Tensor) else repr(x) for x in operands)
    kind = type(error)
    if isinstance(error, np.linalg.LinAlgError):
        kind = LinAlgError
    elif isinstance(error, (ShapeError, ValueError)) and not isinstance(error, DTypeError):
        kind = ShapeError
    elif isinstance(error, TypeError) and not isinstance(error, DTypeError):
        kind = DTypeError
    return kind(at_user_line(f"{op.name}({types}): {error}"))


# --- pointwise -------------------------------------------------------------------------------


def common_dtype(operands: Sequence[Any]) -> DType:
    """The dtype to which pointwise operands promote; TypeError for what is no operand."""
    given = []
    for x in operands:
        if isinstance(x, Tensor):
            given.append((x.dtype, 2 if x._array.ndim else 1))
        elif is_scalar(x):
            given.append((dtypes.scalar_dtype(x), 0))
        else:
            raise TypeError(at_user_line(
                f"expected a tensor or a number, got {type(x).__name__}"))  # fmt: skip
    return dtypes.result_type(given)


def to_array(operand: Any, dtype: DType) -> np.ndarray:
    """The operand as an array of `dtype` (a Python number: 0-d)."""
    if isinstance(operand, Tensor):
        array = operand._array
        return array if array.dtype is dtype.numpy else array.astype(dtype.numpy)
    return scalar_array(getattr(operand, "hint", operand), dtype)


def scalar_array(value: Any, dtype: DType) -> np.ndarray:
    """A 0-d array of a Python number; an integer that does not fit wraps, as in torch."""
    try:
        return quiet(np.array, value, dtype.numpy)
    except OverflowError:
        if dtype.kind == "f":
            return np.array(float(value), dtype.numpy)
        if not -(1 << 63) <= value < 1 << 63:
            raise DTypeError(at_user_line(f"value {value} does not fit int64")) from None
        return np.array(value, np.int64).astype(dtype.numpy)


def pointwise(
    op: Op,
    operands: Sequence[Any],
    params: dict[str, Any] = NO_PARAMS,
    *,
    dtype: DType | None = None,
    to_float: bool = False,
) -> Tensor:
    """`op` on operands that promote and broadcast.

    dtype     compute in this dtype instead of the promoted one.
    to_float  integers and bools become the default floating dtype first.
    """
    if dtype is None:
        dtype = common_dtype(operands)
        if to_float and dtype.kind != "f":
            dtype = dtypes.get_default_dtype()
    _check_devices(op, operands)
    arrays = [to_array(x, dtype) for x in operands]
    return _finish_pointwise(op, operands, arrays, params, dtype)


def select_where(condition: Any, x: Any, y: Any, dtype: DType) -> Tensor:
    """`where` with the dtype of the result given; all three broadcast."""
    op = OPS["where"]
    operands = (condition, x, y)
    _check_devices(op, operands)
    arrays = [to_array(condition, dtypes.bool_), to_array(x, dtype), to_array(y, dtype)]
    result = _run_pointwise(op, operands, arrays, NO_PARAMS)
    if state.capture is not None or (state.grad and _any_requires_grad(operands)):
        shape = broadcast_symbolic([operand_shape(o) for o in operands])
        kinds = (dtypes.bool_, dtype, dtype)
        nodes = tuple(
            operand_node(o, kind, shape, result._device)
            for o, kind in zip(operands, kinds, strict=True)
        )
        finish_record(op, nodes, NO_PARAMS, operands, result)
    return result


def _run_pointwise(
    op: Op, operands: Sequence[Any], arrays: Sequence[Any], params: dict[str, Any]
) -> Tensor:
    try:
        return new_tensor(execute(op, arrays, params))
    except (ValueError, TypeError, TracejitError, RuntimeError) as error:
        raise _explain(op, operands, error) from None


def _finish_pointwise(
    op: Op, operands: Sequence[Any], arrays: Sequence[Any], params: dict[str, Any], dtype: DType
) -> Tensor:
    result = _run_pointwise(op, operands, arrays, params)
    if state.capture is not None or (state.grad and _any_requires_grad(operands)):
        record_pointwise(op, operands, result, params, dtype)
    return result


def _explain(op: Op, operands: Sequence[Any], error: Exception) -> Exception:
    """Prefer the type rule's words to NumPy's."""
    shapes = [x._array.shape for x in operands if isinstance(x, Tensor)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return fail(op, operands, ShapeError(f"shapes {shapes} do not broadcast together"))
    return fail(op, operands, error)


def _any_requires_grad(operands: Sequence[Any]) -> bool:
    return any(isinstance(x, Tensor) and x._requires_grad for x in operands)


def _check_devices(op: Op, operands: Sequence[Any]) -> None:
    device = None
    for x in operands:
        if isinstance(x, Tensor):
            if device is None or x._device == device:
                device = x._device
            elif x._array.ndim:
                message = f"{op.name}: tensors on {device} and {x._device}; move one with .to()"
                raise DeviceError(at_user_line(message))


def broadcast_symbolic(shapes: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The common shape of (possibly symbolic) shapes; raises ShapeError."""
    first = shapes[0]
    for shape in shapes:
        if shape is not first:
            break
    else:
        return first
    rank = max(map(len, shapes))
    out: list[Any] = [1] * rank
    for shape in shapes:
        for i, size in enumerate(shape, rank - len(shape)):
            if out[i] is size:
                continue
            if type(out[i]) is int and out[i] == 1:  # no question asked of a symbolic size
                out[i] = size
            elif not (type(size) is int and size == 1) and out[i] != size and size != 1:
                if out[i] == 1:
                    out[i] = size
                    continue
                raise ShapeError(f"shapes {[list(s) for s in shapes]} do not broadcast together")
    return tuple(out)


def operand_node(operand: Any, dtype: DType, shape: tuple[Any, ...], device: Any) -> Node:
    """The node of an operand, cast and broadcast as the record wants it."""
    if isinstance(operand, Tensor):
        node = node_of(operand)
    elif hasattr(operand, "scalar_node"):
        node = operand.scalar_node()
    elif type(operand) is SymInt:
        node = OPS["size"](value=operand)
    else:
        value = operand.item() if isinstance(operand, np.generic) else operand
        value = _typed_value(value, dtype)
        return OPS["full"](value=value, type=TensorType(dtype, shape, device))
    if node.type.dtype is not dtype:
        node = OPS["cast"](node, dtype=dtype)
    if node.type.shape is not shape and node.type.shape != shape:
        node = OPS["broadcast_to"](node, shape=shape)
    return node


def _typed_value(value: Any, dtype: DType) -> Any:
    if dtype.kind == "f":
        return float(value)
    return bool(value) if dtype.kind == "b" else int(value)


def record_pointwise(
    op: Op, operands: Sequence[Any], result: Tensor, params: dict[str, Any], dtype: DType
) -> None:
    """Record a pointwise op that has just run."""
    shape = broadcast_symbolic([operand_shape(x) for x in operands])
    device = result._device
    nodes = tuple([operand_node(x, dtype, shape, device) for x in operands])
    finish_record(op, nodes, params, operands, result)


def operand_shape(operand: Any) -> tuple[Any, ...]:
    """The shape of an operand as the record sees it (symbolic in a capture)."""
    if not isinstance(operand, Tensor):
        return ()
    if state.capture is None:
        return operand._array.shape
    return node_of(operand).type.shape


def finish_record(
    op: Op,
    nodes: tuple[Node, ...],
    params: dict[str, Any],
    operands: Sequence[Any],
    results: Any,
) -> None:
    """Make the node, save what its rule reads, give it to the result(s)."""
    node = op(*nodes, **params)
    node.loc = user_location()
    finish_node(node, operands, results)


def finish_node(node: Node, operands: Sequence[Any], results: Any) -> None:
    """Save what the rule of a node just made reads, give it to the result(s)."""
    op = node.op
    several = isinstance(results, tuple)
    outputs: tuple[Tensor, ...] = results if several else (results,)
    differentiable = op.vjp is not None and outputs[0]._array.dtype.kind == "f"
    tracked = _any_requires_grad(operands)
    wants = state.grad and differentiable and tracked
    if wants:
        save_for_backward(node, operands, outputs)
    elif tracked and differentiable and not several:
        node = OPS["detach"](node)
    if not several:
        attach(results, node, wants)
        return
    for i, output in enumerate(outputs):
        item = node[i]
        is_float = output._array.dtype.kind == "f"
        if tracked and is_float and not wants:
            item = OPS["detach"](item)
        attach(output, item, wants and is_float)


# --- the other ops ---------------------------------------------------------------------------


def apply(op: Op, tensors: Sequence[Tensor], params: dict[str, Any] = NO_PARAMS) -> Any:
    """`op` on tensors of the very shapes and dtypes it wants: a tensor, or a tuple of them."""
    concrete = concrete_params(params) if state.capture is not None else params
    arrays = [t._array for t in tensors]
    known = known_call(op, arrays, concrete)
    try:
        if known is not None:
            data = known(arrays)
        else:
            if op.kind != "elementwise":
                op.infer(tuple([type_of(t) for t in tensors]), **concrete)
            data = execute(op, arrays, concrete)
    except (ValueError, TypeError, IndexError, TracejitError, RuntimeError) as error:
        raise fail(op, tensors, error) from None
    result = tuple(map(new_tensor, data)) if isinstance(data, tuple) else new_tensor(data)
    if state.capture is not None or (state.grad and any(t._requires_grad for t in tensors)):
        finish_record(op, tuple(map(node_of, tensors)), params, tensors, result)
    return result


def view(op: Op, tensor: Tensor, params: dict[str, Any]) -> Tensor:
    """A movement op whose result shares the tensor's memory where NumPy can make it so."""
    concrete = concrete_params(params) if state.capture is not None else params
    source = tensor._array
    if op.name == "reshape" and state.capture is not None:
        state.capture.ask_layout(tensor)
    try:
        array = op.numpy(source, **concrete)
    except (ValueError, TypeError, IndexError) as error:
        raise fail(op, (tensor,), error) from None
    if op.name == "broadcast_to":  # NumPy's are read-only; their parts are not
        array.flags.writeable = source.flags.writeable
    result = new_tensor(array)
    if op.name == "reshape" and not shares_memory(array, source):
        if state.capture is not None or (state.grad and tensor._requires_grad):
            finish_record(op, (node_of(tensor),), params, (tensor,), result)
        return result
    link_view(result, tensor, op, params)
    if state.capture is not None or (state.grad and tensor._requires_grad):
        finish_record(op, (node_of(tensor),), params, (tensor,), result)
    return result


def link_view(result: Tensor, tensor: Tensor, op: Op, params: dict[str, Any]) -> None:
    """Note that `result` is the view `op` of `tensor`."""
    storage = storage_of(tensor)
    result._storage = storage
    tensor._viewed = True
    result._base = tensor if tensor._base is None else tensor._base
    result._view = (*tensor._view, (op, params))
    result._seen = storage.version
    if not result._base._requires_grad:
        _note_view(result._base, result)


def become_view(tensor: Tensor, twin: Tensor) -> None:
    """`tensor` has the memory of the view `twin`: from here on it is that view."""
    base = twin._base
    assert base is not None
    tensor._base, tensor._view, tensor._seen = base, twin._view, twin._seen
    if not base._requires_grad:
        _note_view(base, tensor)
        for view in [reference() for reference in tensor._views or ()]:
            if view is not None:
                _note_view(base, on_root(view))


def _note_view(base: Tensor, view: Tensor) -> None:
    """Remember a view of a tensor without grad: a recorded write to the base concerns it too."""
    views = base._views
    if views is None:
        base._views = [weakref.ref(view)]
        return
    views.append(weakref.ref(view))
    count = len(views)
    if count >= 64 and not count & (count - 1):  # drop the dead ones now and then
        views[:] = [r for r in views if r() is not None]


def shares_memory(array: Any, source: Any) -> bool:
    """Whether a reshape result is a view of `source`."""
    if type(source) is DeviceArray:
        return share_memory(array, source)
    return array.base is source or (source.base is not None and array.base is source.base)


def concrete_shape(shape: Sequence[Any]) -> tuple[int, ...]:
    """Sizes without symbols."""
    return tuple(hint_of(n) for n in shape)
