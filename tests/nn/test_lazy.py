"""Lazy modules: shapes from the first input or from a checkpoint, then plain modules.

Invariant: the parameters an optimizer was given before the first call are those that train.
"""

from __future__ import annotations

import copy

import pytest

import tracejit as torch
from tracejit import nn

INPUTS = [
    (nn.LazyLinear(3), (2, 5), nn.Linear, (3, 5)),
    (nn.LazyConv1d(4, 3), (2, 6, 8), nn.Conv1d, (4, 6, 3)),
    (nn.LazyConv2d(4, 3, groups=2, padding=1), (6, 8, 8), nn.Conv2d, (4, 3, 3, 3)),
    (nn.LazyConvTranspose2d(4, (2, 3)), (1, 6, 4, 4), nn.ConvTranspose2d, (6, 4, 2, 3)),
    (nn.LazyBatchNorm1d(), (4, 7), nn.BatchNorm1d, (7,)),
    (nn.LazyBatchNorm2d(), (2, 7, 3, 3), nn.BatchNorm2d, (7,)),
    (nn.LazyInstanceNorm2d(affine=True), (7, 3, 3), nn.InstanceNorm2d, (7,)),
]


@pytest.mark.parametrize("lazy, shape, plain, weight", INPUTS)
def test_first_input_gives_the_shapes(lazy, shape, plain, weight) -> None:
    module = copy.deepcopy(lazy)
    before = list(module.parameters())
    assert nn.parameter.is_lazy(module.weight)
    with pytest.raises(RuntimeError, match="not known"):
        module.weight.shape  # noqa: B018
    result = module(torch.randn(*shape))
    assert type(module) is plain and tuple(module.weight.shape) == weight
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    result.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert nn.parameter.is_lazy(lazy.weight)  # the copy was of its own


def test_checkpoint_gives_the_shapes() -> None:
    saved = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    module = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    module.load_state_dict(saved.state_dict())
    x = torch.randn(4, 5)
    assert torch.equal(module.eval()(x), saved.eval()(x))
    assert type(module[0]) is nn.Linear and type(module[1]) is nn.BatchNorm1d


def test_training_and_compiled() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    call = torch.compile(model)
    x = torch.randn(8, 3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (call(x) - 1.0).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
