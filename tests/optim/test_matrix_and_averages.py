"""Adafactor, Muon, and averages of models.

The expected numbers of Adafactor and Muon were computed once with torch 2.13 in float64, Muon's
iteration included (torch itself runs it in bfloat16). Invariant: matrices are treated as matrices.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit.optim.matrix import orthogonalized
from tracejit.optim.swa_utils import SWALR, AveragedModel, get_ema_avg_fn, update_bn

_START = [[1.0, -2.0, 0.5], [0.3, 0.7, -1.1]]
TABLE = [
    ("Adafactor", {"lr": 0.1}, 1e-8,
     [0.9521214087, -2.030334723, 0.4357461418, 0.3181586161, 0.70969026, -1.055805399]),
    ("Adafactor", {"lr": 0.1, "beta2_decay": -0.5, "d": 1.5, "weight_decay": 0.1, "maximize": True},
     1e-8, [1.007516327, -1.888878466, 0.5463659623, 0.2715687691, 0.6503601079, -1.099704371]),
    ("Muon", {"lr": 0.1}, 1e-8,
     [0.9329053504, -1.95457233, 0.5641451211, 0.3191969288, 0.7145111269, -1.020809592]),
    ("Muon", {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, 1e-8,
     [0.9468404875, -1.94164054, 0.5378838292, 0.3171481983, 0.7077730025, -1.027752912]),
]  # fmt: skip


def _gradient(step: int) -> torch.Tensor:
    values = [math.sin(1.0 + step * 1.7 + i * 0.9) * (i + 1) for i in range(6)]
    return torch.tensor(values, dtype=torch.float64).reshape(2, 3)


@pytest.mark.parametrize("name, options, tolerance, expected", TABLE)
def test_against_torch(name, options, tolerance, expected):
    p = nn.Parameter(torch.tensor(_START, dtype=torch.float64))
    optimizer = getattr(torch.optim, name)([p], **options)
    for t in range(4):
        p.grad = _gradient(t)
        optimizer.step()
    assert p.flatten().tolist() == pytest.approx(expected, rel=tolerance)


def test_adafactor_keeps_a_row_and_a_column():
    matrix, vector = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))
    optimizer = torch.optim.Adafactor([matrix, vector])
    matrix.grad, vector.grad = torch.ones(2, 3), torch.ones(4)
    optimizer.step()
    state = optimizer.state[matrix]
    assert state["row_var"].shape == (2, 1) and state["col_var"].shape == (1, 3)
    assert optimizer.state[vector]["variance"].shape == (4,)


def test_muon_takes_matrices_only_and_makes_them_nearly_orthogonal():
    with pytest.raises(ValueError, match="2D parameters"):
        torch.optim.Muon([nn.Parameter(torch.ones(3))])
    x = torch.tensor(np.random.default_rng(0).normal(size=(6, 4)))
    values = np.linalg.svd(orthogonalized(x, (3.4445, -4.775, 2.0315), 5, 1e-7).numpy())[1]
    assert (values > 0.5).all() and (values < 1.5).all()


def _models(weights):
    for w in weights:
        net = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            net.weight.fill_(w)
        yield net


def test_averages_of_weights():
    weights = [1.0, 2.0, 6.0]
    first = next(_models(weights))
    mean, ema = AveragedModel(first), AveragedModel(first, avg_fn=get_ema_avg_fn(0.5))
    for net in _models(weights):
        mean.update_parameters(net)
        ema.update_parameters(net)
    assert mean.module.weight.item() == 3.0 and mean.n_averaged.item() == 3
    assert ema(torch.ones(1, 1)).item() == 0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 6
    assert first.weight.item() == 1.0


def test_statistics_are_recomputed_over_the_data():
    net = nn.Sequential(nn.BatchNorm1d(2)).double()
    batches = [torch.tensor(np.random.default_rng(i).normal(size=(8, 2))) for i in range(3)]
    update_bn(batches, net)
    expected = np.mean([b.numpy().mean(0) for b in batches], 0)
    np.testing.assert_allclose(net[0].running_mean.numpy(), expected)
    assert net[0].momentum == 0.1 and net.training


def test_swalr_anneals_to_its_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = SWALR(optimizer, swa_lr=0.2, anneal_epochs=4, anneal_strategy="linear")
    rates = []
    for _ in range(6):
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2, 0.2])
