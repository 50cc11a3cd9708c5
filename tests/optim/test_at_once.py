"""Adam's update as one kernel: when it is taken, and that no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as torch
from tracejit.optim import adam

SHAPES = [(3, 5), (7,), (40, 50), (600, 300), (), (0, 4)]


def run(monkeypatch: Any, is_on: bool, optimizer: str, shapes: Any, **options: Any) -> Any:
    """Parameters, moments and versions after each step, and how many steps were one kernel."""
    real, taken = adam.update_adam, []

    def update(*arguments: Any) -> bool:
        taken.append(is_on and real(*arguments))
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(adam, "update_adam", update)
        rng = np.random.default_rng(0)
        draw = lambda shape: torch.tensor(rng.standard_normal(shape).astype("f4"))  # noqa: E731
        params = [torch.nn.Parameter(draw(shape)) for shape in shapes]
        optimizer_ = getattr(torch.optim, optimizer)(params, **options)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer_, 2, 0.7)
        seen = []
        for _ in range(6):
            for p in params:
                p.grad = draw(tuple(p.shape))
            optimizer_.step()
            schedule.step()
            held = [x for p in params for x in (p, *optimizer_.state[p].values())]
            seen += [(x.detach().numpy().tobytes(), x._version) for x in held]
    return seen, sum(taken)


OPTIONS = [
    ("Adam", {}),
    ("Adam", {"lr": 1, "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"betas": (0.8, 0.99)}),
    ("AdamW", {"weight_decay": 0.0}),
]


@pytest.mark.parametrize(("optimizer", "options"), OPTIONS)
def test_bits_and_versions_are_those_of_single_operations(monkeypatch, optimizer, options):
    dense = SHAPES[:4]
    plain, none = run(monkeypatch, False, optimizer, dense, **options)
    found, taken = run(monkeypatch, True, optimizer, dense, **options)
    assert found == plain and none == 0 and taken == 4


@pytest.mark.parametrize("options", [{"amsgrad": True}, {"maximize": True}])
def test_other_updates_stay_as_they_were(monkeypatch, options):
    assert run(monkeypatch, True, "Adam", SHAPES[:2], **options)[1] == 0


def test_numbers_and_empty_parameters(monkeypatch):
    """A 0-d parameter times a float64 factor is float64: it takes the single operations."""
    plain = run(monkeypatch, False, "Adam", SHAPES)[0]
    assert run(monkeypatch, True, "Adam", SHAPES) == (plain, 0)


def test_dtypes_and_layouts_that_do_not_fit():
    for make in (lambda: torch.randn(4, 5).double(), lambda: torch.randn(5, 4).t()):
        p = torch.nn.Parameter(make())
        optimizer = torch.optim.Adam([p], lr=0.1)
        for _ in range(4):
            p.grad = torch.ones_like(p)
            before = p.detach().clone()
            optimizer.step()
            assert torch.allclose(before - p.detach(), torch.full_like(before, 0.1), atol=1e-4)


def test_a_gradient_that_saved_the_parameter_still_notices_the_step():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([p])
    for _ in range(4):
        loss = (p * p).sum()
        p.grad = torch.ones(3)
        optimizer.step()
    with pytest.raises(RuntimeError, match=r"in.place|modified|changed"):
        loss.backward()
