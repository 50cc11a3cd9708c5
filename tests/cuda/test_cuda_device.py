"""The CUDA device's own code, over stand-ins for CuPy, the driver and cuBLAS (see `stand_ins`).

Everything but CUDA itself is executed: packing of parameters, streams, pool, copies, products,
graphs, errors. Invariant: no test knows what the device asks of its stand-ins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stand_ins
from stand_ins import BLOCKS, Result, launch

import tracejit as torch
import tracejit.nn.functional as F
from tracejit import config, dtypes
from tracejit.errors import DeviceError, OutOfMemoryError
from tracejit.ir.graph import Graph
from tracejit.ir.op import OPS
from tracejit.ir.types import Device, TensorType
from tracejit.runtime import cuda_device, device
from tracejit.runtime.cublas import matrix_of, runs_of
from tracejit.runtime.device_array import from_host
from tracejit.runtime.device_frame import DeviceExecutable
from tracejit.runtime.executable import build


@pytest.fixture
def cuda(monkeypatch):
    driver = stand_ins.driver()
    monkeypatch.setattr(cuda_device, "packages", lambda: (stand_ins.cupy(), driver))
    monkeypatch.setattr(cuda_device, "load_library", stand_ins.library)
    monkeypatch.setattr(
        cuda_device, "compile_ptx", lambda name, source, words, cc: f"{words}\n{source}"
    )
    monkeypatch.setattr(device, "_backends", {})
    yield driver
    BLOCKS.clear()
    stand_ins.CAPTURED.clear()
    stand_ins.PENDING.clear()


def step(x: Any, w: Any) -> Any:
    w.grad = None
    loss = (torch.softmax(torch.tanh(x @ w) * 2, -1).log() + F.dropout(x[:, :3], 0.5)).sum()
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
    return loss


def test_a_step_has_the_values_of_the_cpu(cuda) -> None:
    found = {}
    for where in ("cpu", "cuda"):
        torch.manual_seed(2)
        x, w = torch.randn(5, 4).to(where), torch.randn(4, 3).to(where).requires_grad_()
        found[where] = [step(x, w).item() for _ in range(3)], w.tolist()
        assert str(w.device).startswith(where)
    np.testing.assert_allclose(found["cuda"][0], found["cpu"][0], rtol=1e-6)
    np.testing.assert_allclose(found["cuda"][1], found["cpu"][1], rtol=1e-5)


def test_a_frame_on_the_device(cuda) -> None:
    """A fused graph, as `compile` runs it, twice in one frame."""
    kind = TensorType(dtypes.float32, (6, 8))
    x, y = (OPS["input"](name=n, type=kind) for n in "xy")
    total = OPS["reduce_sum"](OPS["tanh"](x) * y + x, axes=(0, 1))
    graph = Graph("fused", (x, y), (total,))
    fused = DeviceExecutable(graph, device.backend_of(Device("cuda")))
    for seed in range(2):
        rng = np.random.default_rng(seed)
        arrays = [rng.standard_normal((6, 8), np.float32) for _ in "xy"]
        (got,) = fused.run([from_host(a, Device("cuda")) for a in arrays])
        (want,) = build(graph).run(arrays)
        assert got.to_host() == want


def test_the_host_waits_only_when_asked(cuda) -> None:
    x = torch.ones(1000, device="cuda")
    backend = device.backend_of(Device("cuda"))
    y = (x * 2).sum()
    assert backend.own_stream.waits == 0
    assert y.item() == 2000 and backend.own_stream.waits > 0
    torch.cuda.synchronize()
    assert torch.cuda.get_device_name() == "stand-in"
    assert torch.cuda.get_device_capability() == (9, 0)


def test_errors_of_the_device(cuda) -> None:
    with pytest.raises(OutOfMemoryError, match="cuda:0 is out of memory"):
        torch.empty(1 << 30, device="cuda")
    with pytest.raises(DeviceError, match="'cuda:1' does not exist: 1 found"):
        torch.ones(2).to("cuda:1")
    x = torch.ones(4, device="cuda")
    cuda.cuLaunchKernel = lambda *arguments: (Result.CUDA_ERROR_LAUNCH_FAILED,)
    with pytest.raises(DeviceError, match="CUDA_ERROR_LAUNCH_FAILED"):
        x + 1
    cuda.cuLaunchKernel = launch
    assert (x + 1).tolist() == [2, 2, 2, 2]


def test_an_error_of_a_kernel_is_told_at_the_next_wait(cuda) -> None:
    x = torch.ones(4, device="cuda")
    stand_ins.PENDING.append("cudaErrorIllegalAddress: an illegal memory access")
    y = x + 1
    with pytest.raises(DeviceError, match="cuda:0, a copy to the host: cudaErrorIllegalAddress"):
        y.tolist()
    assert torch.ones(2).sum().item() == 2  # the process goes on
    stand_ins.PENDING.append("cudaErrorLaunchFailure")
    with pytest.raises(DeviceError, match="cuda:0, its work so far: cudaErrorLaunchFailure"):
        torch.cuda.synchronize()


def test_a_missing_driver_and_missing_libraries(cuda, monkeypatch) -> None:
    x = torch.ones(2, 2, device="cuda")

    def nobody() -> Any:
        raise DeviceError("matrix products on 'cuda' need cuBLAS")

    monkeypatch.setattr(cuda_device, "load_library", nobody)
    with pytest.raises(DeviceError, match="need cuBLAS"):
        x @ x
    assert (x + x).tolist() == [[2, 2], [2, 2]]

    def no_driver() -> int:
        raise stand_ins.CUDARuntimeError("cudaErrorInsufficientDriver")

    without = stand_ins.cupy()
    without.cuda.runtime.getDeviceCount = no_driver
    monkeypatch.setattr(cuda_device, "packages", lambda: (without, cuda))
    monkeypatch.setattr(device, "_backends", {})
    with pytest.raises(DeviceError, match=r"no usable NVIDIA driver \(cudaErrorInsuf"):
        torch.ones(2, device="cuda")


# --- products ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_products_of_every_layout(cuda, dtype) -> None:
    base = torch.arange(240, dtype=dtype).reshape(2, 3, 4, 10) % 7 - 3
    there = base.to("cuda")
    for f in (
        lambda x: x[0, 0] @ x[0, 1].T, lambda x: x[0, 0].T @ x[1, 1], lambda x: x @ x.mT,
        lambda x: x[:, :, ::2] @ x[0, 0, :, ::2].T.repeat(2, 1)[:10],
        lambda x: x[:, :1] @ x.mT, lambda x: x.transpose(0, 1) @ x[0, :, None].mT,
        lambda x: x[0, 0, :, :0] @ x[0, 0, :0], lambda x: x[0, 0, 0] @ x[0, 0].T,
        lambda x: x[0, 0, :, 1::3] @ x[0, 0, :3, 1:6],
    ):  # fmt: skip
        assert f(there).tolist() == f(base).tolist()


def test_how_cublas_is_told_of_matrices_and_batches() -> None:
    assert matrix_of(3, 4, 4, 1) == (False, 4) and matrix_of(3, 4, 1, 3) == (True, 3)
    assert matrix_of(3, 4, 20, 1) == (False, 20) and matrix_of(3, 4, 8, 2) is None
    assert matrix_of(3, 4, 0, 1) is None and matrix_of(1, 4, 0, 1) == (False, 4)
    assert matrix_of(1, 4, 9, 2) == (True, 2) and matrix_of(4, 1, 5, 9) == (False, 5)
    assert runs_of((2, 3), [(36, 12), (0, 0), (6, 2)]) == (6, [12, 0, 2], 2)
    assert runs_of((2, 3), [(36, 12), (12, 0)]) == (3, [12, 0], 1)
    assert runs_of((2, 1, 3), [(9, 5, 3)]) == (6, [3], 3) and runs_of((), [()]) == (1, [0], 0)


# --- graphs --------------------------------------------------------------------------------------


def fused() -> DeviceExecutable:
    """Products of arguments and of temporaries, random numbers, a number, an effect."""
    x, w, state = (
        OPS["input"](name=n, type=TensorType(dtypes.float32, shape))
        for n, shape in (("x", (5, 6)), ("w", (6, 4)), ("state", (5, 4)))
    )
    key, offset = (
        OPS["input"](name=n, type=TensorType(dtypes.int64, ()), role="scalar")
        for n in ("key", "offset")
    )
    y = OPS["softmax"](OPS["matmul"](x, w), axis=1)
    noise = OPS["random_uniform"](key, offset, type=y.type)
    back = OPS["matmul"](y, OPS["transpose"](w, perm=(1, 0)))
    outputs = (OPS["matmul"](x, w), OPS["tanh"](back) * 2.0, y + noise)
    graph = Graph("fused", (x, w, state, key, offset), outputs, ((state, state * 0.5 + y),))
    return DeviceExecutable(graph, device.backend_of(Device("cuda")))


def test_a_graph_has_the_values_of_launches(cuda) -> None:
    gpu = Device("cuda")
    rng = np.random.default_rng(0)
    xs = [from_host(rng.standard_normal((5, 6), np.float32), gpu) for _ in range(7)]
    w = rng.standard_normal((6, 4), np.float32)
    found = {}
    for graphs in (False, True):
        program, state = fused(), from_host(np.zeros((5, 4), np.float32), gpu)
        ws = [from_host(w, gpu) for _ in range(2)]
        with config.override(device_graphs=graphs):
            results = [
                program.run([x, ws[k > 4], state, 3, 100 * k]) for k, x in enumerate(xs)
            ]  # the weights move at call 5
        found[graphs] = [r.tolist() for rs in results for r in rs], state.tolist()
        backend = device.backend_of(gpu)
        assert backend.replays == (5 if graphs else 0)
    assert found[False] == found[True]
    assert program.newest is not None and "as one graph" in program.newest.describe()


def test_a_driver_that_refuses_a_graph_leaves_launches(cuda) -> None:
    cuda.cuGraphInstantiate = lambda graph, flags: (Result.CUDA_ERROR_INVALID_VALUE, None)
    program, gpu = fused(), Device("cuda")
    arrays = [from_host(np.ones(s, np.float32), gpu) for s in ((5, 6), (6, 4), (5, 4))]
    results = [program.run([*arrays, 3, 0])[1].tolist() for _ in range(4)]
    assert results == results[:1] * 4
    assert program.newest is not None
    assert "plain launches: cuda:0, a graph: cuGraphInstantiate" in program.newest.describe()
