"""``testing.make_tensor``: random tensors of any dtype for tests.

Invariant: floating elements lie in ``[low, high)`` and integers likewise, whatever is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.inplace import write_into
from tracejit.eager.modes import no_grad
from tracejit.random import rand, randint
from tracejit.tensor import Tensor


def _bounds(kind: Any, low: Any, high: Any) -> tuple[Any, Any]:
    limits: Any
    if kind.kind == "f":
        default, limits = (-9.0, 9.0), dtypes.finfo(kind)
    elif kind.kind == "b":
        return (0 if low is None else low), (2 if high is None else high)
    else:
        default = (0.0, 10.0) if kind is dtypes.uint8 else (-9.0, 10.0)
        limits = dtypes.iinfo(kind)
    low = default[0] if low is None else low
    high = default[1] if high is None else high
    if any(v != v for v in (low, high)):
        raise ValueError(f"make_tensor: low and high must not be nan, got {low} and {high}")
    if low >= high:
        raise ValueError(f"make_tensor: low must be below high, got {low} >= {high}")
    low, high = max(low, limits.min), min(high, limits.max + (kind.kind != "f"))
    return (low, high) if kind.kind == "f" else (int(np.floor(low)), int(np.ceil(high)))


def make_tensor(
    *shape: Any, dtype: Any, device: Any = "cpu", low: float | None = None,
    high: float | None = None, requires_grad: bool = False, noncontiguous: bool = False,
    exclude_zero: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """A tensor of `shape` with uniform elements in ``[low, high)``.

    low, high       -9 and 9 for floats, -9 and 10 for integers, 0 and 10 for uint8.
    noncontiguous   every second element of a larger one (if there are at least two).
    exclude_zero    zeros become the smallest positive number of the dtype.
    Raises ValueError for an empty or NaN range, or a gradient of integers.
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    kind = dtypes.as_dtype(dtype)
    low, high = _bounds(kind, low, high)
    if requires_grad and kind.kind != "f":
        raise ValueError(f"make_tensor: requires_grad needs a floating dtype, not {kind.name}")
    spread = noncontiguous and int(np.prod(sizes)) > 1
    drawn = (*sizes[:-1], 2 * sizes[-1]) if spread else sizes
    if kind.kind == "f":
        result = rand(*drawn, dtype=kind, device=device) * (high - low) + low
    else:
        result = randint(low, high, drawn, device=device).to(kind)
    result = result[..., ::2] if spread else result
    if exclude_zero:
        smallest = dtypes.finfo(kind).tiny if kind.kind == "f" else 1
        with no_grad():
            write_into(result, result.masked_fill(result == 0, smallest), "make_tensor")
    return result.requires_grad_(requires_grad)
