"""Numbers: rounding, promotion, NaN, infinities, signed zeros, ties.

Invariant: eager and compiled agree bit for bit, and both agree with NumPy in float64.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scenario import arange, near, scenario

import tracejit as torch
from tracejit.nn import functional as F

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3e38, -3e38, 1e-45, -1e-40, math.inf, -math.inf,
           math.nan, 88.7, -103.9, 1e-7, 65504.0, 0.3]  # fmt: skip
FLOATS = ("float16", "float32", "float64")


def special(dtype="float32"):
    return torch.tensor(SPECIAL, dtype=torch.float64).to(getattr(torch, dtype))


@scenario(".to(float16) inside a fused chain", "really rounds", "input", 1)
def test_half_rounds(compile):
    f = compile(lambda x: (x * 1.0001).to(torch.float16).to(torch.float32) * 3)
    for k in (0.1, 0.2):
        x = arange(9, start=k)
        want = (x.numpy() * np.float32(1.0001)).astype(np.float16).astype(np.float32) * 3
        yield near(f(x), want, rtol=0, atol=0)


@scenario("float16 arithmetic in one kernel", "rounds after every op", "input", 1)
def test_half_each_op(compile):
    def run(x, y):
        return ((x + y) * y - x) / y, (x.exp() + y).tanh()

    f = compile(run)
    for k in (0.1, 2.3):
        yield f(arange(50, start=k).half(), arange(50, start=1.7).half())


@scenario("float16 overflow", "inf and NaN as eager", "input", 1)
def test_half_overflow(compile):
    f = compile(lambda x: (x * x, x * x - x * x, x.exp(), x + 60000))
    for k in (10.0, 300.0):
        yield f((arange(9) * k).half())


@scenario("min, max, clamp, amax, relu with NaN, -0.0, inf", "torch's rules", "input", 1)
def test_min_max_special(compile):
    def run(x, y):
        return (torch.maximum(x, y), torch.minimum(x, y), x.clamp(-1, 1), x.clamp(min=0.0),
        x.amax(),
                x.amin(), x.max(), x.relu(), torch.fmax(x, y), x.sign(), x.abs())  # fmt: skip

    f = compile(run)
    x = special()
    for y in (x.flip(0), x.roll(3), torch.zeros_like(x)):
        yield f(x, y)


@scenario("isnan, isinf, x != x", "not optimised away", "input", 1)
def test_isnan(compile):
    f = compile(lambda x: (x.isnan(), x.isinf(), x != x, x.isfinite(), (x - x).isnan(), x * 0 == 0))
    x = special()
    for _ in range(2):
        y = f(x)
        yield y[0], near(y[0], np.isnan(x.numpy())), near(y[1], np.isinf(x.numpy()))
        yield y


@scenario("x * 0, x - x, x / x, x + 0.0 with special values", "IEEE's answers", "input", 2)
def test_no_unsound_algebra(compile):
    def run(x):
        return (x * 0, x - x, x / x, x + 0.0, x - 0.0, 0.0 - x, -x, x * 1, x / 1, x**1, x**0,
        x * -1,
                x**2, x**0.5, 1 / x, (x + 1) - 1, (x * 2) / 2)  # fmt: skip

    f = compile(run)
    for dtype in FLOATS[1:]:
        yield f(special(dtype))
        yield f(special(dtype).flip(0))


@scenario("layer_norm followed by rsqrt", "the unfused values", "input", 1, ulps=4, atol=1e-7)
def test_layer_norm_rsqrt(compile):
    def run(x):
        y = F.layer_norm(x, (16,))
        return y, (y * y + 1).rsqrt() * x.var(-1, keepdim=True)

    f = compile(run)
    for k in (0.0, 100.0):
        x = (arange(4, 16) * 1.3 + k).sin()
        a = x.numpy().astype(np.float64)
        want = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
        y = f(x)
        yield near(y[0], want, rtol=1e-4, atol=1e-4), y


@scenario("the gradient of amax with ties", "shared evenly, as torch", "input", 1)
def test_amax_ties(compile):
    f = compile(lambda x: x.amax(-1))
    for values in ([[1.0, 2.0, 2.0]], [[3.0, 3.0, 3.0]]):
        x = torch.tensor(values, requires_grad=True)
        y = f(x)
        y.sum().backward()
        tied = np.array(values) == np.max(values)
        yield y, near(x.grad, tied / tied.sum())


@scenario(
    "softmax and logsumexp of large, equal and -inf rows", "stable values", "input", 1, ulps=4
)
def test_softmax_extremes(compile):
    def run(x):
        return F.softmax(x, -1), torch.logsumexp(x, -1), F.log_softmax(x, -1)

    f = compile(run)
    x = torch.tensor([[1e4, 1e4 + 1], [-math.inf, 0.0], [-1e30, 1e30], [0.0, 0.0]])
    for y in (x, x.flip(1)):
        yield f(y)


@scenario("integer division, remainder and shifts of negatives", "torch's rounding", "input", 1)
def test_integer_division(compile):
    def run(x, y):
        return (
            x // y,
            x % y,
            torch.div(x, y, rounding_mode="trunc"),
            x >> 1,
            x << 2,
            x / y,
            x & y,
            ~x,
        )

    f = compile(run)
    for shift in (0, 1):
        x = torch.tensor([7, -7, 8, -8, 0, 5]) + shift
        yield f(x, torch.tensor([2, 2, -3, -3, 5, -5]))


@scenario("integer overflow", "wraps", "input", 1)
def test_integer_overflow(compile):
    f = compile(lambda x, y: (x + x, x * y, -x, x - y, x.abs()))
    for dtype in (torch.int8,):
        for k in (0, 1):
            yield f(torch.tensor([127, -128, 100, 5], dtype=dtype),
                    torch.tensor([1, 2, 3, 4 + k], dtype=dtype))  # fmt: skip


@scenario("uint8 arithmetic", "wraps", "input", 1)
def test_uint8(compile):
    f = compile(lambda x, y: (x - y, x * y, x + y, x // y, x.sum(), x.float() / 255))
    for k in (0, 1):
        yield f(torch.tensor([0, 255, 100, 5], dtype=torch.uint8),
                torch.tensor([1, 2, 3, 4 + k], dtype=torch.uint8))  # fmt: skip


@scenario("float to int casts, rounding modes", "truncation and half-to-even", "input", 1)
def test_casts(compile):
    f = compile(lambda x: (x.to(torch.int32), x.round(), x.floor(), x.ceil(), x.trunc(), x.bool(),
                           x.to(torch.int8)))  # fmt: skip
    for sign in (1.0, -1.0):
        yield f(torch.tensor([0.5, 1.5, 2.5, 2.4999, 100.9, 0.0, -0.0]) * sign)


@scenario("mixed dtypes in one expression", "torch's promotion", "input", 1)
def test_promotion(compile):
    def run(b, i, h, s, d):
        return (
            b + i,
            i * h,
            h + s,
            s * d,
            i / 2,
            b * 2.5,
            h * 3.3,
            i + 1.5,
            s + i,
            (b + b),
            i**2,
            h + d,
        )

    f = compile(run)
    for k in range(2):
        yield f(torch.tensor([True, False, True]), torch.tensor([1, 2, 3 + k]),
                arange(3).half(), arange(3), arange(3).double())  # fmt: skip


@scenario("0-d tensors with n-d ones", "no promotion by 0-d of the same kind", "input", 1)
def test_zero_dim_promotion(compile):
    def run(x, z):
        return x.half() + z, x.int() * z, x + z.double(), z * 2, x.int() + z.int()

    f = compile(run)
    for k in range(2):
        yield f(arange(3), torch.tensor(1.5 + k))


@scenario("pow with integer, negative and fractional exponents", "as eager", "input", 1)
def test_pow(compile):
    f = compile(lambda x: (x**2, x**3, x**-1, x**0.5, x**-0.5, 2**x, x**x, x**2.5))
    for k in (0.1, 1.7):
        x = arange(9, start=k)
        y = f(x)
        yield y, near(y[7], x.numpy().astype(np.float64) ** 2.5, rtol=1e-5)


@scenario("reductions over all axes, none, and empty ones", "NumPy's values", "input", 1, ulps=8)
def test_reductions(compile):
    def run(x):
        return (x.sum(), x.sum(0), x.sum(-1, keepdim=True), x.mean((0, 2)), x.prod(1), x.var(0),
                x.std(), x.argmax(1), x.cumsum(1), x.norm(), x.any(), x.all(2), x.logsumexp(1
            ))  # fmt: skip

    f = compile(run)
    for k in (0.0, 1.0):
        x = (arange(3, 4, 5) + k).sin()
        y = f(x)
        yield near(y[1], x.numpy().astype(np.float64).sum(0)), y


@scenario("sums of 0 and 1 elements", "0 and the element", "guard", 2)
def test_small_reductions(compile):
    f = compile(lambda x: (x.sum(0), x.prod(0), x.sum(), x.mean(1)))
    for n in (3, 0, 1, 2, 0, 1):
        yield f(arange(n, 4))


UNARY = ("exp", "log", "tanh", "erf", "sin", "cos", "sqrt", "rsqrt", "sigmoid", "log1p", "expm1",
         "exp2", "log2", "reciprocal", "atan", "sinh", "asinh", "floor", "round", "square",
         "tan", "acos", "cosh", "lgamma", "erfinv", "digamma", "frac")  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
def test_unary_bits(dtype):
    """Each unary op gives the same bits alone, fused with others, and on any length."""
    names = [n for n in UNARY if hasattr(torch.Tensor, n)]
    x = torch.cat([special(dtype), (arange(75) - 9).to(getattr(torch, dtype))])

    def run(x):
        return [getattr(x, name)() for name in names]

    f = torch.compile(run)
    plain = run(x)
    f(x)
    for name, wanted, got in zip(names, plain, f(x), strict=True):
        a, b = wanted.numpy(), got.numpy()
        assert a.dtype == b.dtype
        same = (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)
        assert same.all(), (name, x.numpy()[~same], a[~same], b[~same])


@pytest.mark.parametrize("dtype", FLOATS[1:])
def test_unary_against_float64(dtype):
    """Compiled values are near NumPy's in float64."""
    x = (arange(64) * 0.11 + 0.05).to(getattr(torch, dtype))
    near_enough = 1e-6 if dtype == "float32" else 1e-13
    for name in ("exp", "log", "tanh", "sin", "cos", "sqrt", "log1p", "expm1", "exp2", "log2"):
        f = torch.compile(lambda x, name=name: getattr(x, name)())
        f(x)
        wanted = getattr(np, name)(x.numpy().astype(np.float64))
        np.testing.assert_allclose(f(x).numpy(), wanted, rtol=near_enough, err_msg=name)


def test_sums_do_not_depend_on_threads():
    """A sum of 2**20 floats has the same bits on 1 and 2 threads."""
    x = (arange(1 << 10, 1 << 10) * 0.7).sin()
    f = torch.compile(lambda x: ((x * x).sum(), x.exp().sum(0), (x + 1).sum(1), F.softmax(x, 1)))
    f(x)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append([y.numpy().tobytes() for y in f(x)])
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]
