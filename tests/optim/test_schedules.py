"""Learning-rate schedules: nine epochs against PyTorch's rates.

The expected numbers were computed once with torch 2.13 and written out here.
Invariant: every schedule has a row or a test of its own.
"""

from __future__ import annotations

import pytest

import tracejit as torch
from tracejit.optim import lr_scheduler as schedules

TABLE = [
    ("StepLR", lambda o, s: s(o, 3, gamma=0.5), [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
    ("MultiStepLR", lambda o, s: s(o, [2, 2, 5], gamma=0.5),
     [1, 1, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125, 0.125]),
    ("ConstantLR", lambda o, s: s(o, factor=0.25, total_iters=3),
     [0.25, 0.25, 0.25, 1, 1, 1, 1, 1, 1]),
    ("LinearLR", lambda o, s: s(o, start_factor=0.25, end_factor=0.75, total_iters=4),
     [0.25, 0.375, 0.5, 0.625, 0.75, 0.75, 0.75, 0.75, 0.75]),
    ("ExponentialLR", lambda o, s: s(o, gamma=0.5),
     [1, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]),
    ("PolynomialLR", lambda o, s: s(o, total_iters=4, power=2.0),
     [1, 0.5625, 0.25, 0.0625, 0, 0, 0, 0, 0]),
    ("CosineAnnealingLR", lambda o, s: s(o, T_max=4, eta_min=0.1),
     [1, 0.86819805, 0.55, 0.23180195, 0.1, 0.23180195, 0.55, 0.86819805, 1]),
    ("CosineAnnealingWarmRestarts", lambda o, s: s(o, T_0=2, T_mult=2),
     [1, 0.5, 1, 0.85355339, 0.5, 0.14644661, 1, 0.96193977, 0.85355339]),
    ("LambdaLR", lambda o, s: s(o, lambda epoch: 1 / (1 + epoch)),
     [1, 0.5, 0.33333333, 0.25, 0.2, 0.16666667, 0.14285714, 0.125, 0.11111111]),
    ("MultiplicativeLR", lambda o, s: s(o, lambda epoch: 0.5),
     [1, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]),
    ("OneCycleLR", lambda o, s: s(o, max_lr=2.0, total_steps=9),
     [0.08, 1.3027165, 1.9888309, 1.7971333, 1.4112895, 0.92527421, 0.45745991, 0.12178594, 8e-06]),
    ("OneCycleLR",
     lambda o, s: s(o, max_lr=2.0, total_steps=9, three_phase=True, anneal_strategy="linear"),
     [0.08, 1.2094118, 1.6611765, 0.53176471, 0.069566261, 0.052176696, 0.03478713, 0.017397565,
      8e-06]),
    ("CyclicLR", lambda o, s: s(o, base_lr=0.1, max_lr=0.5, step_size_up=2, mode="triangular2"),
     [0.1, 0.3, 0.5, 0.3, 0.1, 0.2, 0.3, 0.2, 0.1]),
    ("CyclicLR",
     lambda o, s: s(o, base_lr=0.1, max_lr=0.5, step_size_up=3, step_size_down=1,
                    mode="exp_range", gamma=0.9),
     [0.1, 0.22, 0.316, 0.3916, 0.1, 0.178732, 0.2417176, 0.29131876, 0.1]),
]  # fmt: skip


def _optimizer(lr=1.0):
    p = torch.zeros(2).requires_grad_()
    return torch.optim.SGD([p], lr=lr, momentum=0.9)


def _rates(optimizer, scheduler, epochs):
    rates = [float(optimizer.param_groups[0]["lr"])]
    for _ in range(epochs):
        scheduler.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


@pytest.mark.parametrize("name, make, expected", TABLE)
def test_against_torch(name, make, expected):
    optimizer = _optimizer()
    scheduler = make(optimizer, getattr(schedules, name))
    rates = _rates(optimizer, scheduler, 8)
    assert rates == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize("name, make, expected", TABLE)
def test_a_saved_schedule_continues(name, make, expected):
    first = _optimizer()
    scheduler = make(first, getattr(schedules, name))
    _rates(first, scheduler, 4)
    second = _optimizer()
    resumed = make(second, getattr(schedules, name))
    resumed.load_state_dict(scheduler.state_dict())
    second.load_state_dict(first.state_dict())
    assert _rates(second, resumed, 4) == pytest.approx(expected[4:], rel=1e-6, abs=1e-9)


def test_cycles_move_the_momentum_against_the_rate():
    optimizer = _optimizer()
    scheduler = schedules.OneCycleLR(optimizer, max_lr=1.0, total_steps=4, pct_start=0.5)
    pairs = []
    for _ in range(4):
        group = optimizer.param_groups[0]
        pairs.append((group["lr"], group["momentum"]))
        scheduler.step() if len(pairs) < 4 else None
    assert [m for _, m in sorted(pairs)] == sorted((m for _, m in pairs), reverse=True)
    with pytest.raises(ValueError, match="Tried to step 5 times"):
        for _ in range(3):
            scheduler.step()


def test_sequential_takes_turns():
    optimizer = _optimizer()
    warmup = schedules.ConstantLR(optimizer, factor=0.1, total_iters=3)
    decay = schedules.ExponentialLR(optimizer, gamma=0.5)
    scheduler = schedules.SequentialLR(optimizer, [warmup, decay], milestones=[3])
    assert _rates(optimizer, scheduler, 5) == pytest.approx([0.1, 0.1, 0.1, 1.0, 0.5, 0.25])


def test_chained_multiplies():
    optimizer = _optimizer()
    parts = [schedules.ConstantLR(optimizer, factor=0.1, total_iters=2),
             schedules.ExponentialLR(optimizer, gamma=0.5)]  # fmt: skip
    scheduler = schedules.ChainedScheduler(parts)
    assert _rates(optimizer, scheduler, 3) == pytest.approx([0.1, 0.05, 0.25, 0.125])


def test_plateau_waits_and_reduces():
    optimizer = _optimizer()
    scheduler = schedules.ReduceLROnPlateau(optimizer, "min", 0.5, 1, cooldown=1, min_lr=0.3)
    rates = []
    for metric in [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]:
        scheduler.step(torch.tensor(metric))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3]


def test_a_tensor_rate_is_written_in_place():
    rate = torch.tensor(1.0)
    optimizer = _optimizer(rate)
    scheduler = schedules.ExponentialLR(optimizer, gamma=0.5)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.5


def test_wrong_arguments_raise():
    optimizer = _optimizer()
    with pytest.raises(TypeError, match="is not an Optimizer"):
        schedules.StepLR(3, 1)
    with pytest.raises(ValueError, match="Expected 1 lr_lambdas"):
        schedules.LambdaLR(optimizer, [lambda e: 1, lambda e: 1])
    with pytest.raises(ValueError, match="total_steps OR"):
        schedules.OneCycleLR(optimizer, max_lr=1.0)
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(optimizer, 1, last_epoch=3)
