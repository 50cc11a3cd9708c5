"""Resampling by filters: antialiased images, and images of bytes in whole numbers.

Invariant: an axis is resampled by a window of elements that starts at a place of its own for each
result, with weights that sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import constant_tensor
from tracejit.tensor import Tensor

_BITS = 15
"""Weights of bytes are whole numbers that fit in this many bits and a sign."""


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _keys(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys' cubic convolution (Keys, 1981)."""

    def weight(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    return weight


def _lanczos(x: np.ndarray) -> np.ndarray:
    """The sinc function, windowed by one three times as wide (Duchon, 1979)."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


# mode: how many elements the filter spans, its weights antialiased, and its weights otherwise
FILTERS: dict[str, tuple[int, Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "bilinear": (2, _triangle, _triangle),
    "bicubic": (4, _keys(-0.5), _keys(-0.75)),
    "lanczos": (6, _lanczos, _lanczos),
}


def window_weights(
    mode: str, n: int, out: int, scale: float | None, align: bool, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(first element [out], weights [out, taps]) of an axis of `n` elements resized to `out`.

    Antialiased, the filter is stretched over ``1 / scale`` elements and cut at the borders; else
    elements beyond a border are the one at the border. As torch, which follows Pillow.
    """
    span, stretched, plain = FILTERS[mode]
    if align:
        step = (n - 1) / (out - 1) if out > 1 else 0.0
    else:
        step = n / out if scale is None else 1.0 / scale
    shift = 0.5 if align and not antialias else 0.0
    wide = max(step, 1.0) if antialias else 1.0
    half = span * 0.5 * wide
    center = step * (np.arange(out) + 0.5 - shift)
    start = np.floor(center - half + 0.5 + shift).astype(np.int64)
    stop = np.floor(center + half + 0.5 + shift).astype(np.int64)
    taps = int((stop - start).max(initial=1)) if antialias else span
    index = start[:, None] + np.arange(taps)
    weights = (stretched if antialias else plain)((index - center[:, None] + 0.5 - shift) / wide)
    if antialias:
        weights = np.where((index >= np.maximum(start, 0)[:, None]) & (index < n)
                           & (index < stop[:, None]), weights, 0.0)  # fmt: skip
        weights = weights / weights.sum(1, keepdims=True)
    first = np.clip(start, 0, max(n - taps, 0))
    place = np.clip(index, 0, n - 1) - first[:, None]
    merged = np.zeros((out, min(taps, n)))
    np.add.at(merged, (np.arange(out)[:, None], place), weights)
    return first, merged


def resample_window(x: Any, axis: int, first: np.ndarray, weights: np.ndarray) -> Tensor:
    """The weighted sum of the windows of a floating `x` along `axis`."""
    shape = (-1, *(1,) * (x.ndim - axis - 1))
    total: Any = None
    for tap in range(weights.shape[1]):
        factor: Any = constant_tensor(weights[:, tap].astype(x.dtype.numpy)).reshape(*shape)
        part = x.index_select(axis, constant_tensor(first + tap)) * factor
        total = part if total is None else total + part
    return total


def resample_bytes(x: Any, axis: int, first: np.ndarray, weights: np.ndarray) -> Tensor:
    """The same of a uint8 `x`, in whole numbers: torch's (and Pillow's) bits."""
    precision = 0
    while precision < 22 and int(0.5 + weights.max() * (1 << (precision + 1))) < 1 << _BITS:
        precision += 1
    whole = np.trunc(weights * (1 << precision) + np.copysign(0.5, weights)).astype(np.int32)
    shape = (-1, *(1,) * (x.ndim - axis - 1))
    total: Any = 1 << (precision - 1)
    for tap in range(whole.shape[1]):
        factor: Any = constant_tensor(whole[:, tap]).reshape(*shape)
        part = x.index_select(axis, constant_tensor(first + tap)).to(dtypes.int32)
        total = part * factor + total
    return (total >> precision).clamp(0, 255).to(dtypes.uint8)
