"""Accuracy of the math library: at most 2 ulp from mpmath over the whole domain, f32 and f64.

Random bit patterns cover all exponents, a second set the interval where a function varies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from mathlib_tools import SPECIAL, error_in_ulp, run, same

from tracejit.codegen.mathlib.core import NUMPY_TYPE

POINTS = 150


def _erfinv(x: Any) -> Any:
    if abs(x) == 1:
        return mp.sign(x) * mp.inf
    a, slope = abs(x), 2 / mp.sqrt(mp.pi)
    if a < mp.mpf(10) ** -25:
        return x / slope
    y = a / slope if a < 0.5 else mp.sqrt(-mp.log((1 - a) * (1 + a))) * 0.8
    for _ in range(9):
        rest = mp.erf(y) - a if a < 0.5 else (1 - a) - mp.erfc(y)
        step = rest / (slope * mp.exp(-y * y))
        y -= step / (1 + y * step)
    return mp.sign(x) * y


def _lgamma(x: Any) -> Any:
    if x <= 0 and x == mp.floor(x):
        return mp.inf
    return mp.log(abs(mp.gamma(x))) if abs(x) < 100 else mp.re(mp.loggamma(x))


# name -> (reference, interval of interest, interval outside which bit patterns are left out)
EVERYWHERE = (-np.inf, np.inf)
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], tuple[float, float], tuple[float, float]]] = {
    "exp": (mp.exp, (-110, 90), (-1e4, 1e4)),
    "exp2": (lambda x: mp.mpf(2) ** x, (-151, 129), (-1e4, 1e4)),
    "expm1": (mp.expm1, (-2, 2), (-1e4, 1e4)),
    "log": (mp.log, (0.3, 3), (0, np.inf)),
    "log2": (lambda x: mp.log(x, 2), (0.3, 3), (0, np.inf)),
    "log10": (mp.log10, (0.3, 3), (0, np.inf)),
    "log1p": (mp.log1p, (-1, 2), (-1, np.inf)),
    "sqrt": (mp.sqrt, (0, 4), (0, np.inf)),
    "rsqrt": (lambda x: 1 / mp.sqrt(x), (0.1, 4), (0, np.inf)),
    "sin": (mp.sin, (-20, 20), EVERYWHERE),
    "cos": (mp.cos, (-20, 20), EVERYWHERE),
    "tan": (mp.tan, (-20, 20), EVERYWHERE),
    "asin": (mp.asin, (-1, 1), (-1, 1)),
    "acos": (mp.acos, (-1, 1), (-1, 1)),
    "atan": (mp.atan, (-4, 4), EVERYWHERE),
    "sinh": (mp.sinh, (-3, 3), (-1e3, 1e3)),
    "cosh": (mp.cosh, (-3, 3), (-1e3, 1e3)),
    "tanh": (mp.tanh, (-3, 3), (-1e3, 1e3)),
    "asinh": (mp.asinh, (-4, 4), EVERYWHERE),
    "acosh": (mp.acosh, (1, 4), (1, np.inf)),
    "atanh": (mp.atanh, (-1, 1), (-1, 1)),
    "erf": (mp.erf, (-4, 4), EVERYWHERE),
    "erfc": (mp.erfc, (-4, 28), (-1e4, 40)),
    "erfinv": (_erfinv, (-1, 1), (-1, 1)),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), (-110, 20), (-1e4, 1e4)),
    "lgamma": (_lgamma, (0, 12), (0, np.inf)),
    "digamma": (lambda x: mp.psi(0, x), (0, 12), (0, 1e30)),
}


def _points(kind: str, near: tuple[float, float], domain: tuple[float, float]) -> Any:
    dtype, rng = NUMPY_TYPE[kind], np.random.default_rng(7)
    patterns = rng.integers(0, 2 ** (8 * dtype.itemsize), 4 * POINTS, dtype=f"u{dtype.itemsize}")
    with np.errstate(all="ignore"):
        x = np.concatenate([patterns.view(dtype), np.array(SPECIAL, dtype)])
        x = x[np.isfinite(x) & (x > domain[0]) & (x < domain[1])][-POINTS:]
        return np.concatenate([x, rng.uniform(*near, POINTS).astype(dtype)])


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_at_most_two_ulp(name: str, kind: str) -> None:
    reference, near, domain = FUNCTIONS[name]
    x = _points(kind, near, domain)
    got = run(f"m.{name}(a)", (kind,), kind, x)
    with mp.workprec(150):
        errors = [(error_in_ulp(g, reference(mp.mpf(float(v))), kind), v, g)
                  for v, g in zip(x, got) if abs(v) > 0]  # fmt: skip
    assert len(errors) > POINTS
    worst = max(errors)
    assert worst[0] <= 2, worst


@pytest.mark.parametrize(("name", "absolute"), [("lgamma", 2.0**-58), ("digamma", 2.0**-53)])
def test_gamma_functions_of_negative_numbers(name: str, absolute: float) -> None:
    """2 ulp in f32; in f64 the zeros on the negative axis allow an absolute bound only."""
    rng = np.random.default_rng(3)
    parts = (rng.uniform(0, 6, 100), rng.uniform(6, 30, 50), 10 ** rng.uniform(-9, 0, 20))
    x = -np.concatenate(parts)
    reference = FUNCTIONS[name][0]
    single = run(f"m.{name}(a)", ("f32",), "f32", x)
    double = run(f"m.{name}(a)", ("f64",), "f64", x)
    with mp.workprec(150):
        for v, s, d in zip(x, single, double):
            assert error_in_ulp(s, reference(mp.mpf(float(np.float32(v)))), "f32") <= 2, v
            exact = reference(mp.mpf(float(v)))
            assert abs(mp.mpf(float(d)) - exact) <= 2.0**-52 * abs(exact) + absolute, v


@pytest.mark.parametrize("exponent", [100, 700, 797, 1000, 1023])
def test_sine_of_huge_arguments(exponent: int) -> None:
    """The mantissa 6381956970095103 * 2**797 comes closest to a multiple of pi/2 among doubles."""
    x = np.ldexp(6381956970095103.0, exponent - 52) * np.array([1.0, 0.7, -0.6, 0.9])
    for name in ("sin", "cos", "tan"):
        got = run(f"m.{name}(a)", ("f64",), "f64", x)
        with mp.workprec(200):
            exact = [getattr(mp, name)(mp.mpf(float(v))) for v in x]
            assert max(error_in_ulp(g, e, "f64") for g, e in zip(got, exact)) <= 2


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", ["pow", "atan2", "hypot"])
def test_error_of_two_operands(name: str, kind: str) -> None:
    rng, dtype, n = np.random.default_rng(5), NUMPY_TYPE[kind], 300
    patterns = rng.integers(0, 2 ** (8 * dtype.itemsize), (2, 2 * n), dtype=f"u{dtype.itemsize}")
    x, y = patterns.view(dtype)
    plain = rng.standard_normal((2, n)).astype(dtype)
    x, y = np.concatenate([x, plain[0]]), np.concatenate([y, plain[1]])
    if name == "pow":
        x = np.abs(x)
        scale = np.where(rng.random(3 * n) < 0.5, 2.0, 60.0) * rng.standard_normal(3 * n)
        with np.errstate(all="ignore"):
            y = (scale / np.maximum(np.abs(np.log(x)), 1e-3) * 5).astype(dtype)
    keep = np.isfinite(x) & np.isfinite(y) & (x != 0)
    x, y = x[keep], y[keep]
    reference = {"pow": mp.power, "atan2": mp.atan2, "hypot": mp.hypot}[name]
    got = run(f"m.{name}(a, b)", (kind, kind), kind, x, y)
    with mp.workprec(200):
        errors = [
            (error_in_ulp(g, reference(mp.mpf(float(u)), mp.mpf(float(v))), kind), u, v, g)
            for u, v, g in zip(x, y, got)
        ]
    worst = max(errors)
    assert worst[0] <= 2, worst


INF, NAN = np.inf, np.nan
EDGES: dict[str, list[tuple[float, float]]] = {
    "exp": [(INF, INF), (-INF, 0), (0, 1), (-0.0, 1)],
    "exp2": [(INF, INF), (-INF, 0), (3, 8), (-2, 0.25)],
    "expm1": [(INF, INF), (-INF, -1), (0, 0), (-0.0, -0.0)],
    "log": [(INF, INF), (0, -INF), (-0.0, -INF), (-1, NAN), (-INF, NAN), (1, 0)],
    "log2": [(INF, INF), (0, -INF), (-1, NAN), (8, 3), (0.125, -3)],
    "log10": [(INF, INF), (0, -INF), (-1, NAN), (1000, 3)],
    "log1p": [(INF, INF), (-1, -INF), (-2, NAN), (-0.0, -0.0), (-INF, NAN)],
    "sqrt": [(INF, INF), (-0.0, -0.0), (-1, NAN)],
    "rsqrt": [(INF, 0), (0, INF), (-1, NAN)],
    "sin": [(INF, NAN), (-INF, NAN), (-0.0, -0.0)],
    "cos": [(INF, NAN), (0, 1)],
    "tan": [(INF, NAN), (-0.0, -0.0)],
    "asin": [(1.5, NAN), (-0.0, -0.0), (INF, NAN)],
    "acos": [(1, 0), (1.5, NAN), (-INF, NAN)],
    "atan": [(-0.0, -0.0)],
    "sinh": [(INF, INF), (-INF, -INF), (-0.0, -0.0)],
    "cosh": [(INF, INF), (-INF, INF), (0, 1)],
    "tanh": [(INF, 1), (-INF, -1), (-0.0, -0.0)],
    "asinh": [(INF, INF), (-INF, -INF), (-0.0, -0.0)],
    "acosh": [(INF, INF), (1, 0), (0.5, NAN), (-1, NAN), (-1e300, NAN), (-INF, NAN)],
    "atanh": [(1, INF), (-1, -INF), (2, NAN), (-0.0, -0.0), (INF, NAN)],
    "erf": [(INF, 1), (-INF, -1), (-0.0, -0.0)],
    "erfc": [(INF, 0), (-INF, 2), (0, 1)],
    "erfinv": [(1, INF), (-1, -INF), (2, NAN), (-0.0, -0.0), (INF, NAN)],
    "sigmoid": [(INF, 1), (-INF, 0), (0, 0.5)],
    "lgamma": [(INF, INF), (-INF, INF), (0, INF), (-3, INF), (1, 0), (2, 0)],
    "digamma": [(INF, INF), (0, -INF), (-0.0, INF), (-3, NAN), (-INF, NAN)],
}


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", EDGES)
def test_special_values(name: str, kind: str) -> None:
    """NaN gives NaN; infinities, zeros and their signs, poles and exact results as listed."""
    x = np.array([v for v, _ in EDGES[name]] + [NAN, -NAN])
    expected = np.array([v for _, v in EDGES[name]] + [NAN, NAN], NUMPY_TYPE[kind])
    got = run(f"m.{name}(a)", (kind,), kind, x)
    assert same(got, expected).all(), (got, expected)


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", ["pow", "atan2", "hypot", "nextafter"])
def test_special_pairs(name: str, kind: str) -> None:
    """The C standard's table, for which NumPy's functions stand in, on all pairs of edge values."""
    dtype = NUMPY_TYPE[kind]
    edges = [0.0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, INF, -INF, NAN, 1e30, -1e30]
    x, y = (v.ravel() for v in np.meshgrid(*2 * [np.array(edges, dtype)]))
    function: Any = {"pow": np.power, "atan2": np.arctan2, "hypot": np.hypot,
                     "nextafter": np.nextafter}[name]  # fmt: skip
    with np.errstate(all="ignore"):
        expected = function(x, y)
    got = run(f"m.{name}(a, b)", (kind, kind), kind, x, y)
    close = np.isfinite(expected) & (expected != 0) & np.isclose(got, expected, rtol=1e-6)
    bad = ~(same(got, expected) | close)
    assert not bad.any(), list(zip(x[bad], y[bad], got[bad], expected[bad]))
