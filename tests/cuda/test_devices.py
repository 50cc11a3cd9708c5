"""Tensors on a device: moving, mixing, printing, errors, files; on the simulated one.

Invariant: nothing here needs a GPU, and no value is compared that the device did not compute.
"""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit import config
from tracejit.errors import DeviceError, DivisionError, OutOfMemoryError
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of


@pytest.fixture
def x() -> torch.Tensor:
    return torch.arange(6.0, device="sim").reshape(2, 3)


# --- where things are ------------------------------------------------------------------------


def test_moves(x) -> None:
    assert str(x.device) == "sim:0" and x.device == torch.device("sim") and not x.is_cpu
    assert x.cpu().device.type == "cpu" and x.to("sim") is x
    assert x.to("sim:1").device.index == 1
    assert x.to("sim", torch.float64).dtype is torch.float64
    np.testing.assert_array_equal(x.cpu().numpy(), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda **d: torch.zeros(2, **d), lambda **d: torch.full((2,), 3, **d),
        lambda **d: torch.tensor([1.0, 2.0], **d), lambda **d: torch.randn(2, **d),
        lambda **d: torch.randint(0, 9, (4,), **d), lambda **d: torch.eye(2, **d),
        lambda **d: torch.linspace(0, 1, 3, **d), lambda **d: torch.as_tensor([1, 2], **d),
        lambda **d: torch.randperm(5, **d),
    ],
)  # fmt: skip
def test_factories_make_the_same_values(make) -> None:
    torch.manual_seed(1)
    there = make(device="sim")
    torch.manual_seed(1)
    here = make()
    assert there.device.type == "sim" and here.device.type == "cpu"
    assert there.dtype is here.dtype and there.tolist() == here.tolist()


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y, lambda x, y: y * x, lambda x, y: x @ y.T,
        lambda x, y: torch.cat([x, y]), lambda x, y: torch.where(x > 2, x, y),
        lambda x, y: x.add_(y), lambda x, y: torch.maximum(x, y),
    ],
)  # fmt: skip
def test_mixing_devices_names_both(mix, x) -> None:
    with pytest.raises(DeviceError, match=r"sim:0.* and .*cpu|cpu.* and .*sim:0"):
        mix(x, torch.ones(2, 3))
    with pytest.raises(DeviceError, match=r"sim:(0 and sim:1|1 and sim:0)"):
        mix(x, torch.ones(2, 3, device="sim:1"))


def test_numbers_of_the_cpu_mix(x) -> None:
    assert (x + torch.tensor(2.0)).sum().item() == 27.0
    assert (x * 2).device.type == "sim"


def test_printing_names_the_device(x) -> None:
    assert repr(x) == "tensor([[0., 1., 2.],\n        [3., 4., 5.]], device='sim:0')"


def test_what_the_host_cannot_have(x) -> None:
    message = "can't convert sim:0 device type tensor to numpy. Use Tensor.cpu()"
    for ask in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.add(x._array, 1)):
        with pytest.raises(TypeError, match="sim:0"):
            ask()
    with pytest.raises(TypeError, match=message.replace("(", r"\(").replace(")", r"\)")):
        x.numpy()
    with pytest.raises(BufferError, match="sim:0"):
        np.from_dlpack(x)
    assert x.numpy(force=True).shape == (2, 3)


# --- writing and indexing --------------------------------------------------------------------


def test_views_share_memory(x) -> None:
    x[0, 0] = 7.0
    x.T[1].mul_(10)
    assert x.tolist() == [[7, 10, 2], [3, 40, 5]]
    assert x[:, 1:].stride() == (3, 1) and x[1:].storage_offset() == 3
    flat = x.view(-1)
    flat[1:].copy_(flat[:-1])  # they overlap
    assert flat.tolist() == [7, 7, 10, 2, 3, 40]


def test_copies_cross_devices(x) -> None:
    here = torch.zeros(2, 3)
    here.copy_(x)
    assert here.tolist() == x.tolist()
    x.copy_(torch.ones(3))
    assert x.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_indexing(x) -> None:
    assert x[torch.tensor([1, 0])].tolist() == [[3, 4, 5], [0, 1, 2]]  # an index of the CPU follows
    assert x[torch.tensor([-1], device="sim")].tolist() == [[3, 4, 5]]
    assert x[x > 2].tolist() == [3, 4, 5]
    x[x > 4] = 0
    assert x.tolist() == [[0, 1, 2], [3, 4, 0]]
    with pytest.raises(DeviceError, match="CPU"):
        torch.ones(3)[torch.tensor([0], device="sim")]


def test_a_bad_index_is_told_at_the_next_wait(x) -> None:
    result = x[torch.tensor([5], device="sim")]  # nobody waits here
    with pytest.raises(IndexError, match="out of bounds for dimension with size 2"):
        result.tolist()
    assert x.sum().item() == 15.0  # told once, and the process goes on
    with pytest.raises(IndexError, match="gather"):
        x.gather(1, torch.tensor([[3]], device="sim")).tolist()
    with pytest.raises(DivisionError):
        (torch.tensor([1], device="sim") // torch.tensor([0], device="sim")).tolist()


def test_only_asked_for_waits(x) -> None:
    """`item()`, printing, branches and explicit copies wait; nothing else may."""
    with config.override(forbid_sync=True):
        w = torch.randn(3, 2, device="sim", requires_grad=True)
        loss = torch.softmax(x @ w, -1).log()[torch.tensor([0, 1], device="sim")].sum()
        loss.backward()
        assert loss.item() < 0 and "sim:0" in repr(w.grad)
        if (x.sum() > 0) and x.cpu().sum() > 0:
            pass
        with pytest.raises(DeviceError, match="nonzero makes the host wait"):
            x.nonzero()
        with pytest.raises(DeviceError, match="no kernel here"):
            torch.linalg.svd(x)


# --- gradients, models, files ----------------------------------------------------------------


def test_gradients_cross_devices() -> None:
    x = torch.ones(2, requires_grad=True)
    (x.to("sim") * torch.tensor([2.0, 3.0], device="sim")).sum().backward()
    assert x.grad.device.type == "cpu" and x.grad.tolist() == [2, 3]


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_models_move_with_buffers_and_gradients() -> None:
    model = make_model().to("sim")
    model(torch.randn(5, 3, device="sim")).sum().backward()
    everything = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    assert {str(t.device) for t in everything} == {"sim:0"}
    assert {str(p.device) for p in copy.deepcopy(model).parameters()} == {"sim:0"}
    assert {str(t.device) for t in model.cpu().state_dict().values()} == {"cpu"}


def test_files_and_other_devices() -> None:
    model = make_model().to("sim")
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = make_model()
    other.load_state_dict(torch.load(file, map_location="sim:1"))
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert theirs.device.type == "cpu" and mine.tolist() == theirs.tolist()
    x = torch.arange(3, device="sim")
    again = pickle.loads(pickle.dumps(x))
    assert again.device == x.device and again.tolist() == [0, 1, 2]


def test_optimizers_keep_their_state_with_the_parameters() -> None:
    model = make_model().to("sim")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.randn(5, 3, device="sim")).sum().backward()
    optimizer.step()
    held = {str(v.device) for s in optimizer.state.values() for v in s.values()}
    assert held == {"sim:0"}


# --- what can go wrong -----------------------------------------------------------------------


def test_a_device_that_does_not_exist() -> None:
    with pytest.raises(DeviceError, match="there is no sim:7"):
        torch.ones(2).to("sim:7")
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        torch.ones(2).to("gpu")


def test_out_of_memory_is_one_error_and_frees_nothing_else() -> None:
    sim = backend_of(Device("sim"))
    before = sim.allocated
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        torch.empty(3 << 30, device="sim")
    assert sim.allocated == before and torch.ones(2, device="sim").sum().item() == 2


def test_memory_comes_back() -> None:
    sim = backend_of(Device("sim"))
    torch.randn(64, device="sim").exp().sum().item()
    before = sim.allocated
    for _ in range(3):
        torch.randn(64, device="sim").exp().sum().item()
    assert sim.allocated == before
    x = torch.zeros(1000, device="sim")
    assert torch.cuda.memory_allocated("sim") == sim.allocated >= before + 4000
    del x
    assert torch.cuda.max_memory_allocated("sim") >= torch.cuda.memory_allocated("sim")


def test_cuda_without_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert torch.cuda.device_count() == 0 and not torch.cuda.is_initialized()
    for ask in (
        torch.cuda.init,
        torch.cuda.synchronize,
        torch.cuda.Stream,
        torch.cuda.current_device,
    ):
        with pytest.raises(DeviceError, match="device 'cuda'"):
            ask()
