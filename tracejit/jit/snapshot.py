"""When two values are the same to a guard, and what a module is like apart from its tensors.

Invariant: a snapshot holds no tensor and changes nothing; tensors are entries of the read set.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from tracejit.tensor import Tensor

_PLAIN = (int, float, str, bytes, bool, complex, type(None))


def same(a: Any, b: Any) -> bool:
    """Equal for a guard: same type and value; NaN equals NaN, -0.0 differs from 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (Tensor, np.ndarray)):
        return a is b
    if type(a) is float:
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if type(a) in (list, tuple, deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.generic):
        return bool(a.tobytes() == b.tobytes())
    return bool(a == b)


def outline_of(tensor: Tensor) -> tuple[Any, ...]:
    """What code may ask of a tensor whose elements and sizes it does not touch."""
    array = tensor._array
    return array.dtype, array.ndim, tensor._device, tensor._requires_grad, tensor.is_leaf


Snapshot = dict[str, Any]


def module_snapshot(module: Any) -> Snapshot:
    """The attributes of a module by name: plain ones by value, children and others by identity."""
    snapshot: Snapshot = {"": type(module)}
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers"):
            snapshot[name] = tuple((k, v is None) for k, v in value.items())
        elif isinstance(value, dict) and (name == "_modules" or name.endswith("hooks")):
            snapshot[name] = tuple((k, id(v)) for k, v in value.items())
        else:
            snapshot[name] = _outline(value)
    return snapshot


def _outline(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        return type(value)
    if isinstance(value, tuple):
        return (type(value), *map(_outline, value))
    return id(value)


def changed_names(before: Snapshot, now: Snapshot) -> list[str]:
    """The attributes that are not as they were, sorted."""
    names = before.keys() | now.keys()
    absent = object()
    return sorted(
        name for name in names
        if (a := before.get(name, absent)) is not (b := now.get(name, absent)) and not same(a, b)
    )  # fmt: skip
