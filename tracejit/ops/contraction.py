"""Matrix multiplication. Ranks, broadcasting and vectors are the front end's business.

Invariant: both operands have the same batch axes and at least two axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.node import Node
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType
from tracejit.ops.declare import NUMERIC, check_arity, check_domain, uniform
from tracejit.ops.movement import transpose


def _infer_matmul(types: Sequence[TensorType]) -> TensorType:
    check_arity("matmul", types, 2)
    check_domain("matmul", types, NUMERIC)
    a, b = types
    if a.dtype is not b.dtype:
        raise DTypeError(f"matmul: dtypes differ: {a}, {b}")
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"matmul: batch axes differ: {a}, {b}")
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"matmul: {a} and {b} cannot be multiplied ({a.shape[-1]} columns "
                         f"against {b.shape[-2]} rows)")  # fmt: skip
    return a.with_shape((*a.shape[:-1], b.shape[-1]))


def _numpy_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.float16:
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    return np.matmul(a, b)


def swap_last(x: Node) -> Node:
    """The last two axes exchanged."""
    order = tuple(range(x.ndim))
    return transpose(x, perm=(*order[:-2], order[-1], order[-2]))


matmul: Op = Op(
    "matmul", "contraction", _infer_matmul, _numpy_matmul,
    lambda g, out, a, b: (matmul(g, swap_last(b)), matmul(swap_last(a), g)),
    "The matrix product over the last two axes, batch by batch.", names=("a", "b"),
    sample=uniform(-2, 2), cost=100,
)  # fmt: skip
