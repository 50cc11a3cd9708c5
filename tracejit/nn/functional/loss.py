"""Losses for regression, probabilities and classes.

Invariant: every loss is computed element by element and then reduced by `reduce_loss`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from tracejit.eager.pointwise import where_of
from tracejit.eager.shape import broadcast_tensors
from tracejit.errors import at_user_line, user_stacklevel
from tracejit.nn.functional.activation import logsigmoid
from tracejit.nn.functional.check import check_all
from tracejit.tensor import Tensor


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, with torch's older two flags honoured."""
    if size_average is None and reduce is None:
        return reduction
    warnings.warn("size_average and reduce are deprecated; use reduction=",
                  stacklevel=user_stacklevel())  # fmt: skip
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def reduce_loss(loss: Any, reduction: str) -> Tensor:
    """The mean ('mean'), the sum ('sum') or the losses themselves ('none')."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(at_user_line(f"{reduction!r} is not a valid value for reduction"))


def _pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Input and target broadcast together, with torch's warning if their shapes differ."""
    if tuple(input.shape) != tuple(target.shape):
        warnings.warn(
            f"{name}: the target's shape {list(target.shape)} differs from the input's "
            f"{list(input.shape)}; they are broadcast, which is rarely meant",
            stacklevel=user_stacklevel(),
        )  # fmt: skip
        return broadcast_tensors(input, target)  # type: ignore[return-value]
    return input, target


def mse_loss(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", weight: Any = None,
) -> Tensor:  # fmt: skip
    """The squared difference."""
    x, y = _pair("mse_loss", input, target)
    return _weighted((x - y).square(), weight, legacy_reduction(size_average, reduce, reduction))


def _weighted(loss: Any, weight: Any, reduction: str) -> Tensor:
    if weight is None:
        return reduce_loss(loss, reduction)
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" else reduce_loss(loss, reduction)


def l1_loss(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", weight: Any = None,
) -> Tensor:  # fmt: skip
    """The absolute difference."""
    x, y = _pair("l1_loss", input, target)
    return _weighted((x - y).abs(), weight, legacy_reduction(size_average, reduce, reduction))


def smooth_l1_loss(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", beta: float = 1.0,
) -> Tensor:  # fmt: skip
    """``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``."""
    if beta < 0:
        raise RuntimeError(at_user_line("smooth_l1_loss: beta must not be negative"))
    x, y = _pair("smooth_l1_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    distance = (x - y).abs()
    if beta == 0:
        return reduce_loss(distance, reduction)
    near = distance.square() * (0.5 / beta)
    loss = where_of(distance < beta, near, distance - 0.5 * beta, near.dtype)
    return reduce_loss(loss, reduction)


def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Tensor:
    """``d**2 / 2`` where ``|d| < delta``, else ``delta * (|d| - delta / 2)`` (Huber, 1964)."""
    if delta <= 0:
        raise RuntimeError(at_user_line("huber_loss: delta must be positive"))
    x, y = _pair("huber_loss", input, target)
    distance = (x - y).abs()
    near = distance.square() * 0.5
    far = (distance - 0.5 * delta) * delta
    return _weighted(where_of(distance < delta, near, far, near.dtype), weight, reduction)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``-(y log p + (1 - y) log(1 - p))`` with the logarithms kept above -100."""
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            at_user_line(
                f"binary_cross_entropy: the target's shape {list(target.shape)} must be "
                f"the input's, {list(input.shape)}"
            )
        )
    check_all((input.detach() >= 0) & (input.detach() <= 1),
              "binary_cross_entropy: all elements of input should be between 0 and 1")  # fmt: skip
    yes, no = input.log().clamp(min=-100), (-input).log1p().clamp(min=-100)
    loss = (target - 1) * no - target * yes
    loss = loss if weight is None else loss * weight
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", pos_weight: Any = None,
) -> Tensor:  # fmt: skip
    """`binary_cross_entropy` of ``sigmoid(input)`` without overflow.

    pos_weight  weight of the positive examples, broadcast to the input.
    """
    if tuple(input.shape) != tuple(target.shape):
        shapes = list(target.shape), list(input.shape)
        raise ValueError(at_user_line("binary_cross_entropy_with_logits: the target's shape "
                         f"{shapes[0]} must be the input's, {shapes[1]}"))  # fmt: skip
    log_p = logsigmoid(input)
    if pos_weight is None:
        loss = (1 - target) * input - log_p
    else:
        loss = (1 - target) * input - ((pos_weight - 1) * target + 1) * log_p
    loss = loss if weight is None else loss * weight
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def kl_div(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean", log_target: bool = False,
) -> Tensor:  # fmt: skip
    """``target * (log(target) - input)`` of log-probabilities `input`.

    reduction  also 'batchmean': the sum divided by the batch size, the true divergence.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if log_target:
        loss = target.exp() * (target - input)
    else:
        zero = target == 0
        safe: Any = where_of(zero, 1.0, target, target.dtype)
        entropy: Any = where_of(zero, 0.0, target * safe.log(), target.dtype)
        loss = entropy - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return reduce_loss(loss, reduction)


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, size_average: Any = None,
    eps: float = 1e-8, reduce: Any = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``exp(x) - target * x`` (or with ``log(x + eps)`` for plain rates).

    full  add Stirling's approximation of ``log(target!)`` where target > 1.
    """
    if log_input:
        loss = input.exp() - target * input
    else:
        loss = input - target * (input + eps).log()
    if full:
        safe = target.clamp(min=1.0)
        stirling = safe * safe.log() - safe + (safe * (2 * math.pi)).log() * 0.5
        loss = loss + where_of(target > 1, stirling, 0.0, stirling.dtype)
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``(log(var) + (input - target)**2 / var) / 2``; var is kept at or above `eps`.

    full  add the constant ``log(2 pi) / 2``.
    """
    if isinstance(var, float):
        if var < 0:
            raise ValueError(at_user_line("gaussian_nll_loss: var has negative entry/entries"))
        var = input * 0 + var
    else:
        check_all(var.detach() >= 0, "gaussian_nll_loss: var has negative entry/entries")
    if tuple(var.shape) != tuple(input.shape):
        if tuple(input.shape[:-1]) == tuple(var.shape):
            var = var.unsqueeze(-1)
        elif tuple(input.shape[:-1]) != tuple(var.shape[:-1]) or var.shape[-1] != 1:
            if not all(a == b or b == 1 for a, b in zip(input.shape, var.shape, strict=True)):
                raise ValueError(at_user_line("gaussian_nll_loss: var is of incorrect size"))
    var = var + (var.clamp(min=eps) - var).detach()
    loss = (var.log() + (input - target).square() / var) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduce_loss(loss, reduction)
