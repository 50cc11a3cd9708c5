"""What a tensor is (`is_*`, storage, strides), what code asks about dtypes, and odd methods.

Invariant: nothing here computes with elements, except `apply_` and `map_`, which call Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.dispatch import common_dtype
from tracejit.eager.factories import from_numpy
from tracejit.eager.modes import state
from tracejit.eager.pointwise import check_tensors
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.shape import has_one_element, sizes_of
from tracejit.eager.tape import root_of
from tracejit.errors import at_user_line, user_location
from tracejit.runtime.device_array import address_of_array, host_copy
from tracejit.tensor import Tensor, new_tensor


def _define_fact(name: str, fact: Callable[[Tensor], bool], doc: str) -> None:
    def function(input: Tensor) -> bool:
        check_tensors(name, input)
        return bool(fact(input))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    public()(function)


_define_fact("is_floating_point", lambda x: x._array.dtype.kind == "f", "Whether it holds floats.")
_define_fact("is_complex", lambda x: False, "Never: there are no complex tensors.")
_define_fact("is_conj", lambda x: False, "Never: there are no complex tensors.")
_define_fact("is_neg", lambda x: False, "Never: negation is done at once.")
_define_fact("is_signed", lambda x: x._array.dtype.kind in "if", "Whether it can be negative.")
_define_fact("is_inference", lambda x: False, "Never: inference mode only stops recording.")


@public()
def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is not zero."""
    if not has_one_element(input):
        raise RuntimeError(at_user_line(
            f"is_nonzero: the tensor has {input._array.size} elements, not one"))  # fmt: skip
    return bool(input)


@public()
def get_device(input: Tensor) -> int:
    """The index of the CUDA device, -1 for the CPU."""
    return -1 if input._device.type == "cpu" else input._device.index or 0


def _flag(name: str, value: bool) -> None:
    setattr(Tensor, name, property(lambda self: value))


for _name in ("is_meta", "is_mps", "is_xla", "is_xpu", "is_nested", "is_mkldnn", "is_vulkan",
              "is_sparse_csr", "is_ipu", "is_maia", "is_mtia"):  # fmt: skip
    _flag(_name, False)
setattr(Tensor, "is_cpu", property(lambda self: self._device.type == "cpu"))


def _hash(self: Tensor) -> int:
    """By identity; a capture notes whose code uses which tensor as a key."""
    if state.capture is not None:
        state.capture.keys[id(self)] = (self, sys._getframe(1).f_code)
    return object.__hash__(self)


def _version(self: Tensor) -> int:
    """How often autograd has seen the tensor written to."""
    _out_of_sight("tensor._version inside a compiled function")
    return 0 if self._storage is None else self._storage.noticed


setattr(Tensor, "__hash__", _hash)
setattr(Tensor, "_version", property(_version))
setattr(Tensor, "layout", property(lambda self: "strided"))
setattr(Tensor, "names", property(lambda self: (None,) * self._array.ndim))
setattr(Tensor, "name", None)
setattr(Tensor, "output_nr", 0)
setattr(Tensor, "retains_grad", property(lambda self: self._retain))
setattr(Tensor, "is_shared", lambda self: False)
setattr(Tensor, "const_data_ptr", lambda self: self.data_ptr())
setattr(Tensor, "dense_dim", lambda self: self._array.ndim)
setattr(Tensor, "sparse_dim", lambda self: 0)
setattr(Tensor, "to_dense", lambda self, dtype=None: self if dtype is None else self.to(dtype))


@public(function=False)
def storage_offset(self: Tensor) -> int:
    """How many elements of the base's memory come before the first one."""
    base = root_of(self)._array
    return (address_of_array(self._array) - address_of_array(base)) // self._array.itemsize


@public(function=False)
def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both are the same view of the same memory."""
    a, b = self._array, tensor._array
    same = address_of_array(a) == address_of_array(b)
    return bool(same and a.shape == b.shape and a.strides == b.strides)


@public(function=False)
def dim_order(self: Tensor) -> tuple[int, ...]:
    """The dimensions from the outermost in memory to the innermost."""
    if state.capture is not None:
        state.capture.ask_layout(self, exact=True)
    strides = self._array.strides
    return tuple(sorted(range(len(strides)), key=lambda i: -strides[i]))


class Storage:
    """The memory of a tensor and of its views."""

    def __init__(self, owner: Tensor):
        self._owner = root_of(owner)

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return address_of_array(self._owner._array)

    def nbytes(self) -> int:
        """The size in bytes."""
        return self._owner._array.nbytes

    size = __len__ = nbytes

    def tolist(self) -> list[Any]:
        """The elements in memory order."""
        return host_copy(self._owner._array).ravel(order="K").tolist()


@public(function=False)
def untyped_storage(self: Tensor) -> Storage:
    """The memory that the tensor and its views share."""
    return Storage(self)


setattr(Tensor, "storage", untyped_storage)

# --- dtypes ----------------------------------------------------------------------------------


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype to which two operands (tensors or numbers) promote."""
    return common_dtype((tensor1, tensor2))


def typename(value: Any) -> str:
    """The type of a tensor or another object, as text."""
    if isinstance(value, Tensor):
        return str(value.type())
    return f"{type(value).__module__}.{type(value).__qualname__}"


# --- element by element in Python --------------------------------------------------------------


def _out_of_sight(what: str) -> None:
    if state.capture is not None:
        state.capture.refuse(what, user_location())


@public(function=False)
def apply_(self: Tensor, function: Callable[[Any], Any]) -> Tensor:
    """Each element replaced by ``function(element)``, in Python (slow)."""
    _out_of_sight("apply_ calls Python for every element")
    values = [function(v) for v in self._array.ravel().tolist()]
    return self.copy_(new_tensor(np.array(values, self._array.dtype).reshape(self._array.shape)))


@public(function=False)
def map_(self: Tensor, other: Tensor, function: Callable[[Any, Any], Any]) -> Tensor:
    """Each element replaced by ``function(element, other's element)``, in Python (slow)."""
    _out_of_sight("map_ calls Python for every element")
    theirs = np.broadcast_to(other._array, self._array.shape).ravel().tolist()
    pairs = zip(self._array.ravel().tolist(), theirs, strict=True)
    values = np.array([function(a, b) for a, b in pairs], self._array.dtype)
    return self.copy_(new_tensor(values.reshape(self._array.shape)))


@public(function=False)
def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """One value written on the main diagonal; `wrap` starts over below it in a tall matrix."""
    shape = tuple(map(int, sizes_of(self)))
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise RuntimeError(at_user_line(
            f"fill_diagonal_: needs a matrix or a tensor of equal sizes, got {list(shape)}"
        ))  # fmt: skip
    if len(shape) == 2 and wrap and shape[0] > shape[1]:
        step = shape[1] + 1
        count = -(-shape[0] * shape[1] // step)
        flat = self.view(-1).as_strided((count,), (step,))
        flat.fill_(fill_value)
        return self
    if state.capture is not None:
        state.capture.ask_layout(self, exact=True)
    steps = [s // self._array.itemsize for s in self._array.strides]
    self.as_strided((min(shape),), (sum(steps),)).fill_(fill_value)
    return self


@public(function=False)
def set_(self: Tensor, source: Tensor | None = None) -> Tensor:
    """This tensor over the memory of `source` (none: no elements)."""
    _out_of_sight("set_() inside a compiled function")
    self.data = new_tensor(np.empty(0, self._array.dtype)) if source is None else source
    return self


setattr(Tensor, "new", lambda self, *size: self.new_empty(*size) if size else self.new_empty(0))
setattr(Tensor, "__reversed__", lambda self: self.flip(0) if self._array.ndim else self)
setattr(Tensor, "__complex__", lambda self: complex(self.item()))
setattr(Tensor, "as_subclass", lambda self, cls: _as_subclass(self, cls))


def _as_subclass(self: Tensor, cls: type[Tensor]) -> Tensor:
    result = object.__new__(cls)
    result.__dict__.update(self.__dict__)
    return result


def _array_wrap(
    self: Tensor, array: Any, context: Any = None, return_scalar: bool = False
) -> Tensor:
    """The result of a NumPy function of this tensor is a tensor again."""
    return from_numpy(np.asarray(array))


def _refuse_deletion(self: Tensor, key: Any) -> None:
    raise TypeError(at_user_line("elements of a tensor cannot be deleted"))


setattr(Tensor, "__array_wrap__", _array_wrap)
setattr(Tensor, "__delitem__", _refuse_deletion)


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A vector over the memory of an object with the buffer protocol."""
    array = np.frombuffer(buffer, dtypes.as_dtype(dtype).numpy, count, offset)
    result = from_numpy(array)
    return result.requires_grad_() if requires_grad else result


FUNCTIONS.update({
    "result_type": result_type, "typename": typename, "frombuffer": frombuffer,
    "to_dlpack": lambda x: x.__dlpack__(),
    "is_storage": lambda value: isinstance(value, Storage),
    "is_same_size": lambda input, other: input.is_same_size(other),
    "as_strided_": lambda x, *how, **named: x.as_strided_(*how, **named),
    "resize_as_": lambda x, other, **how: x.resize_as_(other, **how),
    "detach_": lambda x: x.detach_(), "adjoint": lambda x: x.adjoint(),
    "conj_physical_": lambda x: x,
})  # fmt: skip
