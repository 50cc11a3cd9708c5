"""NumPy meanings that NumPy itself does not have. Reference code: clear first, fast second."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.dtypes import DType

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_lgamma = np.vectorize(lambda v: _guarded_lgamma(float(v)), otypes=[np.float64])

_erfinv = np.vectorize(lambda v: _scalar_erfinv(float(v)), otypes=[np.float64])


def _guarded_lgamma(v: float) -> float:
    if math.isinf(v) or (v <= 0 and v == math.floor(v)):
        return math.inf
    return math.lgamma(v)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function in double precision, rounded to x's dtype."""
    return _erf(x).astype(x.dtype)


def erfc(x: np.ndarray) -> np.ndarray:
    """1 - erf(x) in double precision, rounded to x's dtype."""
    return _erfc(x).astype(x.dtype)


def lgamma(x: np.ndarray) -> np.ndarray:
    """log |gamma(x)| in double precision; inf at the poles."""
    return _lgamma(x).astype(x.dtype)


def _scalar_erfinv(v: float) -> float:
    from statistics import NormalDist  # slow to load, and rarely needed

    if not -1 < v < 1:
        return math.copysign(math.inf, v) if abs(v) == 1 else math.nan
    if v == 0:
        return v
    y = NormalDist().inv_cdf((v + 1) / 2) / math.sqrt(2) if abs(v) > 1e-3 else v
    for _ in range(4):  # Newton; erfc keeps the digits near +-1 that erf would lose
        error = (
            math.erf(y) - v
            if abs(v) < 0.5
            else math.copysign(1, v) * ((1 - abs(v)) - math.erfc(abs(y)))
        )
        y -= error * math.sqrt(math.pi) / 2 * math.exp(y * y)
    return y


def erfinv(x: np.ndarray) -> np.ndarray:
    """The inverse of erf: the normal quantile, then Newton steps in float64."""
    return _erfinv(x).astype(x.dtype)


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of lgamma: reflection, recurrence and the asymptotic series (A&S 6.3)."""
    v = np.asarray(x, np.float64)
    reflected = v < 0.5
    z = np.where(reflected, 1 - v, v)
    total = np.zeros_like(z)
    for _ in range(10):
        small = z < 10
        total = total - np.where(small, 1 / np.where(small, z, 1), 0)
        z = np.where(small, z + 1, z)
    i = 1 / (z * z)
    series = i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i * (1 / 240 - i * (1 / 132)))))
    value = total + np.log(z) - 0.5 / z - series
    with np.errstate(all="ignore"):
        value = np.where(reflected, value - math.pi / np.tan(math.pi * v), value)
    poles = (v <= 0) & (v == np.floor(v))
    value = np.where(poles, np.where(v == 0, -np.copysign(np.inf, v), np.nan), value)
    return value.astype(x.dtype)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def sign(x: np.ndarray) -> np.ndarray:
    """-1, 0 or 1 in x's dtype; 0 for NaN."""
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def signbit(x: np.ndarray) -> np.ndarray:
    """Whether the sign bit is set."""
    return np.signbit(x) if x.dtype.kind == "f" else x < 0


def floor_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """floor(x / y), with torch's meaning of a float divided by zero (x / 0)."""
    if x.dtype.kind != "f":
        return np.floor_divide(x, y)
    return np.where(y == 0, x / y, np.floor_divide(x, y)).astype(x.dtype)


def power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x ** y; for integers a negative exponent gives 0, or +-1 for a base of +-1, as in torch."""
    if x.dtype.kind == "f":
        return np.power(x, y)
    negative = y < 0
    value = np.power(x, np.where(negative, 0, y).astype(y.dtype))
    odd = np.where(y % 2 == 0, 1, x)
    inverse = np.where(x == 1, 1, np.where(x == -1, odd, 0)) if x.dtype.kind == "i" else (x == 1)
    return np.where(negative, inverse, value).astype(x.dtype)


def cast(x: np.ndarray, dtype: DType) -> np.ndarray:
    """Conversion as C does it: floats truncate, bool is `!= 0`."""
    return np.asarray(x).astype(dtype.numpy)


def nested(array: np.ndarray) -> Any:
    """The elements as nested tuples."""

    def freeze(v: Any) -> Any:
        return tuple(map(freeze, v)) if isinstance(v, list) else v

    return freeze(array.tolist())
