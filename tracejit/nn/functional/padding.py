"""`pad` in its four modes.

Invariant: pairs of amounts come last dimension first, as in torch; a negative amount cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.eager.dispatch import apply
from tracejit.eager.factories import constant_tensor, ones_like
from tracejit.eager.pointwise import where_of
from tracejit.eager.scalars import SymFloat
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def pad(
    input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Elements added around `input`.

    pad   (low, high) of the last dimension, then of the one before it, and so on.
    mode  'constant' (`value`, default 0), 'reflect', 'replicate' or 'circular'.
    """
    amounts = tuple(int(n) for n in pad)
    if len(amounts) % 2:
        raise RuntimeError(at_user_line("pad: the number of amounts must be even"))
    if len(amounts) // 2 > input.ndim:
        raise ShapeError(at_user_line(f"pad: {len(amounts)} amounts for {type_of(input)}"))
    pairs = [(input.ndim - 1 - i, amounts[2 * i], amounts[2 * i + 1])
             for i in range(len(amounts) // 2)]  # fmt: skip
    if mode == "constant":
        return _constant(input, pairs, 0.0 if value is None else value)
    if mode not in _INDEX:
        raise NotImplementedError(at_user_line(f"pad: unrecognised padding mode {mode!r}"))
    if value not in (None, 0):
        raise ValueError(at_user_line(f"pad: mode {mode!r} doesn't take in value argument"))
    if len(pairs) > 3 or input.ndim - len(pairs) not in (1, 2):
        raise NotImplementedError(at_user_line(
            f"pad: mode {mode!r} pads the last 1 to 3 dimensions of a tensor with 1 or 2 more, "
            f"not {len(pairs)} of {type_of(input)}"))  # fmt: skip
    result = input
    for axis, low, high in pairs:
        result = _by_index(result, axis, low, high, mode)
    return result


def _constant(input: Any, pairs: list[tuple[int, int, int]], value: Any) -> Tensor:
    result = input
    for axis, low, high in pairs:
        cut_low, cut_high = max(-low, 0), max(-high, 0)
        if cut_low or cut_high:
            length = result.shape[axis] - cut_low - cut_high
            if length < 0 or length + max(low, 0) + max(high, 0) < 0:
                raise ShapeError(at_user_line(f"pad: cuts more than there is of {type_of(input)}"))
            result = result.narrow(axis, cut_low, length)
    lows, highs = [0] * input.ndim, [0] * input.ndim
    for axis, low, high in pairs:
        lows[axis], highs[axis] = max(low, 0), max(high, 0)
    if not any(lows) and not any(highs):
        return result.clone() if result is input else result
    kind = {"f": float, "b": bool}.get(input.dtype.kind, int)
    if type(value) is SymFloat and kind is float:  # a number that varies from call to call
        params = {"low": tuple(lows), "high": tuple(highs), "value": 0.0}
        inside = apply(OPS["pad"], (ones_like(result),), params)
        return where_of(inside > 0, apply(OPS["pad"], (result,), params), value, input.dtype)
    params = {"low": tuple(lows), "high": tuple(highs), "value": kind(value)}
    return apply(OPS["pad"], (result,), params)


def _reflected(i: np.ndarray, n: int) -> np.ndarray:
    i = np.abs(i)
    return np.where(i >= n, 2 * (n - 1) - i, i)


_INDEX: dict[str, Any] = {
    "reflect": _reflected,
    "replicate": lambda i, n: np.clip(i, 0, n - 1),
    "circular": lambda i, n: i % n,
}
_LIMIT = {"reflect": -1, "replicate": None, "circular": 0}


def _by_index(input: Any, axis: int, low: int, high: int, mode: str) -> Any:
    """One axis padded by reading it at computed places."""
    n = int(input.shape[axis])
    limit = _LIMIT[mode]
    if limit is not None and max(low, high) > n + limit:
        raise RuntimeError(at_user_line(
            f"pad: {mode} padding ({low}, {high}) is too large for dimension {axis} of "
            f"{type_of(input)}"))  # fmt: skip
    if n == 0 or low + n + high < 0:
        raise RuntimeError(at_user_line(f"pad: {mode} padding of {type_of(input)} is not possible"))
    if low == 0 and high == 0:
        return input
    places = _INDEX[mode](np.arange(-low, n + high), n)
    if mode == "circular" and (low < 0 or high < 0):  # what is cut away does not come around
        start, kept = max(-low, 0), n + min(low, 0) + min(high, 0)
        places = start + np.arange(-max(low, 0), kept + max(high, 0)) % kept
    return input.index_select(axis, constant_index(places))


def constant_index(places: np.ndarray) -> Tensor:
    """An index tensor that is a constant of a capture."""
    return constant_tensor(np.asarray(places, np.int64))


__all__ = ["constant_index", "pad"]
