"""`Parameter` and `Buffer`: tensors that a Module registers as its own when they are assigned.

Invariant: both are leaves that share the memory of the tensor they were made from.
"""

from __future__ import annotations

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.eager.tape import node_of, storage_of
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def _share(self: Tensor, data: Tensor | None) -> None:
    """Make `self` a leaf over the memory of `data` (no elements if None)."""
    if data is None:
        self._array = np.zeros((0,), dtypes.get_default_dtype().numpy)
        return
    if not isinstance(data, Tensor):
        raise TypeError(f"{type(self).__name__} expects a tensor, got {type(data).__name__}")
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


__all__ = ["Buffer", "Parameter"]
