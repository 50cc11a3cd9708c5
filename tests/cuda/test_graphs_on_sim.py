"""Many launches as one: bundles of equal kernels, and replays of recorded work, on `sim`.

The simulated recording keeps the tables it was given, as a CUDA graph keeps kernel parameters: what
a replay does not renew stays what it was. Invariant: values are compared with plain launches or
with the CPU, bit for bit, and launches and replays are counted exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F
from tracejit import config
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of

SIM = backend_of(Device("sim", 0))


@contextmanager
def counted() -> Iterator[Callable[[], tuple[int, int]]]:
    """Launches and replays since the block began."""
    launches, replays = SIM.launches, SIM.replays
    yield lambda: (SIM.launches - launches, SIM.replays - replays)


def runs(f: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
    """Results of calls, read only after the last one."""
    results = [f(*arguments) for arguments in calls]
    return [r.tolist() for r in results]


def counts_of(f: Any, *arguments: Any, calls: int = 4) -> tuple[int, int]:
    """Launches and replays of the last of some calls."""
    for _ in range(calls - 1):
        f(*arguments)
    with counted() as since:
        f(*arguments)
        return since()


# --- one launch for an update --------------------------------------------------------------------


def updater(count: int, **options: Any) -> tuple[Any, list[Any]]:
    torch.manual_seed(1)
    shapes = [(3 + k, 5) if k % 2 else (7 + k,) for k in range(count)]
    parameters = [nn.Parameter(torch.randn(*s).to("sim")) for s in shapes]
    optimizer = torch.optim.AdamW(parameters, lr=0.1, **options)

    @torch.compile
    def step() -> None:
        optimizer.step()

    for p in parameters:
        p.grad = torch.ones_like(p) * 0.5
    return step, parameters


def test_one_launch_updates_all_parameters() -> None:
    with config.override(device_graphs=False):
        many, parameters = updater(12)
        assert counts_of(many)[0] == 2  # parameters of whole vectors, and the others
        held = [p.tolist() for p in parameters]
    with config.override(device_graphs=False, disable_passes="bundle"):
        apart, alone = updater(12)
        assert counts_of(apart)[0] >= 12
        assert [p.tolist() for p in alone] == held


# --- replays -------------------------------------------------------------------------------------


def work(x: Any, w: Any, scale: float = 1.0) -> Any:
    y = torch.softmax(x @ w * scale, -1)
    return (y @ w.T).sum(0) + F.dropout(x, 0.5).sum(0)


@pytest.mark.parametrize("moving", [False, True])
def test_a_replay_has_the_values_of_plain_launches(moving: bool) -> None:
    w = torch.randn(6, 4, device="sim")
    xs = [torch.randn(5, 6, device="sim") for _ in range(8)]
    calls = [(x if moving else xs[0], w, 1.0 + k) for k, x in enumerate(xs)]
    found = {}
    for graphs in (False, True):
        torch.manual_seed(4)
        f = torch.compile(work)
        with config.override(device_graphs=graphs), counted() as since:
            found[graphs] = runs(f, calls)
            assert (since()[1] > 0) == graphs
    assert found[False] == found[True]
    assert len({tuple(r) for r in found[True]}) == len(calls)


def test_results_stay_valid_after_the_next_call() -> None:
    f = torch.compile(lambda x, w: (x @ w, torch.exp(x).sum(0), torch.tanh(x @ w)))
    w = torch.randn(3, 3, device="sim")
    xs = [torch.full((2, 3), float(k), device="sim") for k in range(6)]
    kept = [f(x, w) for x in xs]
    for x, results in zip(xs, kept, strict=True):
        want = x @ w, torch.exp(x).sum(0), torch.tanh(x @ w)
        assert [r.tolist() for r in results] == [r.tolist() for r in want]
    assert len({r.data_ptr() for results in kept for r in results}) == 3 * len(xs)


def test_inputs_are_those_of_the_call_and_effects_reach_them() -> None:
    @torch.compile
    def f(x: Any, state: Any, w: Any) -> Any:
        state.mul_(0.5).add_(x)
        return torch.softmax(state @ w, -1).sum(0) + x.sum(0)[:2]

    def plain(x: Any, state: Any, w: Any) -> Any:
        state.mul_(0.5).add_(x)
        return torch.softmax(state @ w, -1).sum(0) + x.sum(0)[:2]

    w = torch.randn(3, 2, device="sim")
    mine, theirs = (torch.zeros(4, 3, device="sim") for _ in range(2))
    for k in range(7):
        if k == 5:
            mine, theirs = mine + 1, theirs + 1  # the state moves: once more recorded
        x = torch.full((4, 3), float(k), device="sim")
        assert f(x, mine, w).tolist() == plain(x, theirs, w).tolist()
        x.fill_(-1.0)  # too late to matter
        assert mine.tolist() == theirs.tolist()


def training(graphs: bool) -> tuple[list[float], int]:
    """Losses with dropout, a schedule of learning rates and new batches; and how many replays."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)).to("sim")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    run = torch.compile(step)
    with config.override(device_graphs=graphs), counted() as since:
        losses = []
        for _ in range(8):
            losses.append(run(torch.randn(6, 4).to("sim")))
            schedule.step()
        return [x.item() for x in losses], since()[1]


def test_random_numbers_rates_and_batches_are_renewed() -> None:
    plain, none = training(False)
    replayed, some = training(True)
    assert replayed == plain and none == 0 and some >= 2


def test_a_whole_step_is_one_replay() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to("sim")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    @torch.compile
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    assert counts_of(step, torch.randn(6, 4, device="sim"), calls=7) == (0, 1)
    assert "replayed as one graph" in str(step.explain())


def test_checks_of_a_replay_fail_at_the_next_wait() -> None:
    table = torch.arange(6.0, device="sim").reshape(3, 2)
    f = torch.compile(lambda i: torch.softmax(F.embedding(i, table) @ table.T, -1).sum(0))
    for _ in range(5):
        f(torch.tensor([1, 2], device="sim"))
    with counted() as since:
        wrong = f(torch.tensor([1, 3], device="sim"))
        assert since()[1] == 1
    with pytest.raises(IndexError):
        wrong.tolist()
    assert f(torch.tensor([1, 0], device="sim")).sum().item() == pytest.approx(2.0)


# --- where there is none -------------------------------------------------------------------------


def reason(f: Any, *calls: tuple[Any, ...]) -> str:
    """What `explain` says of launches after some calls, none of which was a replay."""
    with counted() as since:
        for arguments in calls:
            f(*arguments)
        assert since()[1] == 0
    return str(f.explain())


def test_it_says_why_launches_are_plain() -> None:
    x = torch.randn(4, 3, device="sim")
    host = torch.compile(lambda x: torch.linalg.inv((x.T @ x).exp()).sum(0))
    text = reason(host, *[(x,)] * 4)
    assert "plain launches" in text and "runs on the host" in text
    assert "too few" in reason(torch.compile(lambda x: x.exp().sum()), *[(x,)] * 4)
    with config.override(device_graphs=False):
        f = torch.compile(work)
        w = torch.randn(3, 2, device="sim")
        assert "device_graphs is off" in reason(f, *[(x, w)] * 4)


def test_products_of_arguments_that_never_rest() -> None:
    """Each recording finds another argument moved; the frame gives up, and values stay right."""
    f = torch.compile(lambda a, b, c, d, e, g: ((a @ b) @ (c @ d) @ (e @ g)).tanh().sum(0))
    arguments = [torch.randn(3, 3, device="sim") for _ in range(6)]
    for k in range(9):
        if k > 2:
            arguments[k % 6] = arguments[k % 6].clone()
        want = torch.tanh(
            (arguments[0] @ arguments[1])
            @ (arguments[2] @ arguments[3])
            @ (arguments[4] @ arguments[5])
        ).sum(0)
        assert f(*arguments).tolist() == want.tolist()
    assert "keep moving" in str(f.explain())
