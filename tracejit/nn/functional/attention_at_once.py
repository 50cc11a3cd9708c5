"""Attention of plain code as one program, where no capture and no gradient records it.

Operation by operation the scores are written to memory and read several times; as a program they
stay in the cache (`runtime/chain.py`). Invariant: bit for bit the single operations.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, prod
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.ops.contraction import swap_last
from tracejit.runtime.executable import Executable, build
from tracejit.runtime.timing import PROFILERS
from tracejit.tensor import Tensor, new_tensor

_LEAST_SCORES = 1 << 20  # fewer are not worth a program for each shape


def attend_at_once(query: Any, key: Any, value: Any, factor: Any, mask: Any) -> Tensor | None:
    """``softmax(where(mask, q @ k.T * factor, -inf)) @ v``, or None where it takes single
    operations.

    query, key, value  [..., L, E], [..., S, E] and [..., S, Ev] with equal leading sizes.
    mask               bool [L, S], or None.
    """
    given = (query, key, value)
    if state.capture is not None or PROFILERS or type(factor) is not float:
        return None
    if state.grad and any(x._requires_grad for x in given):
        return None
    arrays = [x._array for x in given]
    if any(type(a) is not np.ndarray or a.dtype != np.float32 for a in arrays):
        return None
    shapes = tuple(a.shape for a in arrays)
    if len({s[:-2] for s in shapes}) > 1 or len(shapes[0]) < 3:
        return None
    (*batch, rows, width), (keys, own) = shapes[0], shapes[1][-2:]
    if width != own or shapes[2][-2] != keys or prod(batch) * rows * keys < _LEAST_SCORES:
        return None
    program = _program(shapes, factor, mask is not None)
    return new_tensor(program.run([*arrays, *([] if mask is None else [mask._array])])[0])


@lru_cache(64)
def _program(shapes: tuple[tuple[int, ...], ...], factor: float, masked: bool) -> Executable:
    inputs: list[Node] = [
        OPS["input"](name=name, type=TensorType(dtypes.float32, shape))
        for name, shape in zip(("query", "key", "value"), shapes, strict=True)
    ]
    scores = OPS["matmul"](inputs[0], swap_last(inputs[1])) * factor
    if masked:
        kind = TensorType(dtypes.bool_, scores.shape[-2:])
        inputs.append(OPS["input"](name="mask", type=kind))
        spread = OPS["broadcast_to"](inputs[3], shape=scores.shape)
        scores = OPS["where"](spread, scores, OPS["full"](value=-inf, type=scores.type))
    weights = OPS["softmax"](scores, axis=scores.ndim - 1)
    return build(Graph("attention", tuple(inputs), (OPS["matmul"](weights, inputs[2]),)))
