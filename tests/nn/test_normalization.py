"""Normalisations against NumPy: values, gradients, running statistics, hard numbers.

Invariant: statistics are those of float64 NumPy, biased where torch's are.
"""

from __future__ import annotations

import numpy as np
import pytest
from nn_reference import check_gradients, tensor

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F

_rng = np.random.default_rng(2)
_X = _rng.normal(size=(4, 6, 3))


def _normal(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def test_layer_norm_over_the_last_dimensions():
    w, b = _rng.normal(size=(6, 3)), _rng.normal(size=(6, 3))
    got = F.layer_norm(tensor(_X), (6, 3), tensor(w), tensor(b))
    np.testing.assert_allclose(got.numpy(), _normal(_X, (1, 2)) * w + b, rtol=1e-9)
    check_gradients(lambda x, w, b: F.layer_norm(x, (6, 3), w, b), _X[:2], w, b)
    with pytest.raises(RuntimeError, match="does not end the shape"):
        F.layer_norm(tensor(_X), (5,))


def test_layer_norm_of_numbers_with_a_large_offset():
    x = torch.tensor([[1e4 + 1, 1e4 + 2, 1e4 + 3]])
    y = F.layer_norm(x, (3,), eps=0.0)
    assert y.tolist()[0] == pytest.approx([-1.2247, 0, 1.2247], abs=1e-4)


def test_rms_norm():
    w = _rng.normal(size=3)
    expected = _X / np.sqrt((_X**2).mean(-1, keepdims=True) + 1e-6) * w
    got = F.rms_norm(tensor(_X), (3,), tensor(w), 1e-6)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)
    check_gradients(lambda x, w: F.rms_norm(x, (3,), w, 1e-6), _X[:1], w)


def test_group_norm():
    grouped = _normal(_X.reshape(4, 2, 9), 2).reshape(_X.shape)
    w, b = _rng.normal(size=6), _rng.normal(size=6)
    got = F.group_norm(tensor(_X), 2, tensor(w), tensor(b))
    np.testing.assert_allclose(got.numpy(), grouped * w[:, None] + b[:, None], rtol=1e-9)
    check_gradients(lambda x: F.group_norm(x, 3), _X[:1])
    with pytest.raises(RuntimeError, match="not divisible"):
        F.group_norm(tensor(_X), 4)


def test_batch_norm_uses_and_moves_statistics():
    norm = nn.BatchNorm1d(6, momentum=0.25).double()
    got = norm(tensor(_X))
    np.testing.assert_allclose(got.detach().numpy(), _normal(_X, (0, 2)), rtol=1e-9)
    mean, var = _X.mean((0, 2)), _X.var((0, 2), ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.25 * mean)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.75 + 0.25 * var)
    assert norm.num_batches_tracked.item() == 1
    norm.eval()
    expected = (_X - norm.running_mean.numpy()[:, None]) / np.sqrt(
        norm.running_var.numpy()[:, None] + 1e-5
    )
    np.testing.assert_allclose(norm(tensor(_X)).detach().numpy(), expected, rtol=1e-9)
    assert norm.num_batches_tracked.item() == 1


def test_batch_norm_without_momentum_averages_all_batches():
    norm = nn.BatchNorm1d(3, momentum=None).double()
    batches = [_rng.normal(size=(5, 3)) for _ in range(4)]
    for batch in batches:
        norm(tensor(batch))
    expected = np.mean([b.mean(0) for b in batches], 0)
    np.testing.assert_allclose(norm.running_mean.numpy(), expected, rtol=1e-12)


def test_batch_norm_variants():
    plain = nn.BatchNorm2d(2, affine=False, track_running_stats=False).double().eval()
    x = _rng.normal(size=(3, 2, 4, 4))
    np.testing.assert_allclose(plain(tensor(x)).numpy(), _normal(x, (0, 2, 3)), rtol=1e-9)
    assert list(plain.state_dict()) == []
    check_gradients(lambda x: F.batch_norm(x, None, None, training=True), _X[:3, :2])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.randn(1, 3))
    with pytest.raises(ValueError, match="expected 4D input"):
        nn.BatchNorm2d(3)(torch.randn(2, 3))


def test_instance_norm():
    got = nn.InstanceNorm1d(6).double()(tensor(_X))
    np.testing.assert_allclose(got.numpy(), _normal(_X, 2), rtol=1e-9)
    tracked = nn.InstanceNorm1d(6, track_running_stats=True).double()
    tracked(tensor(_X))
    np.testing.assert_allclose(tracked.running_mean.numpy(), 0.1 * _X.mean((0, 2)), rtol=1e-9)
    single = nn.InstanceNorm1d(6).double()(tensor(_X[0]))
    np.testing.assert_allclose(single.numpy(), _normal(_X[:1], 2)[0], rtol=1e-9)


def test_local_response_norm():
    squares = np.pad(_X**2, [(0, 0), (1, 1), (0, 0)])
    near = sum(squares[:, i : i + 6] for i in range(3)) / 3
    expected = _X / (2.0 + 0.1 * near) ** 0.75
    got = F.local_response_norm(tensor(_X), 3, alpha=0.1, beta=0.75, k=2.0)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def test_half_precision_is_normalised_in_float32():
    x = torch.full((2, 64), 300.0).half()
    x[:, 0] = 301.0
    y = F.layer_norm(x, (64,))
    assert y.dtype is torch.float16 and y.isfinite().all() and y[0, 0].item() > 7


def test_local_response_norm_of_integers_rounds_the_mean_down():
    """Figures of torch 2.13."""
    found = F.local_response_norm(torch.tensor([[[3], [5], [8]]]), 2, alpha=0.5)
    expected = [[[3 / 3**0.75], [5 / 9.5**0.75], [8 / 23**0.75]]]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
