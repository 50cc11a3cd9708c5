"""Pooling over windows: averages, maxima, p-norms.

Invariant: the gradient of a maximum goes to the first element that attains it, as in torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import constant_tensor
from tracejit.eager.inplace import deliver
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.ir.sizes import product
from tracejit.nn.functional.padding import pad
from tracejit.nn.functional.windows import repeated, window_maxima, window_sums
from tracejit.tensor import Tensor


class _Geometry:
    """Sizes of one pooling call, with torch's rule for `ceil_mode`."""

    def __init__(
        self, name: str, rank: int, input: Any, kernel: Any, stride: Any, padding: Any,
        dilation: Any, ceil_mode: bool,
    ):  # fmt: skip
        if input.ndim not in (rank + 1, rank + 2):
            raise RuntimeError(at_user_line(
                f"{name}: expected {rank + 1}-d (single) or {rank + 2}-d (batched) input, "
                f"got {type_of(input)}"))  # fmt: skip
        self.kernel = repeated(kernel, rank, "kernel_size")
        empty = stride is None or (isinstance(stride, (tuple, list)) and not stride)
        self.stride = self.kernel if empty else repeated(stride, rank, "stride")
        self.padding = repeated(padding, rank, "padding")
        self.dilation = repeated(dilation, rank, "dilation")
        for what in ("stride", "kernel", "dilation"):
            if min(getattr(self, what)) <= 0:
                raise RuntimeError(at_user_line(f"{name}: {what} must be greater than zero"))
        if min(self.padding) < 0:
            raise RuntimeError(at_user_line(f"{name}: pad must be non-negative"))
        if any(n == 0 for n in input.shape[input.ndim - rank - 1 :]):
            raise RuntimeError(at_user_line(
                f"{name}: only the batch may be empty, got {type_of(input)}"))  # fmt: skip
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        if any(2 * p > s for p, s in zip(self.padding, spans, strict=True)):
            raise RuntimeError(at_user_line(
                f"{name}: pad should be at most half of effective kernel size, but got "
                f"pad={list(self.padding)}, kernel_size={list(self.kernel)}"))  # fmt: skip
        self.axes = tuple(range(input.ndim - rank, input.ndim))
        self.sizes = tuple(input.shape[a] for a in self.axes)
        self.extra = tuple(
            _overhang(n, p, span, s) if ceil_mode else 0
            for n, p, span, s in zip(self.sizes, self.padding, spans, self.stride, strict=True)
        )
        for n, p, span in zip(self.sizes, self.padding, spans, strict=True):
            if n + 2 * p < span and not ceil_mode:
                what = f"a window of {list(self.kernel)} does not fit {type_of(input)}"
                raise ShapeError(at_user_line(f"{name}: {what}"))

    def padded(self, x: Any, value: float) -> Any:
        """`x` with its border, and what `ceil_mode` needs beyond it."""
        sides = [n for p, e in zip(reversed(self.padding), reversed(self.extra))
                 for n in (p, p + e)]  # fmt: skip
        return pad(x, sides, value=value) if any(sides) else x

    def sums(self, x: Any) -> Any:
        """The sums of the windows of a padded input."""
        return window_sums(x, self.axes, self.kernel, self.stride, self.dilation)


def _overhang(size: Any, padding: int, span: int, step: int) -> int:
    """Elements beyond the border that the last window of `ceil_mode` reaches."""
    n = int(size)
    count = -((n + 2 * padding - span) // -step) + 1
    if (count - 1) * step >= n + padding:  # a window must start inside the input or left border
        count -= 1
    return max((count - 1) * step + span - n - 2 * padding, 0)


# --- averages --------------------------------------------------------------------------------


def _average(
    name: str, rank: int, input: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor: int | None,
) -> Tensor:  # fmt: skip
    how = _Geometry(name, rank, input, kernel, stride, padding, 1, ceil_mode)
    total: Any = how.sums(how.padded(input, 0.0))
    if divisor is not None:
        if divisor == 0:
            raise RuntimeError(at_user_line(f"{name}: divisor must be not zero"))
        return _quotient(total, divisor)
    if not any(how.extra) and (count_include_pad or not any(how.padding)):
        return _quotient(total, product(how.kernel))
    axes = zip(how.sizes, how.padding, how.extra, how.kernel, how.stride, strict=True)
    counts = [_counts(int(n), p, e, k, s, count_include_pad) for n, p, e, k, s in axes]
    table = counts[0]
    for more in counts[1:]:
        table = table[..., None] * more
    return _quotient(total, constant_tensor(table.astype(input.dtype.numpy)))


def _quotient(total: Any, count: Any) -> Tensor:
    """Averages of integers are cut towards zero."""
    if total.dtype.kind == "f":
        return total / count
    return total.div(count, rounding_mode="trunc")


def _counts(
    size: int, padding: int, extra: int, kernel: int, step: int, include: bool
) -> np.ndarray:
    """How many elements count in each window along one axis."""
    total = size + 2 * padding + extra
    starts = np.arange((total - kernel) // step + 1) * step
    low = 0 if include else padding
    high = size + 2 * padding if include else size + padding
    return np.minimum(starts + kernel, high) - np.maximum(starts, low)


def avg_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """Averages over windows of the last dimension."""
    return _average("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode,
                    count_include_pad, None)  # fmt: skip


def avg_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
    *, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Averages over windows of the last two dimensions."""
    result = _average("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode,
                      count_include_pad, divisor_override)  # fmt: skip
    return result if out is None else deliver(result, out)


def avg_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
    *, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Averages over windows of the last three dimensions."""
    result = _average("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode,
                      count_include_pad, divisor_override)  # fmt: skip
    return result if out is None else deliver(result, out)


def _norm_pool(rank: int, input: Any, p: float, kernel: Any, stride: Any, ceil: bool) -> Tensor:
    sums: Any = _average(f"lp_pool{rank}d", rank, input.pow(p), kernel, stride, 0, ceil, True, None)
    size = product(repeated(kernel, rank, "kernel_size"))
    return (sums.sign() * sums.abs().relu() * size).pow(1.0 / p)


def lp_pool1d(
    input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """p-norms over windows of the last dimension."""
    return _norm_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """p-norms over windows of the last two dimensions."""
    return _norm_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """p-norms over windows of the last three dimensions."""
    return _norm_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


# --- maxima ----------------------------------------------------------------------------------


def _lowest(input: Any) -> Any:
    if input.dtype.kind == "f":
        return float("-inf")
    return int(np.iinfo(input.dtype.numpy).min)


def _maximum(
    name: str, rank: int, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    how = _Geometry(name, rank, input, kernel, stride, padding, dilation, ceil_mode)
    values, places = window_maxima(
        how.padded(input, _lowest(input)), how.axes, how.kernel, how.stride, how.dilation
    )
    if not return_indices:
        return values
    return values, _flat_places(places.to(dtypes.int64), how, rank)


def _flat_places(places: Any, how: _Geometry, rank: int) -> Any:
    """Positions in a window turned into positions in the (unpadded) input plane."""
    flat: Any = 0
    rest = places
    offsets = []
    for size in reversed(how.kernel):
        offsets.append(rest % size)
        rest = rest.div(size, rounding_mode="floor")
    for i, offset in enumerate(reversed(offsets)):
        count = int(places.shape[places.ndim - rank + i])
        starts = np.arange(count) * how.stride[i] - how.padding[i]
        base = constant_tensor(starts).reshape(-1, *(1,) * (rank - 1 - i))
        flat = flat * how.sizes[i] + (offset * how.dilation[i] + base)
    return flat


def max_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima over windows of the last dimension; `return_indices` adds where they are."""
    return _maximum("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode,
                    return_indices)  # fmt: skip


def max_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima over windows of the last two dimensions; `return_indices` adds where they are."""
    return _maximum("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode,
                    return_indices)  # fmt: skip


def max_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima over windows of the last three dimensions; `return_indices` adds where they are."""
    return _maximum("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode,
                    return_indices)  # fmt: skip
