"""Which sizes vary: the first size of a dimension is guarded, another one makes it a symbol.

Invariant: a dimension that has varied stays symbolic for that input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracejit.ir.node import Node
from tracejit.ir.sizes import SizeEnv, size_source, symbol_name, symbols_of
from tracejit.ir.types import TensorType, TupleType
from tracejit.jit.readset import ReadSet
from tracejit.jit.source import source_key
from tracejit.tensor import Tensor


def size_givers(nodes: Sequence[Node], inputs: Sequence[Node]) -> list[int]:
    """Positions of inputs that a graph of `nodes` needs only because a symbolic size that occurs
    in it is read off their shape.
    """
    wanted = {name for node in nodes for name in _symbols(node)}
    given = set()
    for node in nodes:
        if node.op.name == "input":
            given |= {size_source(size) for size in node.type.shape}
    found = []
    for i, node in enumerate(inputs):
        fresh = {size_source(size) for size in node.type.shape} & (wanted - given)
        if fresh:
            given |= fresh
            found.append(i)
    return found


def _symbols(node: Node) -> set[str]:
    """Symbols in a node's type and parameters."""
    kinds = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    sizes = [size for kind in kinds for size in kind.shape]
    for value in node.params.values():
        sizes += value if isinstance(value, tuple) else getattr(value, "shape", (value,))
    return {name for size in sizes for name in symbols_of(size)}


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

    def symbolic_for(self, readset: ReadSet, known: Mapping[Any, TensorType]) -> Any:
        """A function that gives an input's type with symbols for the sizes that vary, or None.

        The trace to be is a path of a tree whose inputs have the types `known`, by source: there
        the same sizes vary, under the same names.
        """
        if not self.varying or not readset.stand_ins:
            return None
        taken = {s for kind in known.values() for size in kind.shape for s in symbols_of(size)}

        def symbolic(tensor: Tensor, env: SizeEnv) -> TensorType | None:
            source = readset.seen.get(id(tensor))
            if source is None or (tensor._requires_grad and not tensor.is_leaf):
                return None
            env.reserved = taken
            key, own = source_key(source), tensor._array.shape
            if key in known:
                names = [symbol_name(size) for size in known[key].shape]
            elif key in self.fixed:
                return None
            else:  # a dimension of 1 broadcasts: kernels must know
                axes = self.varying.get(key, ())
                names = ["" if i in axes and n != 1 else None for i, n in enumerate(own)]
            if all(name is None for name in names):
                return None
            shape = tuple(
                n if name is None else env.symbol(n, name or None)
                for n, name in zip(own, names, strict=True)
            )
            return TensorType(tensor.dtype, shape, tensor._device)

        return symbolic
