"""Copies that the host does not wait for: on `sim`, which puts them off as long as it can.

Invariant: what arrives is what the source held when the copy was asked for, but for memory that
the user pinned and wrote to too early.
"""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as torch
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of
from tracejit.utils.data import DataLoader, TensorDataset

SIM = backend_of(Device("sim", 0))


def test_staging_keeps_what_the_source_held() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    there = []
    for k in range(5):
        x.fill_(float(k))
        there.append(x.T.to("sim", non_blocking=True))
    assert SIM.copies  # nothing has been copied yet
    assert [t[0, 0].item() for t in there] == [0, 1, 2, 3, 4] and not SIM.copies
    assert there[0].tolist() == [[0, 0]] * 3


def test_staging_memory_is_used_again_when_it_was_read() -> None:
    for _ in range(3):
        torch.ones(2000).to("sim", non_blocking=True).sum().item()
    assert SIM.staging is not None
    held = {size: len(free) for size, free in SIM.staging.free.items()}
    for _ in range(5):
        torch.ones(2000).to("sim", non_blocking=True).sum().item()
    assert {size: len(free) for size, free in SIM.staging.free.items()} == held
    assert len(SIM.staging.under_way) <= 2


def test_pinned_tensors() -> None:
    x = torch.arange(4.0)
    assert not x.is_pinned() and not x[1:].is_pinned()
    pinned = x.pin_memory("sim")
    assert pinned.is_pinned() and pinned[1:].is_pinned() and pinned.pin_memory("sim") is pinned
    there = pinned.to("sim", non_blocking=True)
    del pinned  # alive until it was read
    assert there.tolist() == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="cannot pin a tensor on sim:0"):
        there.pin_memory("sim")
    if not torch.cuda.is_available():
        assert x.pin_memory() is x


def test_loaders_pin_their_batches() -> None:
    data = TensorDataset(torch.arange(6.0), torch.arange(6))
    loader = DataLoader(data, batch_size=4, pin_memory=True, pin_memory_device="sim")
    sizes = []
    for x, y in loader:
        assert x.is_pinned() and y.is_pinned()
        sizes.append(len(x.to("sim", non_blocking=True).tolist()))
    assert sizes == [4, 2] and len(loader) == 2
    (batch,) = DataLoader([{"a": 1.0, "b": ["s"]}], pin_memory=True, pin_memory_device="sim")
    assert batch["a"].is_pinned() and batch["b"] == [["s"]]


def test_copies_from_a_device_are_waited_for() -> None:
    x = torch.arange(3.0, device="sim")
    here = (x * 2).to("cpu", non_blocking=True)
    np.testing.assert_array_equal(here.numpy(), [0, 2, 4])
