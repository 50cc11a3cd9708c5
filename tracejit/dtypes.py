"""dtypes, PyTorch's promotion rules and the accumulator dtype of reductions.

Invariant: one object per dtype, so ``is`` compares them. Rules as documented under
"Tensor Attributes" (type promotion) in PyTorch's manual.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tracejit.errors import DTypeError


class DType:
    """An element type. `kind` is 'b' (bool), 'u', 'i' or 'f'; `short` is its name in IR text."""

    __slots__ = ("name", "short", "kind", "itemsize", "numpy", "category")

    def __init__(self, name: str, short: str, numpy_name: str):
        self.name = name
        self.short = short
        self.numpy = np.dtype(numpy_name)
        self.kind = self.numpy.kind
        self.itemsize = self.numpy.itemsize
        self.category = {"b": 0, "u": 1, "i": 1, "f": 2}[self.kind]

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        return self.kind in "if"

    def __repr__(self) -> str:
        return f"tracejit.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype_named, (self.name,)

    def __deepcopy__(self, memo: dict[int, Any]) -> DType:
        return self

    def __copy__(self) -> DType:
        return self


float64 = double = DType("float64", "f64", "float64")
float32 = DType("float32", "f32", "float32")
float16 = half = DType("float16", "f16", "float16")
int64 = long = DType("int64", "i64", "int64")
int32 = DType("int32", "i32", "int32")
int16 = short = DType("int16", "i16", "int16")
int8 = DType("int8", "i8", "int8")
uint8 = DType("uint8", "u8", "uint8")
bool_ = DType("bool", "b1", "bool")

ALL: tuple[DType, ...] = (float64, float32, float16, int64, int32, int16, int8, uint8, bool_)
FLOATING: tuple[DType, ...] = (float64, float32, float16)
INTEGRAL: tuple[DType, ...] = (int64, int32, int16, int8, uint8)

BY_NAME: dict[str, DType] = {d.name: d for d in ALL}
BY_SHORT: dict[str, DType] = {d.short: d for d in ALL}
_BY_NUMPY: dict[np.dtype, DType] = {d.numpy: d for d in ALL}
_default = [float32]


TENSOR_TYPES: dict[str, DType] = {
    "DoubleTensor": float64, "FloatTensor": float32, "HalfTensor": float16, "LongTensor": int64,
    "IntTensor": int32, "ShortTensor": int16, "CharTensor": int8, "ByteTensor": uint8,
    "BoolTensor": bool_,
}  # fmt: skip
"""torch's names of tensor types: what ``Tensor.type()`` gives after ``torch.``."""


class AbsentDType(DType):
    """A dtype of torch that can be named and compared but holds no tensor here."""

    __slots__ = ()

    def __init__(self, name: str, itemsize: int, kind: Any):
        self.name = self.short = name
        self.kind = kind
        self.itemsize = itemsize
        self.category = {"u": 1, "f": 2, "c": 3}[kind]

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    def __reduce__(self) -> tuple[Any, ...]:
        return absent_dtype, (self.name,)


bfloat16 = AbsentDType("bfloat16", 2, "f")
complex64 = AbsentDType("complex64", 8, "c")
complex128 = AbsentDType("complex128", 16, "c")
_ABSENT: dict[str, AbsentDType] = {d.name: d for d in (bfloat16, complex64, complex128)}
NAMED_ONLY: dict[str, AbsentDType] = {  # found as `tracejit.<name>`: libraries list them in tables
    name: AbsentDType(name, size, kind)
    for name, size, kind in (
        ("complex32", 4, "c"), ("float8_e4m3fn", 1, "f"), ("float8_e4m3fnuz", 1, "f"),
        ("float8_e5m2", 1, "f"), ("float8_e5m2fnuz", 1, "f"), ("float8_e8m0fnu", 1, "f"),
        ("float4_e2m1fn_x2", 1, "f"), ("uint16", 2, "u"), ("uint32", 4, "u"), ("uint64", 8, "u"),
    )
}  # fmt: skip
_ABSENT.update(NAMED_ONLY)
_ABSENT_LIMITS = {  # eps, max, smallest normal number
    "bfloat16": (2.0**-7, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
    "float8_e4m3fn": (2.0**-3, 448.0, 2.0**-6),
    "float8_e4m3fnuz": (2.0**-3, 240.0, 2.0**-7),
    "float8_e5m2": (2.0**-2, 57344.0, 2.0**-14),
    "float8_e5m2fnuz": (2.0**-3, 57344.0, 2.0**-15),
}


def absent_dtype(name: str) -> AbsentDType:
    """The dtype called `name` that holds no tensors."""
    return _ABSENT[name]


def dtype_named(name: str) -> DType:
    """The dtype called `name` ('float32'); raises DTypeError for an unknown one."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise DTypeError(f"no dtype is called {name!r}; there are {', '.join(BY_NAME)}") from None


def from_numpy(dtype: Any) -> DType:
    """The dtype of a NumPy dtype; raises DTypeError for one that tracejit lacks."""
    found = _BY_NUMPY.get(dtype)
    if found is None:
        found = _BY_NUMPY.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        raise DTypeError(
            f"NumPy dtype {np.dtype(dtype)} has no tracejit counterpart; "
            f"convert to one of {', '.join(BY_NAME)} first"
        )
    return found


def as_dtype(value: Any) -> DType:
    """A DType from a DType, Python's ``float``/``int``/``bool``, or a NumPy dtype."""
    if type(value) is DType:
        return value
    if value is float:
        return _default[0]
    if value is int:
        return int64
    if value is bool:
        return bool_
    if isinstance(value, AbsentDType):
        raise DTypeError(f"tracejit has no tensors of {value.name}; use float32 or float16")
    named = getattr(value, "dtype", None) if isinstance(value, type) else _tensor_type(value)
    if type(named) is DType:  # FloatTensor or its name
        return named
    if isinstance(value, (np.dtype, type, str)):
        return from_numpy(value)
    raise DTypeError(f"expected a dtype, got {value!r}")


def _tensor_type(value: Any) -> DType | None:
    """The dtype of a name like ``torch.FloatTensor``."""
    return TENSOR_TYPES.get(value.removeprefix("torch.")) if isinstance(value, str) else None


def get_default_dtype() -> DType:
    """The dtype of tensors made from Python floats (float32 unless changed)."""
    return _default[0]


def set_default_dtype(dtype: DType) -> None:
    """Make `dtype` (a floating dtype) the one of tensors made from Python floats."""
    if as_dtype(dtype).kind != "f":
        raise DTypeError(f"only floating dtypes can be the default, got {dtype!r}")
    _default[0] = as_dtype(dtype)


def scalar_dtype(value: Any) -> DType:
    """The dtype a Python scalar has as a tensor: bool, int64 or the default float."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    return _default[0]


_INT_RANK = {int8: 1, int16: 2, int32: 3, int64: 4}


def promote_types(type1: DType, type2: DType) -> DType:
    """The dtype that holds both, as ``torch.promote_types``."""
    a, b = type1, type2
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == 2:
        return a if a.itemsize > b.itemsize else b
    if a is uint8 or b is uint8:
        other = b if a is uint8 else a
        return int16 if other is int8 else other
    return a if _INT_RANK[a] > _INT_RANK[b] else b


def result_type(operands: Iterable[tuple[DType, int]]) -> DType:
    """The common dtype of ``(dtype, priority)`` operands.

    Priority 2 is a tensor with dimensions, 1 a 0-d tensor, 0 a Python scalar. A lower priority
    counts only if its category (bool < integer < float) is higher than that of all above it.
    """
    best: list[DType | None] = [None, None, None]
    for dtype, priority in operands:
        held = best[priority]
        best[priority] = dtype if held is None else promote_types(held, dtype)
    result: DType | None = None
    for candidate in (best[2], best[1], best[0]):
        if candidate is None:
            continue
        if result is None:
            result = candidate
        elif candidate.category > result.category:
            # A scalar of a higher category takes the default dtype of that category.
            result = candidate
    assert result is not None, "result_type needs an operand"
    return result


def can_cast(from_: DType, to: DType) -> bool:
    """Whether an in-place result of dtype `from_` may be stored as `to` (torch's rule)."""
    return from_.category <= to.category


def accumulator(dtype: DType) -> DType:
    """The dtype in which a reduction over `dtype` adds up: float32 for half, else its own."""
    return float32 if dtype is float16 else dtype


def sum_dtype(dtype: DType) -> DType:
    """The dtype of ``sum``/``prod``: integers and bool add up in int64."""
    return dtype if dtype.kind == "f" else int64


class finfo:
    """Limits of a floating dtype: ``eps max min tiny smallest_normal bits resolution``."""

    def __init__(self, dtype: DType | None = None):
        dtype = _default[0] if dtype is None else dtype
        if dtype.kind != "f":
            raise DTypeError(f"finfo needs a floating dtype, got {dtype!r}")
        self.dtype = dtype.name
        self.bits = dtype.itemsize * 8
        if dtype.name in _ABSENT_LIMITS:
            self.eps, self.max, self.tiny = _ABSENT_LIMITS[dtype.name]
            self.min, self.smallest_normal, self.resolution = -self.max, self.tiny, 1.0
            return
        info = np.finfo(dtype.numpy)
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        self.resolution = float(info.resolution)


class iinfo:
    """Limits of an integer dtype: ``max min bits``."""

    def __init__(self, dtype: DType):
        if dtype.kind not in "iu":
            raise DTypeError(f"iinfo needs an integer dtype, got {dtype!r}")
        info = np.iinfo(dtype.numpy)
        self.dtype = dtype.name
        self.bits = dtype.itemsize * 8
        self.max = int(info.max)
        self.min = int(info.min)
