"""Sorting, searching and running extremes on the simulated device: NumPy's order, no host trips.

Invariant: every call runs under `forbid_sync`; values are compared with the CPU bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as torch
from tracejit import config


def both(f: Any, *tensors: Any) -> None:
    """The same results on `sim` as on the CPU."""
    with config.override(forbid_sync=True):
        found = f(*(t.to("sim") for t in tensors))
    for got, want in zip(found, f(*tensors), strict=True):
        np.testing.assert_array_equal(got.cpu().numpy(), want.numpy())


@pytest.mark.parametrize("n", [1, 2, 5, 64, 333])
def test_sorts_of_all_lengths(n: int) -> None:
    x = torch.randint(0, 9, (3, n)).float()
    x[0, n // 2] = float("nan")
    x[1, n // 3] = float("-inf")
    for descending in (False, True):
        both(lambda t, d=descending: torch.sort(t, 1, descending=d, stable=True), x)
    both(lambda t: torch.sort(t, 0), x)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16])
def test_sorts_of_other_dtypes(dtype: Any) -> None:
    x = (torch.arange(24).reshape(2, 3, 4) * 7 % 5).to(dtype)
    both(lambda t: torch.sort(t, 1), x)
    both(lambda t: torch.sort(t.mT, -1, descending=True), x)


def test_what_sorts() -> None:
    x = torch.randn(4, 9)
    both(lambda t: torch.topk(t, 3), x)
    both(lambda t: (t.argsort(-1), t.median(1).values, t.kthvalue(2, 1).values), x)
    both(lambda t: torch.sort(t, 1), torch.zeros(3, 0))


def test_searching() -> None:
    rows = torch.tensor([[1.0, 2, 2, 5], [0.0, 0, 3, float("nan")]])
    x = torch.tensor([[2.0, 9, float("nan")], [0.0, -1, 3]])
    for right in (False, True):
        both(lambda r, v, s=right: (torch.searchsorted(r, v, right=s),), rows, x)
        both(lambda r, v, s=right: (torch.bucketize(v, r[0], right=s),), rows, x)


def test_running_extremes() -> None:
    x = torch.tensor([[1.0, 3, 3, 2], [float("nan"), 7, 1, 0], [2.0, 3, float("nan"), 9]])
    for f in (torch.cummax, torch.cummin):
        for axis in (0, 1):
            both(lambda t, f=f, axis=axis: f(t, axis), x)
        both(lambda t, f=f: f(t, 0), torch.tensor([3, 1, 3]))


def test_a_sort_within_a_graph_of_launches() -> None:
    f = torch.compile(lambda x: torch.topk(torch.tanh(x), 2).values.sum(0))
    for k in range(5):
        x = torch.randn(4, 6) + k
        np.testing.assert_array_equal(f(x.to("sim")).cpu().numpy(), f(x).numpy())
    assert "replayed as one graph" in str(f.explain())
