"""Functions of ``nn.functional`` whose namesakes in ``torch`` itself take other arguments.

Invariant: each only reorders arguments; the meaning stands in `nn.functional`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.nn import functional as _F
from tracejit.nn.functional.linear import linear
from tracejit.nn.functional.recurrent import CELLS
from tracejit.tensor import Tensor


def dropout(input: Any, p: float, train: bool) -> Tensor:
    """``nn.functional.dropout`` with the mode given."""
    return _F.dropout(input, p, train)


def dropout_(input: Any, p: float, train: bool) -> Tensor:
    """`dropout` in place."""
    return _F.dropout(input, p, train, inplace=True)


def feature_dropout(input: Any, p: float, train: bool) -> Tensor:
    """Whole channels of [N, C, ...] zero with probability `p`."""
    return _F.dropout2d(input, p, train)


def alpha_dropout(input: Any, p: float, train: bool) -> Tensor:
    """``nn.functional.alpha_dropout`` with the mode given."""
    return _F.alpha_dropout(input, p, train)


def feature_alpha_dropout(input: Any, p: float, train: bool) -> Tensor:
    """``nn.functional.feature_alpha_dropout`` with the mode given."""
    return _F.feature_alpha_dropout(input, p, train)


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn_enable: bool = True,
) -> Tensor:  # fmt: skip
    """``nn.functional.layer_norm``."""
    return _F.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """``nn.functional.group_norm``."""
    return _F.group_norm(input, num_groups, weight, bias, eps)


def batch_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,
    momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """``nn.functional.batch_norm``, which takes the statistics before the weights."""
    return _F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    """``nn.functional.instance_norm``, which takes the statistics before the weights."""
    return _F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def embedding(
    weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:  # fmt: skip
    """``nn.functional.embedding``, which takes the indices first; -1 means no padding row."""
    row = None if padding_idx < 0 else padding_idx
    return _F.embedding(indices, weight, row, scale_grad_by_freq=scale_grad_by_freq)


def adaptive_max_pool1d(input: Any, output_size: Any) -> tuple[Tensor, Tensor]:
    """(maxima, their indices): ``nn.functional.adaptive_max_pool1d`` with both."""
    values, index = _F.adaptive_max_pool1d(input, output_size, return_indices=True)
    return values, index


def affine_grid_generator(theta: Any, size: Sequence[int], align_corners: bool) -> Tensor:
    """``nn.functional.affine_grid``."""
    return _F.affine_grid(theta, size, align_corners)


def grid_sampler(
    input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """``nn.functional.grid_sample`` with the modes by number."""
    mode = ("bilinear", "nearest", "bicubic")[interpolation_mode]
    padding = ("zeros", "border", "reflection")[padding_mode]
    return _F.grid_sample(input, grid, mode, padding, align_corners)


def _cell(mode: str, input: Any, state: tuple[Any, ...], weights: Sequence[Any]) -> Any:
    w_ih, w_hh, b_ih, b_hh = weights
    return CELLS[mode](linear(input, w_ih, b_ih), state, (w_hh, b_hh, None))


def lstm_cell(
    input: Any, hx: Sequence[Any], w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """(h, c) after one step of an LSTM from ``hx = (h, c)``."""
    h, c = _cell("LSTM", input, tuple(hx), (w_ih, w_hh, b_ih, b_hh))
    return h, c


def gru_cell(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """The state after one step of a GRU."""
    return _cell("GRU", input, (hx,), (w_ih, w_hh, b_ih, b_hh))[0]


def rnn_tanh_cell(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """The state after one step of an Elman network with tanh."""
    weights = (w_ih, w_hh, b_ih, b_hh)
    return _cell("RNN_TANH", input, (hx,), weights)[0]


def rnn_relu_cell(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Tensor:
    """The state after one step of an Elman network with relu."""
    weights = (w_ih, w_hh, b_ih, b_hh)
    return _cell("RNN_RELU", input, (hx,), weights)[0]


def alpha_dropout_(input: Any, p: float, train: bool) -> Tensor:
    """`alpha_dropout` in place."""
    return _F.alpha_dropout(input, p, train, inplace=True)


def feature_dropout_(input: Any, p: float, train: bool) -> Tensor:
    """`feature_dropout` in place."""
    return _F.dropout2d(input, p, train, inplace=True)


def feature_alpha_dropout_(input: Any, p: float, train: bool) -> Tensor:
    """`feature_alpha_dropout` in place."""
    return _F.feature_alpha_dropout(input, p, train, inplace=True)


grid_sampler_2d = grid_sampler_3d = grid_sampler


def convolution(
    input: Any, weight: Any, bias: Any, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    """The convolution (or its transpose) over as many dimensions as `weight` has beyond two."""
    rank = weight.ndim - 2
    if transposed:
        function = (_F.conv_transpose1d, _F.conv_transpose2d, _F.conv_transpose3d)[rank - 1]
        return function(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )  # fmt: skip
    plain = (_F.conv1d, _F.conv2d, _F.conv3d)[rank - 1]
    return plain(input, weight, bias, stride, padding, dilation, groups)


def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Tensor:
    """A convolution over the first dimension of [T, N, C]; weight [window, C, outputs]."""
    result = _F.conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return result.permute(2, 0, 1)


def max_pool1d_with_indices(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(maxima, their indices) of ``nn.functional.max_pool1d``."""
    values, index = _F.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)
    return values, index


def norm_except_dim(v: Any, pow: int = 2, dim: int = 0) -> Tensor:
    """The `pow`-norm over all dimensions but `dim` (over all if -1)."""
    axes = tuple(i for i in range(v.ndim) if dim == -1 or i != dim)
    return v.norm(pow, axes, keepdim=dim != -1)


def frobenius_norm(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over one or two dimensions."""
    return input.norm(2, dim, keepdim)
