"""What torch refuses in nn.functional, and corners of values that its own samples show.

Expected values are torch 2.13's. Invariant: a refusal has torch's class of error.
"""

from __future__ import annotations

import pytest

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F

X = torch.ones(1, 2, 4)
W = torch.ones(2, 2, 2)

REFUSED = {
    "conv: bias of another dtype": lambda: F.conv1d(X, W, torch.ones(2, dtype=torch.float64)),
    "conv: stride": lambda: F.conv1d(X, W, stride=0),
    "conv: dilation": lambda: F.conv1d(X, W, dilation=-1),
    "conv: padding": lambda: F.conv1d(X, W, padding=-1),
    "conv: groups": lambda: F.conv1d(X, W, groups=0),
    "pool: padding": lambda: F.avg_pool1d(X, 2, padding=-1),
    "pool: dilation": lambda: F.max_pool1d(X, 2, dilation=0),
    "pool: kernel": lambda: F.max_pool1d(X, 0),
    "pool: empty": lambda: F.max_pool1d(torch.ones(1, 2, 0), 1),
    "adaptive: size": lambda: F.adaptive_max_pool1d(X, -1),
    "prelu: weight": lambda: F.prelu(X, torch.ones(2, 1)),
    "rrelu: bounds": lambda: F.rrelu(X, 0.5, 0.1),
    "batch_norm: vector": lambda: F.batch_norm(torch.ones(3), None, None, training=True),
    "multi_margin: target": lambda: F.multi_margin_loss(torch.ones(5, 4), torch.ones(5)),
    "multi_margin: class": lambda: F.multi_margin_loss(torch.ones(1, 4), torch.tensor([4])),
    "multi_margin: empty": lambda: F.multi_margin_loss(torch.ones(5, 0), torch.tensor([0] * 5)),
    "nll_loss: weight of another dtype": lambda: F.cross_entropy(
        torch.ones(2, 3), torch.tensor([0, 1]), torch.ones(3, dtype=torch.float64)
    ),
    "multilabel: target": lambda: F.multilabel_margin_loss(
        torch.ones(5, 4), torch.zeros(4, dtype=torch.int64)
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    with pytest.raises(RuntimeError):
        REFUSED[case]()


@pytest.mark.parametrize("made", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_check_their_arguments(made: type) -> None:
    for wrong in ({"bias": 1}, {"batch_first": "False"}, {"input_size": 3.0}, {"hidden_size": "5"}):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))} should be of type"):
            made(**{"input_size": 3, "hidden_size": 5, **wrong})
    for wrong in ({"input_size": 0}, {"hidden_size": 0}, {"num_layers": 0}, {"dropout": True}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            made(**{"input_size": 3, "hidden_size": 5, **wrong})


def test_cosine_similarity_of_the_common_shape() -> None:
    a = torch.tensor([[[3.0, 4.0]]])  # [1, 1, 2] against [1, 2, 2]: dim -2 has size 2 in both
    b = torch.tensor([[[3.0, 0.0], [4.0, 1.0]]])
    got = F.cosine_similarity(a, b, dim=-2)
    assert got.tolist() == [pytest.approx([0.98994949, 0.70710678])]


def test_averages_of_integers() -> None:
    x = torch.tensor([[[1, 2, 4, 9]]])
    got = F.avg_pool1d(x, 2)
    assert got.dtype is torch.int64 and got.tolist() == [[[1, 6]]]


def test_bytes_are_resized_and_rounded() -> None:
    x = torch.tensor([[[[0, 255], [100, 50]]]], dtype=torch.uint8)
    got = F.interpolate(x, size=(2, 3), mode="bilinear", align_corners=True)
    assert got.dtype is torch.uint8 and got.tolist() == [[[[0, 128, 255], [100, 75, 50]]]]


def test_empty_batch_norm_and_sums_to_a_scalar() -> None:
    empty = torch.ones(0)
    assert F.batch_norm(empty, None, None, training=True).shape == (0,)
    assert torch.tensor(3, dtype=torch.int32).sum_to_size(()).dtype is torch.int64


def test_arange_counts_in_floats_and_adds_in_integers() -> None:
    assert torch.arange(0.1, -7.9, -4.0, dtype=torch.int32).tolist() == [0, -4]


def test_out_of_activations_and_pools() -> None:
    x = torch.linspace(-3, 3, 8)
    for function in (F.gelu, F.softplus, F.logsigmoid, F.softshrink, F.hardshrink):
        out = torch.empty(8)
        assert function(x, out=out) is out
        assert torch.equal(out, function(x))
    out = torch.empty(1, 1, 1)
    assert F.avg_pool2d(torch.ones(1, 2, 2), 2, out=out) is out and out.item() == 1.0


def test_linear_cross_entropy() -> None:
    x, w, b = torch.randn(5, 3), torch.randn(4, 3), torch.randn(4)
    target = torch.tensor([0, 3, 1, 2, 1])
    got = F.linear_cross_entropy(x, w, target, linear_bias=b, label_smoothing=0.1)
    assert torch.equal(got, F.cross_entropy(F.linear(x, w, b), target, label_smoothing=0.1))


def test_matrix_exp_of_halves() -> None:
    got = torch.matrix_exp(torch.zeros(2, 2, dtype=torch.float16))
    assert got.dtype is torch.float16 and torch.equal(got, torch.eye(2, dtype=torch.float16))
