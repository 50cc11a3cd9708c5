"""Batch norms folded into layers, modules without drawn values, forked generators, older names.

Invariant: a fused layer computes what the two layers compute, and leaves them as they were.
"""

from __future__ import annotations

import pytest

import tracejit as torch
from tracejit import nn
from tracejit.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval, skip_init
from tracejit.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn


def _used(norm: nn.Module) -> nn.Module:
    for buffer in (norm.running_mean, norm.running_var):
        buffer.uniform_(0.5, 1.5)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    return norm.eval()


@pytest.mark.parametrize("layer, norm, shape, transpose", [
    (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), (2, 3, 6, 6), False),
    (nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4), (2, 3, 6), False),
    (nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), (2, 3, 5, 5), True),
])  # fmt: skip
def test_fused_convolutions(layer, norm, shape, transpose) -> None:
    layer.eval()
    _used(norm)
    fused = fuse_conv_bn_eval(layer, norm, transpose)
    x = torch.randn(*shape)
    assert torch.allclose(fused(x), norm(layer(x)), atol=1e-5)
    with pytest.raises(AssertionError):
        fuse_conv_bn_eval(layer.train(), norm)


def test_fused_linear() -> None:
    layer, norm = nn.Linear(3, 4).eval(), _used(nn.BatchNorm1d(4))
    x = torch.randn(5, 3)
    assert torch.allclose(fuse_linear_bn_eval(layer, norm)(x), norm(layer(x)), atol=1e-5)


def test_skip_init_and_fork_rng() -> None:
    torch.manual_seed(0)
    want = torch.randn(3)
    torch.manual_seed(0)
    assert skip_init(nn.Linear, 3, 4).weight.shape == (4, 3)
    with torch.random.fork_rng():
        torch.randn(5)
    assert torch.equal(torch.randn(3), want)


def test_averages_of_lists() -> None:
    model = nn.Linear(2, 2)
    one = AveragedModel(model, avg_fn=get_ema_avg_fn(0.5))
    many = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in range(3):
        with torch.no_grad():
            model.weight.add_(1.0)
        one.update_parameters(model)
        many.update_parameters(model)
    assert torch.equal(one.module.weight, many.module.weight)


def test_older_initialisers_warn() -> None:
    with pytest.warns(FutureWarning):
        assert nn.init.constant(torch.empty(2), 3.0).tolist() == [3.0, 3.0]


def test_batch_norm_refuses_eps() -> None:
    with pytest.raises(ValueError, match="eps must be positive"):
        nn.BatchNorm1d(3, eps=0.0)(torch.ones(2, 3))


def test_sync_batch_norms_take_the_place_of_batch_norms() -> None:
    model = nn.Sequential(
        nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm2d(4))
    ).eval()
    made = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(made[1]) is type(made[2][0]) is nn.SyncBatchNorm and not made[1].training
    assert list(made.state_dict()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
        "1.num_batches_tracked", "2.0.weight", "2.0.bias", "2.0.running_mean", "2.0.running_var",
        "2.0.num_batches_tracked",
    ]  # fmt: skip
