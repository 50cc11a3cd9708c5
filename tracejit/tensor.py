"""The tensor: data, and what the tape and captures note about it.

Invariant: `_array` is what eager code sees; `_node` is set exactly when the tensor requires grad.
Methods with torch's names are attached by `eager.register` from the functions that define them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.watched import WatchedClass
from tracejit.ir.types import CPU, Device

_ndarray = np.ndarray


class Size(tuple[Any, ...]):
    """A shape: a tuple of ints that prints as ``Size([2, 3])``."""

    __slots__ = ()

    def numel(self) -> Any:
        """The number of elements."""
        total: Any = 1
        for n in self:
            total = total * n
        return total

    def __repr__(self) -> str:
        return f"Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))


class Tensor(metaclass=WatchedClass):
    """An n-dimensional array that can record what is done with it.

    Made by ``tracejit.tensor``, ``zeros``, ``randn`` and the other factories, and by operations.
    """

    # Defaults live on the class: making a tensor sets one attribute, which keeps eager ops cheap.
    _array: Any  # an ndarray, or on a device a DeviceArray
    _node: Any = None
    _requires_grad: bool = False
    _grad: Tensor | None = None
    _base: Tensor | None = None
    _view: tuple[Any, ...] = ()
    _seen: int = 0
    _storage: Any = None
    _viewed: bool = False
    _views: list[Any] | None = None
    _trace: Any = None
    _hooks: Any = None
    _retain: bool = False
    _is_parameter: bool = False
    _is_foreign: bool = False  # its memory came from outside: other tensors may have it too

    if TYPE_CHECKING:  # the methods and operators that the eager modules attach

        def __getattr__(self, name: str) -> Any: ...

        shape: Size
        grad: Tensor | None
        requires_grad: bool
        data: Tensor

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __lshift__(self, other: Any) -> Tensor: ...
        def __rshift__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __len__(self) -> int: ...
        def __bool__(self) -> bool: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __index__(self) -> int: ...

    __array_priority__ = 1000
    __hash__ = object.__hash__

    if TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any: ...

    # --- what it is ---------------------------------------------------------------------

    @property
    def dtype(self) -> DType:
        return dtypes.from_numpy(self._array.dtype)

    @property
    def device(self) -> Device:
        """Where its elements lie."""
        array = self._array
        return CPU if type(array) is _ndarray else getattr(array, "where", CPU)

    _device = device

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than by a recorded operation."""
        node = self._node
        if not self._requires_grad or node is None or not node.inputs:
            return True
        return getattr(node.saved, "tensor", None) is not None  # written to unseen, in a capture

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_sparse(self) -> bool:
        return False

    @property
    def is_quantized(self) -> bool:
        return False

    @property
    def itemsize(self) -> int:
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        return self._array.nbytes


def new_tensor(array: Any) -> Tensor:
    """A tensor around an array, without copying or checking."""
    tensor: Tensor = object.__new__(Tensor)
    tensor._array = array
    return tensor
