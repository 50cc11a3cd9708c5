"""Philox-4x32-10 on NumPy: the reference meaning of the random ops.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
Invariant: one call of the generator per element, counter = offset + element index.
"""

from __future__ import annotations

import math

import numpy as np

from tracejit.ir.types import TensorType

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox_numpy(key: int, counters: np.ndarray) -> tuple[np.ndarray, ...]:
    """Four arrays of 32-bit words (as uint64) for 64-bit `counters` under a 64-bit `key`."""
    low = counters.astype(np.uint64)
    c0, c1 = low & _MASK, low >> _SHIFT
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _words(key: int, offset: int, type: TensorType) -> tuple[np.ndarray, ...]:
    count = math.prod(type.shape)
    counters = np.arange(count, dtype=np.uint64) + np.uint64(offset)
    return tuple(w.reshape(type.shape) for w in philox_numpy(key, counters))


def uniform(key: int, offset: int, type: TensorType) -> np.ndarray:
    """[0, 1) in `type.dtype`: the top 24 bits of word 0; float64 takes 53 bits of words 0, 1."""
    w0, w1, _, _ = _words(key, offset, type)
    if type.dtype.itemsize == 8:
        bits53 = ((w0 << _SHIFT) | w1) >> np.uint64(11)
        return bits53.astype(np.float64) * 2.0**-53
    if type.dtype.itemsize == 2:  # 11 bits, so that rounding to half never gives 1
        return ((w0 >> np.uint64(21)).astype(np.float32) * np.float32(2.0**-11)).astype(np.float16)
    return (w0 >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def normal(key: int, offset: int, type: TensorType) -> np.ndarray:
    """Box-Muller: sqrt(-2 log u1) cos(2 pi u2), u1 in (0, 1] from word 0, u2 from word 1."""
    w0, w1, w2, w3 = _words(key, offset, type)
    if type.dtype.itemsize == 8:
        u1 = (((w0 << _SHIFT) | w1) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        u2 = (((w2 << _SHIFT) | w3) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return np.sqrt(-2.0 * np.log(1.0 - u1)) * np.cos(2.0 * math.pi * u2)
    u1 = (w0 >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    u2 = (w1 >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - u1))
    return (radius * np.cos(np.float32(2.0 * math.pi) * u2)).astype(type.dtype.numpy)


def bits(key: int, offset: int, type: TensorType) -> np.ndarray:
    """63 random bits of words 0 and 1 as a non-negative int64."""
    w0, w1, _, _ = _words(key, offset, type)
    return (((w0 << _SHIFT) | w1) >> np.uint64(1)).astype(np.int64)
