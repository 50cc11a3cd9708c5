"""How many kernels compiled functions take, forward, backward and over batch sizes.

Invariant: kernels are counted where they are made (`kernel_history`), with nothing in memory or on
disk before; the plain function runs first, so that eager's own kernels are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F
from tracejit import config
from tracejit.codegen.compiler import clear_kernels, kernel_history
from tracejit.jit.report import parts


@pytest.fixture(autouse=True)
def cold() -> Iterator[None]:
    """No kernel at hand, neither in memory nor on disk."""
    clear_kernels()
    with config.override(cache=False):
        yield
    clear_kernels()


def compiled_kernels(call: Callable[[], Any]) -> list[str]:
    """The names of the kernels that are compiled while `call` runs."""
    before = len(kernel_history())
    call()
    return [e.name for e in kernel_history()[before:] if e.kind == "compile"]


def rows(n: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32))


def gradients(function: Callable[..., Any], *tensors: torch.Tensor) -> list[Any]:
    """The value and the gradients of a weighted sum of a function's result."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    y = function(*leaves)
    y.backward(torch.linspace(-1, 1, y.numel()).reshape(y.shape))
    return [y.detach().numpy(), *(t.grad.numpy() for t in leaves)]


ROW_FUNCTIONS = {
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, (8,)),
}


@pytest.mark.parametrize("name", ROW_FUNCTIONS)
def test_row_functions_are_one_kernel_forward_and_one_backward(name: str) -> None:
    function, x = ROW_FUNCTIONS[name], rows(80)  # eager code compiles lightly for less data
    f = torch.compile(function)

    def twice() -> None:
        gradients(f, x)
        gradients(f, x)

    made = compiled_kernels(twice)
    assert [k.shape for k in f.kernels] == ["row", "row"], made
    used = [k.name for k in f.kernels]
    assert sorted(n for n in made if n in used) == sorted(used), "each is compiled once"
    want = gradients(function, x)
    for a, b in zip(gradients(f, x), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


def test_layer_norm_with_weights_is_one_row_kernel_and_its_gradient_over_rows_one() -> None:
    """Backward: one kernel over rows for the input, one over columns for weight and bias."""

    def function(x: Any, w: Any, b: Any) -> Any:
        return F.layer_norm(x, (8,), w, b)

    given = (rows(6), rows(1, seed=1)[0], rows(1, seed=2)[0])
    want = gradients(function, *given)
    f = torch.compile(function)
    gradients(f, *given)
    got = gradients(f, *given)
    assert [k.shape for k in f.kernels] == ["row", "row", "column"]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=3e-6)


def test_a_pointwise_function_is_one_kernel_each_way() -> None:
    def gelu(x: Any, w: Any) -> Any:
        return F.gelu(x, approximate="tanh") * w

    given = (rows(6), rows(6, seed=1))
    want = gradients(gelu, *given)
    f = torch.compile(gelu)
    gradients(f, *given)
    got = gradients(f, *given)
    assert [k.shape for k in f.kernels] == ["map", "map"]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


SIZES = (7, 2, 64, 3, 33, 5, 100, 12, 31, 4, 250, 8, 17, 6, 129, 9, 40, 11, 1000, 10)


def test_twenty_batch_sizes_compile_each_fusion_group_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.LayerNorm(8))

    def function(x: Any) -> Any:
        return F.log_softmax(model(x), -1)

    for n in (2, 7):
        function(rows(n))  # eager's own kernels
    f = torch.compile(function)
    made = []
    for n in SIZES:
        made += compiled_kernels(lambda n=n: f(rows(n)))
        assert torch.equal(f(rows(n)), function(rows(n)))
    assert len(set(SIZES)) == 20
    groups = {step.name for part in parts(f) for step in part.program.plan.kernels}
    assert sorted(made) == sorted(groups), "one compilation for each fusion group"
    assert f.eager_reason is None


def test_batch_sizes_zero_and_one_take_no_more_than_a_variant_each() -> None:
    def function(x: Any) -> Any:
        return torch.softmax(x * 2, -1) + x.tanh()

    function(rows(2))
    f = torch.compile(function)
    made = []
    for n in (5, 0, 1, 7, 0, 64, 1):
        made += compiled_kernels(lambda n=n: f(rows(n)))
        assert torch.equal(f(rows(n)), function(rows(n)))
    assert len(made) <= 2, made
