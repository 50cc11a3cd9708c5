"""Adam's update of a parameter as one kernel, where no capture and no gradient records it.

Plain code takes a launch for each operation; here the same operations are a graph, compiled once
for each number of elements. Invariant: bit for bit what `Adam.update` gives operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.eager.tape import note_write
from tracejit.errors import user_location
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.nn.parameter import Parameter
from tracejit.runtime.executable import Executable, build
from tracejit.runtime.timing import PROFILERS
from tracejit.tensor import Tensor

_PLAIN_STEPS = 2  # of a loop that may soon be over, or about to be compiled


class Factors(NamedTuple):
    """The numbers of a step: ``1 - lr * decay`` (decoupled), the penalty's weight, ``1 - beta1``,
    `beta2`, ``1 - beta2``, the step size, what the root is multiplied by, and `eps`.
    """

    shrink: float
    penalty: float
    to_first: float
    keep_second: float
    to_second: float
    step_size: float
    scale: float
    eps: float


def update_adam(
    group: dict[str, Any], params: Sequence[Any], states: Sequence[dict[str, Any]],
    numbers: Sequence[Any], corrected: Callable[[Any], tuple[Any, Any]],
) -> bool:  # fmt: skip
    """Update all parameters, or none if something asks for the single operations.

    numbers    of the group: lr, eps, weight decay, both betas.
    corrected  step size and the root's factor, as tensors, after the steps that a tensor counts.
    """
    if state.capture is not None or state.grad or PROFILERS or group["amsgrad"]:
        return False
    if group["maximize"] or any(type(number) not in (int, float) for number in numbers):
        return False
    rows = [(p, p.grad, s["exp_avg"], s["exp_avg_sq"]) for p, s in zip(params, states, strict=True)]
    if states[0]["step"].item() <= _PLAIN_STEPS or not all(_is_plain(row) for row in rows):
        return False
    place = user_location()
    lr, eps, decay, beta1, beta2 = numbers
    shrinks = decay != 0 and group["decoupled_weight_decay"]
    for row, held in zip(rows, states, strict=True):
        step_size, scale = (x.item() for x in corrected(held["step"]))
        factors = Factors(
            1 - lr * decay, decay, 1 - beta1, beta2, 1 - beta2, step_size, scale, eps
        )  # fmt: skip
        update = _update(row[0]._array.size, shrinks, decay != 0 and not shrinks)
        update.run([*(x._array.reshape(-1) for x in row), *factors])
        p, _, first, second = row
        for written in (p, p, first, second, second) if shrinks else (p, first, second, second):
            note_write(written, place)
    return True


def _is_plain(row: Sequence[Any]) -> bool:
    """Whether parameter, gradient and moments are dense float32 arrays of one shape on the CPU.

    Not of no dimensions: float64 factors would make numbers of these float64.
    """
    shape = row[0]._array.shape
    if not shape:
        return False
    for x in row:
        array = x._array
        if type(array) is not np.ndarray or array.dtype != np.float32 or array.shape != shape:
            return False
        if not array.flags.c_contiguous or not array.size or type(x) not in (Parameter, Tensor):
            return False
    return True


@lru_cache(512)
def _update(size: int, shrinks: bool, decays: bool) -> Executable:
    """The update of so many elements: its inputs are the arrays of a row, then `Factors`."""
    kind = TensorType(dtypes.float32, (size,))
    arrays = [OPS["input"](name=n, type=kind) for n in ("p", "g", "first", "second")]
    scalar = TensorType(dtypes.float64, ())
    inputs = [OPS["input"](name=n, type=scalar, role="scalar") for n in Factors._fields]
    spread = [OPS["broadcast_to"](OPS["cast"](x, dtype=dtypes.float32), shape=(size,))
              for x in inputs]  # fmt: skip
    given, *moments = _adam(arrays, spread, shrinks, decays)
    targets = arrays[0], arrays[2], arrays[3]
    effects = tuple(zip(targets, (given, *moments), strict=True))
    return build(Graph("adam", (*arrays, *inputs), (), effects))


def _adam(
    arrays: Sequence[Node], factors: Sequence[Node], shrinks: bool, decays: bool
) -> tuple[Node, Node, Node]:
    """What `Adam.update` does, in its order: the parameter and both moments."""
    p, g, first, second = arrays
    shrink, penalty, to_first, keep_second, to_second, step_size, scale, eps = factors
    p = p * shrink if shrinks else p
    g = g + p * penalty if decays else g
    first = first + (g - first) * to_first
    second = second * keep_second + g * g * to_second
    p = p - first * step_size / (OPS["sqrt"](second) * scale + eps)
    return p, first, second
