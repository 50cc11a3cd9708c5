"""Division, remainders, powers and shifts: torch's meaning, exact, and never a trap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from mathlib_tools import run, same, values

INTEGERS = ["i64", "i32", "i16", "i8", "u8"]


def _pairs(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = values(kind, count, 1), values(kind, count, 2)
    edges = x[-12:]
    a, b = (v.ravel() for v in np.meshgrid(edges, edges))
    return np.concatenate([x, a]), np.concatenate([np.roll(y, 7), b])


def _wrapped(number: int, kind: str) -> int:
    width = int(kind[1:])
    number %= 2**width
    return number - 2**width if kind[0] == "i" and number >= 2 ** (width - 1) else number


def _python(name: str, x: int, y: int, width: int) -> int:
    """The meaning, on unbounded integers."""
    if name in ("floor_divide", "remainder", "fmod"):
        if y == 0:
            return 0
        if name == "fmod":
            return int(math.copysign(1, x)) * (abs(x) % abs(y))
        return x // y if name == "floor_divide" else x % y
    if name == "gcd":
        return math.gcd(x, y)
    if name == "pow":
        if y >= 0:
            return pow(x, y, 2**width)
        return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)
    if name == "shift_left":
        return x << y if 0 <= y < width else 0
    return x >> y if 0 <= y < width else -int(x < 0)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(
    "name", ["floor_divide", "remainder", "fmod", "gcd", "pow", "shift_left", "shift_right"]
)
def test_integers_against_python(name: str, kind: str) -> None:
    x, y = _pairs(kind, 60)
    if name.startswith("shift"):
        y = np.where(np.arange(y.size) % 3 == 0, y, y % 70).astype(y.dtype)
    got = run(f"m.{name}(a, b)", (kind, kind), kind, x, y)
    width = int(kind[1:])
    expected = [_wrapped(_python(name, int(u), int(v), width), kind) for u, v in zip(x, y)]
    assert got.tolist() == expected


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_fmod_is_exact_for_every_quotient(kind: str) -> None:
    x, y = _pairs(kind, 300)
    got = run("m.fmod(a, b)", (kind, kind), kind, x, y)
    expected = [math.fmod(u, v) if v != 0 and math.isfinite(u) and not math.isnan(v) else math.nan
                for u, v in zip(x.tolist(), y.tolist())]  # fmt: skip
    assert same(got, np.array(expected, got.dtype)).all()


def _floor_divide(x: float, y: float) -> float:
    """torch's definition (c10::div_floor_floating) in exact steps."""
    if y == 0:
        return float(np.float64(x) / y) if x else math.nan
    rest = math.fmod(x, y) if math.isfinite(x) else math.nan
    quotient = (x - rest) / y
    if rest != 0 and (y < 0) != (rest < 0):
        quotient -= 1.0
    if quotient == 0:
        return math.copysign(0.0, x / y)
    if not math.isfinite(quotient):
        return quotient
    whole = math.floor(quotient)
    return whole + 1.0 if quotient - whole > 0.5 else float(whole)


def test_floor_divide_and_remainder_of_floats() -> None:
    x, y = _pairs("f64", 300)
    keep = ~(np.isnan(x) | np.isnan(y))
    x, y = x[keep], y[keep]
    with np.errstate(all="ignore"):
        expected = [_floor_divide(u, v) for u, v in zip(x.tolist(), y.tolist())]
        rest: Any = np.fmod(x, y)
        rest = np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)
    kinds = ("f64", "f64")
    assert same(run("m.floor_divide(a, b)", kinds, "f64", x, y), expected).all()
    assert same(run("m.remainder(a, b)", kinds, "f64", x, y), rest).all()


@pytest.mark.parametrize(("x", "y", "quotient", "rest"), [
    (7.0, 2.0, 3.0, 1.0), (-7.0, 2.0, -4.0, 1.0), (7.0, -2.0, -4.0, -1.0), (-7.0, -2.0, 3.0, -1.0),
    (1.0, 0.1, 9.0, 0.1), (-1.0, np.inf, -1.0, np.inf), (1.0, np.inf, 0.0, 1.0),
    (np.inf, 1.0, np.nan, np.nan), (1.0, 0.0, np.inf, np.nan), (-0.0, 1.0, -0.0, -0.0),
])  # fmt: skip
def test_sign_rules_of_floats(x: float, y: float, quotient: float, rest: float) -> None:
    for kind in ("f32", "f64"):
        got = run("m.floor_divide(a, b)", (kind, kind), kind, [x], [y])
        assert same(got, np.array([quotient], got.dtype)).all()
        got = run("m.remainder(a, b)", (kind, kind), kind, [x], [y])
        assert np.isclose(got[0], rest, rtol=1e-6, equal_nan=True)


def test_torch_agrees_where_it_is_installed() -> None:
    torch = pytest.importorskip("torch")
    for kind in ("f32", "i32", "i64"):
        x, y = _pairs(kind, 200)
        if kind == "f32":
            with np.errstate(all="ignore"):  # beyond, torch's vector fmod gives NaN
                y = np.where(np.abs(x / np.where(y == 0, 1, y)) < 1e6, y, 2.5).astype(y.dtype)
        else:
            y = np.where((y == 0) | (y == -1), 3, y).astype(y.dtype)
        for name in ("fmod", "remainder", "floor_divide"):
            expected = getattr(torch, name)(torch.from_numpy(x), torch.from_numpy(y)).numpy()
            assert same(run(f"m.{name}(a, b)", (kind, kind), kind, x, y), expected).all(), name


@pytest.mark.parametrize("kind", ["f32", "f64", "i32", "u8"])
def test_extrema_and_signs(kind: str) -> None:
    x, y = _pairs(kind, 60)
    is_float = kind[0] == "f"
    for name, function in {"maximum": np.maximum, "minimum": np.minimum, "fmax": np.fmax,
                           "fmin": np.fmin}.items():  # fmt: skip
        got = run(f"m.{name}(a, b)", (kind, kind), kind, x, y)
        expected = function(x, y)
        assert np.array_equal(got, expected, equal_nan=is_float), name
        if is_float:  # the zeros are ordered
            zeros = (x == 0) & (y == 0)
            negative = np.signbit(x) & np.signbit(y) if name[-1] in "mx" and "max" in name \
                else np.signbit(x) | np.signbit(y)  # fmt: skip
            assert np.array_equal(np.signbit(got)[zeros], negative[zeros]), name
    assert np.array_equal(run("m.abs(a)", (kind,), kind, x), np.abs(x), equal_nan=is_float)
    sign = np.where(np.isnan(x), 0, np.sign(x)).astype(x.dtype)
    assert np.array_equal(run("m.sign(a)", (kind,), kind, x), sign)
    for name in ("floor", "ceil", "trunc", "round"):
        with np.errstate(invalid="ignore"):
            expected = getattr(np, name)(x).astype(x.dtype)
        assert same(run(f"m.{name}(a)", (kind,), kind, x), expected).all()


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_classes(kind: str) -> None:
    x = values(kind, 100)
    for name in ("isnan", "isinf", "isfinite", "signbit"):
        assert np.array_equal(run(f"m.{name}(a)", (kind,), "b1", x), getattr(np, name)(x)), name
    assert same(run("m.copysign(a, b)", (kind, kind), kind, x, x[::-1]),
                np.copysign(x, x[::-1])).all()  # fmt: skip
