"""Which sizes vary: the first size of a dimension is guarded, another one makes it a symbol.

Invariant: a dimension that has varied stays symbolic for that input.
"""

from __future__ import annotations

from typing import Any

from tracejit.ir.sizes import SizeEnv
from tracejit.ir.types import TensorType
from tracejit.jit.readset import ReadSet
from tracejit.jit.trace import source_key
from tracejit.tensor import Tensor


class Shapes:
    """What is known of the shapes of a compiled function's inputs."""

    def __init__(self) -> None:
        self.varying: dict[Any, set[int]] = {}  # input key -> dimensions seen to vary
        self.last: dict[Any, tuple[int, ...]] = {}
        self.fixed: set[Any] = set()  # inputs that must not have symbolic sizes

    def note(self, readset: ReadSet) -> None:
        """Dimensions of tensors that differ from those of an earlier capture become symbols."""
        for entry in readset.entries:
            if entry.kind != "tensor":
                continue
            key, shape = source_key(entry.source), entry.value._array.shape
            before = self.last.get(key)
            if before is not None and len(before) == len(shape):
                varying = {i for i, (a, b) in enumerate(zip(before, shape)) if a != b}
                if varying:
                    self.varying.setdefault(key, set()).update(varying)
            self.last[key] = shape

    def symbolic_for(self, readset: ReadSet) -> Any:
        """A function that gives an input's type with symbols for the sizes that vary, or None."""
        if not self.varying:
            return None
        env_symbols: dict[tuple[Any, int], Any] = {}

        def symbolic(tensor: Tensor, env: SizeEnv) -> TensorType | None:
            source = readset.seen.get(id(tensor))
            if source is None:
                return None
            key = source_key(source)
            axes = self.varying.get(key)
            if not axes or key in self.fixed or (tensor._requires_grad and not tensor.is_leaf):
                return None
            shape = tuple(
                env_symbols.setdefault((key, i), env.symbol(n))
                if i in axes and n != 1  # a dimension of 1 broadcasts: kernels must know
                else n
                for i, n in enumerate(tensor._array.shape)
            )
            return TensorType(tensor.dtype, shape, tensor._device)

        return symbolic
