"""Sampling images at computed places: `affine_grid`, `grid_sample`.

Invariant: places outside the image are read as zeros, or brought inside first; no index is ever out
of range.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as all_of
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import constant_tensor
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Places in [-1, 1] for `grid_sample` from affine maps.

    theta  [N, 2, 3] for size (N, C, H, W), or [N, 3, 4] for size (N, C, D, H, W).
    """
    spatial = [int(n) for n in size[2:]]
    axes = []
    for n in spatial:
        line = np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(n)
        axes.append(line if align_corners or n <= 1 else line * (n - 1) / n)
    grids = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*reversed(grids), np.ones(spatial)], -1)
    flat: Any = constant_tensor(points.reshape(-1, len(spatial) + 1).astype(theta.dtype.numpy))
    result = flat.unsqueeze(0).expand(size[0], *flat.shape).matmul(theta.transpose(1, 2))
    return result.reshape(size[0], *spatial, len(spatial))


def _unnormalized(x: Any, n: int, align: bool) -> Any:
    return (x + 1) * ((n - 1) / 2) if align else ((x + 1) * n - 1) * 0.5


def _reflected(x: Any, n: int, align: bool) -> Any:
    low, span = (0.0, n - 1.0) if align else (-0.5, float(n))
    if span == 0:
        return x * 0
    distance = (x - low).abs()
    turns = (distance / span).floor().detach()
    rest = distance - turns * span
    return where_of(turns.remainder(2) == 0, rest + low, span - rest + low, x.dtype)


def _places(x: Any, n: int, padding_mode: str, align: bool) -> Any:
    x = _unnormalized(x, n, align)
    return x if padding_mode == "zeros" else _inside(x, n, padding_mode, align)


def _inside(x: Any, n: int, padding_mode: str, align: bool) -> Any:
    if padding_mode == "zeros":
        return x
    if padding_mode == "reflection":
        x = _reflected(x, n, align)
    return x.clamp(0.0, n - 1.0)


def _read(input: Any, index: list[Any], zeros: bool) -> Any:
    """The input [N, C, ...] at whole-number places [N, ...] per axis; outside: 0."""
    sizes = [int(n) for n in input.shape[2:]]
    inside: Any = None
    flat: Any = 0
    for i, n in zip(index, sizes, strict=True):
        ok = (i >= 0) & (i < n)
        inside = ok if inside is None else inside & ok
        flat = flat * n + i.clamp(0, n - 1)
    n, c = input.shape[:2]
    out = tuple(flat.shape[1:])
    places = flat.reshape(n, 1, -1).expand(n, c, flat.reshape(n, -1).shape[1])
    values = input.reshape(n, c, -1).gather(2, places).reshape(n, c, *out)
    return where_of(inside.unsqueeze(1), values, 0.0, values.dtype) if zeros else values


def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """The input [N, C, H, W] (or [N, C, D, H, W]) at places ``grid[..., (x, y(, z))]`` in [-1, 1].

    mode          'bilinear', 'nearest' or (4-d only) 'bicubic'.
    padding_mode  beyond the border: 'zeros', 'border' (the nearest element) or 'reflection'.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(
            at_user_line(f"grid_sample: mode {mode!r} is not bilinear, nearest or bicubic")
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(at_user_line(f"grid_sample: unknown padding_mode {padding_mode!r}"))
    if mode == "bicubic" and input.ndim != 4:
        raise NotImplementedError(at_user_line("grid_sample: bicubic needs a 4-d input"))
    align = bool(align_corners)
    sizes = [int(n) for n in input.shape[2:]]
    axes = list(reversed(grid.unbind(-1)))
    if mode == "bicubic":
        return _bicubic(input, axes, sizes, padding_mode, align)
    places = [_places(x, n, padding_mode, align) for x, n in zip(axes, sizes, strict=True)]
    zeros = padding_mode == "zeros"
    if mode == "nearest":
        return _read(input, [x.round().to(dtypes.int64) for x in places], zeros)
    lows = [x.floor().detach() for x in places]
    total: Any = 0
    for corner in all_of((0, 1), repeat=len(sizes)):
        weight: Any = 1
        for x, low, up in zip(places, lows, corner, strict=True):
            share = x - low
            weight = weight * (share if up else 1 - share)
        index = [low.to(dtypes.int64) + up for low, up in zip(lows, corner, strict=True)]
        total = total + _read(input, index, zeros) * weight.unsqueeze(1)
    return total


def _cubic_weights(t: Any) -> list[Any]:
    """Keys' weights (a = -0.75) of the four neighbours at offsets -1, 0, 1, 2."""
    a = -0.75

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _bicubic(
    input: Any, axes: list[Any], sizes: list[int], padding_mode: str, align: bool
) -> Tensor:
    places = [_unnormalized(x, n, align) for x, n in zip(axes, sizes, strict=True)]
    lows = [x.floor().detach() for x in places]
    weights = [_cubic_weights(x - low) for x, low in zip(places, lows, strict=True)]
    total: Any = 0
    for row, column in all_of(range(4), repeat=2):
        index = [
            _inside(low + (k - 1), n, padding_mode, align).to(dtypes.int64)
            for low, k, n in zip(lows, (row, column), sizes, strict=True)
        ]
        weight = weights[0][row] * weights[1][column]
        total = total + _read(input, index, padding_mode == "zeros") * weight.unsqueeze(1)
    return total


__all__ = ["affine_grid", "grid_sample"]
