"""Adaptive pooling (the output's size is given) and the inverse of max pooling.

Invariant: window i of `out` over `n` elements is ``floor(i * n / out) .. ceil((i + 1) * n / out)``;
one axis at a time, because such windows are boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import constant_tensor
from tracejit.eager.joining import stack
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.ir.sizes import product
from tracejit.nn.functional.windows import repeated, window_sums, windows
from tracejit.tensor import Tensor


def _targets(name: str, rank: int, input: Any, output_size: Any) -> tuple[int, ...]:
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(at_user_line(
            f"{name}: expected {rank + 1}-d (single) or {rank + 2}-d (batched) input, "
            f"got {type_of(input)}"))  # fmt: skip
    given = (output_size,) * rank if output_size is None or isinstance(output_size, int) else (
        tuple(output_size) * rank if len(output_size) == 1 else tuple(output_size)
    )  # fmt: skip
    if len(given) != rank:
        raise RuntimeError(at_user_line(f"{name}: output_size must be one int or {rank} of them"))
    if any(n is not None and n < 0 for n in given):
        raise RuntimeError(at_user_line(
            f"{name}: output sizes must not be negative, got {list(given)}"))  # fmt: skip
    return tuple(int(input.shape[i - rank]) if n is None else int(n) for i, n in enumerate(given))


def _bounds(size: int, out: int) -> list[tuple[int, int]]:
    return [(i * size // out, -((i + 1) * size // -out)) for i in range(out)]


def _average_axis(x: Any, axis: int, out: int) -> Any:
    size = x.shape[axis]
    if out and size % out == 0:
        step = int(size // out)
        return windows(x, (axis,), (step,), (step,), (1,)).mean(-1)
    parts = [x.narrow(axis, a, b - a).mean(axis) for a, b in _bounds(int(size), out)]
    return stack(parts, axis) if parts else x.narrow(axis, 0, 0)


def _adaptive_average(name: str, rank: int, input: Any, output_size: Any) -> Tensor:
    targets = _targets(name, rank, input, output_size)
    axes = tuple(range(input.ndim - rank, input.ndim))
    if all(out == 1 for out in targets):
        return input.mean(axes, keepdim=True)
    if input.dtype.kind == "f" and all(
        out and input.shape[a] and input.shape[a] % out == 0
        for a, out in zip(axes, targets, strict=True)
    ):
        steps = tuple(int(input.shape[a] // out) for a, out in zip(axes, targets, strict=True))
        total: Any = window_sums(input, axes, steps, steps, (1,) * rank)
        return total / product(steps)
    result = input
    for i, out in enumerate(targets):
        result = _average_axis(result, input.ndim - rank + i, out)
    return result


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Tensor:
    """Averages so that the last dimension gets size `output_size`."""
    return _adaptive_average("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """Averages so that the last two dimensions get sizes `output_size` (None keeps a size)."""
    return _adaptive_average("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Tensor:
    """Averages so that the last three dimensions get sizes `output_size` (None keeps a size)."""
    return _adaptive_average("adaptive_avg_pool3d", 3, input, output_size)


def _maximum_axis(x: Any, index: Any, axis: int, out: int) -> tuple[Any, Any]:
    """The maxima along one axis and, of `index`, the entries that belong to them."""
    values, places = [], []
    for low, high in _bounds(int(x.shape[axis]), out):
        part = x.narrow(axis, low, high - low)
        at = part.argmax(axis, keepdim=True)
        values.append(part.gather(axis, at))
        places.append(index.narrow(axis, low, high - low).gather(axis, at))
    if not values:
        return x.narrow(axis, 0, 0), index.narrow(axis, 0, 0)
    return _joined(values, axis), _joined(places, axis)


def _joined(parts: list[Any], axis: int) -> Any:
    return stack([p.squeeze(axis) for p in parts], axis)


def _adaptive_maximum(
    name: str, rank: int, input: Any, output_size: Any, return_indices: bool
) -> Any:
    targets = _targets(name, rank, input, output_size)
    plane = tuple(int(n) for n in input.shape[input.ndim - rank :])
    numbers = constant_tensor(np.arange(product(plane)).reshape(plane))
    index: Any = numbers.expand(*input.shape)
    values = input
    for i in reversed(range(rank)):  # last axis first: ties go to the first in row-major order
        values, index = _maximum_axis(values, index, input.ndim - rank + i, targets[i])
    return (values, index) if return_indices else values


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima so that the last dimension gets size `output_size`."""
    return _adaptive_maximum("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima so that the last two dimensions get sizes `output_size` (None keeps a size)."""
    return _adaptive_maximum("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima so that the last three dimensions get sizes `output_size` (None keeps a size)."""
    return _adaptive_maximum("adaptive_max_pool3d", 3, input, output_size, return_indices)


def _unpool(
    name: str, rank: int, input: Any, indices: Any, kernel: Any, stride: Any, padding: Any,
    output_size: Any,
) -> Tensor:  # fmt: skip
    """Values put back where max pooling found them, zeros elsewhere."""
    if tuple(input.shape) != tuple(indices.shape):
        raise ShapeError(at_user_line(f"{name}: input and indices differ in shape"))
    sizes = repeated(kernel, rank, "kernel_size")
    steps = sizes if stride is None else repeated(stride, rank, "stride")
    border = repeated(padding, rank, "padding")
    lead = tuple(input.shape[: input.ndim - rank])
    own = input.shape[input.ndim - rank :]
    plane = tuple((n - 1) * s - 2 * p + k
                  for n, s, p, k in zip(own, steps, border, sizes, strict=True))  # fmt: skip
    if output_size is not None:
        plane = tuple(output_size)[-rank:]
    flat = input.new_zeros(*lead, product(plane))
    at = indices.to(dtypes.int64).reshape(*lead, product(own))
    filled = flat.scatter(-1, at, input.reshape(*lead, product(own)))
    return filled.reshape(*lead, *plane)


def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The partial inverse of `max_pool1d`."""
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The partial inverse of `max_pool2d`."""
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Tensor:  # fmt: skip
    """The partial inverse of `max_pool3d`."""
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
