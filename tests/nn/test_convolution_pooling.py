"""Convolutions and pools against loops over output elements; gradients numeric.

Invariant: strides, paddings, dilations and groups mean what torch's do; results are contiguous.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nn_reference import check_gradients, convolve, tensor

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F

_rng = np.random.default_rng(1)


def _integers(*shape):
    return _rng.integers(-3, 4, shape).astype(float)


@pytest.mark.parametrize(
    "stride, padding, dilation, groups",
    [(1, 0, 1, 1), (2, 1, 1, 1), ((1, 2), (0, 1), 1, 2), (1, 2, 2, 1), (3, 1, (1, 2), 4)],
)
def test_conv2d(stride, padding, dilation, groups):
    x, w, b = _integers(2, 4, 7, 6), _integers(4, 4 // groups, 3, 2), _integers(4)
    pair = [v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation)]
    expected = convolve(x, w, *pair, groups) + b[:, None, None]
    y = F.conv2d(tensor(x), tensor(w), tensor(b), stride, padding, dilation, groups)
    np.testing.assert_array_equal(y.numpy(), expected)
    assert y.is_contiguous() and y.view(2, -1).shape[0] == 2


def test_conv_gradients():
    x, w, b = _rng.normal(size=(2, 2, 4, 4)), _rng.normal(size=(2, 1, 2, 3)), _rng.normal(size=2)
    check_gradients(lambda x, w, b: F.conv2d(x, w, b, (1, 2), 1, groups=2), x, w, b)
    w = _rng.normal(size=(2, 2, 2, 3))
    check_gradients(lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1), x, w)


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_of_other_ranks_and_single_examples(rank):
    x, w = _integers(2, 2, *(4,) * rank), _integers(3, 2, *(2,) * rank)
    one = (1,) * rank
    expected = convolve(x, w, one, (0,) * rank, one, 1)
    function = {1: F.conv1d, 3: F.conv3d}[rank]
    np.testing.assert_array_equal(function(tensor(x), tensor(w)).numpy(), expected)
    np.testing.assert_array_equal(function(tensor(x[0]), tensor(w)).numpy(), expected[0])


def test_same_padding_and_padding_modes():
    x, w = _integers(1, 1, 5, 5), _integers(1, 1, 2, 4)
    padded = np.pad(x, [(0, 0), (0, 0), (0, 1), (1, 2)])
    expected = convolve(padded, w, (1, 1), (0, 0), (1, 1), 1)
    np.testing.assert_array_equal(F.conv2d(tensor(x), tensor(w), padding="same").numpy(), expected)
    conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect", bias=False).double()
    mirrored = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    expected = convolve(mirrored, conv.weight.detach().numpy(), (1, 1), (0, 0), (1, 1), 1)
    np.testing.assert_allclose(conv(tensor(x)).detach().numpy(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="strided"):
        nn.Conv2d(1, 1, 3, stride=2, padding="same")


@pytest.mark.parametrize(
    "stride, padding, extra, dilation", [(1, 0, 0, 1), (2, 1, 1, 1), (3, 2, 1, 2)]
)
def test_conv_transpose_is_the_transpose(stride, padding, extra, dilation):
    """<conv(u), v> = <u, conv_transpose(v)> for all u, v."""
    w, v = _rng.normal(size=(3, 2, 3, 3)), _rng.normal(size=(2, 3, 4, 4))
    y = F.conv_transpose2d(tensor(v), tensor(w), None, stride, padding, extra, 1, dilation)
    size = (4 - 1) * stride - 2 * padding + dilation * 2 + extra + 1
    assert tuple(y.shape) == (2, 2, size, size)
    u = _rng.normal(size=(2, 2, size, size))
    pair = [(n, n) for n in (stride, padding, dilation)]
    left = (convolve(u, w, *pair, 1) * v).sum()
    np.testing.assert_allclose((y.numpy() * u).sum(), left, rtol=1e-9)


def test_conv_transpose_output_size():
    conv = nn.ConvTranspose1d(1, 1, 3, stride=2)
    assert conv(torch.randn(1, 1, 5), output_size=[12]).shape == (1, 1, 12)
    with pytest.raises(ValueError, match="range from 11 to 12"):
        conv(torch.randn(1, 1, 5), output_size=[13])


def test_conv_errors_name_the_types():
    w = torch.randn(2, 3, 3, 3)
    with pytest.raises(RuntimeError, match=r"expects 3 channels, got f32\[1,4,5,5\]"):
        F.conv2d(torch.randn(1, 4, 5, 5), w)
    with pytest.raises(RuntimeError, match="larger than the padded"):
        F.conv2d(torch.randn(1, 3, 2, 2), w)
    with pytest.raises(RuntimeError, match="differ in dtype"):
        F.conv2d(torch.randn(1, 3, 5, 5).double(), w)
    with pytest.raises(RuntimeError, match="3-d"):
        F.conv2d(torch.randn(5, 5), w)


def test_conv_of_an_empty_batch():
    assert nn.Conv2d(3, 4, 3)(torch.zeros(0, 3, 8, 8)).shape == (0, 4, 6, 6)


def _pool(x, kernel, stride, padding, dilation, reduce, fill):
    """The last axis pooled one window at a time."""
    x = np.pad(x, [(0, 0), (padding, padding)], constant_values=fill)
    span = dilation * (kernel - 1) + 1
    starts = range(0, x.shape[1] - span + 1, stride)
    return np.stack([reduce(x[:, s : s + span : dilation], axis=1) for s in starts], 1)


@pytest.mark.parametrize(
    "kernel, stride, padding, dilation", [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2)]
)
def test_max_pool1d_and_its_indices(kernel, stride, padding, dilation):
    x = _rng.normal(size=(3, 9))
    expected = _pool(x, kernel, stride, padding, dilation, np.max, -np.inf)
    y, at = F.max_pool1d(tensor(x), kernel, stride, padding, dilation, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(np.take_along_axis(x, at.numpy(), 1), expected)
    plain = F.max_pool1d(tensor(x), kernel, stride, padding, dilation)
    np.testing.assert_array_equal(plain.numpy(), expected)


def test_max_pool2d_sends_the_gradient_to_the_first_of_equals():
    for size in (2, 5):  # selections, then a search
        x = torch.zeros(1, 1, size, size, requires_grad=True)
        F.max_pool2d(x, size).sum().backward()
        assert x.grad.flatten().tolist() == [1.0] + [0.0] * (size * size - 1)
    x = torch.tensor([[[1.0, float("nan"), 3.0, 0.0]]])
    assert F.max_pool1d(x, 2).isnan().tolist() == [[[True, False]]]


def test_pool_gradients():
    x = _rng.normal(size=(1, 2, 5, 6))
    check_gradients(lambda x: F.max_pool2d(x, 2, stride=1, padding=1), x)
    check_gradients(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), x)
    check_gradients(lambda x: F.adaptive_avg_pool2d(x, (2, 4)), x)
    check_gradients(lambda x: F.adaptive_max_pool2d(x, (2, 4)), x)
    check_gradients(lambda x: F.lp_pool2d(x.abs() + 0.1, 3, 2), x)


def test_avg_pool_counts():
    x = torch.ones(1, 1, 4)
    assert F.avg_pool1d(x, 3, 1, 1).flatten().tolist() == pytest.approx([2 / 3, 1, 1, 2 / 3])
    assert F.avg_pool1d(x, 3, 1, 1, count_include_pad=False).flatten().tolist() == [1.0] * 4
    assert F.avg_pool1d(x, 3, 2, ceil_mode=True).flatten().tolist() == [1.0, 1.0]
    assert F.avg_pool2d(torch.ones(1, 2, 2), 2, divisor_override=8).item() == 0.5
    assert F.max_pool1d(x, 3, 2, ceil_mode=True).shape == (1, 1, 2)


@pytest.mark.parametrize("out", [1, 2, 3, 4, 7])
def test_adaptive_pools(out):
    x = _rng.normal(size=(2, 6, 5))
    windows = [(i * 5 // out, -(-(i + 1) * 5 // out)) for i in range(out)]
    mean = np.stack([x[:, :, a:b].mean(2) for a, b in windows], 2)
    top = np.stack([x[:, :, a:b].max(2) for a, b in windows], 2)
    np.testing.assert_allclose(F.adaptive_avg_pool1d(tensor(x), out).numpy(), mean, rtol=1e-12)
    y, at = F.adaptive_max_pool1d(tensor(x), out, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), top)
    np.testing.assert_array_equal(np.take_along_axis(x, at.numpy(), 2), top)
    assert nn.AdaptiveAvgPool2d((None, out))(tensor(x)).shape == (2, 6, out)


def test_maximum_and_its_gradient_are_a_library_step_each():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)

    @torch.compile
    def step(x):
        y = F.max_pool2d(x, 2)
        y.backward(torch.ones_like(y))
        return y

    for _ in range(2):
        x.grad = None
        step(x)
    plan = step.ir("plan")
    assert "2 library calls" in plan, plan
    assert "window_max" in plan and "window_put" in plan


def test_depthwise_convolution_is_no_product():
    x, w = torch.randn(2, 4, 6, 6), torch.randn(4, 1, 3, 3)
    run = torch.compile(lambda x, w: F.conv2d(x, w, padding=1, groups=4))
    run(x, w)
    assert "matmul" not in run.ir("plan")
    exact = F.conv2d(x.double(), w.double(), padding=1, groups=4)
    assert np.allclose(run(x, w).numpy(), exact.numpy(), atol=1e-5)


def test_max_unpool_puts_values_back():
    x = tensor([[[[1, 2, 6, 3], [3, 4, 1, 2]]]])
    y, at = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(y, at)
    assert back.tolist() == [[[[0, 0, 6, 0], [0, 4, 0, 0]]]]


def test_fold_is_the_transpose_of_unfold():
    x = _rng.normal(size=(2, 3, 5, 6))
    columns = F.unfold(tensor(x), (2, 3), dilation=(1, 2), padding=1, stride=(2, 1))
    other = _rng.normal(size=tuple(columns.shape))
    folded = F.fold(tensor(other), (5, 6), (2, 3), dilation=(1, 2), padding=1, stride=(2, 1))
    np.testing.assert_allclose((folded.numpy() * x).sum(), (columns.numpy() * other).sum())
    first = columns.numpy()[0].reshape(3, 2, 3, -1)[:, :, :, 0]
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    np.testing.assert_array_equal(first, padded[0, :, 0:2, 0:5:2])


def test_pool_errors():
    with pytest.raises(RuntimeError, match="at most half"):
        F.max_pool2d(torch.randn(1, 1, 4, 4), 2, padding=2)
    with pytest.raises(RuntimeError, match="does not fit"):
        F.avg_pool2d(torch.randn(1, 1, 2, 2), 3)
    with pytest.raises(RuntimeError, match="4-d"):
        F.max_pool2d(torch.randn(4, 4), 2)


def test_every_layer_shows_its_arguments():
    assert repr(nn.Conv2d(1, 2, 3, padding=1)) == (
        "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"
    )
    assert repr(nn.MaxPool2d(2)) == (
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    )
    assert repr(nn.AvgPool1d(2)) == "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"
    names = itertools.chain.from_iterable(m.state_dict() for m in (nn.Conv1d(1, 1, 1, bias=False),))
    assert list(names) == ["weight"]


@pytest.mark.parametrize("call", [F.conv2d, F.conv_transpose2d])
def test_what_is_no_tensor_is_named(call):
    with pytest.raises(TypeError, match="expected a Tensor, got str"):
        call("x", torch.ones(1, 1, 2, 2))
