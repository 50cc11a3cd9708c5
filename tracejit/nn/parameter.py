"""`Parameter` and `Buffer`: tensors that a Module registers as its own when they are assigned.

Either may wait for its shape (``Uninitialized...``). Invariant: both are leaves that share the
memory of the tensor they were made from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import MODULE_VERSION, state
from tracejit.eager.tape import node_of, storage_of
from tracejit.errors import at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def _share(self: Tensor, data: Tensor | None) -> None:
    """Make `self` a leaf over the memory of `data` (no elements if None)."""
    if data is None:
        self._array = np.zeros((0,), dtypes.get_default_dtype().numpy)
        return
    if not isinstance(data, Tensor):
        raise TypeError(
            at_user_line(f"{type(self).__name__} expects a tensor, got {type(data).__name__}")
        )
    self._array = data._array
    self._storage = storage_of(data)
    if state.capture is not None:
        state.capture.set_node(self, OPS["detach"](node_of(data)))


class Parameter(Tensor):
    """A tensor that becomes a parameter of the Module it is assigned to.

    data           its values (shared, not copied); no elements if None.
    requires_grad  whether gradients are wanted (floating dtypes only).

    Example: ``self.weight = nn.Parameter(torch.randn(3, 4))``.
    """

    _is_parameter = True

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        self: Parameter = object.__new__(cls)
        _share(self, data)
        if requires_grad:
            self.requires_grad_(True)
        return self


class Buffer(Tensor):
    """A tensor that becomes a buffer of the Module it is assigned to.

    persistent  whether it is part of ``state_dict()``.
    """

    persistent: bool = True

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        self: Buffer = object.__new__(cls)
        _share(self, data)
        self.persistent = persistent
        return self


class _Uninitialized(Tensor):
    """A tensor whose shape is not known yet."""

    becomes: type = Tensor

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Get memory of `shape` (its values are arbitrary) and become an ordinary tensor."""
        kind = self.dtype if dtype is None else dtypes.as_dtype(dtype)
        self._array = np.empty(tuple(int(n) for n in shape), kind.numpy)
        self._storage = self._node = None
        self.__class__ = self.becomes
        MODULE_VERSION[0] += 1

    @property
    def shape(self) -> Any:  # type: ignore[override]
        raise RuntimeError(at_user_line(
            "the shape of an uninitialized parameter is not known: call forward once, or load a "
            "state_dict"))  # fmt: skip

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = type(self)(dtype=self.dtype)
        copied._requires_grad = self._requires_grad
        memo[id(self)] = copied
        return copied


class UninitializedParameter(_Uninitialized, Parameter):
    """A `Parameter` without a shape; `materialize` gives it one."""

    becomes = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: Any = None, dtype: Any = None
    ) -> UninitializedParameter:
        self: UninitializedParameter = object.__new__(cls)
        kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        self._array = np.empty((0,), kind.numpy)
        self._requires_grad = requires_grad
        return self


class UninitializedBuffer(_Uninitialized):
    """A buffer without a shape; `materialize` gives it one."""

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None
    ) -> UninitializedBuffer:
        self: UninitializedBuffer = object.__new__(cls)
        kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        self._array = np.empty((0,), kind.numpy)
        return self


def is_lazy(param: Any) -> bool:
    """Whether `param` has no shape yet."""
    return isinstance(param, _Uninitialized)


__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "is_lazy"]
