"""What keeps a history and what does not: overwritten values, gradients of gradients, refusals.

Each fact is torch 2.13's. Invariant: eager code shows it; compiled code is compared with that
elsewhere.
"""

from __future__ import annotations

import pytest

import tracejit as torch


def test_an_overwritten_value_is_no_leaf_and_has_a_zero_gradient() -> None:
    ones = torch.ones(3)
    tracked = torch.ones(3, requires_grad=True)
    for overwrite in (
        lambda y: y.fill_(3.0), lambda y: y.copy_(ones), lambda y: y.zero_(),
        lambda y: y.copy_(tracked), lambda y: y.view(3, 1).zero_(), lambda y: y[:].copy_(tracked),
    ):  # fmt: skip
        x = torch.ones(3, requires_grad=True)
        y = x * 2
        overwrite(y)
        assert y.requires_grad and not y.is_leaf
        (y * y).sum().backward()
        assert x.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * 2, False),
        (lambda x: x.floor(), False),
        (lambda x: x.relu(), True),
        (lambda x: x.abs(), True),
        (lambda x: x * x, True),
    ],
)
def test_a_gradient_requires_grad_if_it_depends_on_a_leaf(function, expected) -> None:
    x = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad(function(x).sum(), [x], create_graph=True)
    assert g.requires_grad is expected


def test_integer_ops_refuse_floats() -> None:
    with pytest.raises(RuntimeError, match="bitwise_not"):
        ~torch.ones(2)
    with pytest.raises(RuntimeError):
        torch.nn.functional.dropout(torch.ones(0, 3).int(), 0.5)


def test_a_mask_may_not_have_more_dimensions_than_what_it_fills() -> None:
    with pytest.raises(RuntimeError):
        torch.zeros(4).masked_fill_(torch.ones(1, 4).bool(), 1.0)


def test_std_of_nothing_is_nan() -> None:
    assert torch.zeros(0, 2).std().isnan()
