"""Losses: values worked out with NumPy, gradients numeric, every reduction, bad targets raise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from nn_reference import check_gradients, sigmoid, softmax, tensor

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F

_rng = np.random.default_rng(0)
_A, _B = _rng.normal(size=(4, 3)), _rng.normal(size=(4, 3))
_P = sigmoid(_rng.normal(size=(4, 3)))
_Y = np.where(_rng.normal(size=(4, 3)) > 0, 1.0, -1.0)
_C = np.array([2, 0, 1, 2])
_D = np.abs(_A - _B)

TABLE = {
    "mse": (F.mse_loss, (_A, _B), (_A - _B) ** 2),
    "l1": (F.l1_loss, (_A, _B), _D),
    "smooth_l1": (
        lambda x, y, **k: F.smooth_l1_loss(x, y, beta=0.5, **k), (_A, _B),
        np.where(_D < 0.5, _D**2, _D - 0.25),
    ),
    "huber": (
        lambda x, y, **k: F.huber_loss(x, y, delta=0.8, **k), (_A, _B),
        np.where(_D < 0.8, 0.5 * _D**2, 0.8 * (_D - 0.4)),
    ),
    "bce": (F.binary_cross_entropy, (_P, (_Y + 1) / 2), -np.log(np.where(_Y > 0, _P, 1 - _P))),
    "bce_logits": (
        F.binary_cross_entropy_with_logits, (_A, (_Y + 1) / 2),
        -np.log(np.where(_Y > 0, sigmoid(_A), 1 - sigmoid(_A))),
    ),
    "kl": (F.kl_div, (np.log(_P), softmax(_B)), softmax(_B) * (np.log(softmax(_B)) - np.log(_P))),
    "poisson": (
        lambda x, y, **k: F.poisson_nll_loss(x, y, full=True, **k), (_A, np.abs(_B) * 3),
        np.exp(_A) - np.abs(_B) * 3 * _A + np.where(
            np.abs(_B) * 3 > 1,
            np.abs(_B) * 3 * np.log(np.abs(_B) * 3) - np.abs(_B) * 3
            + 0.5 * np.log(2 * math.pi * np.abs(_B) * 3), 0,
        ),
    ),
    "gaussian": (
        F.gaussian_nll_loss, (_A, _B, _P), 0.5 * (np.log(_P) + (_A - _B) ** 2 / _P),
    ),
    "soft_margin": (F.soft_margin_loss, (_A, _Y), np.log1p(np.exp(-_Y * _A))),
    "hinge": (F.hinge_embedding_loss, (_A, _Y), np.where(_Y > 0, _A, np.maximum(0, 1 - _A))),
    "ranking": (
        lambda x, y, t, **k: F.margin_ranking_loss(x, y, t, margin=0.3, **k), (_A, _B, _Y),
        np.maximum(0, -_Y * (_A - _B) + 0.3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_value_reductions_and_gradient(name):
    function, arrays, expected = TABLE[name]
    xs = [tensor(a) for a in arrays]
    each = function(*xs, reduction="none").numpy()
    np.testing.assert_allclose(each, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(function(*xs).item(), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(function(*xs, reduction="sum").item(), expected.sum(), rtol=1e-6)
    check_gradients(lambda x: function(x, *xs[1:], reduction="none"), arrays[0])
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        function(*xs, reduction="average")


def _nll(logits, classes, weight, ignored):
    p = np.log(softmax(logits))
    kept = [i for i, c in enumerate(classes) if c != ignored]
    losses = np.zeros(len(classes))
    losses[kept] = [-p[i, classes[i]] * weight[classes[i]] for i in kept]
    return losses, sum(weight[classes[i]] for i in kept)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropy_of_classes(weighted, ignored):
    weight = np.array([0.5, 1.5, 2.0]) if weighted else np.ones(3)
    losses, total = _nll(_A, _C, weight, ignored)
    how = {"ignore_index": ignored, "weight": tensor(weight) if weighted else None}
    x, y = tensor(_A), torch.tensor(_C)
    np.testing.assert_allclose(F.cross_entropy(x, y, reduction="none", **how).numpy(), losses)
    np.testing.assert_allclose(F.cross_entropy(x, y, **how).item(), losses.sum() / total)
    np.testing.assert_allclose(F.nll_loss(x.log_softmax(1), y, **how).item(), losses.sum() / total)
    check_gradients(lambda x: F.cross_entropy(x, y, **how).reshape(1), _A)


def test_label_smoothing_is_a_mixture_with_the_uniform_distribution():
    x, y = tensor(_A), torch.tensor(_C)
    target = 0.9 * np.eye(3)[_C] + 0.1 / 3
    expected = -(target * np.log(softmax(_A))).sum(1)
    smooth = F.cross_entropy(x, y, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(smooth.numpy(), expected)
    soft = F.cross_entropy(x, tensor(np.eye(3)[_C]), label_smoothing=0.1)
    np.testing.assert_allclose(soft.item(), expected.mean())
    check_gradients(lambda x: F.cross_entropy(x, y, label_smoothing=0.1).reshape(1), _A)


def test_cross_entropy_over_images_and_without_a_batch():
    logits = _rng.normal(size=(2, 3, 2, 2))
    classes = _rng.integers(0, 3, size=(2, 2, 2))
    p = np.log(softmax(logits, 1))
    n, i, j = np.indices(classes.shape)
    expected = -p[n, classes, i, j]
    got = F.cross_entropy(tensor(logits), torch.tensor(classes), reduction="none")
    np.testing.assert_allclose(got.numpy(), expected)
    one = F.cross_entropy(tensor(_A[0]), torch.tensor(2))
    np.testing.assert_allclose(one.item(), -np.log(softmax(_A[0])[2]))


@pytest.mark.parametrize("bad", [3, -1])
def test_a_class_out_of_range_raises(bad):
    with pytest.raises(IndexError, match="out of bounds"):
        F.cross_entropy(torch.randn(2, 3), torch.tensor([0, bad]))


def test_shape_and_dtype_errors():
    with pytest.raises(RuntimeError, match=r"expected \[4\]"):
        F.cross_entropy(torch.randn(4, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="target's shape"):
        F.binary_cross_entropy(torch.rand(2), torch.rand(3))
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        F.binary_cross_entropy(torch.tensor([1.5]), torch.tensor([1.0]))
    with pytest.raises(RuntimeError, match="negative"):
        F.gaussian_nll_loss(torch.ones(2), torch.ones(2), torch.tensor([1.0, -1.0]))
    with pytest.warns(UserWarning, match="rarely meant") as caught:
        F.mse_loss(torch.ones(2, 1), torch.ones(2))
        torch.nn.MSELoss()(torch.ones(2, 1), torch.ones(2))
        torch.compile(torch.nn.MSELoss())(torch.ones(2, 1), torch.ones(2))
    assert [w.filename for w in caught] == [__file__] * 3


def test_bce_with_logits_does_not_overflow_and_weighs_positives():
    x = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, torch.tensor([0.0, 1.0, 1.0]), reduction="none")
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 0.0, math.log(2)])
    assert x.grad.tolist() == pytest.approx([0.0, 0.0, -0.5])
    weighted = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]))(torch.zeros(1), torch.ones(1))
    assert weighted.item() == pytest.approx(3 * math.log(2))


def test_losses_of_vectors():
    dot = (_A * _B).sum(1) / np.linalg.norm(_A, axis=1) / np.linalg.norm(_B, axis=1)
    y = np.array([1.0, -1.0, -1.0, 1.0])
    expected = np.where(y > 0, 1 - dot, np.maximum(0, dot - 0.1)).mean()
    got = nn.CosineEmbeddingLoss(margin=0.1)(tensor(_A), tensor(_B), tensor(y))
    np.testing.assert_allclose(got.item(), expected, rtol=1e-6)
    near, far = (np.linalg.norm(_A - o + 1e-6, axis=1) for o in (_B, _P))
    got = nn.TripletMarginLoss()(tensor(_A), tensor(_B), tensor(_P))
    np.testing.assert_allclose(got.item(), np.maximum(0, near - far + 1).mean(), rtol=1e-9)
    gaps = np.maximum(0, 1 - _A[np.arange(4), _C][:, None] + _A)
    gaps[np.arange(4), _C] = 0
    got = nn.MultiMarginLoss()(tensor(_A), torch.tensor(_C))
    np.testing.assert_allclose(got.item(), gaps.sum(1).mean() / 3)


def test_multilabel_margin_reads_labels_up_to_the_first_minus_one():
    x = tensor([[0.1, 0.2, 0.4, 0.8]])
    y = torch.tensor([[3, 0, -1, 1]])
    expected = sum(max(0, 1 - (a - b)) for a in (0.8, 0.1) for b in (0.2, 0.4)) / 4
    assert nn.MultiLabelMarginLoss()(x, y).item() == pytest.approx(expected)


def test_a_loss_module_keeps_its_weight_as_a_buffer():
    loss = nn.CrossEntropyLoss(weight=torch.ones(3))
    assert list(loss.state_dict()) == ["weight"] and loss.double().weight.dtype is torch.float64


def _alignments(log_p, target, blank=0):
    """-log of the summed probability of every path that collapses to `target`."""
    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        collapsed = [k for k, _ in itertools.groupby(path)]
        if [k for k in collapsed if k != blank] == target:
            total += math.exp(sum(log_p[t, k] for t, k in enumerate(path)))
    return -math.log(total) if total else math.inf


def test_ctc_sums_over_all_alignments():
    log_p = np.log(softmax(_rng.normal(size=(5, 3, 3))))
    targets, lengths = [[1, 1], [2], []], [5, 4, 3]
    expected = [_alignments(log_p[:n, i], t) for i, (t, n) in enumerate(zip(targets, lengths))]
    padded = torch.tensor([[1, 1], [2, 0], [0, 0]])
    got = F.ctc_loss(tensor(log_p), padded, lengths, [2, 1, 0], reduction="none")
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)
    joined = F.ctc_loss(tensor(log_p), torch.tensor([1, 1, 2]), lengths, [2, 1, 0])
    mean = np.mean([e / max(len(t), 1) for e, t in zip(expected, targets)])
    np.testing.assert_allclose(joined.item(), mean, rtol=1e-9)
    check_gradients(
        lambda x: F.ctc_loss(x.log_softmax(2), padded, lengths, [2, 1, 0], reduction="none"), log_p
    )


def test_ctc_gradient_is_that_of_probabilities_that_stay_normalised():
    """As torch's: behind log_softmax nothing changes, without it each step's total weighs in."""
    logits = torch.tensor(_rng.normal(size=(4, 2, 3)), requires_grad=True)
    how = (torch.tensor([[1, 2], [2, 0]]), [4, 2], [2, 1])
    log_p = logits.log_softmax(2)
    direct, through = torch.autograd.grad(F.ctc_loss(log_p, *how), [log_p, logits])
    np.testing.assert_allclose(direct.numpy(), through.numpy(), atol=1e-12)
    assert abs(direct.sum().item()) < 1e-12 and not direct[2:, 1].any()


def test_ctc_is_one_trace_for_other_targets_and_lengths():
    log_p = torch.randn(5, 3, 4).log_softmax(2)
    loss = torch.compile(F.ctc_loss, fullgraph=True)
    for targets, lengths, sizes in (
        ([[1, 1], [2, 3], [3, 2]], [5, 5, 4], [2, 1, 2]),
        ([[3, 1], [2, 2], [1, 2]], [5, 3, 5], [1, 0, 2]),
    ):
        how = torch.tensor(targets), torch.tensor(lengths), torch.tensor(sizes)
        assert loss(log_p, *how).item() == F.ctc_loss(log_p, *how).item()
    assert loss.cache_info().misses == 1
    with pytest.raises(RuntimeError, match="ctc_loss: an input length exceeds 5 steps"):
        loss(log_p, how[0], torch.tensor([5, 6, 5]), how[2])


def test_ctc_of_a_target_that_does_not_fit():
    log_p = torch.zeros(2, 1, 3, requires_grad=True)
    how = ([[1, 1]], [2], [2])
    assert F.ctc_loss(log_p, torch.tensor(how[0]), *how[1:]).item() == math.inf
    loss = nn.CTCLoss(zero_infinity=True)(log_p, torch.tensor(how[0]), *how[1:])
    loss.backward()
    assert loss.item() == 0 and (log_p.grad == 0).all()


def test_adaptive_softmax_is_the_log_probability_of_the_target():
    model = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 12], div_value=2.0, head_bias=True)
    assert [n for n, _ in model.named_parameters()] == [
        "head.weight", "head.bias", "tail.0.0.weight", "tail.0.1.weight", "tail.1.0.weight",
        "tail.1.1.weight",
    ]  # fmt: skip
    x, target = torch.randn(6, 8), torch.tensor([0, 4, 5, 11, 12, 19])
    every = model.log_prob(x)
    np.testing.assert_allclose(every.exp().sum(1).detach().numpy(), 1, rtol=1e-6)
    found = model(x, target)
    expected = every.gather(1, target.unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(found.output.detach().numpy(), expected.detach().numpy(), rtol=1e-6)
    assert found.loss.item() == pytest.approx(-expected.mean().item(), rel=1e-6)
    assert model(x[0], target[0]).output.shape == () and model.predict(x).shape == (6,)
    with pytest.raises(RuntimeError, match=r"in \[0, 19\], but values in range \[0, 20\]"):
        model(x, torch.tensor([0, 4, 5, 11, 12, 20]))
    with pytest.raises(ValueError, match="cutoffs"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 20])


def test_what_torch_refuses_is_refused():
    scores = torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="ignore_index is not supported"):
        F.cross_entropy(scores, torch.rand(3), ignore_index=1)
    with pytest.raises(RuntimeError, match="'weight' must be 2-D"):
        F.embedding(torch.tensor([0, 1]), torch.randn(3))
    ints = torch.ones(2, 3, dtype=torch.int32)
    made = F.bilinear(ints, ints, torch.ones(4, 3, 3, dtype=torch.int32))
    assert made.dtype is torch.int32 and made.tolist()[0] == [9] * 4
