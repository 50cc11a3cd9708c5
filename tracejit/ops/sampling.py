"""Draws that no fixed formula of uniform numbers gives: gamma, Poisson, binomial, von Mises.

NumPy's generators make them, on a Philox stream of their own. Invariant: a draw is a function of
key, offset and parameters alone, so a trace is pure; eager and compiled give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import DTypeError
from tracejit.ir.op import NONDIFF, UNKNOWN, Op
from tracejit.ir.types import TensorType
from tracejit.ops.declare import FLOAT, check_arity, check_domain, check_same, uniform
from tracejit.ops.library import library
from tracejit.ops.reference import digamma

Array = np.ndarray[Any, Any]


def sampler(
    name: str, doc: str, draw: Callable[..., Array], parameters: tuple[str, ...],
    vjp: Any = NONDIFF,
) -> Op:  # fmt: skip
    """An op ``(key, offset, *parameters)``; `draw` gets a NumPy generator and float64 arrays."""

    def infer(types: Sequence[TensorType]) -> TensorType:
        check_arity(name, types, 2 + len(parameters))
        for t in types[:2]:
            if t.dtype is not int64 or t.shape != ():
                raise DTypeError(f"{name}: key and offset must be i64[], not {t}")
        check_domain(name, types[2:], FLOAT)
        check_same(name, types[2:])
        return types[2]

    def run(key: Array, offset: Array, *given: Array) -> Array:
        seeds = np.array([int(key), int(offset)], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=seeds))
        drawn = draw(rng, *(np.asarray(p, np.float64) for p in given))
        return np.asarray(drawn, given[0].dtype)

    return Op(
        name, "library", infer, run, vjp, doc, exact=True, names=("key", "offset", *parameters),
        sample=uniform(0.5, 3),
    )  # fmt: skip


def _gamma(rng: np.random.Generator, concentration: Array) -> Array:
    drawn = rng.standard_gamma(np.where(concentration > 0, concentration, 1.0))
    valid = np.where(concentration > 0, np.maximum(drawn, np.finfo(np.float32).tiny), np.nan)
    return np.asarray(valid)


_DECADES = 40.0  # what is left out has fallen by exp(-40)


@cache
def _quadrature() -> tuple[Array, Array]:
    """Points and weights of Gauss and Legendre's rule (loading it takes time at import)."""
    points, weights = np.polynomial.legendre.leggauss(64)
    return points, weights


def _log_density_ratio(a: Array, x: Array, y: Array, side: Array) -> Array:
    """log of p(t) t / (p(x) x) at ``t = x exp(side * y)`` for the gamma density p; it falls."""
    return np.asarray(a * side * y - x * np.expm1(side * y))


def gamma_slope(a: Array, x: Array) -> Array:
    """dx/da of a gamma variable at a fixed quantile: ``-(d/da P(a, x)) / p(x; a)``.

    The derivative of P is the integral of ``(log t - digamma(a)) p(t; a)`` over (0, x), or minus
    that over (x, inf): the side on which p falls is taken (Figurnov et al., "Implicit
    reparameterization gradients", 2018), by Gauss-Legendre in ``log t`` up to where p vanishes.
    """
    dtype = x.dtype
    a, x = np.asarray(a, np.float64), np.asarray(x, np.float64)
    side = np.where(x < a, -1.0, 1.0)
    with np.errstate(all="ignore"):
        end = np.where(
            x < a, (_DECADES + x) / a,
            np.minimum(np.sqrt(2 * _DECADES / x), np.log(2 + 2 * _DECADES / x) + 1),
        )  # fmt: skip
        for _ in range(40):  # Newton from the right on a concave function: monotone
            value = _log_density_ratio(a, x, end, side) + _DECADES
            slope = side * (a - x * np.exp(side * end))
            end = np.maximum(end - value / slope, 1e-300)
        total = np.zeros(np.broadcast(a, x).shape)
        centre = np.log(x) - digamma(a)
        for point, weight in zip(*_quadrature(), strict=True):
            y = end * (point + 1) / 2
            density = np.exp(_log_density_ratio(a, x, y, side))
            total = total + weight * (centre + side * y) * density
        return np.asarray(side * x * total * end / 2).astype(dtype)


random_gamma_slope = library(
    "random_gamma_slope", "dx/da of a gamma variable x of concentration a, its quantile fixed.",
    numpy=gamma_slope, names=("a", "x"), vjp=lambda g, out, a, x: (UNKNOWN, UNKNOWN),
    sample=uniform(0.5, 3),
)  # fmt: skip
random_gamma = sampler(
    "random_gamma", "Gamma variables of rate 1; the gradient is that of the quantile.",
    _gamma, ("concentration",),
    vjp=lambda g, out, key, offset, a: (None, None, g * random_gamma_slope(a, out)),
)  # fmt: skip
random_poisson = sampler(
    "random_poisson", "Poisson variables.", lambda rng, rate: rng.poisson(rate), ("rate",)
)
random_binomial = sampler(
    "random_binomial", "Successes among `count` trials of probability `probs`.",
    lambda rng, count, probs: rng.binomial(count.astype(np.int64), probs), ("count", "probs"),
)  # fmt: skip
random_von_mises = sampler(
    "random_von_mises", "Von Mises variables around 0.",
    lambda rng, concentration: rng.vonmises(0.0, concentration), ("concentration",),
)  # fmt: skip
