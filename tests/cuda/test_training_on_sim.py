"""Programs on the simulated device: eager and compiled, the same bits as on the CPU.

Invariant: what is compared was computed by device kernels and products, not by a fallback.
"""

from __future__ import annotations

import math

import pytest

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F
from tracejit.errors import TraceWarning
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of


def classifier(device: str, compiled: bool, steps: int) -> list[float]:
    """Losses of an MLP with dropout, layer norm and AdamW on made-up data."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(approximate="tanh"), nn.Dropout(0.25),
        nn.Linear(16, 4),
    )  # fmt: skip
    x, y = torch.randn(8, 6), torch.randint(0, 4, (8,))
    model, x, y = model.to(device), x.to(device), y.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = torch.compile(step) if compiled else step
    losses = [run(x, y).item() for _ in range(steps)]
    if compiled:
        assert run.eager_reason is None
    return losses


def test_a_training_step_has_the_bits_of_the_cpu() -> None:
    here = classifier("cpu", False, 4)
    assert classifier("sim", False, 4) == here
    assert classifier("sim", True, 4) == here


def test_kernels_and_waits_of_a_compiled_function() -> None:
    @torch.compile
    def f(x, w):
        return torch.softmax(x @ w, -1), (x * x).sum(0)

    x, w = torch.randn(5, 7, device="sim"), torch.randn(7, 3, device="sim")
    f(x, w), f(x, w)
    sim = backend_of(Device("sim"))
    launches, syncs = sim.launches, sim.syncs
    first, second = f(x, w)
    assert sim.launches - launches == 2 and sim.syncs == syncs
    again = f(2 * x, w)
    assert first.device.type == "sim" and again[0].tolist() != first.tolist()
    here = torch.compile(lambda x, w: (torch.softmax(x @ w, -1), (x * x).sum(0)))(x.cpu(), w.cpu())
    assert first.tolist() == here[0].tolist() and second.tolist() == here[1].tolist()
    assert {k.shape for k in f.kernels} == {"row", "column"}
    assert "thread()" in f.kernels[0].source and ".entry" in f.kernels[0].ptx()


def test_one_function_on_two_devices() -> None:
    @torch.compile
    def f(x):
        return torch.exp(x).sum()

    x = torch.randn(300)
    for _ in range(3):
        assert f(x).item() == f(x.to("sim")).item() == f(x.to("sim:1")).item()


def test_shapes_alignment_and_branches() -> None:
    @torch.compile
    def f(x):
        y = x * 2 + 1
        if y.sum() > 0:
            return torch.tanh(y)
        return y.abs()

    base = torch.randn(200)
    there = base.to("sim")
    for first, last in ((0, 64), (1, 65), (3, 170), (0, 0), (5, 6), (0, 200)):
        got, want = f(there[first:last]), f(base[first:last])
        assert got.device.type == "sim" and got.tolist() == want.tolist()


def test_moves_inside_a_compiled_function_run_eagerly_and_say_so() -> None:
    @torch.compile
    def f(x):
        return x.to("sim") + 1

    with pytest.warns(TraceWarning, match="moves a tensor from cpu to sim"):
        for _ in range(3):
            assert f(torch.ones(2)).tolist() == [2, 2]


def test_factories_inside_a_compiled_function() -> None:
    @torch.compile
    def f(x):
        return x + torch.arange(4.0, device="sim") + torch.full((4,), 2.0, device=x.device)

    for _ in range(3):
        assert f(torch.ones(4, device="sim")).tolist() == [3, 4, 5, 6]
    assert f.eager_reason is None


def test_dropout_draws_the_same_masks() -> None:
    f = torch.compile(lambda x: F.dropout(x, 0.5))
    masks = {}
    for device in ("cpu", "sim"):
        torch.manual_seed(5)
        x = torch.ones(100, device=device)
        masks[device] = [F.dropout(x, 0.5).tolist(), *(f(x).tolist() for _ in range(4))]
    assert masks["cpu"] == masks["sim"]
    assert len({tuple(m) for m in masks["sim"]}) == 5


def test_a_bad_index_in_a_replay_is_told_at_the_next_wait() -> None:
    table = torch.arange(6.0, device="sim").reshape(3, 2)
    f = torch.compile(lambda i: F.embedding(i, table) * 2)
    for _ in range(3):
        assert f(torch.tensor([1], device="sim")).tolist() == [[4, 6]]
    result = f(torch.tensor([3], device="sim"))
    with pytest.raises(IndexError):
        result.tolist()
    assert f(torch.tensor([2], device="sim")).tolist() == [[8, 10]]


@pytest.mark.parametrize("rows", [1, 5, 300])
@pytest.mark.parametrize("columns", [1, 31, 64, 65, 700])
def test_reductions_combine_in_the_order_of_the_cpu(rows: int, columns: int) -> None:
    x = torch.randn(rows, columns)
    y = x.to("sim")
    for f in (
        lambda t: t.sum(), lambda t: t.sum(0), lambda t: t.sum(1), lambda t: t.T.sum(0),
        lambda t: torch.logsumexp(t, 1), lambda t: t.amax(0),
    ):  # fmt: skip
        want, got = f(x), f(y)
        assert got.tolist() == want.tolist()
        assert not math.isnan(want.reshape(-1)[0].item())


def test_max_pooling_has_the_bits_of_the_cpu() -> None:
    found = []
    for device in ("cpu", "sim"):
        torch.manual_seed(5)
        x = torch.randn(2, 2, 7, 9).to(device).requires_grad_()
        y = F.max_pool2d(x, 3, 2, 1)
        (y * y).sum().backward()
        found.append((y.tolist(), x.grad.tolist()))
    assert found[0] == found[1]
