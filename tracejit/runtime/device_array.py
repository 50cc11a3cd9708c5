"""An array whose elements lie on a device: NumPy's facts and views, without NumPy's memory.

Shape, strides and views are worked out on the host (by NumPy itself, on an array that is never
read); elements move only by kernels and explicit copies. Invariant: no code path reads an element
on the host except `to_host`; NumPy functions that would are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.codegen.scalars import cast_text
from tracejit.ir.types import Device
from tracejit.runtime.device import (
    Allocation,
    Array,
    Backend,
    backend_of,
    note_sync,
    sync_allowed,
)
from tracejit.transforms.views import Layout, contiguous_strides, reshape_layout

_VIEWS = frozenset({
    np.transpose, np.broadcast_to, np.flip, np.diagonal, np.lib.stride_tricks.as_strided,
    np.moveaxis, np.swapaxes, np.expand_dims, np.squeeze,
})  # fmt: skip


class _Flags:
    """The two of NumPy's flags that are asked for."""

    __slots__ = ("c_contiguous", "writeable")

    def __init__(self, c_contiguous: bool):
        self.c_contiguous = c_contiguous
        self.writeable = True


class _Interface:
    """Lets NumPy make an array over an address that nobody reads."""

    __slots__ = ("__array_interface__",)

    def __init__(self, interface: dict[str, Any]):
        self.__array_interface__ = interface


class DeviceArray:
    """``DeviceArray(allocation, offset, shape, strides, dtype)``; offset and strides in bytes."""

    __slots__ = ("allocation", "offset", "shape", "strides", "dtype", "__weakref__")
    __array_priority__ = 2000

    def __init__(
        self, allocation: Allocation, offset: int, shape: tuple[int, ...],
        strides: tuple[int, ...], dtype: np.dtype[Any],
    ):  # fmt: skip
        self.allocation = allocation
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.dtype = dtype

    # facts -----------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        return self.allocation.backend

    @property
    def where(self) -> Device:
        """The device that holds the elements."""
        return self.allocation.backend.device

    @property
    def address(self) -> int:
        """The device address of the first element."""
        return self.allocation.address + self.offset

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape)

    @property
    def base(self) -> Allocation | None:
        """What arrays that share memory have in common; None for one that has it to itself."""
        return None if self.is_whole else self.allocation

    @property
    def is_whole(self) -> bool:
        """Whether the array is all of its allocation, in order."""
        return self.offset == 0 and self.is_dense and self.nbytes == self.allocation.nbytes

    @property
    def flags(self) -> _Flags:
        return _Flags(self.is_dense)

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        expected = self.dtype.itemsize
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size == 0:
                return True
            if size != 1:
                if stride != expected:
                    return False
                expected *= size
        return True

    @property
    def T(self) -> DeviceArray:
        return self.transpose()

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.dtype} array of shape {self.shape} on {self.where}>"

    # views -----------------------------------------------------------------------------------

    def _meta(self) -> Array:
        """An array of the host with these strides over the device address: for views only."""
        interface = {
            "shape": self.shape, "strides": self.strides, "typestr": self.dtype.str,
            "data": (self.address, False), "version": 3,
        }  # fmt: skip
        return np.asarray(_Interface(interface))

    def _view_of(self, meta: Array) -> DeviceArray:
        first = meta.__array_interface__["data"][0] - self.allocation.address if meta.size else 0
        return DeviceArray(self.allocation, first, meta.shape, meta.strides, meta.dtype)

    def __getitem__(self, key: Any) -> DeviceArray:
        """Basic indexing (integers, slices, None, Ellipsis) as a view, 0-d ones included."""
        items = key if isinstance(key, tuple) else (key,)
        for item in items:
            if not (item is None or item is Ellipsis or isinstance(item, (int, slice, np.integer))):
                raise TypeError(f"an array on {self.where} takes no index of {type(item).__name__}")
        if Ellipsis not in items:
            items = (*items, Ellipsis)
        return self._view_of(self._meta()[items])

    def __setitem__(self, key: Any, value: Any) -> None:
        copy_into(self[key], value)

    def transpose(self, *axes: Any) -> DeviceArray:
        return self._view_of(self._meta().transpose(*axes))

    def swapaxes(self, a: int, b: int) -> DeviceArray:
        return self._view_of(self._meta().swapaxes(a, b))

    def strided(self, shape: Any, strides: Any, offset: int = 0) -> DeviceArray:
        """A view `offset` bytes further on, strides in bytes."""
        return DeviceArray(
            self.allocation, self.offset + offset, tuple(shape), tuple(strides), self.dtype
        )

    def reshape(self, *shape: Any) -> DeviceArray:
        """A view where the strides allow it, else a copy."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        sizes = tuple(int(n) for n in sizes)
        if -1 in sizes:
            rest = prod(n for n in sizes if n != -1)
            sizes = tuple(self.size // rest if n == -1 else n for n in sizes)
        if prod(sizes) != self.size:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {sizes}")
        size = self.itemsize
        layout = Layout(self.shape, tuple(s // size for s in self.strides))
        found = reshape_layout(layout, sizes) if self.size else None
        if found is None:
            dense = self if self.is_dense else self.copy()
            steps = contiguous_strides(sizes)
            return dense.strided(sizes, (s * size for s in steps))
        return self.strided(sizes, (s * size for s in found.strides))

    def ravel(self, order: str = "C") -> DeviceArray:
        return self.reshape((self.size,))

    def view(self, dtype: Any) -> DeviceArray:
        """The same bytes as elements of another dtype."""
        return self._view_of(self._meta().view(dtype))

    # copies ----------------------------------------------------------------------------------

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        """Converted by a kernel, as the op `cast` does."""
        target = np.dtype(dtype)
        if target == self.dtype and not copy:
            return self
        out = empty(self.shape, target, self.where)
        copy_into(out, self)
        return out

    def copy(self, order: str = "C") -> DeviceArray:
        """A dense copy."""
        return self.astype(self.dtype)

    def to_host(self, what: str = "a copy to the host") -> Array:
        """The elements as a NumPy array; waits for the device."""
        note_sync(self.backend, what)
        source = self if self.is_dense else self.copy()
        result = np.empty(self.shape, self.dtype)
        if result.size:
            self.backend.download(source.address, result)
        self.backend.raise_faults()
        return result

    def tobytes(self) -> bytes:
        """The elements' bytes."""
        return self.to_host("tobytes()").tobytes()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.to_host("tolist()").tolist()

    def item(self) -> Any:
        """The one element as a Python number."""
        return self.to_host("item()").item()

    def __dlpack__(self, **how: Any) -> Any:
        """The elements for other libraries, without a copy. Raises BufferError for `sim`."""
        return self.backend.exported(self).__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.backend.exported(self).__dlpack_device__()

    # NumPy -----------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise TypeError(
            f"can't convert {self.where} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        raise TypeError(f"numpy.{ufunc.__name__} cannot compute on {self.where}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.copyto:
            return copy_into(args[0], args[1])
        if function is np.reshape:
            return args[0].reshape(args[1])
        if function is np.shares_memory or function is np.may_share_memory:
            return share_memory(args[0], args[1])
        if function is np.shape:
            return self.shape
        if function is np.ndim:
            return self.ndim
        if function is np.flip and not self.ndim:  # NumPy would read the element
            return self
        if function in _VIEWS and args[0] is self:
            return self._view_of(function(self._meta(), *args[1:], **kwargs))
        raise TypeError(f"numpy.{function.__name__} cannot compute on {self.where}")


def address_of_array(array: Any) -> int:
    """The address of the first element, on whatever device."""
    return array.address if type(array) is DeviceArray else int(array.ctypes.data)


def share_memory(x: Any, y: Any) -> bool:
    """Whether two arrays, one of them on a device, lie in one allocation."""
    return getattr(x, "allocation", None) is getattr(y, "allocation", 0)


def filled_like(array: Any, value: float) -> Any:
    """One value everywhere, of the array's shape, dtype and device."""
    if type(array) is not DeviceArray:
        return np.full(array.shape, value, array.dtype)
    return filled(array.shape, np.asarray(value, array.dtype), array.where)


def filled(shape: Sequence[int], value: Array, device: Device) -> DeviceArray:
    """The number `value` (a 0-d array, which gives the dtype) everywhere."""
    result = empty(shape, value.dtype, device)
    copy_into(result, value)
    return result


def copy_array(array: Any) -> Any:
    """A dense copy on the array's device."""
    return array.copy() if type(array) is DeviceArray else np.array(array, order="C")


def host_copy(array: Any) -> Array:
    """The array itself if NumPy has it, else a copy that the user's code asked for."""
    if isinstance(array, np.ndarray):
        return array
    with sync_allowed():
        return array.to_host()


def moved(array: Any, device: Device, non_blocking: bool = False) -> Any:
    """A copy on another device ("cpu": a NumPy array, which is always waited for)."""
    if type(array) is not DeviceArray:
        return from_host(array, device, non_blocking)
    host = host_copy(array)
    return host if device.type == "cpu" else from_host(host, device)


# --- making and copying --------------------------------------------------------------------------


def empty(shape: Sequence[int], dtype: np.dtype[Any], device: Device) -> DeviceArray:
    """A dense array whose elements are undefined. Raises OutOfMemoryError."""
    return maker(dtype, backend_of(device))(tuple(shape))


def maker(dtype: np.dtype[Any], backend: Backend) -> Callable[[tuple[int, ...]], DeviceArray]:
    """A function from shapes to dense arrays."""
    size = dtype.itemsize

    def make(shape: tuple[int, ...]) -> DeviceArray:
        strides = tuple(s * size for s in contiguous_strides(shape))
        return DeviceArray(Allocation(backend, prod(shape) * size), 0, shape, strides, dtype)

    return make


def from_host(array: Array, device: Device, non_blocking: bool = False) -> DeviceArray:
    """A copy of a NumPy array on a device, which with `non_blocking` nobody waits for."""
    result = empty(array.shape, array.dtype, device)
    if array.size:
        backend = result.backend
        copy = backend.send if non_blocking else backend.upload
        copy(result.address, np.ascontiguousarray(array))
    return result


def copy_into(target: DeviceArray, value: Any) -> None:
    """Write `value` (an array of any device, or a number; broadcast, converted) into `target`."""
    if not isinstance(target, DeviceArray):
        with np.errstate(all="ignore"):
            np.copyto(target, value.to_host(), casting="unsafe")
        return
    backend = target.backend
    if not isinstance(value, DeviceArray):
        host = np.asarray(value)
        if host.shape == target.shape and host.dtype == target.dtype and target.is_dense:
            if host.size:
                backend.upload(target.address, np.ascontiguousarray(host))
            return
        value = from_host(host, target.where)
    elif value.backend is not backend:
        value = from_host(value.to_host("a copy between devices"), target.where)
    if value.allocation is target.allocation and (
        value.address != target.address or value.strides != target.strides
    ):
        value = value.copy()  # they may overlap
    if value.shape != target.shape:
        value = np.broadcast_to(value, target.shape)
    if target.size:
        backend.launch(*copy_launch(target, value, backend), target.size)


@cache
def _copy_source(source: str, target: str, rank: int) -> str:
    """Table: elements, addresses of source and target; per axis its size and both strides."""
    kinds = {d.short: d for d in dtypes.ALL}
    value = cast_text(f"load_{source}(x, at)", kinds[source], kinds[target])
    lines = [
        "def kernel(t):",
        f"    x = ptr_{source}(word(t, 1), 0)",
        f"    y = ptr_{target}(word(t, 2), 1)",
        "    i = block() * threads() + thread()",
        "    if i < word(t, 0):",
        "        q = i",
        "        at = 0",
        "        to = 0",
    ]
    for axis in range(rank - 1, -1, -1):
        word = 3 + 3 * axis
        lines += [
            f"        r = q // word(t, {word})",
            f"        k = q - r * word(t, {word})",
            f"        at = at + k * word(t, {word + 1})",
            f"        to = to + k * word(t, {word + 2})",
            "        q = r",
        ]
    lines += [f"        store_{target}(y, to, {value})", ""]
    return "\n".join(lines)


_kernels: dict[Any, Any] = {}


def copy_launch(target: DeviceArray, value: DeviceArray, backend: Backend) -> tuple[Any, Array]:
    """The kernel that copies and converts elements, and its table (sizes, source, target, axes)."""
    axes = [
        (n, s // value.itemsize, d // target.itemsize)
        for n, s, d in zip(target.shape, value.strides, target.strides, strict=True)
        if n != 1
    ]
    key = (backend, value.dtype, target.dtype, len(axes))
    words = 3 + 3 * len(axes)
    kernel = _kernels.get(key)
    if kernel is None:
        source, kind = dtypes.from_numpy(value.dtype).short, dtypes.from_numpy(target.dtype).short
        text = _copy_source(source, kind, len(axes))
        kernel = _kernels[key] = backend.load(f"copy_{source}_{kind}", text, words)
    table = np.empty(words, np.int64)
    table[:3] = target.size, value.address, target.address
    for axis, row in enumerate(axes):
        table[3 + 3 * axis : 6 + 3 * axis] = row
    return kernel, table
