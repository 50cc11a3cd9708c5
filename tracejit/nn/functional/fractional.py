"""Fractional max pooling (Graham, 2014): windows of one size at irregular distances.

Invariant: where the windows start is a function of the random samples alone, one for each plane and
axis, by the paper's pseudo-random rule; the last window ends at the border.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import arange
from tracejit.eager.joining import cat
from tracejit.eager.reduce import max as maximum
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.nn.functional.windows import repeated
from tracejit.random import rand
from tracejit.tensor import Tensor


def _output_size(name: str, sizes: tuple[Any, ...], output_size: Any, ratio: Any) -> Any:
    if output_size is None and ratio is None:
        raise ValueError(
            at_user_line(f"{name} requires specifying either an output_size or an output_ratio")
        )
    if output_size is not None:
        return repeated(output_size, len(sizes), "output_size")
    ratios = (ratio,) * len(sizes) if isinstance(ratio, (int, float)) else tuple(ratio)
    return tuple(int(n * r) for n, r in zip(sizes, ratios, strict=True))


def _starts(sample: Any, size: Any, count: int, window: int) -> Any:
    """Where the windows along one axis start: `sample` [N, C] gives [N, C, count]."""
    last = sample.new_full((*sample.shape, 1), size - window, dtype=dtypes.int64)
    if count == 1:
        return last
    step = sample.new_tensor(float(size - window)) / (count - 1)
    place = arange(count - 1, dtype=sample.dtype, device=sample.device)
    u = sample.unsqueeze(-1)
    first = ((place + u) * step).to(dtypes.int64) - (u * step).to(dtypes.int64)
    return cat([first, last], -1)


def _windows_of(axes: list[Any], sizes: tuple[Any, ...], kernel: tuple[int, ...]) -> Any:
    """Flat places of all elements of all windows: [N, C, windows, elements of one]."""
    rank, flat = len(axes), None
    for i, (starts, size, window) in enumerate(zip(axes, sizes, kernel, strict=True)):
        inside = arange(window, device=starts.device)
        place = starts.unsqueeze(-1) + inside  # [N, C, windows here, window]
        shape = [*starts.shape[:2], *(1,) * (2 * rank)]
        shape[2 + i], shape[2 + rank + i] = starts.shape[-1], window
        place = place.reshape(shape)
        flat = place if flat is None else flat * size + place
    assert flat is not None
    return flat.flatten(2 + rank).flatten(2, 1 + rank)


def _pool(
    name: str, rank: int, input: Any, kernel_size: Any, output_size: Any, ratio: Any,
    return_indices: bool, samples: Any,
) -> Any:  # fmt: skip
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(at_user_line(
            f"{name}: expected {rank + 1}-d or {rank + 2}-d input, got {type_of(input)}"
        ))  # fmt: skip
    x = input.unsqueeze(0) if input.ndim == rank + 1 else input
    sizes, kernel = tuple(x.shape[2:]), repeated(kernel_size, rank, "kernel_size")
    out = _output_size(name, sizes, output_size, ratio)
    for n, k, o in zip(sizes, kernel, out, strict=True):
        if o < 1 or o + k - 1 > n:
            raise ShapeError(at_user_line(
                f"{name}: {o} windows of {k} do not fit {n} elements of {type_of(input)}"
            ))  # fmt: skip
    if samples is None:
        samples = rand(*x.shape[:2], rank, dtype=x.dtype, device=x.device)
    elif samples.ndim != 3 or samples.shape[0] < x.shape[0] or samples.shape[1:] != (
        x.shape[1], rank
    ):  # fmt: skip
        raise ShapeError(at_user_line(
            f"{name}: _random_samples must be {[*x.shape[:2], rank]} or more, not "
            f"{type_of(samples)}"
        ))  # fmt: skip
    samples = samples[: x.shape[0]]
    order = range(rank - 1, -1, -1) if rank == 2 else range(rank)  # torch's: width first, but time
    axes = [_starts(samples[..., j], n, o, k)
            for j, n, o, k in zip(order, sizes, out, kernel, strict=True)]  # fmt: skip
    places = _windows_of(axes, sizes, kernel)
    found = x.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
    values, which = maximum(found, -1)
    shape = (*input.shape[:-rank], *out)
    values = values.reshape(shape)
    if not return_indices:
        return values
    return values, places.gather(-1, which.unsqueeze(-1)).reshape(shape)


def fractional_max_pool2d(
    input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
    return_indices: bool = False, _random_samples: Tensor | None = None,
) -> Any:  # fmt: skip
    """Maxima over windows of [N, C, H, W] that start at pseudo-random places.

    output_size     how many windows along each axis, or give
    output_ratio    the quotient of the sizes of output and input, between 0 and 1.
    _random_samples [N, C, 2] in [0, 1): (width, height); drawn if None.
    Raises ShapeError for windows that do not fit, ValueError without a size.
    """
    return _pool("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio,
                 return_indices, _random_samples)  # fmt: skip


def fractional_max_pool3d(
    input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
    return_indices: bool = False, _random_samples: Tensor | None = None,
) -> Any:  # fmt: skip
    """As `fractional_max_pool2d` over [N, C, T, H, W]; `_random_samples` [N, C, 3] is (T, H, W)."""
    return _pool("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio,
                 return_indices, _random_samples)  # fmt: skip
