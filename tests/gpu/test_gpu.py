"""A real GPU against the CPU and the simulator: the same kernels, so the same bits.

Matrix products are cuBLAS's: what contains one is compared to a few units in the last place.
Invariant: every test waits for its own work, so a fault belongs to the test that made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F
from tracejit import config, cuda, dtypes
from tracejit.eager.execute import execute
from tracejit.errors import DeviceError, OutOfMemoryError
from tracejit.ir.op import Op
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of
from tracejit.testing import FUNCTIONS, all_cases, on_device

PRODUCTS = ("matmul",)


@pytest.fixture(autouse=True)
def own_work() -> Iterator[None]:
    yield
    cuda.synchronize()


run_on_gpu = on_device("cuda")


@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: op.name)
def test_every_op_has_the_bits_of_the_cpu(op: Op) -> None:
    for dtype in (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.int64):
        compare_op(op, dtype)


def compare_op(op: Op, dtype: Any) -> None:
    for arrays, params in all_cases(op, dtype):
        want = execute(op, [np.asarray(a) for a in arrays], params)
        got = run_on_gpu(op, arrays, params)
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        for g, w in pairs:
            assert (g.dtype, g.shape) == (w.dtype, w.shape)
            if op.name in PRODUCTS:
                np.testing.assert_allclose(g, w, rtol=2e-3 if dtype is dtypes.float16 else 1e-5)
            else:
                np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("n", [0, 1, 3, 255, 257, 1 << 20, (1 << 20) + 1])
def test_maps_of_all_sizes_and_alignments(n: int) -> None:
    f = torch.compile(lambda x: F.gelu(x, approximate="tanh") * 2 + x)
    base = torch.randn(n + 3)
    there = base.to("cuda")
    for first in (0, 1, 3):
        want, got = f(base[first : first + n]), f(there[first : first + n])
        np.testing.assert_array_equal(got.cpu().numpy(), want.numpy())


@pytest.mark.parametrize("shape", [(1, 1), (3, 1000), (1000, 3), (513, 1025), (4096, 1024)])
def test_reductions_have_the_bits_of_the_cpu(shape: tuple[int, int]) -> None:
    x = torch.randn(*shape)
    y = x.to("cuda")
    for f in (
        lambda t: t.sum(), lambda t: t.sum(0), lambda t: t.sum(1), lambda t: torch.softmax(t, 1),
        lambda t: F.layer_norm(t, t.shape[-1:]), lambda t: torch.logsumexp(t, 0),
    ):  # fmt: skip
        for run in (f, torch.compile(f)):
            np.testing.assert_array_equal(run(y).cpu().numpy(), run(x).numpy())


def test_random_numbers_are_those_of_the_cpu() -> None:
    for make in (torch.rand, torch.randn):
        torch.manual_seed(7)
        here = make(1000)
        torch.manual_seed(7)
        np.testing.assert_array_equal(make(1000, device="cuda").cpu().numpy(), here.numpy())


def losses(device: str, compiled: bool, steps: int = 30) -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.LayerNorm(256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 10)
    ).to(device)
    x, y = torch.randn(128, 64).to(device), torch.randint(0, 10, (128,)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = torch.compile(step) if compiled else step
    found = [run(x, y).item() for _ in range(steps)]
    assert not compiled or run.eager_reason is None
    return found


def test_training_eager_compiled_and_on_the_cpu() -> None:
    eager, compiled = losses("cuda", False), losses("cuda", True)
    assert eager == compiled
    np.testing.assert_allclose(eager, losses("cpu", True), rtol=1e-2)
    assert eager[-1] < 0.5 * eager[0]


def test_no_waits_in_a_training_step() -> None:
    with config.override(forbid_sync=True):
        losses("cuda", True, 5)


@pytest.mark.parametrize("graphs", [False, True])
def test_graphs_renew_inputs_and_keep_results(graphs: bool) -> None:
    backend = backend_of(Device("cuda", 0))
    w = torch.randn(64, 32)
    xs = [torch.randn(16, 64) + k for k in range(8)]
    f = torch.compile(lambda x, w: (torch.softmax(x @ w, -1).sum(0), torch.tanh(x).sum(1)))
    before = backend.replays
    with config.override(device_graphs=graphs):
        there = w.to("cuda")
        results = [f(x.to("cuda"), there) for x in xs]
    assert (backend.replays > before) == graphs
    for x, (first, second) in zip(xs, results, strict=True):
        np.testing.assert_allclose(
            first.cpu().numpy(), torch.softmax(x @ w, -1).sum(0).numpy(), rtol=1e-4
        )
        np.testing.assert_array_equal(second.cpu().numpy(), torch.tanh(x).sum(1).numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_graph_products_of_every_layout(dtype: Any) -> None:
    base = (torch.arange(240) % 7 - 3).to(dtype).reshape(2, 3, 4, 10)  # whole numbers: exact
    there = base.to("cuda")
    for f in (
        lambda x: x[0, 0] @ x[0, 1].T, lambda x: x[0, 0].T @ x[1, 1], lambda x: x @ x.mT,
        lambda x: x[:, :1] @ x.mT, lambda x: x.transpose(0, 1) @ x[0, :, None].mT,
        lambda x: x[0, 0, :, :0] @ x[0, 0, :0], lambda x: x[0, 0, :, 1::3] @ x[0, 0, :3, 1:6],
    ):  # fmt: skip
        assert f(there).tolist() == f(base).tolist()


@pytest.mark.parametrize("n", [1, 1000, 100_003])
def test_sort_has_the_order_of_the_cpu(n: int) -> None:
    x = torch.randint(0, 50, (2, n)).float()
    for descending in (False, True):
        got = torch.sort(x.to("cuda"), 1, descending=descending)
        want = torch.sort(x, 1, descending=descending, stable=True)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(g.cpu().numpy(), w.numpy())


def test_copies_that_nobody_waits_for() -> None:
    x = torch.zeros(1 << 20)
    there = []
    for k in range(20):
        x.fill_(float(k))
        there.append(x.to("cuda", non_blocking=True))
    assert [t[-1].item() for t in there] == list(range(20))
    pinned = x.pin_memory()
    assert pinned.is_pinned() and pinned.cuda(non_blocking=True).sum().item() == 19.0 * (1 << 20)


def test_results_stay_valid() -> None:
    f = torch.compile(lambda x: torch.exp(x))
    x = torch.zeros(1000, device="cuda")
    first = f(x)
    for k in range(20):
        f(x + k)
    assert first.tolist() == [1.0] * 1000


def test_errors_leave_the_process_usable() -> None:
    with pytest.raises(OutOfMemoryError):
        torch.empty(1 << 45, device="cuda")
    with pytest.raises(DeviceError, match="does not exist"):
        torch.ones(2).to(f"cuda:{cuda.device_count()}")
    x = torch.arange(4.0, device="cuda")
    with pytest.raises(IndexError):
        x[torch.tensor([9], device="cuda")].tolist()
    assert x.sum().item() == 6.0


def test_streams_and_events() -> None:
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    stream = cuda.Stream()
    x = torch.randn(1 << 20, device="cuda")
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        start.record(stream)
        y = torch.exp(x)
        end.record(stream)
    stream.synchronize()
    assert start.elapsed_time(end) >= 0 and end.query()
    np.testing.assert_array_equal(y.cpu().numpy(), torch.exp(x.cpu()).numpy())


def test_memory_is_counted_and_given_back() -> None:
    before = cuda.memory_allocated()
    x = torch.empty(1 << 20, device="cuda")
    assert cuda.memory_allocated() == before + (4 << 20)
    del x
    assert cuda.memory_allocated() == before and cuda.max_memory_allocated() >= before
    cuda.empty_cache()


def test_dlpack_with_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    x = torch.arange(6.0, device="cuda")
    cuda.synchronize()
    shared = cupy.from_dlpack(x)
    shared += 1
    cupy.cuda.Device().synchronize()
    assert x.tolist() == [1, 2, 3, 4, 5, 6]
