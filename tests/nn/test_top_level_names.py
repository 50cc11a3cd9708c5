"""Names of ``torch`` itself that stand for functions elsewhere, and windows.

Expected window values are torch 2.13's. Invariant: a name computes what its namesake computes.
"""

from __future__ import annotations

import math

import pytest

import tracejit as torch
from tracejit.nn import functional as F


def test_functions_with_arguments_in_another_order() -> None:
    x, w, b = torch.randn(4, 6), torch.randn(6), torch.randn(6)
    assert torch.equal(torch.layer_norm(x, (6,), w, b, 1e-3), F.layer_norm(x, (6,), w, b, 1e-3))
    assert torch.equal(torch.group_norm(x, 2, w, b), F.group_norm(x, 2, w, b))
    mean, var = torch.zeros(6), torch.ones(6)
    got = torch.batch_norm(x, w, b, mean, var, False, 0.1, 1e-5)
    assert torch.equal(got, F.batch_norm(x, mean, var, w, b))
    table = torch.randn(5, 3)
    index = torch.tensor([1, 4])
    assert torch.equal(torch.embedding(table, index), table[index])
    values, places = torch.adaptive_max_pool1d(x, 2)
    assert values.shape == places.shape == (4, 2)
    assert torch.equal(torch.dropout(x, 0.5, False), x)
    assert torch.vmap(lambda v: v.sum())(x).shape == (4,)
    assert torch.cosine_similarity(x, x).shape == (4,)


def test_cells() -> None:
    cell = torch.nn.LSTMCell(3, 4)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    for got, want in zip(torch.lstm_cell(x, (h, c), *weights), cell(x, (h, c)), strict=True):
        assert torch.allclose(got, want)
    gru = torch.nn.GRUCell(3, 4)
    weights = (gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh)
    assert torch.allclose(torch.gru_cell(x, h, *weights), gru(x, h))


def test_windows() -> None:
    def near(got: torch.Tensor, want: list[float]) -> bool:
        return got.tolist() == pytest.approx(want, abs=1e-6)

    assert near(torch.hann_window(4), [0.0, 0.5, 1.0, 0.5])
    assert near(torch.hann_window(5, periodic=False), [0.0, 0.5, 1.0, 0.5, 0.0])
    assert near(torch.hamming_window(4), [0.08, 0.54, 1.0, 0.54])
    assert near(torch.bartlett_window(4), [0.0, 0.5, 1.0, 0.5])
    assert near(torch.blackman_window(4), [0.0, 0.34, 1.0, 0.34])
    windows = torch.signal.windows
    assert near(windows.cosine(2), [math.sqrt(0.5)] * 2)
    assert near(windows.gaussian(3), [math.exp(-0.5), 1.0, math.exp(-0.5)])
    assert near(windows.exponential(3), [math.exp(-1), 1.0, math.exp(-1)])
    assert windows.hann(1).tolist() == [1.0] and windows.hann(0).shape == (0,)
    assert windows.hann(3, dtype=torch.float64, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError):
        windows.hann(-1)
    with pytest.raises(RuntimeError):
        windows.hann(3, dtype=torch.int64)
    with pytest.raises(ValueError):
        windows.gaussian(3, std=0.0)


def test_names_of_backends() -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.are_deterministic_algorithms_enabled()
