"""The types of values: a tensor's dtype, shape and device, and tuples of such types."""

from __future__ import annotations

from typing import Any

from tracejit.dtypes import DType
from tracejit.errors import DeviceError, at_user_line
from tracejit.ir.sizes import product, size_key, size_source


class Device:
    """Where a tensor lives: ``Device("cpu")``, ``Device("cuda", 0)``, ``Device("sim")``.

    Devices of torch that hold no tensors here can be named and compared, as programs do to see
    what they run on. Example: ``Device("cuda:1").index`` is 1. Raises DeviceError for an unknown
    kind.
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None
    KINDS = ("cpu", "cuda", "sim")
    NAMED_ONLY = ("meta", "mps", "xpu", "hpu", "npu", "mlu", "musa", "xla", "ipu", "vulkan")

    def __init__(self, type: str | Device, index: int | None = None):
        kind = type
        if isinstance(kind, Device):
            given = kind
            kind, index = given.type, given.index
        elif ":" in kind and index is None:
            kind, _, number = kind.partition(":")
            if not number.isdigit():
                raise DeviceError(f"device index {number!r} is not a whole number")
            index = int(number)
        if kind not in self.KINDS and kind not in self.NAMED_ONLY:
            raise DeviceError(at_user_line(
                f"unknown device {kind!r}; there are {', '.join(self.KINDS)}"))  # fmt: skip
        self.type: str = kind
        self.index: int | None = index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            other = Device(other)
        return (
            isinstance(other, Device)
            and self.type == other.type
            and (self.index or 0) == (other.index or 0)
        )

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (self.type, self.index)


CPU = Device("cpu")


class TensorType:
    """dtype, shape and device of a tensor; printed ``f32[32,784]``, ``f32[2]@cuda``."""

    __slots__ = ("dtype", "shape", "device")

    def __init__(self, dtype: DType, shape: tuple[Any, ...], device: Device = CPU):
        self.dtype = dtype
        self.shape = shape
        self.device = device

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Any:
        """The number of elements."""
        return product(self.shape)

    def with_shape(self, shape: tuple[Any, ...]) -> TensorType:
        return TensorType(self.dtype, tuple(shape), self.device)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape, self.device)

    def key(self) -> tuple[Any, ...]:
        """Hashable; equal keys mean equal types for all values of the symbols."""
        return (self.dtype.short, tuple(map(size_key, self.shape)), str(self.device))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorType) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __repr__(self) -> str:
        device = "" if self.device.type == "cpu" else f"@{self.device}"
        return f"{self.dtype.short}[{','.join(map(size_source, self.shape))}]{device}"


class TupleType:
    """The type of an op with several results; printed ``(f32[3], i64[3])``."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[TensorType, ...]):
        self.items = items

    def key(self) -> tuple[Any, ...]:
        return tuple(item.key() for item in self.items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TupleType) and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.key())

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self.items))})"


Type = TensorType | TupleType


def placed(value: Any, device: Device) -> Any:
    """A type on another device; anything else as it is."""
    if isinstance(value, TensorType):
        return TensorType(value.dtype, value.shape, device)
    if isinstance(value, TupleType):
        return TupleType(tuple(placed(item, device) for item in value.items))
    return value
