"""Random numbers as a pure function of (key, offset): Philox-4x32-10 (Salmon et al., SC 2011).

Invariant: element i of a random tensor depends on the stream's key and on `offset + i` alone, so
a trace is pure, and eager, compiled and CUDA runs at any thread count give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.dtypes import int64
from tracejit.errors import DTypeError
from tracejit.ir.op import NONDIFF, Op
from tracejit.ir.types import TensorType
from tracejit.ops import philox
from tracejit.ops.declare import FLOAT, check_arity, check_domain


def _infer_random(types: Sequence[TensorType], *, type: TensorType) -> TensorType:
    check_arity("random", types, 2)
    check_domain("random", (type,), FLOAT)
    _check_state(types)
    return type


def _check_state(types: Sequence[TensorType]) -> None:
    for t in types:
        if t.dtype is not int64 or t.shape != ():
            raise DTypeError(f"random: key and offset must be i64[], not {t}")


random_uniform = Op(
    "random_uniform", "random", _infer_random,
    lambda key, offset, type: philox.uniform(int(key), int(offset), type),
    NONDIFF, "Uniform in [0, 1): 24 random bits (float64: 53).", names=("key", "offset"),
)  # fmt: skip

random_normal = Op(
    "random_normal", "random", _infer_random,
    lambda key, offset, type: philox.normal(int(key), int(offset), type),
    NONDIFF, "Normal with mean 0 and deviation 1 (Box-Muller).", names=("key", "offset"),
)  # fmt: skip


def _infer_bits(types: Sequence[TensorType], *, type: TensorType) -> TensorType:
    check_arity("random_bits", types, 2)
    _check_state(types)
    if type.dtype is not int64:
        raise DTypeError(f"random_bits: gives int64, not {type}")
    return type


random_bits = Op(
    "random_bits", "random", _infer_bits,
    lambda key, offset, type: philox.bits(int(key), int(offset), type),
    NONDIFF, "63 random bits as a non-negative int64.", names=("key", "offset"),
)  # fmt: skip
