"""The short way of pointwise ops (`eager/fast.py`) records what the long way records."""

from __future__ import annotations

import pytest

import tracejit as torch
from tracejit.eager import fast

FUNCTIONS = {
    "two tensors": lambda x, y: (x + y) * y - x / y,
    "numbers": lambda x, y: 2 - x * 3 + (y - 0.5) / 4,
    "a column and a row": lambda x, y: x[:, :1] * y + y[0],
    "a 0-d tensor": lambda x, y: x[0, 0] + y,
    "of two sizes that happen to be equal": lambda x, y: x + y.T,
    "compared": lambda x, y: (x > y) & (x != 1.0),
    "integers": lambda x, y: (x > 0).int() + 3 - (y > 1).int(),
    "one operand": lambda x, y: torch.relu(x) + torch.sqrt(torch.abs(y)) - torch.neg(x),
    "without gradient": lambda x, y: x * _constant(y) + x.detach(),
    "in place": lambda x, y: (x * 2).add_(y).mul_(3.0),
}


def _constant(y):
    with torch.no_grad():
        return y * 2 + 1


def trace(function, grad: bool) -> str:
    x, y = torch.rand(4, 4) + 1, torch.rand(4, 4) + 1
    if grad:
        x.requires_grad_()

    def whole(x, y):
        result = function(x, y)
        if grad and result.requires_grad:
            return torch.autograd.grad(result.sum(), x, create_graph=True)[0]
        return result

    compiled = torch.compile(whole)
    compiled(x, y)
    return compiled.ir("captured")


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_capture_records_the_same_either_way(name, grad, monkeypatch):
    short = trace(FUNCTIONS[name], grad)
    monkeypatch.setattr(fast, "_capture", fast._record_slowly)
    assert short and short == trace(FUNCTIONS[name], grad)
