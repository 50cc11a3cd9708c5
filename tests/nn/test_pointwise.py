"""Activations: values from their formulas, gradients numeric, and finite at extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nn_reference import check_gradients, sigmoid, tensor

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F

_erf = np.vectorize(math.erf)
_X = np.array([-7.3, -3.1, -1.4, -0.6, -0.2, 0.3, 0.7, 1.6, 2.9, 6.4])
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805
TABLE = {
    "relu": (F.relu, lambda x: np.maximum(x, 0)),
    "relu6": (F.relu6, lambda x: np.clip(x, 0, 6)),
    "hardtanh": (lambda x: F.hardtanh(x, -2, 0.5), lambda x: np.clip(x, -2, 0.5)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "elu": (lambda x: F.elu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "celu": (lambda x: F.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    "selu": (F.selu, lambda x: _SCALE * np.where(x > 0, x, _ALPHA * np.expm1(x))),
    "gelu": (F.gelu, lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2)))),
    "gelu_tanh": (
        lambda x: F.gelu(x, "tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (F.silu, lambda x: x * sigmoid(x)),
    "mish": (F.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "softplus": (lambda x: F.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "softsign": (F.softsign, lambda x: x / (1 + np.abs(x))),
    "logsigmoid": (F.logsigmoid, lambda x: np.log(sigmoid(x))),
    "tanhshrink": (F.tanhshrink, lambda x: x - np.tanh(x)),
    "softshrink": (F.softshrink, lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    "hardshrink": (F.hardshrink, lambda x: np.where(np.abs(x) > 0.5, x, 0)),
    "hardsigmoid": (F.hardsigmoid, lambda x: np.clip(x + 3, 0, 6) / 6),
    "hardswish": (F.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "threshold": (lambda x: F.threshold(x, 1.0, -4.0), lambda x: np.where(x > 1, x, -4)),
    "glu": (F.glu, lambda x: x[:5] * sigmoid(x[5:])),
    "softmin": (lambda x: F.softmin(x, 0), lambda x: np.exp(-x) / np.exp(-x).sum()),
    "sigmoid": (F.sigmoid, sigmoid),
    "tanh": (F.tanh, np.tanh),
}


@pytest.mark.parametrize("name", TABLE)
def test_value_and_gradient(name):
    function, formula = TABLE[name]
    np.testing.assert_allclose(function(tensor(_X)).numpy(), formula(_X), rtol=1e-7, atol=1e-9)
    check_gradients(function, _X)


@pytest.mark.parametrize("name", [n for n in TABLE if n not in ("glu", "softmin")])
def test_gradients_are_finite_far_out(name):
    x = torch.tensor([-1e4, -89.0, 89.0, 1e4], requires_grad=True)
    y = TABLE[name][0](x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "silu", "hardtanh", "softplus"])
def test_nan_goes_through(name):
    assert TABLE[name][0](torch.tensor([float("nan")])).isnan().item()


def test_one_sided_slopes_at_zero_are_torchs():
    def slope(function, at):
        x = tensor([at], grad=True)
        function(x).sum().backward()
        return x.grad.item()

    assert slope(F.relu, 0.0) == 0 and slope(F.relu6, 6.0) == 0 and slope(F.hardtanh, 1.0) == 0
    assert slope(F.logsigmoid, 0.0) == 0.5
    assert slope(F.elu, 0.0) == 1.0
    assert slope(F.leaky_relu, 0.0) == 0.01


def test_gradients_at_nan_and_at_the_kinks_are_torchs():
    nan = math.nan
    for name, expected in (("relu", 1.0), ("elu", 1.0), ("celu", 1.0), ("softplus", nan)):
        for call in (getattr(F, name), torch.compile(getattr(F, name))):
            x = torch.tensor([nan, 1e30], requires_grad=True)
            call(x).sum().backward()
            np.testing.assert_array_equal(x.grad.numpy(), [expected, 1.0])
    half = torch.tensor([11.0, 12.0, 19.0, 21.0], dtype=torch.float16)
    assert F.softplus(half).tolist() == half.tolist()
    x = torch.tensor([-3.0, 3.0, 0.0], requires_grad=True)
    F.hardswish(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.5]
    pair = torch.tensor([nan, 1.0, 2.0], requires_grad=True), torch.tensor([0.0, 1.0, 1.0])
    torch.maximum(*pair).sum().backward()
    assert pair[0].grad.tolist() == [1.0, 0.5, 1.0]
    count = torch.linalg.vector_norm(torch.tensor([nan, 0.0], requires_grad=True), 0)
    assert count.item() == 1 and count.requires_grad


def test_prelu_has_a_slope_for_each_channel():
    x = np.array([[-1.0, -2.0, 3.0], [4.0, -5.0, -6.0]])
    w = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(F.prelu(tensor(x), tensor(w)).numpy(), np.where(x > 0, x, w * x))
    check_gradients(F.prelu, x, w)
    with pytest.raises(RuntimeError, match="2 slopes for 3 channels"):
        F.prelu(tensor(x), tensor(w[:2]))


def test_inplace_activation_overwrites_its_input():
    x = torch.tensor([-1.0, 2.0])
    y = nn.ReLU(inplace=True)(x)
    assert y is x and x.tolist() == [0.0, 2.0]


def test_dropout_scales_what_it_keeps():
    x = torch.ones(10_000)
    y = F.dropout(x, 0.25)
    kept = y[y != 0]
    assert abs(kept.numel() / 10_000 - 0.75) < 0.02
    assert torch.allclose(kept, torch.tensor(1 / 0.75))
    assert nn.Dropout(0.5).eval()(x) is x
    assert F.dropout(x, 1.0).sum() == 0
    channels = F.dropout2d(torch.ones(20, 30, 2, 2), 0.5)
    assert ((channels == 0).all((2, 3)) | (channels == 2).all((2, 3))).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.dropout(x, 1.5)


def test_alpha_dropout_keeps_mean_and_variance():
    y = F.alpha_dropout(torch.randn(200_000), 0.3, training=True)
    assert abs(y.mean().item()) < 0.02 and abs(y.var().item() - 1) < 0.02


def test_gumbel_softmax_hard_is_one_hot_with_a_soft_gradient():
    logits = torch.randn(6, 5, requires_grad=True)
    y = F.gumbel_softmax(logits, tau=0.5, hard=True)
    assert torch.allclose(y.sum(1), torch.ones(6))
    assert torch.allclose(y.max(1).values, torch.ones(6))
    (y * torch.arange(5)).sum().backward()
    assert (logits.grad != 0).any()


def test_softmax_without_dim_warns():
    with pytest.warns(UserWarning, match="implicit"):
        F.softmax(torch.ones(2, 3))
