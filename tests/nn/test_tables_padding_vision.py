"""Embeddings, padding, resizing, sampling, linear maps and distances, initialisers and nn.utils."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nn_reference import check_gradients, tensor

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F
from tracejit.nn import init

_rng = np.random.default_rng(4)


def test_embedding_gives_rows_and_skips_the_padding_row():
    table = nn.Embedding(5, 3, padding_idx=1)
    assert (table.weight[1] == 0).all()
    index = torch.tensor([[0, 1], [4, 0]])
    y = table(index)
    assert torch.equal(y[0, 0], table.weight[0]) and y.shape == (2, 2, 3)
    y.sum().backward()
    assert table.weight.grad[:, 0].tolist() == [2.0, 0.0, 0.0, 0.0, 1.0]
    for bad in (5, -1):
        with pytest.raises(IndexError, match="out of bounds"):
            table(torch.tensor([bad]))
    with pytest.raises(RuntimeError, match="integer"):
        table(torch.ones(2))


def test_embedding_options():
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]])
    y = F.embedding(torch.tensor([0, 1]), weight, max_norm=1.0)
    assert torch.allclose(y, torch.tensor([[0.6, 0.8], [0.3, 0.4]]), atol=1e-6)
    assert weight[2].tolist() == [30.0, 40.0]  # unused: not renormalised
    frozen = nn.Embedding.from_pretrained(weight)
    assert not frozen.weight.requires_grad
    table = nn.Embedding(3, 2, scale_grad_by_freq=True)
    table(torch.tensor([0, 0, 0, 2])).sum().backward()
    assert table.weight.grad[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_embedding_bags():
    weight = _rng.normal(size=(6, 3))
    index, offsets = np.array([0, 2, 5, 1]), np.array([0, 3, 3])
    bags = [weight[[0, 2, 5]], weight[:0], weight[[1]]]
    for mode, reduce in (("sum", np.sum), ("mean", np.mean), ("max", np.max)):
        expected = [reduce(b, 0) if len(b) else np.zeros(3) for b in bags]
        bag = nn.EmbeddingBag(6, 3, mode=mode, _weight=tensor(weight))
        got = bag(torch.tensor(index), torch.tensor(offsets))
        np.testing.assert_allclose(got.detach().numpy(), expected)
    two = F.embedding_bag(torch.tensor([[0, 1], [2, 2]]), tensor(weight), mode="sum")
    np.testing.assert_allclose(two.numpy(), [weight[0] + weight[1], 2 * weight[2]])


def test_one_hot():
    assert F.one_hot(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert F.one_hot(torch.tensor([1]), 4).dtype is torch.int64
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        F.one_hot(torch.tensor([4]), 4)
    with pytest.raises(RuntimeError, match="non-negative"):
        F.one_hot(torch.tensor([-1]), 4)


def test_circular_padding_after_a_cut_comes_around_to_what_was_kept():
    x = torch.arange(4.0).reshape(1, 1, 4)
    assert F.pad(x, (-2, 1), mode="circular").tolist() == [[[2.0, 3.0, 2.0]]]
    assert F.pad(x, (1, -1), mode="circular").tolist() == [[[2.0, 0.0, 1.0, 2.0]]]


@pytest.mark.parametrize(
    "mode, name", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_pad_modes(mode, name):
    x = _rng.normal(size=(1, 2, 4, 5))
    got = F.pad(tensor(x), (2, 1, 3, 0), mode=mode)
    expected = np.pad(x, [(0, 0), (0, 0), (3, 0), (2, 1)], mode=name)
    np.testing.assert_array_equal(got.numpy(), expected)
    check_gradients(lambda x: F.pad(x, (1, 2), mode=mode), x[0])


def test_constant_padding_cuts_too():
    x = tensor(_rng.normal(size=(2, 4)))
    assert torch.equal(F.pad(x, (-1, -2)), x[:, 1:2])
    assert F.pad(x, (1, 0, 0, 1), value=7.0)[:, 0].tolist() == [7.0] * 3
    with pytest.raises(RuntimeError, match="too large"):
        F.pad(torch.ones(1, 1, 3), (3, 0), mode="reflect")
    assert nn.ZeroPad2d(1)(torch.ones(1, 2, 2)).sum() == 4


def test_pixel_shuffle_and_back():
    x = torch.arange(16.0).reshape(1, 4, 2, 2)
    y = nn.PixelShuffle(2)(x)
    assert y[0, 0].tolist() == [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]]
    assert torch.equal(nn.PixelUnshuffle(2)(y), x)
    assert nn.ChannelShuffle(2)(torch.arange(4).reshape(1, 4, 1)).flatten().tolist() == [0, 2, 1, 3]


def test_interpolate():
    x = tensor([[[1.0, 2.0, 4.0]]])
    assert F.interpolate(x, size=5).flatten().tolist() == [1, 1, 2, 2, 4]
    linear = F.interpolate(x, size=5, mode="linear", align_corners=True).flatten()
    assert linear.tolist() == [1, 1.5, 2, 3, 4]
    half = F.interpolate(x, scale_factor=2, mode="linear").flatten()
    assert half.tolist() == [1, 1.25, 1.75, 2.5, 3.5, 4]
    image = _rng.normal(size=(1, 1, 3, 3))
    same = F.interpolate(tensor(image), size=(3, 3), mode="bicubic")
    np.testing.assert_allclose(same.numpy(), image, rtol=1e-12)
    check_gradients(lambda x: F.interpolate(x, size=(4, 5), mode="bilinear"), image)
    check_gradients(lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"), image)
    with pytest.raises(ValueError, match="exactly one"):
        F.interpolate(x)


def test_grid_sample_with_the_identity_map_gives_the_image():
    image = _rng.normal(size=(1, 2, 4, 5))
    theta = tensor([[[1, 0, 0], [0, 1, 0]]])
    grid = F.affine_grid(theta, (1, 2, 4, 5), align_corners=True)
    for mode in ("bilinear", "nearest", "bicubic"):
        got = F.grid_sample(tensor(image), grid, mode=mode, align_corners=True)
        np.testing.assert_allclose(got.numpy(), image, atol=1e-9)
    outside = grid + 10.0
    assert (F.grid_sample(tensor(image), outside) == 0).all()
    edge = F.grid_sample(tensor(image), outside, padding_mode="border")
    np.testing.assert_allclose(edge.numpy(), np.broadcast_to(image[:, :, -1:, -1:], image.shape))
    places = _rng.uniform(-0.9, 0.9, size=(1, 2, 3, 2))
    check_gradients(lambda x, g: F.grid_sample(x, g, padding_mode="reflection"), image, places)


def test_linear_bilinear_and_distances():
    x, y, w = _rng.normal(size=(4, 3)), _rng.normal(size=(4, 2)), _rng.normal(size=(5, 3, 2))
    expected = np.einsum("ni,oij,nj->no", x, w, y)
    np.testing.assert_allclose(F.bilinear(tensor(x), tensor(y), tensor(w)).numpy(), expected)
    check_gradients(F.bilinear, x[:2], y[:2], w)
    unit = F.normalize(tensor(x)).numpy()
    np.testing.assert_allclose(unit, x / np.linalg.norm(x, axis=1, keepdims=True))
    z = x[::-1].copy()
    cosine = (x * z).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(F.cosine_similarity(tensor(x), tensor(z)).numpy(), cosine)
    pairs = [np.linalg.norm(x[i] - x[j]) for i in range(4) for j in range(i + 1, 4)]
    np.testing.assert_allclose(F.pdist(tensor(x)).numpy(), pairs)
    zero = torch.zeros(2, requires_grad=True)
    F.normalize(zero, dim=0).sum().backward()
    assert zero.grad.isfinite().all()


# --- initialisers ----------------------------------------------------------------------------


def test_initial_distributions():
    w = torch.empty(400, 300)
    assert abs(init.normal_(w, 1.0, 2.0).mean().item() - 1) < 0.05
    assert abs(w.std().item() - 2) < 0.05
    assert init.uniform_(w, -1, 3).min().item() >= -1 and w.max().item() < 3
    bound = math.sqrt(6 / 700)
    assert init.xavier_uniform_(w).abs().max().item() <= bound
    assert abs(init.xavier_normal_(w).std().item() - math.sqrt(2 / 700)) < 1e-3
    init.kaiming_normal_(w, nonlinearity="relu")
    assert abs(w.std().item() - math.sqrt(2 / 300)) < 1e-3
    init.trunc_normal_(w, std=1.0, a=-1.0, b=0.5)
    assert w.min().item() >= -1 and w.max().item() <= 0.5 and abs(w.mean().item()) < 0.3
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))


def test_structured_initial_values():
    q = init.orthogonal_(torch.empty(3, 5).double(), gain=2.0).numpy()
    np.testing.assert_allclose(q @ q.T, 4 * np.eye(3), atol=1e-12)
    x = torch.randn(1, 2, 5, 5)
    w = init.dirac_(torch.empty(2, 2, 3, 3))
    assert torch.allclose(F.conv2d(x, w, padding=1), x)
    assert ((init.sparse_(torch.empty(10, 4), 0.3) == 0).sum(0) == 3).all()
    assert torch.equal(init.eye_(torch.empty(2, 3)), torch.eye(2, 3))
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        init.xavier_uniform_(torch.empty(3))


def test_layers_start_as_torchs_do():
    w = nn.Linear(100, 50)
    assert w.weight.abs().max().item() <= 0.1 and w.bias.abs().max().item() <= 0.1
    conv = nn.Conv2d(4, 8, 5)
    assert conv.weight.abs().max().item() <= 0.1 and conv.weight.std().item() > 0.05
    assert nn.LSTM(3, 16).weight_hh_l0.abs().max().item() <= 0.25


def test_clipping_gradients():
    a, b = (nn.Parameter(torch.zeros(n)) for n in (2, 1))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert nn.utils.clip_grad_norm_([a, b], 1.0).item() == pytest.approx(5.0)
    assert a.grad.tolist() == pytest.approx([0.6, 0.0]) and b.grad.item() == pytest.approx(0.8)
    assert nn.utils.clip_grad_norm_([a, b], 10.0).item() == pytest.approx(1.0)
    nn.utils.clip_grad_value_([a, b], 0.5)
    assert a.grad.tolist() == [0.5, 0.0] and b.grad.item() == 0.5
    a.grad = torch.tensor([float("inf"), 0.0])
    with pytest.raises(RuntimeError, match="not finite"):
        nn.utils.clip_grad_norm_([a], 1.0, error_if_nonfinite=True)


def test_parameters_as_one_vector():
    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(torch.arange(9.0), net.parameters())
    assert net.bias.tolist() == [6.0, 7.0, 8.0] and net.weight.shape == (3, 2)


def test_diff_of_a_higher_order_than_the_input_alone_has():
    x, more = torch.arange(4.0), torch.tensor([0.0, 3.0])
    assert torch.diff(x, n=5, append=more).tolist() == [18.0]
    assert torch.diff(x, n=9, append=more).shape == (0,)


_RESIZED = {
    ("bilinear", False): [13, 28, 43, 58, 93, 108, 123, 138, 173, 188, 203, 218],
    ("bilinear", True): [22, 36, 50, 64, 94, 108, 122, 136, 166, 180, 194, 208],
    ("bicubic", False): [10, 25, 41, 56, 92, 107, 123, 138, 174, 189, 205, 220],
    ("bicubic", True): [14, 28, 44, 58, 93, 107, 123, 137, 172, 186, 202, 216],
}


def test_bytes_are_resized_in_whole_numbers():
    """Reference: torch 2.13 (and Pillow), `interpolate` of arange(24) * 10."""
    x = (torch.arange(24) * 10).to(torch.uint8).reshape(1, 1, 4, 6)
    found = {
        (mode, antialias): F.interpolate(x, size=(3, 4), mode=mode, antialias=antialias)
        for mode in ("bilinear", "bicubic") for antialias in (False, True)
    }  # fmt: skip
    for key, result in found.items():
        assert result.dtype is torch.uint8 and result.flatten().tolist() == _RESIZED[key], key


def test_an_antialiased_shrink_is_a_mean_and_has_its_gradient():
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    for mode in ("bilinear", "bicubic", "lanczos"):
        y = F.interpolate(x, scale_factor=0.25, mode=mode, antialias=True)
        (grad,) = torch.autograd.grad(y.sum(), x)
        np.testing.assert_allclose(grad.sum().item(), 8.0)  # the weights of a result sum to 1
        flat = F.interpolate(torch.ones(1, 1, 5, 7), size=(2, 3), mode=mode, antialias=True)
        np.testing.assert_allclose(flat.numpy(), 1.0, rtol=1e-6)
    with pytest.raises(ValueError, match="antialias"):
        F.interpolate(x, scale_factor=0.5, mode="nearest", antialias=True)
    with pytest.raises(ValueError, match="lanczos"):
        F.interpolate(x, scale_factor=0.5, mode="lanczos")
