"""Losses that ask for a margin: ranking, embeddings, several labels.

Invariant: as in `loss`, element by element and then reduced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import arange
from tracejit.eager.pointwise import where_of
from tracejit.eager.tape import type_of
from tracejit.errors import at_user_line
from tracejit.nn.functional.activation import logsigmoid, softplus
from tracejit.nn.functional.check import check_all
from tracejit.nn.functional.linear import pairwise_distance
from tracejit.nn.functional.loss import legacy_reduction, reduce_loss
from tracejit.tensor import Tensor


def soft_margin_loss(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """``log(1 + exp(-y x))`` for labels y of 1 and -1."""
    loss = softplus(-target * input, threshold=60.0)
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """x where y is 1, ``max(0, margin - x)`` where y is -1."""
    far: Any = where_of(target != 1, (margin - input).clamp(min=0), 0.0, input.dtype)
    near = where_of(target != -1, input, 0.0, input.dtype)
    return reduce_loss(far + near, legacy_reduction(size_average, reduce, reduction))


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, size_average: Any = None,
    reduce: Any = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``max(0, -y (x1 - x2) + margin)``: y of 1 wants x1 above x2."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            at_user_line("margin_ranking_loss: all inputs must have equally many dimensions")
        )
    loss = (-target * (input1 - input2) + margin).clamp(min=0)
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, size_average: Any = None,
    reduce: Any = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``1 - cos`` where y is 1, ``max(0, cos - margin)`` where y is -1."""
    eps = 1e-12
    product = (input1 * input2).sum(-1)
    size1, size2 = input1.square().sum(-1) + eps, input2.square().sum(-1) + eps
    cosine = product / (size1 * size2).sqrt()
    near: Any = where_of(target == 1, 1 - cosine, 0.0, cosine.dtype)
    far = where_of(target == -1, (cosine - margin).clamp(min=0), 0.0, cosine.dtype)
    return reduce_loss(near + far, legacy_reduction(size_average, reduce, reduction))


def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2,
    eps: float = 1e-6, swap: bool = False, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``max(0, d(a, p) - d(a, n) + margin)``; `swap` takes the nearer of a and p to n."""
    if margin <= 0:
        raise ValueError(
            at_user_line(f"triplet_margin_loss: margin must be greater than 0, got {margin}")
        )

    def distance(x: Any, y: Any) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap,
        reduction=legacy_reduction(size_average, reduce, reduction),
    )  # fmt: skip


def triplet_margin_with_distance_loss(
    anchor: Any, positive: Any, negative: Any, *,
    distance_function: Callable[[Any, Any], Any] | None = None, margin: float = 1.0,
    swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """`triplet_margin_loss` with a distance of one's own."""
    if margin <= 0:
        raise ValueError(at_user_line(f"margin must be greater than 0, got {margin}"))
    distance = pairwise_distance if distance_function is None else distance_function
    near: Any = distance(anchor, positive)
    far: Any = distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return reduce_loss((near - far + margin).clamp(min=0), reduction)


def _check_rows(name: str, rows: Any) -> None:
    """Raise RuntimeError unless every row has a class."""
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise RuntimeError(at_user_line(
            f"{name}: needs a non-empty vector or matrix, got {type_of(rows)}"))  # fmt: skip


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
    size_average: Any = None, reduce: Any = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``sum over i != y of max(0, margin - x[y] + x[i])**p / C`` for each row."""
    if p not in (1, 2):
        raise ValueError(at_user_line("multi_margin_loss: only p == 1 and p == 2 are supported"))
    rows = input if input.ndim == 2 else input.reshape(1, -1)
    _check_rows("multi_margin_loss", rows)
    if weight is not None and weight.ndim != 1:
        raise ValueError(at_user_line("multi_margin_loss: weight must be one-dimensional"))
    classes = target.reshape(-1).to(dtypes.int64)
    if target.ndim > 1 or classes.shape[0] != rows.shape[0] or target.dtype.kind == "f":
        raise RuntimeError(at_user_line(
            f"multi_margin_loss: needs {rows.shape[0]} integer classes, got {type_of(target)}"
        ))  # fmt: skip
    check_all((classes >= 0) & (classes < rows.shape[1]), "multi_margin_loss: class out of range")
    if weight is not None and weight.shape[0] != rows.shape[1]:
        raise RuntimeError(at_user_line(
            f"multi_margin_loss: {weight.shape[0]} weights for {rows.shape[1]} classes"
        ))  # fmt: skip
    own = rows.gather(1, classes.unsqueeze(1))
    gap = (margin - own + rows).clamp(min=0)
    gap = gap if p == 1 else gap.square()
    if weight is not None:
        gap = gap * weight.index_select(0, classes).unsqueeze(1)
    column = arange(rows.shape[1], device=rows.device).unsqueeze(0)
    gap = where_of(column == classes.unsqueeze(1), 0.0, gap, gap.dtype)
    loss = gap.sum(1) / rows.shape[1]
    loss = loss if target.ndim else loss.reshape(())
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def multilabel_margin_loss(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """``sum over labels y, non-labels i of max(0, 1 - x[y] + x[i]) / C`` for each row.

    target  label indices, ended by the first -1 of the row.
    """
    rows = input if input.ndim == 2 else input.reshape(1, -1)
    _check_rows("multilabel_margin_loss", rows)
    if input.ndim > 2 or tuple(target.shape) != tuple(input.shape):
        raise RuntimeError(at_user_line(
            f"multilabel_margin_loss: target {type_of(target)} does not fit {type_of(input)}"
        ))  # fmt: skip
    labels = target.reshape(rows.shape).to(dtypes.int64)
    valid = (labels < 0).to(dtypes.int64).cumsum(1) == 0
    safe = where_of(valid, labels, 0, dtypes.int64)
    hits = rows.new_zeros(rows.shape).scatter_add(1, safe, valid.to(rows.dtype))
    other = (hits == 0).unsqueeze(1)
    gap = (1 - rows.gather(1, safe).unsqueeze(2) + rows.unsqueeze(1)).clamp(min=0)
    gap = where_of(valid.unsqueeze(2) & other, gap, 0.0, gap.dtype)
    loss = gap.sum((1, 2)) / rows.shape[1]
    loss = loss if input.ndim == 2 else loss.reshape(())
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, size_average: Any = None, reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The mean over classes of the binary cross entropy of the logits `input`."""
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    loss = loss.sum(-1) / input.shape[-1]
    return reduce_loss(loss, legacy_reduction(size_average, reduce, reduction))
