"""`library.custom_op`: a Python function as an operator, with its own gradient or without.

Invariant: a gradient that was registered is the one that runs, by whatever name it was registered.
"""

from __future__ import annotations

import pytest

import tracejit as torch
from tracejit.library import custom_op, register_autograd


def make(name):
    @custom_op(name, mutates_args=())
    def scaled(x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        return x.sin() * factor

    return scaled


def save(ctx, inputs, output):
    x, ctx.factor = inputs
    ctx.save_for_backward(x)


def backward(ctx, grad):
    (x,) = ctx.saved_tensors
    return grad * x * ctx.factor * 100, None


def gradient(op, *args, **kwargs):
    x = torch.ones(3, requires_grad=True)
    op(x, *args, **kwargs).sum().backward()
    return x.grad.tolist()


def test_without_a_gradient_of_its_own_its_operations_have_theirs():
    assert gradient(make("mine::plain")) == pytest.approx([2 * torch.ones(()).cos().item()] * 3)


@pytest.mark.parametrize("how", ["method", "object", "name"])
def test_the_registered_gradient_runs(how):
    op = make(f"mine::{how}")
    if how == "method":
        op.register_autograd(backward, setup_context=save)
    else:
        what = op if how == "object" else "mine::name"
        register_autograd(what, backward, setup_context=save)
    assert gradient(op) == [200.0] * 3
    assert gradient(op, 3.0) == [300.0] * 3
    assert gradient(op, factor=0.5) == [50.0] * 3

    def step(x):
        x = x.detach().requires_grad_()
        op(x).sum().backward()
        return x.grad

    compiled = torch.compile(step)
    for _ in range(3):
        assert compiled(torch.ones(2)).tolist() == [200.0] * 2


def test_an_operator_that_does_not_exist_is_passed_over():
    register_autograd("theirs::compiled", backward)
