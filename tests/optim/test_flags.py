"""Optimizers' flags, refusals and state keys as torch has them; leaves written twice in a capture.

Invariant: what torch refuses here is refused with the same class of error.
"""

from __future__ import annotations

import warnings

import pytest

import tracejit as torch

FLAGS = {"foreach", "capturable", "differentiable", "fused"}


def _parameter(*shape: int) -> torch.Tensor:
    return torch.ones(*(shape or (2, 2)), requires_grad=True)


@pytest.mark.parametrize("name, flags", [
    ("SGD", FLAGS - {"capturable"}), ("Adam", FLAGS), ("AdamW", FLAGS),
    ("Adagrad", FLAGS - {"capturable"}), ("RMSprop", FLAGS - {"fused"}),
    ("NAdam", FLAGS - {"fused"}), ("Rprop", FLAGS - {"fused"}),
])  # fmt: skip
def test_groups_hold_the_flags_that_were_given(name: str, flags: set[str]) -> None:
    make = getattr(torch.optim, name)
    assert FLAGS & set(make([_parameter()]).param_groups[0]) == flags
    assert make([_parameter()], foreach=True).param_groups[0]["foreach"] is True


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_flags_that_exclude_each_other(name: str) -> None:
    make = getattr(torch.optim, name)
    with pytest.raises(RuntimeError, match=r"fused.*foreach"):
        make([_parameter()], fused=True, foreach=True)
    with pytest.raises(RuntimeError, match="differentiable"):
        make([_parameter()], fused=True, differentiable=True)


def test_bad_tensors_and_names() -> None:
    p, q = _parameter(), _parameter()
    with pytest.raises(ValueError, match="1-element"):
        torch.optim.SGD([p], lr=torch.tensor([0.1, 0.1]))
    with pytest.raises(ValueError, match="betas must be"):
        torch.optim.Adam([p], betas=(0.9, torch.tensor(0.99)))
    with pytest.raises(ValueError, match="lr as a Tensor"):
        torch.optim.AdamW([p], lr=torch.tensor(0.1), foreach=True)
    with pytest.raises(ValueError, match="epsilon1"):
        torch.optim.Adafactor([p], eps=(-1e-30, 1e-3))
    with pytest.raises(ValueError, match="names"):
        torch.optim.SGD([("weight", p), q])
    with pytest.raises(ValueError, match="names"):
        torch.optim.SGD([{"params": [p]}, {"params": [("weight", q)]}])
    with pytest.raises(ValueError, match="more than one parameter group"):
        torch.optim.SGD([{"params": [p]}, {"params": [p]}])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.optim.SGD([p, p])
    assert "duplicate" in str(caught[0].message)


def test_differentiable_step() -> None:
    lr = torch.tensor(0.5, requires_grad=True)
    start = torch.ones(3, requires_grad=True)
    p = start.clone()
    p.grad = torch.full((3,), 2.0)
    torch.optim.SGD([p], lr=lr, differentiable=True).step()
    p.sum().backward()
    assert p.tolist() == [0.0] * 3
    assert start.grad.tolist() == [1.0] * 3 and lr.grad.item() == -6.0


def test_leaf_written_twice_in_a_capture() -> None:
    """A parameter stays a leaf, so a second backward and step in one call see a fresh history."""

    def train(p: torch.Tensor) -> list[float]:
        for _ in range(3):
            p.grad = None
            (p * p).sum().backward()
            with torch.no_grad():
                p.add_(p.grad * -0.1)
                p.mul_(2.0)
            assert p.is_leaf
        (p * p).sum().backward()
        return p.grad

    want = train(_parameter(3))
    compiled = torch.compile(train)
    for _ in range(2):
        assert compiled(_parameter(3)).tolist() == want.tolist()
    assert compiled.cache_info().hits == 1


def test_lbfgs_state_has_torchs_keys() -> None:
    p = _parameter(3)
    optimizer = torch.optim.LBFGS([p], max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = ((p - torch.arange(3.0)) ** 4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    keys = set(optimizer.state_dict()["state"][0])
    assert {"al", "prev_loss", "d", "t", "old_dirs", "ro"} <= keys
