"""Images resized, shuffled and sampled.

Invariant: each axis is resampled by itself, as a fixed combination of slices along it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import constant_tensor
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.nn.functional.adaptive_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from tracejit.nn.functional.resize import (
    FILTERS,
    resample_bytes,
    resample_window,
    window_weights,
)
from tracejit.tensor import Tensor

_RANKS = {"linear": 3, "bilinear": 4, "trilinear": 5, "bicubic": 4}


def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """[*, C r^2, H, W] to [*, C, H r, W r] (Shi et al., 2016)."""
    r = upscale_factor
    *lead, channels, height, width = input.shape
    if channels % (r * r):
        raise ShapeError(at_user_line(
            f"pixel_shuffle: {channels} channels are not divisible by {r} squared"))  # fmt: skip
    x = input.reshape(*lead, channels // (r * r), r, r, height, width)
    n = len(lead)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """[*, C, H r, W r] to [*, C r^2, H, W]: the inverse of `pixel_shuffle`."""
    r = downscale_factor
    *lead, channels, height, width = input.shape
    if height % r or width % r:
        raise ShapeError(at_user_line(f"pixel_unshuffle: {type_of(input)} is not divisible by {r}"))
    x = input.reshape(*lead, channels, height // r, r, width // r, r)
    n = len(lead)
    x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, channels * r * r, height // r, width // r)


def channel_shuffle(input: Any, groups: int) -> Tensor:
    """Channels of `groups` groups interleaved."""
    n, channels, *rest = input.shape
    if channels % groups:
        raise ShapeError(at_user_line(f"channel_shuffle: {channels} channels for {groups} groups"))
    x = input.reshape(n, groups, channels // groups, *rest).transpose(1, 2)
    return x.reshape(n, channels, *rest)


# --- resizing --------------------------------------------------------------------------------


def interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:  # fmt: skip
    """[N, C, ...] resized to `size`, or by `scale_factor`.

    mode           'nearest', 'nearest-exact', 'linear' (3-d), 'bilinear', 'bicubic' (4-d),
                   'trilinear' (5-d) or 'area'; with `antialias` also 'lanczos'.
    align_corners  corner elements stay where they are (the linear and cubic modes).
    antialias      when an image shrinks, a result is a mean over all that it stands for.
    Images of uint8 have torch's bits: each axis in whole numbers, the last one first.
    """
    _check_resizing(input, size, scale_factor, mode, align_corners, antialias)
    spatial = input.ndim - 2
    sizes, scales = _target(input, spatial, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        pools: Any = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
        return pools[spatial](input, sizes)
    if mode in FILTERS and (antialias or (input.dtype is dtypes.uint8 and input.ndim == 4)):
        return _filtered(input, mode, sizes, scales, bool(align_corners), antialias)
    taps = _TAPS.get(mode)
    if taps is None:
        raise NotImplementedError(at_user_line(f"interpolate: unknown mode {mode!r}"))
    keeps = input.dtype in (dtypes.float32, dtypes.float64) or mode.startswith("nearest")
    result = input if keeps else input.to(dtypes.float32)  # halves are rounded once, as in torch
    for i in range(spatial):
        n = int(input.shape[2 + i])
        result = _resample(result, 2 + i, *taps(n, sizes[i], scales[i], bool(align_corners)))
    if result is input:
        return input.clone()
    if result.dtype is not input.dtype and input.dtype.kind == "f":
        return result.to(input.dtype)
    if result.dtype is not input.dtype:  # torch resizes images of bytes, and rounds
        limits = dtypes.iinfo(input.dtype)
        result = result.round().clamp(limits.min, limits.max).to(input.dtype)
    return result


def _check_resizing(
    input: Any, size: Any, scale_factor: Any, mode: str, align_corners: Any, antialias: bool
) -> None:
    """Raise what torch raises for arguments that do not go together."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            at_user_line("interpolate: exactly one of size and scale_factor must be given")
        )
    if (antialias and (mode not in FILTERS or input.ndim != 4)) or (
        mode == "lanczos" and not antialias
    ):
        raise ValueError(at_user_line(
            "interpolate: antialias needs a 4-d input and the mode bilinear, bicubic or lanczos, "
            "which needs antialias"))  # fmt: skip
    if mode in _RANKS and input.ndim != _RANKS[mode]:
        raise NotImplementedError(at_user_line(
            f"interpolate: mode {mode!r} needs a {_RANKS[mode]}-d input, "
            f"got {type_of(input)}"))  # fmt: skip
    if align_corners is not None and mode not in _RANKS and (align_corners or mode != "lanczos"):
        raise ValueError(
            at_user_line("align_corners can only be set with the linear and cubic modes")
        )


def _filtered(
    input: Any, mode: str, sizes: list[int], scales: list[float | None], align: bool,
    antialias: bool,
) -> Tensor:  # fmt: skip
    """Both axes of [N, C, H, W] by windows of weights, the last one first."""
    is_bytes = input.dtype is dtypes.uint8
    keeps = is_bytes or input.dtype in (dtypes.float32, dtypes.float64)
    result = input if keeps else input.to(dtypes.float32)
    for i in (1, 0):
        n = int(input.shape[2 + i])
        window = window_weights(mode, n, sizes[i], scales[i], align, antialias)
        result = (resample_bytes if is_bytes else resample_window)(result, 2 + i, *window)
    return result.to(input.dtype) if input.dtype.kind == "f" else result


def _per_axis(value: Any, count: int, name: str) -> list[Any]:
    if isinstance(value, (tuple, list)):
        if len(value) != count:
            raise ValueError(
                at_user_line(f"interpolate: {name} needs {count} numbers, got {list(value)}")
            )
        return list(value)
    return [value] * count


def _target(
    input: Any, spatial: int, size: Any, scale: Any, recompute: bool | None
) -> tuple[list[int], list[float | None]]:
    """The output sizes, and the scales that coordinates are computed with (None: by sizes)."""
    own = [int(n) for n in input.shape[2:]]
    if size is not None:
        sizes = [int(n) for n in _per_axis(size, spatial, "size")]
        return sizes, [None] * spatial
    factors = [float(f) for f in _per_axis(scale, spatial, "scale_factor")]
    sizes = [math.floor(n * f) for n, f in zip(own, factors, strict=True)]
    return sizes, [None] * spatial if recompute else list(factors)


def _nearest(n: int, out: int, scale: float | None, align: bool) -> Any:
    step = np.float32(n / out if scale is None else 1.0 / scale) if out else np.float32(1)
    places = np.floor(np.arange(out, dtype=np.float32) * step).astype(np.int64)
    return [np.minimum(places, n - 1)], None


def _nearest_exact(n: int, out: int, scale: float | None, align: bool) -> Any:
    step = np.float32(n / out if scale is None else 1.0 / scale) if out else np.float32(1)
    places = np.floor((np.arange(out, dtype=np.float32) + np.float32(0.5)) * step)
    return [np.minimum(places.astype(np.int64), n - 1)], None


def _positions(n: int, out: int, scale: float | None, align: bool, clip: bool) -> np.ndarray:
    if align:
        return np.arange(out) * ((n - 1) / (out - 1) if out > 1 else 0.0)
    step = n / out if scale is None else 1.0 / scale
    places = (np.arange(out) + 0.5) * step - 0.5
    return np.maximum(places, 0.0) if clip else places


def _linear(n: int, out: int, scale: float | None, align: bool) -> Any:
    places = _positions(n, out, scale, align, True)
    low = np.minimum(np.floor(places).astype(np.int64), n - 1)
    share = places - low
    return [low, np.minimum(low + 1, n - 1)], [1 - share, share]


def _cubic(n: int, out: int, scale: float | None, align: bool) -> Any:
    """Keys' cubic convolution with a = -0.75 (Keys, 1981)."""
    places = _positions(n, out, scale, align, False)
    low = np.floor(places).astype(np.int64)
    t = places - low
    a = -0.75

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    index = [np.clip(low + k, 0, n - 1) for k in (-1, 0, 1, 2)]
    return index, [far(t + 1), near(t), near(1 - t), far(2 - t)]


_TAPS: dict[str, Callable[..., Any]] = {
    "nearest": _nearest, "nearest-exact": _nearest_exact, "linear": _linear,
    "bilinear": _linear, "trilinear": _linear, "bicubic": _cubic,
}  # fmt: skip


def _resample(x: Any, axis: int, index: list[np.ndarray], weights: Any) -> Any:
    """The weighted sum of slices of `x` along `axis`."""
    if weights is None:
        return x.index_select(axis, constant_tensor(index[0]))
    shape = (-1, *(1,) * (x.ndim - axis - 1))
    total: Any = None
    for places, weight in zip(index, weights, strict=True):
        factor: Any = constant_tensor(weight.astype(x.dtype.numpy)).reshape(*shape)
        part = x.index_select(axis, constant_tensor(places)) * factor
        total = part if total is None else total + part
    return total


def upsample(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """`interpolate` by its older name."""
    warnings.warn("upsample is deprecated; use interpolate", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode 'nearest'."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode 'bilinear' and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
