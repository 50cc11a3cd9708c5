"""Optimizers: eight steps on given gradients against PyTorch's results in float64.

The expected numbers were computed once with torch 2.13 (float64) and written out here.
Invariant: an option that has an effect appears in at least one row.
"""

from __future__ import annotations

import copy
import math

import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit.optim.optimizer import Optimizer

_START = [1.0, -2.0, 0.5]
TABLE = [
    ("SGD", {"lr": 0.1}, [0.9593224778, -2.131537953, 0.3767366575]),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
     [0.6247799186, -2.336470615, 0.7915979438]),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True},
     [0.6430008989, -2.491090685, 0.6551967085]),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": 0.3, "maximize": True},
     [1.113116435, -1.788179004, 0.5556608231]),
    ("Adam", {"lr": 0.1}, [0.7569188882, -2.143655872, 0.488495847]),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True},
     [0.690511585, -2.048271444, 0.4735980537]),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "maximize": True},
     [1.1292422, -1.922131867, 0.551700346]),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1}, [0.6933467662, -1.980642395, 0.45193675]),
    ("AdamW", {"lr": 0.1, "amsgrad": True}, [0.7503474663, -2.126839731, 0.4847257229]),
    ("NAdam", {"lr": 0.1}, [0.9011416986, -2.080670251, 0.414103583]),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True},
     [0.8315231526, -1.922457523, 0.3778616953]),
    ("RAdam", {"lr": 0.1}, [0.8285021993, -2.254913258, 0.5382469102]),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1}, [0.7813464808, -2.148772116, 0.5139554852]),
    ("Adamax", {"lr": 0.1}, [0.7894676296, -2.133558887, 0.4605863278]),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1}, [0.7399836053, -2.057580996, 0.4510140873]),
    ("Adagrad", {"lr": 0.1}, [0.9179623284, -2.055789211, 0.4338828492]),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.3},
     [0.901284799, -2.024983862, 0.4532513125]),
    ("Adadelta", {}, [0.9980761058, -2.001914106, 0.4964097495]),
    ("Adadelta", {"lr": 0.5, "rho": 0.5, "weight_decay": 0.1},
     [0.9989636501, -1.999867838, 0.4989903985]),
    ("RMSprop", {"lr": 0.1}, [0.1814742909, -2.558976692, -0.1673496371]),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
     [-2.512799765, -2.317443965, -1.459386291]),
    ("ASGD", {"lr": 0.1, "t0": 2}, [0.9592458257, -2.131369898, 0.3767016707]),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "weight_decay": 0.1},
     [0.8210281192, -1.828377772, 0.3033351561]),
    ("Rprop", {"lr": 0.1}, [0.906, -2.0625, 0.49]),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.01, 0.12)}, [0.843, -2.07, 0.445]),
]  # fmt: skip


def _exact(step: int) -> torch.Tensor:
    values = [math.sin(1.0 + step * 1.7 + i * 0.9) * (i + 1) for i in range(3)]
    return torch.tensor(values, dtype=torch.float64)


def _parameter(dtype=torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.tensor(_START, dtype=dtype))


def _run(optimizer: Optimizer, p: nn.Parameter, steps: range) -> None:
    for t in steps:
        p.grad = _exact(t).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("name, options, expected", TABLE)
def test_against_torch(name, options, expected):
    p = _parameter()
    _run(getattr(torch.optim, name)([p], **options), p, range(8))
    tolerance = 1e-6 if name == "ASGD" else 1e-8  # torch keeps ASGD's rate in float32
    assert p.tolist() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name, options, expected", TABLE)
def test_a_saved_state_continues_where_it_was(name, options, expected):
    p = _parameter()
    first = getattr(torch.optim, name)([p], **options)
    _run(first, p, range(3))
    q = nn.Parameter(p.detach().clone())
    second = getattr(torch.optim, name)([q], **options)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    _run(first, p, range(3, 8))
    _run(second, q, range(3, 8))
    assert p.tolist() == q.tolist()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_float32_parameters_stay_close(name):
    p, q = _parameter(), _parameter(torch.float32)
    _run(getattr(torch.optim, name)([p], lr=0.1), p, range(8))
    _run(getattr(torch.optim, name)([q], lr=0.1), q, range(8))
    assert q.dtype is torch.float32 and q.tolist() == pytest.approx(p.tolist(), rel=1e-5)


def test_state_dict_has_torchs_layout():
    net = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0, 1]
    assert set(state["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["state"][0]["step"].item() == 1.0
    assert state["param_groups"][0]["betas"] == (0.9, 0.999)


def test_groups_have_options_of_their_own():
    a, b = _parameter(), _parameter()
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": b}], lr=0.1)
    for p in (a, b):
        p.grad = torch.ones(3).double()
    optimizer.step()
    assert a.tolist() == [0.0, -3.0, -0.5]
    assert b.tolist() == pytest.approx([0.9, -2.1, 0.4])
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [a]})


def test_a_parameter_without_gradient_does_not_age():
    a, b = _parameter(), _parameter()
    optimizer = torch.optim.Adam([a, b], lr=0.1)
    for t in range(4):
        a.grad, b.grad = _exact(t), None if t == 1 else _exact(t)
        optimizer.step()
    counts = [optimizer.state[p]["step"].item() for p in (a, b)]
    assert counts == [4.0, 3.0]
    alone = _parameter()
    single = torch.optim.Adam([alone], lr=0.1)
    for t in (0, 2, 3):
        alone.grad = _exact(t)
        single.step()
    assert b.tolist() == pytest.approx(alone.tolist(), rel=1e-12)


def test_zero_grad_forgets_or_zeroes():
    p = _parameter()
    optimizer = torch.optim.SGD([p], lr=0.1)
    p.grad = torch.ones(3).double()
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0] * 3
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    assert p.tolist() == _START


def test_closures_hooks_and_tensor_rates():
    p, seen = _parameter(), []
    optimizer = torch.optim.SGD([p], lr=torch.tensor(0.5))
    optimizer.register_step_pre_hook(lambda *a: seen.append("before"))
    handle = optimizer.register_step_post_hook(lambda *a: seen.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5.25
    assert p.tolist() == [0.0, 0.0, 0.0] and seen == ["before", "after"]
    handle.remove()
    optimizer.step()
    assert seen == ["before", "after", "before"]


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_finds_the_minimum_of_a_quadratic(line_search):
    matrix = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    target = torch.tensor([1.0, -2.0], dtype=torch.float64)
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = torch.optim.LBFGS([p], line_search_fn=line_search)

    def closure():
        optimizer.zero_grad()
        d = p - target
        loss = d @ (matrix @ d)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert p.tolist() == pytest.approx([1.0, -2.0], abs=1e-5)


def test_lbfgs_with_line_search_descends_the_rosenbrock_valley():
    p = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = torch.optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert p.tolist() == pytest.approx([0.9999814210791, 0.9999619651811])  # torch's very path
    state = optimizer.state[p]
    assert (state["n_iter"], state["func_evals"]) == (35, 43)


def test_wrong_arguments_raise():
    p = _parameter()
    for make, words in (
        (lambda: torch.optim.SGD([p], lr=-1.0), "learning rate"),
        (lambda: torch.optim.SGD([p], lr=0.1, nesterov=True), "Nesterov"),
        (lambda: torch.optim.Adam([p], betas=(1.0, 0.9)), "beta parameter at index 0"),
        (lambda: torch.optim.SGD([], lr=0.1), "empty parameter list"),
        (lambda: torch.optim.SGD([p * 2], lr=0.1), "non-leaf"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="iterable"):
        torch.optim.SGD(p, lr=0.1)


def test_a_compiled_step_equals_the_eager_one_while_options_change():
    def train(compiled: bool) -> list[float]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)

        def step(x):
            optimizer.zero_grad()
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(step) if compiled else step
        losses = []
        for i in range(8):
            if i == 3:
                optimizer.param_groups[0]["lr"] = 0.01
            if i == 5:
                optimizer.param_groups[0]["betas"] = (0.5, 0.9)
            losses.append(run(torch.randn(6, 4)).item())
        return losses

    assert train(True) == pytest.approx(train(False), rel=1e-5)
