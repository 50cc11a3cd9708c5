"""``torch.masked``: what is masked out has no part in a result and no gradient.

Invariant: expected values are those of the elements that are left, written out by hand or by
numpy.ma.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import tracejit as torch

X = np.array([[1.0, -2.0, 3.0], [4.0, 0.5, -6.0]])
MASK = np.array([[True, False, True], [True, True, False]])


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "amax", "amin", "var", "std"])
def test_reductions_are_those_of_numpys_masked_arrays(name: str) -> None:
    kept = np.ma.array(X, mask=~MASK)
    spelled = {"amax": "max", "amin": "min"}.get(name, name)
    options = {"ddof": 1} if name in ("var", "std") else {}
    x = torch.tensor(X, requires_grad=True)
    for dim in (0, 1, None):
        got = getattr(torch.masked, name)(x, dim, mask=torch.tensor(MASK))
        want = np.ma.filled(getattr(kept, spelled)(dim, **options), math.nan)
        alone = np.broadcast_to(MASK.sum(dim) > 1, np.shape(want)) | (not options)
        np.testing.assert_allclose(got.detach().numpy()[alone], np.asarray(want)[alone])
    (grad,) = torch.autograd.grad(torch.masked.mean(x, mask=torch.tensor(MASK)), x)
    assert grad.tolist() == (MASK / 4).tolist()


def test_normalisations_scans_and_places() -> None:
    x, mask = torch.tensor(X), torch.tensor(MASK)
    soft = torch.masked.softmax(x, 1, mask=mask)
    assert (
        soft[0, 1] == 0 and soft[1, 2] == 0 and torch.allclose(soft.sum(1), torch.ones(2).double())
    )
    assert torch.masked.cumsum(x, 1, mask=mask).tolist() == [[1, 1, 4], [4, 4.5, 4.5]]
    assert torch.masked.argmin(x, 1, dtype=torch.int64, mask=mask).tolist() == [0, 1]
    assert torch.masked.median(x, 1, mask=mask).tolist() == [1.0, 0.5]
    assert torch.masked.norm(x, 1.0, 1, mask=mask).tolist() == [4.0, 4.5]
    assert torch.masked.normalize(x, 1.0, 1, mask=mask)[0].tolist() == [0.25, 0.0, 0.75]


def test_of_nothing_and_refusals() -> None:
    x, none = torch.tensor([1, 2], dtype=torch.int8), torch.tensor([False, False])
    assert torch.masked.sum(x, mask=none).dtype is torch.int64
    assert torch.masked.amax(x, mask=none).item() == -128
    assert math.isnan(torch.masked.mean(x.float(), mask=none).item())
    with pytest.raises(ValueError, match="floating point"):
        torch.masked.mean(x, mask=none)
    with pytest.raises(IndexError, match="more dimensions"):
        torch.masked.sum(x, mask=none.unsqueeze(0))


def test_compiled_equals_plain() -> None:
    call = torch.compile(
        lambda x, m: torch.masked.std(x, 1, mask=m) + torch.masked.mean(x, 1, mask=m)
    )
    x, mask = torch.tensor(X), torch.tensor(MASK)
    plain = torch.masked.std(x, 1, mask=mask) + torch.masked.mean(x, 1, mask=mask)
    for _ in range(2):
        assert torch.equal(call(x, mask), plain)
