"""Odd inputs through compiled functions: NaN, infinities, no elements, 0-d, views of every layout.

Invariant: each function is called three times on each input (capture, replay, replay with other
numbers), forward and backward; eager's answer, bit for bit, or eager's error.
"""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn.functional as F

WEIGHT = torch.linspace(-1, 1, 20).reshape(4, 5)
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "chain": lambda x: torch.tanh(x * 0.5) * x + x.exp().log1p(),
    "choices": lambda x: torch.where(x.isnan(), -1.0, x.clamp(-2, 2).maximum(x * 0.1)),
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "sums": lambda x: (x.sum(), x.mean(0), x.std(-1)),
    "product": lambda x: torch.relu(x @ WEIGHT),
    "views": lambda x: x.t().reshape(-1)[1:].flip(0) * 2,
    "cumsum": lambda x: x.cumsum(0) * x[..., :1],
}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def with_special() -> np.ndarray:
    x = numbers(3, 4)
    x[0, 1], x[1, 2], x[2, 0], x[2, 3] = np.nan, np.inf, -np.inf, -0.0
    return x


INPUTS: dict[str, Callable[[], np.ndarray]] = {
    "nan and infinities": with_special,
    "all nan": lambda: np.full((3, 4), np.nan, np.float32),
    "empty batch": lambda: numbers(0, 4),
    "one row": lambda: numbers(1, 4),
    "transposed": lambda: numbers(4, 3).T,
    "strided": lambda: numbers(6, 8)[::2, 1::2],
    "reversed": lambda: numbers(3, 4)[::-1, ::-1],
    "broadcast": lambda: np.broadcast_to(numbers(4), (3, 4)),
    "column of a matrix": lambda: numbers(4, 3, 2)[..., 1].T,
}


def outcome(function: Callable[..., Any], array: np.ndarray) -> Any:
    """Results and gradient as bytes and types, or the error."""
    x = torch.as_tensor(array).detach().requires_grad_()
    try:
        results = function(x)
        results = results if isinstance(results, tuple) else (results,)
        total = sum((r * r.detach().cos()).sum() for r in results)
        total.backward()
    except (RuntimeError, IndexError) as error:
        return type(error), str(error).split("\n")[0]
    found = [r.detach().numpy() for r in (*results, x.grad)]
    return [(a.dtype.str, a.shape, np.ascontiguousarray(a)) for a in found]


def same(got: Any, want: Any) -> None:
    if isinstance(want, tuple):
        assert got == want
        return
    assert isinstance(got, list), f"raises {got}"
    for (dtype, shape, a), (wanted, size, b) in zip(got, want, strict=True):
        assert (dtype, shape) == (wanted, size)
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6, equal_nan=True)
    # the values themselves, gradients apart, have eager's bits
    for (_, _, a), (_, _, b) in zip(got[:-1], want[:-1], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_inputs_give_eagers_answer(name: str) -> None:
    function = FUNCTIONS[name]
    f = torch.compile(function)
    for make in INPUTS.values():
        array = make()
        want = outcome(function, array)
        same(outcome(f, array), want)
        same(outcome(f, array), want)
        other = array * np.float32(0.5)
        same(outcome(f, other), outcome(function, other))
    assert f.eager_reason is None


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.tanh(x) * 2 + x.exp(),
        lambda x: x.sum() + x.max() + x.mean(),
        lambda x: torch.softmax(x, 0) + x.reshape(1)[0],
        lambda x: (x > 0, x.argmax(), x.isnan(), x.int()),
    ],
)
@pytest.mark.parametrize("value", [1.5, -0.0, float("nan"), float("inf")])
def test_a_0d_tensor_gives_eagers_answer(function: Callable[..., Any], value: float) -> None:
    f = torch.compile(function)
    for _ in range(3):
        x = torch.tensor(value)
        got, want = f(x), function(x)
        for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True):
            assert a.dtype is b.dtype
            assert a.shape == b.shape == ()
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert f.eager_reason is None


def test_an_out_of_range_index_raises_the_same_error_every_time() -> None:
    f = torch.compile(lambda x, i: x[i] * 2)
    x = torch.arange(4.0)
    assert f(x, torch.tensor([1, 3])).tolist() == [2.0, 6.0]
    for _ in range(2):
        with pytest.raises(IndexError, match="4"):
            f(x, torch.tensor([1, 4]))
    assert f(x, torch.tensor([-1, 0])).tolist() == [6.0, 0.0]


def test_under_cprofile_the_capture_pauses_the_profiler() -> None:
    profiler = cProfile.Profile()
    f = torch.compile(lambda x: x * 2 + 1)

    def after() -> int:
        return sum(range(10))

    profiler.enable()
    try:
        results = [f(torch.ones(3)).tolist() for _ in range(3)]
        after()
    finally:
        profiler.disable()
    assert results == [[3.0, 3.0, 3.0]] * 3
    assert f.eager_reason is None
    names = {entry.code.co_name for entry in profiler.getstats() if hasattr(entry.code, "co_name")}
    assert "after" in names  # it counts again once the trace is made


def test_positions_of_elements_are_shown_as_such() -> None:
    compiled = torch.compile(lambda m: m.nonzero())
    masks = torch.eye(3) > 0, torch.ones(2, 1) > 0, torch.zeros(2, 2) > 0
    for mask in masks:
        for _ in range(2):
            assert torch.equal(compiled(mask), mask.nonzero())
    text = str(compiled.explain())
    assert "3 at (0, 0), (1, 1), (2, 2):" in text and "2 at (0, 0), (1, 0):" in text
    assert "0 at :" in text


def test_nonzero_of_a_number_is_one_trace_for_each_outcome() -> None:
    found = torch.compile(torch.nonzero)
    for value in (3.0, 0.0, 2.0, 0.0):
        assert found(torch.tensor(value)).shape == (int(bool(value)), 0)
    assert found.cache_info().hits == 2
