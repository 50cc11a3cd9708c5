"""Losses over class indices: `nll_loss`, `cross_entropy`.

Invariant: a class index is in range or equals `ignore_index`; anything else raises, never clamps.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.pointwise import where_of
from tracejit.eager.tape import type_of
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.nn.functional.linear import linear
from tracejit.nn.functional.loss import legacy_reduction, reduce_loss
from tracejit.tensor import Tensor


def _class_axis(input: Any) -> int:
    return 0 if input.ndim == 1 else 1


def _check_target(name: str, input: Any, target: Any) -> None:
    axis = _class_axis(input)
    if input.ndim == 0:
        raise ShapeError(at_user_line(f"{name}: input needs at least 1 dimension"))
    expected = tuple(n for i, n in enumerate(input.shape) if i != axis)
    if tuple(target.shape) != expected:
        raise ShapeError(at_user_line(
            f"{name}: classes of shape {list(target.shape)} do not fit {type_of(input)}; "
            f"expected {list(expected)}"))  # fmt: skip
    if target.dtype not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(at_user_line(
            f"{name}: expected target dtype to be Long or Byte (classes), got {type_of(target)}"
        ))  # fmt: skip


def _class_weights(weight: Any, classes: Any, like: Any) -> Any:
    if tuple(weight.shape) != (like,):
        raise RuntimeError(at_user_line(
            f"class weights must have shape [{like}], got {list(weight.shape)}"))  # fmt: skip
    return weight.index_select(0, classes.reshape(-1)).reshape(*classes.shape)


def nll_loss(
    input: Any, target: Any, weight: Any = None, size_average: Any = None,
    ignore_index: int = -100, reduce: Any = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Minus the log-probability of the target class.

    input   log-probabilities [C], [N, C] or [N, C, d1, ...].
    target  class indices, the input's shape without C.
    weight  [C]; the mean is then weighted.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    _check_target("nll_loss", input, target)
    loss, weights = _picked(input, target, weight, ignore_index)
    return _reduce_weighted(loss, weights, reduction)


def _picked(input: Any, target: Any, weight: Any, ignore_index: int) -> tuple[Any, Any]:
    """The loss of each item and its weight (0 where ignored)."""
    axis = _class_axis(input)
    classes = target.to(dtypes.int64)
    kept = classes != ignore_index
    safe = where_of(kept, classes, 0, dtypes.int64)
    log_p = input.gather(axis, safe.unsqueeze(axis)).squeeze(axis)
    if weight is None:
        return where_of(kept, -log_p, 0.0, input.dtype), kept.to(input.dtype)
    if weight.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"class weights are {weight.dtype.name}, the input is {input.dtype.name}"))  # fmt: skip
    weights = where_of(kept, _class_weights(weight, safe, input.shape[axis]), 0.0, input.dtype)
    return where_of(kept, -log_p * weights, 0.0, input.dtype), weights


def _reduce_weighted(loss: Any, weights: Any, reduction: str) -> Tensor:
    if reduction != "mean":
        return reduce_loss(loss, reduction)
    return loss.sum() / weights.sum()


def cross_entropy(
    input: Any, target: Any, weight: Any = None, size_average: Any = None,
    ignore_index: int = -100, reduce: Any = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """`nll_loss` of ``log_softmax(input)``; the target may also hold class probabilities.

    target           class indices, or probabilities of the input's shape (floating).
    label_smoothing  in [0, 1]: this much of the target is spread evenly over all classes.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(
            at_user_line(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
        )
    axis = _class_axis(input)
    if target.dtype.kind == "f" and ignore_index >= 0:
        raise RuntimeError(at_user_line(
            "cross_entropy: ignore_index is not supported for class probabilities"
        ))  # fmt: skip
    if target.dtype.kind == "f" and tuple(target.shape) == tuple(input.shape):
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    _check_target("cross_entropy", input, target)
    log_p = input.log_softmax(axis)
    loss, weights = _picked(log_p, target, weight, ignore_index)
    if label_smoothing == 0:
        return _reduce_weighted(loss, weights, reduction)
    smooth = _smoothed(log_p, target, weight, ignore_index)
    share = label_smoothing / input.shape[axis]
    total = loss * (1 - label_smoothing) + smooth * share
    return _reduce_weighted(total, weights, reduction)


def _smoothed(log_p: Any, target: Any, weight: Any, ignore_index: int) -> Any:
    """The sum of the losses of all classes, 0 where ignored."""
    axis = _class_axis(log_p)
    losses = -log_p
    if weight is not None:
        losses = losses * weight.reshape(-1, *(1,) * (log_p.ndim - axis - 1))
    return where_of(target == ignore_index, 0.0, losses.sum(axis), log_p.dtype)


def _soft_cross_entropy(
    input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float
) -> Tensor:
    axis = _class_axis(input)
    classes = input.shape[axis]
    if label_smoothing > 0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    log_p = input.log_softmax(axis)
    if weight is not None:
        log_p = log_p * weight.reshape(-1, *(1,) * (input.ndim - axis - 1))
    loss = -(log_p * target).sum(axis)
    if reduction == "mean":
        return loss.sum() / loss.numel()
    return reduce_loss(loss, reduction)


def linear_cross_entropy(
    input: Any, linear_weight: Any, target: Any, *, linear_bias: Any = None, weight: Any = None,
    reduction: str = "mean", ignore_index: int | None = None, label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:  # fmt: skip
    """`cross_entropy` of the linear scores of `input`, [N, features] or [features].

    linear_weight  [C, features], or [C, d1, ..., features] for scores [N, C, d1, ...].
    options        how torch splits the work; a compiled call fuses what can be fused.
    """
    _check_linear(input, linear_weight, linear_bias)
    (*shape, features) = linear_weight.shape
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    scores: Any = linear(input, linear_weight.reshape(-1, features), bias)
    if len(shape) > 1:
        scores = scores.reshape(input.shape[0], *shape)
    if ignore_index is not None and tuple(target.shape) == tuple(scores.shape):
        raise RuntimeError(at_user_line(
            "ignore_index cannot be specified when target contains probabilities"))  # fmt: skip
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        scores, target, weight, ignore_index=ignored, reduction=reduction,
        label_smoothing=label_smoothing,
    )  # fmt: skip


def _check_linear(input: Any, weight: Any, bias: Any) -> None:
    deep = weight.ndim > 2
    if weight.ndim < 2 or input.ndim not in ((2,) if deep else (1, 2)):
        raise ShapeError(at_user_line(
            f"linear_cross_entropy: input {type_of(input)} and weight {type_of(weight)} do not "
            "fit; expected [N, features] and [classes, ..., features]"))  # fmt: skip
    if input.shape[-1] != weight.shape[-1]:
        raise ShapeError(at_user_line(
            f"linear_cross_entropy: the last dimensions (in_features) of {type_of(input)} and "
            f"{type_of(weight)} differ"))  # fmt: skip
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:-1]):
        raise ShapeError(at_user_line(
            f"linear_cross_entropy: expected a bias of shape {list(weight.shape[:-1])}, "
            f"got {type_of(bias)}"))  # fmt: skip
