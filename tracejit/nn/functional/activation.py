"""Activation functions, each a chain of pointwise ops that fuses into one kernel.

Invariant: no branch of a `where` computes inf or NaN for inputs that take the other branch, so
gradients stay finite.
"""

from __future__ import annotations

import warnings
from typing import Any

from tracejit.dtypes import DType, float16
from tracejit.eager.conversions import row_major
from tracejit.eager.dispatch import pointwise
from tracejit.eager.inplace import deliver, write_into
from tracejit.eager.modes import state
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.ir.op import OPS
from tracejit.random import draw
from tracejit.tensor import Tensor

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _deliver(result: Tensor, input: Tensor, inplace: bool) -> Tensor:
    return write_into(input, result, "inplace activation") if inplace else result


def _into(result: Any, out: Tensor | None) -> Tensor:
    return result if out is None else deliver(result, out)


def _operand(input: Tensor, inplace: bool) -> Tensor:
    """What to compute from: a copy where the gradient reads values that are overwritten."""
    if not inplace or not state.grad or not input._requires_grad:
        return input
    copy: Tensor = input.clone()
    return copy


def _where(condition: Any, x: Any, y: Any, like: Tensor) -> Tensor:
    return where_of(condition, x, y, like.dtype)


def relu(input: Any, inplace: bool = False) -> Tensor:
    """``max(x, 0)``; gradient 0 at 0, NaN stays."""
    return _deliver(input.relu(), input, inplace)


def relu_(input: Tensor) -> Tensor:
    """`relu` in place."""
    return relu(input, inplace=True)


def hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x brought into [min_val, max_val]; gradient 0 on the bounds."""
    if min_val > max_val:
        raise ValueError(at_user_line("hardtanh: min_val cannot be greater than max_val"))
    above = _where(input >= max_val, max_val, input, input)
    return _deliver(_where(input <= min_val, min_val, above, input), input, inplace)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`hardtanh` in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return hardtanh(input, 0.0, 6.0, inplace)


def _exponential_unit(x: Any, alpha: Any, scale: float, input_scale: float) -> Tensor:
    """``scale * x`` above 0, ``scale * alpha * (exp(x * input_scale) - 1)`` below."""
    low = x.clamp(max=0)
    below = (low if input_scale == 1 else low * input_scale).expm1() * (alpha * scale)
    return _where(x <= 0, below, x if scale == 1 else x * scale, x)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, ``alpha * (exp(x) - 1)`` below (Clevert et al., 2015)."""
    x = _operand(input, inplace)
    return _deliver(_exponential_unit(x, alpha, 1.0, 1.0), input, inplace)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`elu` in place."""
    return elu(input, alpha, inplace=True)


def selu(input: Any, inplace: bool = False) -> Tensor:
    """The scaled, self-normalising `elu` (Klambauer et al., 2017)."""
    x = _operand(input, inplace)
    return _deliver(_exponential_unit(x, _SELU_ALPHA, _SELU_SCALE, 1.0), input, inplace)


def selu_(input: Tensor) -> Tensor:
    """`selu` in place."""
    return selu(input, inplace=True)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, ``alpha * (exp(x / alpha) - 1)`` below (Barron, 2017)."""
    if alpha == 0:
        raise ZeroDivisionError("celu: alpha cannot be 0")
    x = _operand(input, inplace)
    return _deliver(_exponential_unit(x, alpha, 1.0, 1.0 / alpha), input, inplace)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`celu` in place."""
    return celu(input, alpha, inplace=True)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0, ``negative_slope * x`` below."""
    return _deliver(_where(input > 0, input, input * negative_slope, input), input, inplace)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`leaky_relu` in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def prelu(input: Any, weight: Any) -> Tensor:
    """`leaky_relu` with a learnt slope: one, or one for each channel (dim 1)."""
    slope = weight
    if weight.ndim > 1:
        raise RuntimeError(
            at_user_line(f"prelu: weight must be a scalar or 1-d, got {weight.ndim} dimensions")
        )
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else input.shape[0]
        if weight.numel() != channels:
            raise RuntimeError(
                at_user_line(f"prelu: {weight.numel()} slopes for {channels} channels")
            )
        if input.ndim > 1:
            slope = weight.reshape(-1, *(1,) * (input.ndim - 2))
    elif weight.ndim:
        slope = weight.reshape(())
    return _where(input > 0, input, input * slope, input)


def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
    inplace: bool = False,
) -> Tensor:  # fmt: skip
    """`leaky_relu` with a random slope in training, the mean slope otherwise."""
    if lower > upper:
        raise RuntimeError(at_user_line("rrelu: the lower bound must not exceed the upper bound"))
    slope: Any = (lower + upper) / 2
    if training:
        u: Any = draw("random_uniform", input.shape, input.dtype, device=input.device)
        slope = u * (upper - lower) + lower
    return _deliver(_where(input > 0, input, input * slope, input), input, inplace)


def rrelu_(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False
) -> Tensor:
    """`rrelu` in place."""
    return rrelu(input, lower, upper, training, inplace=True)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x above the threshold, else `value`."""
    return _deliver(_where(input <= threshold, value, input, input), input, inplace)


def threshold_(input: Tensor, threshold_: float, value: float) -> Tensor:
    """`threshold` in place."""
    return threshold(input, threshold_, value, inplace=True)


def gelu(input: Any, approximate: str = "none", *, out: Tensor | None = None) -> Tensor:
    """``x * Phi(x)``, or its tanh approximation (Hendrycks and Gimpel, 2016)."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(
            at_user_line(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
        )
    op = OPS["gelu" if approximate == "none" else "gelu_tanh"]
    return _into(pointwise(op, (input,), to_float=True), out)


def sigmoid(input: Any) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return input.sigmoid()


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent."""
    return input.tanh()


def silu(input: Any, inplace: bool = False) -> Tensor:
    """``x * sigmoid(x)``."""
    x = _operand(input, inplace)
    return _deliver(x * x.sigmoid(), input, inplace)


def mish(input: Any, inplace: bool = False) -> Tensor:
    """``x * tanh(softplus(x))`` (Misra, 2019)."""
    x = _operand(input, inplace)
    return _deliver(x * softplus(x).tanh(), input, inplace)


def softplus(
    input: Any, beta: float = 1.0, threshold: float = 20.0, *, out: Tensor | None = None
) -> Tensor:
    """``log(1 + exp(beta * x)) / beta``; x itself where ``beta * x > threshold``."""
    scaled = input if beta == 1 else input * beta
    straight = scaled > threshold
    if input.dtype is float16:  # whose exp overflows from 11.1 on, where x is the result
        straight = straight | (scaled > 11.0)
    soft: Any = _where(straight, 0.0, scaled, input).exp().log1p()
    return _into(_where(straight, input, soft if beta == 1 else soft / beta, input), out)


def logsigmoid(input: Any, *, out: Tensor | None = None) -> Tensor:
    """``log(sigmoid(x))`` without overflow."""
    below = input < 0  # at 0 both selections must have the slopes whose sum is 1/2
    low = _where(below, input, 0.0, input)
    distance: Any = _where(below, -input, input, input)
    return _into(row_major(low - (-distance).exp().log1p()), out)


def softsign(input: Any) -> Tensor:
    """``x / (1 + |x|)``."""
    return input / (input.abs() + 1.0)


def tanhshrink(input: Any) -> Tensor:
    """``x - tanh(x)``."""
    return input - input.tanh()


def softshrink(input: Any, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """x moved towards 0 by `lambd`, 0 where it would cross."""
    if lambd < 0:
        raise RuntimeError(at_user_line(f"softshrink: lambd must not be negative, got {lambd}"))
    moved = _where(input > 0, input - lambd, input + lambd, input)
    return _into(_where(input.abs() <= lambd, 0.0, moved, input), out)


def hardshrink(input: Any, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """x, but 0 where ``|x| <= lambd``."""
    return _into(_where(input.abs() <= lambd, 0.0, input, input), out)


def hardsigmoid(input: Any, inplace: bool = False) -> Tensor:
    """``relu6(x + 3) / 6``; gradient 0 at -3 and 3."""
    return _deliver(hardtanh(input / 6.0 + 0.5, 0.0, 1.0), input, inplace)


def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """``x * relu6(x + 3) / 6`` (Howard et al., 2019); gradient 0 at -3 and 1 at 3."""
    x = _operand(input, inplace)
    return _deliver(x * relu6(x + 3.0) / 6.0, input, inplace)


def glu(input: Any, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second half along `dim` (Dauphin et al., 2016)."""
    if input.ndim == 0:
        raise RuntimeError(at_user_line("glu: does not support 0-d tensors"))
    if input.shape[dim] % 2:
        raise RuntimeError(at_user_line(f"glu: the size {input.shape[dim]} of dim {dim} is odd"))
    half = input.shape[dim] // 2
    gate = input.narrow(dim, half, half)
    return input.narrow(dim, 0, half) * gate.sigmoid()


def _softmax_dim(name: str, ndim: int) -> int:
    message = f"{name}: the implicit choice of dim is deprecated; pass dim="
    warnings.warn(message, stacklevel=3)
    return 0 if ndim in (0, 1, 3) else 1


def softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """``exp(x) / sum(exp(x))`` along `dim`."""
    axis = _softmax_dim("softmax", input.ndim) if dim is None else dim
    return input.softmax(axis, dtype=dtype)


def softmin(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """``softmax(-x)``."""
    axis = _softmax_dim("softmin", input.ndim) if dim is None else dim
    return (-input).softmax(axis, dtype=dtype)


def log_softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """``log(softmax(x))`` along `dim`."""
    axis = _softmax_dim("log_softmax", input.ndim) if dim is None else dim
    return input.log_softmax(axis, dtype=dtype)


def gumbel_softmax(
    logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample from the Gumbel-softmax distribution (Jang et al., 2016).

    hard  one-hot values whose gradient is that of the soft sample.
    """
    u: Any = draw("random_uniform", logits.shape, logits.dtype, device=logits.device)
    gumbels = -(-(1.0 - u).log()).log()
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not hard:
        return soft
    best = soft.argmax(dim, keepdim=True)
    one = soft.new_zeros(soft.shape).scatter(dim, best, 1.0)
    return one - soft.detach() + soft


setattr(Tensor, "hardshrink", hardshrink)
setattr(Tensor, "prelu", prelu)
