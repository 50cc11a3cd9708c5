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
    assert compiled.signatures[(2,)].ready, "no call was generated"
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


def test_calls_with_other_numbers_of_arguments_keep_apart():
    def total(*tensors):
        return sum(t * 2.0 for t in tensors)

    compiled = torch.compile(total)
    tensors = [torch.randn(3) for _ in range(3)]
    for _ in range(4):
        for count in (2, 1, 3, 0):
            found, wanted = compiled(*tensors[:count]), total(*tensors[:count])
            assert type(found) is type(wanted) and (count == 0 or torch.equal(found, wanted))
    with pytest.raises(TypeError):
        made_ready()(tensors[0])
    with pytest.raises(TypeError):
        made_ready()(*tensors)


def test_an_argument_that_nobody_reads_must_be_given_all_the_same():
    compiled = torch.compile(lambda x, unused: x * 2.0)
    x = torch.randn(3)
    for _ in range(4):
        compiled(x, None)
    with pytest.raises(TypeError):
        compiled(x)
    assert torch.equal(compiled(x, 7), x * 2.0)


def test_reset_forgets_the_generated_calls():
    compiled = made_ready()
    compiled.reset()
    assert not compiled.signatures
    x, w = torch.randn(4, 6), torch.randn(4, 6)
    assert torch.equal(compiled(x, w), chain(x, w))
