"""Copies of tensors, conversions of dtype and device, and writes of a whole tensor.

Invariant: a conversion that changes nothing returns the tensor itself, as in torch.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.dispatch import link_view, pointwise
from tracejit.eager.execute import dense_copy, ordered_copy
from tracejit.eager.factories import as_device, from_traced, make_full, tensor
from tracejit.eager.inplace import check_writable, store
from tracejit.eager.modes import state
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.shape import sizes_of
from tracejit.eager.tape import attach, node_of, type_of
from tracejit.errors import at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.types import Device
from tracejit.runtime.device_array import moved
from tracejit.tensor import Tensor, new_tensor


@public()
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy that gradients flow through; it keeps the order of the axes in memory, or with
    ``memory_format=torch.contiguous_format`` is row-major."""
    copy = dense_copy if memory_format == "contiguous_format" else ordered_copy
    result = new_tensor(copy(input._array))
    _record_identity(input, result)
    return result


def row_major(input: Tensor) -> Tensor:
    """The tensor, or a copy of it, in row-major order: for results, unlike `contiguous` this is no
    question about the memory of the input."""
    if input._array.flags.c_contiguous:
        return input
    return clone(input, memory_format="contiguous_format")


def _record_identity(source: Tensor, result: Tensor) -> None:
    """`result` has the value of `source`."""
    tracked = state.grad and source._requires_grad
    if state.capture is not None:
        node = node_of(source)
        if source._requires_grad and not tracked:
            node = OPS["detach"](node)
        attach(result, OPS["alias"](node), tracked)
    elif tracked:
        attach(result, OPS["alias"](node_of(source)), True)


@public(function=False)
def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if its elements lie in row-major order, else a copy that does."""
    if state.capture is not None:
        state.capture.ask_layout(self)
    return row_major(self)


@public()
def detach(input: Tensor) -> Tensor:
    """The same memory, without gradients."""
    result = new_tensor(input._array)
    link_view(result, input, OPS["detach"], {})
    if state.capture is not None:
        attach(result, OPS["detach"](node_of(input)), False)
    return result


def to_dtype(input: Tensor, dtype: DType, copy: bool = False) -> Tensor:
    """Converted to `dtype`; the tensor itself if it has that dtype already."""
    if input._array.dtype is dtype.numpy and not copy:
        return input
    if input._array.dtype is dtype.numpy:
        return clone(input)
    return pointwise(OPS["cast"], (input,), {"dtype": dtype}, dtype=input.dtype)


def to_device(input: Tensor, device: Device, non_blocking: bool = False) -> Tensor:
    """A copy on another device, through which gradients flow back.

    With `non_blocking` the host does not wait for a copy to a device; from one it always does.

    A factory's fresh result in a capture moves with its record; any other move is none that a
    trace can replay, and the function runs eagerly.
    """
    array = input._array
    result = new_tensor(moved(array, device, non_blocking))
    if state.capture is not None:
        return state.capture.moved(input, result, device)
    if state.grad and input._requires_grad:
        attach(result, OPS["to_device"](node_of(input), device=result._device), True)
    return result


@public(function=False)
def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Converted to a dtype and/or moved to a device: ``to(dtype)``, ``to(device)``,
    ``to(device, dtype)``, ``to(other_tensor)``; `copy=True` always copies."""
    dtype, device = kwargs.get("dtype"), kwargs.get("device")
    for value in args:
        if isinstance(value, Tensor):
            dtype, device = value.dtype, value.device
        elif isinstance(value, DType) or value in (float, int, bool):
            dtype = dtypes.as_dtype(value)
        elif isinstance(value, (str, Device)) or (isinstance(value, int) and value is not True):
            device = value
    result = self
    if device is not None and as_device(device) != self._device:
        result = to_device(self, as_device(device), bool(kwargs.get("non_blocking")))
    if dtype is not None:
        result = to_dtype(result, dtypes.as_dtype(dtype))
    if result is self and kwargs.get("copy"):
        return clone(self)
    return result


@public(function=False)
def type_as(self: Tensor, other: Tensor) -> Tensor:
    """Converted to the dtype of `other`."""
    return to_dtype(self, other.dtype)


_TYPE_NAMES = {dtype: name for name, dtype in dtypes.TENSOR_TYPES.items()}


def _type(self: Tensor, dtype: Any = None) -> Any:
    """The name of its type ('torch.FloatTensor'), or the tensor converted to a dtype."""
    if dtype is None:
        place = "" if self.device.type == "cpu" else f"{self.device.type}."
        return f"torch.{place}{_TYPE_NAMES[self.dtype]}"
    return to_dtype(self, dtypes.as_dtype(dtype))


setattr(Tensor, "type", _type)


def _define_conversion(name: str, dtype: DType) -> None:
    def method(self: Tensor) -> Tensor:
        return to_dtype(self, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Converted to {dtype.name}."
    setattr(Tensor, name, method)


for _name, _dtype in (
    ("float", dtypes.float32), ("double", dtypes.float64), ("half", dtypes.float16),
    ("long", dtypes.int64), ("int", dtypes.int32), ("short", dtypes.int16),
    ("char", dtypes.int8), ("byte", dtypes.uint8), ("bool", dtypes.bool_),
):  # fmt: skip
    _define_conversion(_name, _dtype)


@public(function=False)
def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """The contents of `src` (broadcast, converted) written into this tensor."""
    check_writable(self, "copy_")
    source = src if isinstance(src, Tensor) else tensor(src, dtype=self.dtype)
    if source._device != self._device:
        source = source.to(self._device)
    if source._array.shape != self._array.shape:
        source = source.expand(*sizes_of(self))
    return store(self, source)


@public(function=False)
def fill_(self: Tensor, value: Any) -> Tensor:
    """One value written everywhere."""
    check_writable(self, "fill_")
    if isinstance(value, Tensor) and value._array.ndim:
        raise RuntimeError(at_user_line(
            f"fill_: the value must be a number or 0-d, not {type_of(value)}"))  # fmt: skip
    if isinstance(value, Tensor):
        return copy_(self, value)
    if hasattr(value, "scalar_node"):
        return store(self, from_traced(value, self.dtype).expand(*sizes_of(self)))
    return store(
        self, make_full(((),), value, self.dtype, False, self._device).expand(*sizes_of(self))
    )


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the shape and dtype of `input` with one value everywhere."""
    return fill_(clone(input), value)


FUNCTIONS["fill"], FUNCTIONS["fill_"] = fill, fill_


@public(aliases=())
def zero_(self: Tensor) -> Tensor:
    """Zero written everywhere."""
    return fill_(self, 0)
