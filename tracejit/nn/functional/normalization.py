"""Normalisations: layer, RMS, group, batch, instance, local response.

Invariant: the mean is taken out before squares are summed, so large offsets cost no digits; half
precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.conversions import row_major
from tracejit.eager.modes import no_grad
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line
from tracejit.nn.functional.padding import pad
from tracejit.nn.functional.windows import windows
from tracejit.tensor import Tensor


def _wide(x: Any) -> Any:
    return x.to(dtypes.float32) if x.dtype is dtypes.float16 else x


def _standardized(x: Any, dims: Any, eps: float) -> tuple[Any, Any, Any]:
    """``(x - mean) / sqrt(var + eps)`` over `dims`, the mean and the (biased) variance."""
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    var = centred.square().mean(dims, keepdim=True)
    return centred * (var + eps).rsqrt(), mean, var


def _trailing(name: str, input: Any, normalized_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError(at_user_line(f"{name}: expected normalized_shape to be at least 1-d"))
    if len(shape) > input.ndim or tuple(input.shape[-len(shape) :]) != shape:
        raise ShapeError(at_user_line(
            f"{name}: normalized_shape {list(shape)} does not end the shape of "
            f"{type_of(input)}"))  # fmt: skip
    return tuple(range(-len(shape), 0))


def layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Mean 0 and variance 1 over the last dimensions, then scaled and shifted (Ba et al., 2016)."""
    dims = _trailing("layer_norm", input, normalized_shape)
    result, _, _ = _standardized(_wide(row_major(input)), dims, eps)
    result = result if weight is None else result * weight
    result = result if bias is None else result + bias
    return result.to(input.dtype)


def rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Tensor:
    """``x / sqrt(mean(x**2) + eps) * weight`` over the last dimensions (Zhang, Sennrich, 2019)."""
    dims = _trailing("rms_norm", input, normalized_shape)
    x = _wide(row_major(input))
    tiny = dtypes.finfo(x.dtype).eps if eps is None else eps
    result = x * (x.square().mean(dims, keepdim=True) + tiny).rsqrt()
    result = result if weight is None else result * weight
    return result.to(input.dtype)


def _per_channel(parameter: Any, ndim: int) -> Any:
    """A vector over channels shaped to broadcast along dim 1."""
    return parameter.reshape(1, -1, *(1,) * (ndim - 2))


def _affine(result: Any, weight: Any, bias: Any) -> Any:
    result = result if weight is None else result * _per_channel(weight, result.ndim)
    return result if bias is None else result + _per_channel(bias, result.ndim)


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalised over each of `num_groups` groups of channels (Wu and He, 2018)."""
    if input.ndim < 2:
        what = f"expected at least 2 dimensions, got {input.ndim}"
        raise RuntimeError(at_user_line(f"group_norm: {what}"))
    n, channels = input.shape[:2]
    if channels % num_groups:
        raise RuntimeError(at_user_line(
            f"group_norm: {channels} channels are not divisible by "
            f"{num_groups} groups"))  # fmt: skip
    rest = input.shape[2:].numel()
    x = _wide(row_major(input)).reshape(n, num_groups, channels // num_groups * rest)
    result, _, _ = _standardized(x, -1, eps)
    return _affine(result.reshape(*input.shape), weight, bias).to(input.dtype)


def batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: Any = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalised over the batch for each channel (Ioffe and Szegedy, 2015).

    training  use the batch's statistics, and move the running ones (in place, unseen by
              autograd) towards them by `momentum`; otherwise use the running ones.
    """
    if not isinstance(eps, Tensor) and eps <= 0.0:
        raise ValueError(at_user_line(f"batch_norm eps must be positive, but got {eps}"))
    x = _wide(input if input.ndim > 3 else row_major(input))  # images may be channels-last
    if input.ndim < 2:
        if input.numel():
            raise RuntimeError(at_user_line(
                f"batch_norm: needs [batch, channels, ...], got {type_of(input)}"))  # fmt: skip
        return input.clone()
    if not training:
        scale = (_per_channel(running_var, x.ndim) + eps).rsqrt()
        result = (x - _per_channel(running_mean, x.ndim)) * scale
        return _affine(result, weight, bias).to(input.dtype)
    count = input.shape[0] * input.shape[2:].numel()
    if count == 1:
        raise ValueError(at_user_line(
            "batch_norm: expected more than 1 value per channel when training, "
            f"got {type_of(input)}"))  # fmt: skip
    dims = (0, *range(2, input.ndim))
    result, mean, var = _standardized(x, dims, eps)
    if running_mean is not None and count != 0:
        _update(running_mean, running_var, mean.reshape(-1), var.reshape(-1), count, momentum)
    return _affine(result, weight, bias).to(input.dtype)


def _update(
    running_mean: Any, running_var: Any, mean: Any, var: Any, count: Any, momentum: Any
) -> None:
    """Move the running statistics towards those of the batch (the unbiased variance)."""
    with no_grad():
        running_mean.mul_(1 - momentum).add_(mean.detach() * momentum)
        unbiased = var.detach() * (count / (count - 1))
        running_var.mul_(1 - momentum).add_(unbiased * momentum)


def instance_norm(
    input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalised over the spatial dimensions of each channel of each example."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    dims = tuple(range(2, input.ndim))
    count = input.shape[2:].numel()
    if count == 1:
        raise ValueError(at_user_line(
            "instance_norm: expected more than 1 spatial element when training, "
            f"got {type_of(input)}"))  # fmt: skip
    result, mean, var = _standardized(_wide(input), dims, eps)
    if running_mean is not None:
        channels = input.shape[1]
        means, vars = (s.reshape(-1, channels).mean(0) for s in (mean, var))
        _update(running_mean, running_var, means, vars, count, momentum)
    return _affine(result, weight, bias).to(input.dtype)


def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``x / (k + alpha * mean of squares over `size` neighbouring channels)**beta``."""
    if input.ndim < 3:
        raise ValueError(
            at_user_line(f"local_response_norm: expected at least 3 dimensions, got {input.ndim}")
        )
    if input.numel() == 0:
        return input
    sides = (0, 0) * (input.ndim - 2) + (size // 2, (size - 1) // 2)
    squares = windows(pad(input.square(), sides), (1,), (size,), (1,), (1,))
    if input.dtype.kind != "f":  # torch rounds the mean of integers down
        return input / (squares.sum(-1).div(size, rounding_mode="floor") * alpha + k).pow(beta)
    return input / (squares.mean(-1) * alpha + k).pow(beta)
