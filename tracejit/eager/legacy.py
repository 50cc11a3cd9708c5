"""torch's old tensor types: ``Tensor(2, 3)``, ``FloatTensor([1.0])``, ``x.type() == ...``.

Invariant: these are other names for a dtype. An instance of ``LongTensor`` is any tensor of int64;
the class itself has no instances of its own.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.register import FUNCTIONS
from tracejit.tensor import Size, Tensor


def construct(args: tuple[Any, ...], dtype: DType) -> Tensor:
    """What ``Tensor(*args)`` gives: sizes make an uninitialised tensor, one other value is data.

    No arguments make an empty tensor; a `Size` counts as sizes; data is converted to `dtype`.
    """
    if len(args) == 1 and isinstance(args[0], Size):
        args = tuple(args[0])
    elif len(args) == 1 and isinstance(args[0], Tensor):
        return args[0].detach().to(dtype)
    elif len(args) == 1 and not hasattr(args[0], "__index__"):
        return FUNCTIONS["tensor"](args[0], dtype=dtype)
    return FUNCTIONS["empty"](args or (0,), dtype=dtype)


def _new(cls: type[Tensor], *args: Any, **kwargs: Any) -> Any:
    if cls is Tensor:
        return construct(args, dtypes.get_default_dtype())
    return object.__new__(cls)


Tensor.__new__ = _new  # type: ignore[method-assign]


class _TensorType(type):
    """The class of `FloatTensor` and its like: what they make and what counts as one."""

    dtype: DType

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return construct(args, cls.dtype)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype


def _define_type(name: str, dtype: DType) -> None:
    doc = f"Tensors of {dtype.name}: ``{name}(2, 3)`` and ``{name}(data)`` make one."
    body = {"dtype": dtype, "__doc__": doc, "__module__": "tracejit"}
    FUNCTIONS[name] = _TensorType(name, (), body)


for _name, _dtype in dtypes.TENSOR_TYPES.items():
    _define_type(_name, _dtype)


def set_default_tensor_type(t: Any) -> None:
    """``set_default_dtype`` with a floating tensor type, as a class or by name."""
    dtypes.set_default_dtype(dtypes.as_dtype(t))


FUNCTIONS["set_default_tensor_type"] = set_default_tensor_type
