"""The generated call of a trace takes only the layouts it was made for; all others go on."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as torch


def chain(x, w):
    return torch.tanh(x * w + 1.0) * x


def made_ready():
    compiled = torch.compile(chain)
    x, w = torch.randn(4, 6), torch.randn(4, 6)
    for _ in range(4):
        compiled(x, w)
    assert compiled.ready[2], "no call was generated"
    return compiled


VARIANTS = [
    lambda: torch.randn(4, 6),
    lambda: torch.randn(6, 4).t(),
    lambda: torch.randn(4, 12)[:, ::2],
    lambda: torch.randn(5, 6),
    lambda: torch.randn(1, 4, 6),
    lambda: torch.randn(6),
    lambda: torch.randn(4, 6).double(),
    lambda: torch.randn(4, 6).requires_grad_(),
    lambda: torch.nn.Parameter(torch.randn(4, 6)),
]


@pytest.mark.parametrize("make", VARIANTS)
def test_another_layout_dtype_or_class_is_not_taken_for_the_known_one(make):
    compiled = made_ready()
    x = make()
    w = torch.randn(*x.shape).to(x.dtype)
    for _ in range(3):
        found, wanted = compiled(x, w), chain(x, w)
        assert found.dtype == wanted.dtype and found.requires_grad == wanted.requires_grad
        assert np.array_equal(found.detach().numpy(), wanted.detach().numpy())


def test_calls_by_keyword_and_by_position_keep_apart():
    compiled = made_ready()
    x, w = torch.randn(4, 6), torch.randn(4, 6)
    for _ in range(3):
        assert torch.equal(compiled(w=w, x=x), chain(x, w))
        assert torch.equal(compiled(x, w=w), chain(x, w))
        assert torch.equal(compiled(x, w), chain(x, w))


def test_reset_forgets_the_generated_calls():
    compiled = made_ready()
    compiled.reset()
    assert not compiled.ready
    x, w = torch.randn(4, 6), torch.randn(4, 6)
    assert torch.equal(compiled(x, w), chain(x, w))
