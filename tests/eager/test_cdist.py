"""Distances between rows: by a matrix product for many rows, by differences for few.

Invariant: both ways are held to float64 NumPy; the values of torch's `compute_mode` choose.
"""

import numpy as np
import pytest

import tracejit as torch


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, n, 5))


@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("mode", [
    None, "use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
])  # fmt: skip
def test_distances_and_their_gradients(n: int, mode: str | None) -> None:
    a, b = rows(n), rows(4, 1)
    x, y = (torch.from_numpy(v).requires_grad_() for v in (a, b))
    f = torch.compile(lambda x, y: torch.cdist(x, y, compute_mode=mode))
    want = np.sqrt(((a[:, :, None] - b[:, None]) ** 2).sum(-1))
    for found in (torch.cdist(x, y, compute_mode=mode), f(x, y), f(x, y)):
        np.testing.assert_allclose(found.detach().numpy(), want, rtol=1e-12)
        x.grad = None
        found.sum().backward()
        slope = ((a[:, :, None] - b[:, None]) / want[..., None]).sum(2)
        np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-9, atol=1e-12)


def test_equal_rows_have_no_distance_and_no_gradient() -> None:
    x = torch.ones(30, 4, requires_grad=True)
    distance = torch.cdist(x, x.detach())
    distance.sum().backward()
    assert not distance.any() and not x.grad.any()


def test_nan_stays_and_no_columns_give_zeros() -> None:
    x = torch.full((30, 2), float("nan"))
    assert torch.cdist(x, torch.zeros(3, 2)).isnan().all()
    assert torch.cdist(torch.zeros(30, 0), torch.zeros(3, 0)).tolist() == [[0.0] * 3] * 30


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="compute_mode"):
        torch.cdist(torch.zeros(2, 2), torch.zeros(2, 2), compute_mode="fast")
