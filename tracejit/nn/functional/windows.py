"""Sliding windows of a tensor: the operand of convolutions and pools.

Invariant: window axes are appended after the tensor's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.dispatch import apply, view
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def windows(
    x: Tensor, axes: Sequence[int], sizes: Sequence[int], steps: Sequence[int],
    dilations: Sequence[int],
) -> Tensor:  # fmt: skip
    """A view of all windows of `sizes` along `axes`, `steps` apart; ShapeError if none fits."""
    for axis, size, dilation in zip(axes, sizes, dilations, strict=True):
        if dilation * (size - 1) + 1 > x.shape[axis]:
            raise ShapeError(at_user_line(
                f"windows: {size} elements, {dilation} apart, do not fit dimension {axis} of "
                f"{type_of(x)}"))  # fmt: skip
    params = {"axes": tuple(axes), "sizes": tuple(sizes), "steps": tuple(steps),
              "dilations": tuple(dilations)}  # fmt: skip
    return view(OPS["windows"], x, params)


def windows_add(
    parts: Tensor, shape: Sequence[Any], axes: Sequence[int], sizes: Sequence[int],
    steps: Sequence[int], dilations: Sequence[int],
) -> Tensor:  # fmt: skip
    """A tensor of `shape` whose elements are the sums over the windows that hold them."""
    params = {"shape": tuple(shape), "axes": tuple(axes), "sizes": tuple(sizes),
              "steps": tuple(steps), "dilations": tuple(dilations)}  # fmt: skip
    return apply(OPS["windows_add"], (parts,), params)


def window_sums(
    x: Tensor, axes: Sequence[int], sizes: Sequence[int], steps: Sequence[int],
    dilations: Sequence[int],
) -> Tensor:  # fmt: skip
    """The sums of the windows that `windows` gives."""
    params = {"axes": tuple(axes), "sizes": tuple(sizes), "steps": tuple(steps),
              "dilations": tuple(dilations)}  # fmt: skip
    if x.dtype.kind != "f":
        return windows(x, axes, sizes, steps, dilations).sum(tuple(range(-len(params["axes"]), 0)))
    return apply(OPS["window_sum"], (x,), params)


def window_maxima(
    x: Tensor, axes: Sequence[int], sizes: Sequence[int], steps: Sequence[int],
    dilations: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The maxima of the windows that `windows` gives, and the numbers of their positions."""
    params = {"axes": tuple(axes), "sizes": tuple(sizes), "steps": tuple(steps),
              "dilations": tuple(dilations)}  # fmt: skip
    values, places = apply(OPS["window_max"], (x,), params)
    return values, places


def repeated(value: Any, count: int, name: str = "value") -> tuple[int, ...]:
    """An int, or a sequence of one or `count` of them, as `count` ints."""
    if isinstance(value, int):
        return (value,) * count
    items = tuple(int(v) for v in value)
    if len(items) == 1:
        return items * count
    if len(items) != count:
        raise RuntimeError(at_user_line(f"{name} must be one int or {count} of them, not {items}"))
    return items
