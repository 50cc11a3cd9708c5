"""Layers, losses and utilities beyond the everyday ones, against closed forms and each other.

Invariant: expected numbers are torch 2.13's or follow from the definition.
"""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn.grad
import tracejit.nn.utils.prune as prune
from tracejit import nn
from tracejit.nn import functional as F


def test_fractional_max_pool() -> None:
    x = torch.arange(36.0).reshape(1, 1, 6, 6).requires_grad_()
    samples = torch.tensor([[[0.4, 0.7]]])
    got, index = F.fractional_max_pool2d(
        x, 2, 3, return_indices=True, _random_samples=samples
    )  # the windows begin at columns 0, 2, 4 and rows 0, 2, 4
    assert got.tolist() == [[[[7.0, 9.0, 11.0], [19.0, 21.0, 23.0], [31.0, 33.0, 35.0]]]]
    assert torch.equal(index.float(), got)
    got.sum().backward()
    assert x.grad.sum().item() == 9
    layer = nn.FractionalMaxPool3d(2, output_ratio=0.5)
    assert layer(torch.randn(2, 3, 4, 6, 8)).shape == (2, 3, 2, 3, 4)
    with pytest.raises(ValueError, match="output_size or output_ratio"):
        nn.FractionalMaxPool2d(2)
    with pytest.raises(RuntimeError, match=r"7 windows of 2 do not fit 6 elements.*f32\[1,1,6,6\]"):
        F.fractional_max_pool2d(x, 2, 7)


def test_householder_reflections_rebuild_a_matrix() -> None:
    a = torch.randn(2, 5, 3, dtype=torch.float64)
    reflectors, factors = torch.geqrf(a)
    q, r = torch.linalg.qr(a)
    assert torch.allclose(torch.linalg.householder_product(reflectors, factors), q)
    assert torch.allclose(torch.orgqr(reflectors, factors), q)
    full = torch.cat([r, torch.zeros(2, 2, 3, dtype=torch.float64)], 1)
    assert torch.allclose(torch.ormqr(reflectors, factors, full), a)
    assert torch.allclose(torch.ormqr(reflectors, factors, a, transpose=True), full)
    other = torch.randn(2, 4, 5, dtype=torch.float64)
    right = torch.ormqr(reflectors, factors, other, left=False)
    assert torch.allclose(
        torch.ormqr(reflectors, factors, right, left=False, transpose=True), other
    )
    wide = torch.geqrf(torch.randn(2, 5, dtype=torch.float64))  # its Q is square, too
    eye = torch.eye(2, dtype=torch.float64)
    square = torch.ormqr(*wide, eye)
    assert torch.allclose(square @ square.mT, eye)
    inputs = reflectors.requires_grad_(), factors.requires_grad_()
    assert torch.autograd.gradcheck(torch.linalg.householder_product, inputs)
    with pytest.raises(NotImplementedError, match="geqrf"):
        torch.geqrf(reflectors)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_linear_cross_entropy_loss(shape: tuple[int, ...]) -> None:
    loss = nn.LinearCrossEntropyLoss(4, 3, out_features=shape, bias=True)
    assert set(loss.state_dict()) == {"linear.weight", "linear.bias"}
    x, target = torch.randn(5, 4), torch.zeros(5, *shape, dtype=torch.int64)
    expected = F.cross_entropy(loss.linear(x).reshape(5, 3, *shape), target)
    assert torch.allclose(loss(x, target), expected)
    with pytest.raises(RuntimeError, match="in_features"):
        loss(torch.randn(5, 7), target)


@pytest.mark.parametrize("kind", [torch.int32, torch.int8, torch.bool, torch.float32])
def test_classes_are_int64_or_uint8(kind: torch.dtype) -> None:
    scores = torch.randn(3, 4)
    target = torch.zeros(3, dtype=kind)
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(RuntimeError, match="expected target dtype to be Long or Byte"):
            loss(scores, target)
    assert F.cross_entropy(scores, target.to(torch.uint8)).shape == ()


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("rule", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("relative", [True, False])
def test_orthogonal_weights(shape: tuple[int, int], rule: str | None, relative: bool) -> None:
    layer = nn.Linear(shape[1], shape[0], dtype=torch.float64)
    nn.utils.parametrizations.orthogonal(
        layer, orthogonal_map=rule, use_trivialization=relative
    )  # fmt: skip
    small = min(shape)
    for _ in range(2):
        w = layer.weight
        product = w @ w.mT if shape[0] == small else w.mT @ w
        assert torch.allclose(product, torch.eye(small, dtype=torch.float64), atol=1e-9)
        (w * torch.arange(w.numel()).reshape(w.shape)).sum().backward()
        with torch.no_grad():
            original = layer.parametrizations.weight.original
            if rule not in (None, "householder"):
                original.sub_(0.1 * original.grad)
    if relative or rule == "householder":
        wanted = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0][: shape[0], : shape[1]]
        if shape == (4, 4):
            wanted = torch.linalg.qr(wanted)[0]
        layer.weight = wanted
        assert rule != "householder" or relative or torch.allclose(layer.weight, wanted)


def test_pruning() -> None:
    layer = nn.Linear(4, 3)
    prune.l1_unstructured(layer, "weight", 0.25)
    smallest = layer.weight_orig.abs().reshape(-1).argsort()[:3]
    assert not layer.weight_mask.reshape(-1)[smallest].any()
    prune.ln_structured(layer, "weight", 1, n=2, dim=0)
    assert int((layer.weight_mask.sum(1) == 0).sum()) == 1
    assert prune.is_pruned(layer) and set(layer.state_dict()) == {
        "bias", "weight_mask", "weight_orig"}  # fmt: skip
    layer(torch.ones(2, 4)).sum().backward()
    assert torch.equal(layer.weight_orig.grad != 0, layer.weight_mask != 0)
    value = layer.weight.detach().clone()
    prune.remove(layer, "weight")
    assert torch.equal(layer.weight, value) and not prune.is_pruned(layer)
    pair = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    places = [(pair[0], "weight"), (pair[1], "weight")]
    prune.global_unstructured(places, pruning_method=prune.L1Unstructured, amount=10)
    assert sum(int((m.weight == 0).sum()) for m in pair) == 10
    with pytest.raises(ValueError, match="has to be pruned"):
        prune.remove(layer, "weight")


def test_gradients_of_convolutions() -> None:
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    w = torch.randn(6, 2, 3, 3, requires_grad=True)
    g = torch.randn(2, 6, 3, 3)
    F.conv2d(x, w, stride=2, padding=1, groups=2).backward(g)
    how = {"stride": 2, "padding": 1, "groups": 2}
    assert torch.allclose(tracejit.nn.grad.conv2d_input(x.shape, w, g, **how), x.grad)
    assert torch.allclose(tracejit.nn.grad.conv2d_weight(x, w.shape, g, **how), w.grad)


def test_assert_close() -> None:
    check = torch.testing.assert_close
    check({"a": [torch.ones(2), 1.0]}, {"a": [torch.ones(2) + 1e-6, 1.0 + 1e-9]})
    check(torch.tensor(float("nan")), torch.tensor(float("nan")), equal_nan=True)
    for wrong, text in (
        ((torch.ones(2), torch.ones(3)), "'shape' do not match"),
        ((torch.ones(2), torch.ones(2).double()), "'dtype' do not match"),
        (({"a": [torch.ones(2)]}, {"a": [torch.zeros(2)]}), r"(?s)2 / 2 .*item \['a'\]\[0\]"),
        (([1, 2], [1]), "length of the sequences mismatch"),
        ((1, 1.0), "types do not match"),
        ((torch.tensor([1, 2]), torch.tensor([1, 3])), r"(?s)not equal.*1 at index \(1,\)"),
    ):
        with pytest.raises(AssertionError, match=text):
            check(*wrong)
    with pytest.raises(ValueError, match="no atol"):
        check(torch.ones(1), torch.ones(1), rtol=1e-3)


@pytest.mark.parametrize("kind", ["float16", "float32", "int8", "uint8", "int64"])
def test_make_tensor(kind: str) -> None:
    made = torch.testing.make_tensor(
        20, 3, dtype=getattr(torch, kind), low=-1, high=3, noncontiguous=True, exclude_zero=True
    )
    assert made.shape == (20, 3) and not made.is_contiguous()
    values = made.numpy().astype(np.float64)
    assert (values != 0).all() and values.min() >= -1 and values.max() < 3
