"""``nn.init``: fill tensors with the usual initial values, in place and unseen by autograd.

Invariant: every function returns the tensor it was given, overwritten.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np

from tracejit.eager.factories import from_numpy
from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0, "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0), "selu": 3.0 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain for a nonlinearity; `param` is the slope of leaky_relu."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(at_user_line(f"unsupported nonlinearity {nonlinearity!r}"))
    return _GAINS[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with the given mean and deviation."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
    generator: Any = None,
) -> Tensor:  # fmt: skip
    """Normal, restricted to [a, b] by inverting the distribution function."""

    def cdf(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("trunc_normal_: mean is more than 2 std from [a, b]", stacklevel=2)
    low, high = cdf((a - mean) / std), cdf((b - mean) / std)
    with no_grad():
        u = tensor.new_empty(tensor.shape).uniform_(2 * low - 1, 2 * high - 1, generator=generator)
        value = (u.erfinv() * (std * math.sqrt(2.0)) + mean).clamp(a, b)
        return tensor.copy_(value)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def _write(tensor: Tensor, array: np.ndarray) -> Tensor:
    with no_grad():
        return tensor.copy_(from_numpy(array.astype(tensor.dtype.numpy)))


def eye_(tensor: Tensor) -> Tensor:
    """The identity in a 2-d tensor."""
    if tensor.ndim != 2:
        raise ValueError(at_user_line("eye_: only tensors with 2 dimensions are supported"))
    return _write(tensor, np.eye(int(tensor._array.shape[0]), int(tensor._array.shape[1])))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution weight (3 to 5 dimensions) that passes its input channels through."""
    shape = tensor._array.shape
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            at_user_line("dirac_: only tensors with 3, 4 or 5 dimensions are supported")
        )
    if shape[0] % groups:
        raise ValueError(at_user_line("dirac_: dim 0 must be divisible by groups"))
    array = np.zeros(shape)
    per_group = shape[0] // groups
    centre = tuple(n // 2 for n in shape[2:])
    for group in range(groups):
        for i in range(min(per_group, shape[1])):
            array[(group * per_group + i, i, *centre)] = 1.0
    return _write(tensor, array)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    shape = tensor._array.shape
    if len(shape) < 2:
        raise ValueError(
            at_user_line("fan in and fan out need a tensor with at least 2 dimensions")
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(
            at_user_line(f"mode {mode!r} is not supported, please use 'fan_in' or 'fan_out'")
        )
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform with variance ``gain**2 * 2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with variance ``gain**2 * 2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    return calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:  # fmt: skip
    """Uniform with variance ``gain**2 / fan`` (He et al., 2015)."""
    if 0 in tensor._array.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:  # fmt: skip
    """Normal with variance ``gain**2 / fan`` (He et al., 2015)."""
    if 0 in tensor._array.shape:
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """A (semi-)orthogonal matrix over the flattened trailing dimensions (Saxe et al., 2013)."""
    shape = tensor._array.shape
    if len(shape) < 2:
        raise ValueError(
            at_user_line("orthogonal_: only tensors with 2 or more dimensions are supported")
        )
    if tensor._array.size == 0:
        return tensor
    rows, columns = shape[0], tensor._array.size // shape[0]
    with no_grad():
        noise = tensor.new_empty(rows, columns).normal_(0.0, 1.0, generator=generator)
    flat = noise.numpy().astype(np.float64)
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q = q * np.sign(np.diag(r))
    return _write(tensor, gain * (q.T if rows < columns else q).reshape(shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normal, with the fraction `sparsity` of each column's elements zero (Martens, 2010)."""
    if tensor.ndim != 2:
        raise ValueError(at_user_line("sparse_: only tensors with 2 dimensions are supported"))
    rows = int(tensor._array.shape[0])
    zeros = math.ceil(sparsity * rows)
    with no_grad():
        noise = tensor.new_empty(tensor.shape).normal_(0.0, std, generator=generator)
        rank = tensor.new_empty(tensor.shape).uniform_(generator=generator)
        order = rank.argsort(0).argsort(0)
        return tensor.copy_(noise.masked_fill(order < zeros, 0.0))


def _older(name: str) -> Any:
    """The name without an underscore, from before 2018."""
    target = globals()[f"{name}_"]

    @functools.wraps(target)
    def function(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(f"nn.init.{name} is now deprecated in favor of nn.init.{name}_",
                      FutureWarning, stacklevel=2)  # fmt: skip
        return target(*args, **kwargs)

    return function


constant, dirac, eye, kaiming_normal, kaiming_uniform = map(
    _older, ("constant", "dirac", "eye", "kaiming_normal", "kaiming_uniform")
)
normal, orthogonal, uniform, xavier_normal, xavier_uniform = map(
    _older, ("normal", "orthogonal", "uniform", "xavier_normal", "xavier_uniform")
)
