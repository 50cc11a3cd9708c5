"""How stanzas are written: constructors for families of ops, type rules and sample domains.

Invariant: type rules neither broadcast nor promote; they check and raise, naming op and types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType, bool_
from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType

ANY = "fiub"
NUMERIC = "fiu"
FLOAT = "f"
INTEGER = "iu"
BITS = "iub"


def check_domain(op: str, types: Sequence[TensorType], domain: str) -> None:
    """Raise DTypeError unless every type's dtype kind is in `domain`."""
    for t in types:
        if t.dtype.kind not in domain:
            kinds = {"f": "floating", "i": "integer", "u": "unsigned", "b": "bool"}
            wanted = ", ".join(kinds[k] for k in domain)
            raise DTypeError(f"{op} takes {wanted} tensors, not {t}")


def check_same(op: str, types: Sequence[TensorType], dtypes: bool = True) -> None:
    """Raise unless all types have one shape and (if asked) one dtype.

    Devices are checked where data is: constants that rules make belong to no device.
    """
    first = types[0]
    for t in types[1:]:
        if t.shape != first.shape:
            raise ShapeError(f"{op}: shapes differ: {', '.join(map(str, types))}")
        if dtypes and t.dtype is not first.dtype:
            raise DTypeError(f"{op}: dtypes differ: {', '.join(map(str, types))}")


def check_arity(op: str, types: Sequence[TensorType], count: int) -> None:
    """Raise TypeError unless there are `count` inputs."""
    if len(types) != count:
        raise TypeError(f"{op} takes {count} inputs, got {len(types)}")


def normalize_axis(op: str, axis: int, ndim: int) -> int:
    """A non-negative axis; raises IndexError as torch does (a 0-d tensor takes -1 and 0)."""
    bound = max(ndim, 1)
    if not -bound <= axis < bound:
        raise IndexError(
            f"{op}: dimension out of range (expected {-bound} to {bound - 1}, got {axis})"
        )
    return axis % bound


def elementwise(
    name: str,
    doc: str,
    *,
    scalar: Any,
    numpy: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    sample: Callable[..., Any],
    arity: int = 1,
    domain: str = FLOAT,
    result: DType | None = None,
    exact: bool = False,
    cost: int = 1,
    cuda: Any = None,
) -> Op:
    """An op on each element: all inputs of one type; the result too, or of dtype `result`."""

    def infer(types: Sequence[TensorType]) -> TensorType:
        check_arity(name, types, arity)
        first = types[0]
        dtype, shape = first.dtype, first.shape
        if dtype.kind not in domain:
            check_domain(name, types, domain)
        for t in types:
            if t is not first and (t.dtype is not dtype or t.shape != shape):
                check_domain(name, types, domain)
                check_same(name, types)
        return first if result is None else first.with_dtype(result)

    names = ("x", "y", "z")[:arity]
    return Op(
        name, "elementwise", infer, numpy, vjp, doc, scalar=scalar, cuda=cuda, exact=exact,
        sample=sample, names=names, cost=cost,
    )  # fmt: skip


def comparison(name: str, doc: str, symbol: str, numpy: Callable[..., Any]) -> Op:
    """An op that compares two tensors of one type element by element."""
    return elementwise(
        name, doc, scalar=f"({{x}} {symbol} {{y}})", numpy=numpy, vjp=None, arity=2, domain=ANY,
        result=bool_, exact=True, sample=uniform(-2, 2),
    )  # fmt: skip


def uniform(low: float, high: float) -> Callable[..., np.ndarray]:
    """Sample domain: arrays with elements uniform in [low, high), as `sample(rng, shape, dtype)`.

    Integers are whole numbers of the same range, bools are fair coins.
    """

    def sample(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
        if dtype.kind == "b":
            return rng.random(shape) < 0.5
        if dtype.kind in "iu":
            bottom = max(int(np.ceil(low)), 0) if dtype.kind == "u" else int(np.ceil(low))
            return rng.integers(bottom, max(int(high), bottom + 1), shape).astype(dtype.numpy)
        return rng.uniform(low, high, shape).astype(dtype.numpy)

    return sample
