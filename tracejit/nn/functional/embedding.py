"""Rows of a table by index: `embedding`, `embedding_bag`, `one_hot`.

Invariant: an index out of range raises; it is never clamped.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import arange
from tracejit.eager.joining import stack
from tracejit.eager.modes import no_grad
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.nn.functional.check import check_all
from tracejit.nn.functional.linear import safe_norm
from tracejit.tensor import Tensor


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """A new last dimension of `num_classes` that is 1 at the class and 0 elsewhere (int64).

    num_classes  -1: one more than the largest class found.
    """
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError(at_user_line("one_hot is only applicable to index tensor (int64)"))
    if num_classes == -1:
        if tensor.numel() == 0:
            raise RuntimeError(at_user_line("one_hot: cannot infer the classes of an empty tensor"))
        num_classes = int(tensor.max()) + 1
    check_all(tensor >= 0, "one_hot: class values must be non-negative")
    check_all(tensor < num_classes, "one_hot: class values must be smaller than num_classes")
    return (tensor.unsqueeze(-1) == arange(num_classes, device=tensor.device)).to(dtypes.int64)


def _rows(weight: Any, index: Any) -> Any:
    """``weight[index]`` for an index of any shape."""
    flat = index.reshape(-1).to(dtypes.int64)
    return weight.index_select(0, flat).reshape(*index.shape, *weight.shape[1:])


def _limit_norms(weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are used down to `max_norm`, in place."""
    with no_grad():
        flat = index.reshape(-1).to(dtypes.int64)
        used = weight.new_zeros(weight.shape[0]).index_fill(0, flat, 1.0)
        norms: Any = safe_norm(weight.detach(), norm_type, 1, False)
        too_long = (used > 0) & (norms > max_norm)
        factor = where_of(too_long, max_norm / (norms + 1e-7), 1.0, weight.dtype)
        weight.mul_(factor.unsqueeze(1))


def _padding_row(padding_idx: int | None, rows: Any) -> int | None:
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise ValueError(at_user_line("padding_idx must be within the number of rows"))
    return padding_idx if padding_idx >= 0 else int(rows) + padding_idx


def _frequency_scaled(out: Any, index: Any, rows: Any) -> Any:
    """`out` whose gradient is divided by how often each index occurs."""
    flat = index.reshape(-1).to(dtypes.int64)
    counts = out.detach().new_zeros(rows).index_add(0, flat, out.new_ones(flat.numel()))
    scale = 1.0 / counts.index_select(0, flat).reshape(*index.shape, 1)
    if out.requires_grad:
        out.register_hook(lambda g: g * scale)
    return out


def embedding(
    input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """The rows of `weight` at the indices `input`: shape ``[*input, features]``.

    padding_idx         a row that gets no gradient.
    max_norm            rows that are used are first scaled down, in place, to this norm.
    scale_grad_by_freq  divide gradients by how often an index occurs in `input`.
    sparse              accepted; gradients are dense.
    """
    if input.dtype.kind not in "iu":
        raise RuntimeError(at_user_line(f"embedding: expected integer indices, got {input.dtype}"))
    if weight.ndim != 2:
        raise RuntimeError(at_user_line(f"embedding: 'weight' must be 2-D, got {weight.ndim}-D"))
    row = _padding_row(padding_idx, weight.shape[0])
    if max_norm is not None:
        _limit_norms(weight, input, max_norm, norm_type)
    out = _rows(weight, input)
    if row is not None:
        out = where_of((input == row).unsqueeze(-1), out.detach(), out, out.dtype)
    if scale_grad_by_freq:
        out = _frequency_scaled(out, input, weight.shape[0])
    return out


def embedding_bag(
    input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None,
    norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean",
    sparse: bool = False, per_sample_weights: Any = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """Sums, means or maxima of bags of rows.

    input    [bags, n], or 1-d with `offsets` saying where each bag begins.
    mode     'sum', 'mean' or 'max'; an empty bag gives 0.
    per_sample_weights  factors of the rows, for 'sum' only.
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError(at_user_line("mode has to be one of sum, mean or max"))
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            at_user_line("embedding_bag: per_sample_weights needs mode='sum'")
        )
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(at_user_line("embedding_bag: 2-d input takes no offsets"))
        bags, count = input.shape
        offsets = arange(bags, device=input.device) * count
        flat = input.reshape(-1)
        if per_sample_weights is not None:
            per_sample_weights = per_sample_weights.reshape(-1)
    elif input.ndim == 1 and offsets is not None:
        flat = input
        offsets = offsets[:-1] if include_last_offset else offsets
    else:
        raise ValueError(at_user_line("embedding_bag: input has to be 1-d with offsets, or 2-d"))
    row = _padding_row(padding_idx, weight.shape[0])
    rows = embedding(flat, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    kept = (flat != row) if row is not None else None
    if mode == "max":
        return _bag_max(rows, offsets, kept)
    return _bag_sum(rows, offsets, kept, per_sample_weights, mode)


def _bag_ids(offsets: Any, count: Any) -> Any:
    """The bag number of each of `count` items."""
    marks = arange(count, device=offsets.device).unsqueeze(1) >= offsets.unsqueeze(0)
    return marks.to(dtypes.int64).sum(1) - 1


def _bag_sum(rows: Any, offsets: Any, kept: Any, factors: Any, mode: str) -> Tensor:
    bags = offsets.shape[0]
    ids = _bag_ids(offsets, rows.shape[0])
    if kept is not None:
        rows = where_of(kept.unsqueeze(1), rows, 0.0, rows.dtype)
    if factors is not None:
        rows = rows * factors.unsqueeze(1)
    total = rows.new_zeros(bags, rows.shape[1]).index_add(0, ids, rows)
    if mode == "sum":
        return total
    one = rows.detach().new_ones(rows.shape[0]) if kept is None else kept.to(rows.dtype)
    counts = rows.detach().new_zeros(bags).index_add(0, ids, one)
    return total / counts.clamp(min=1.0).unsqueeze(1)


def _bag_max(rows: Any, offsets: Any, kept: Any) -> Tensor:
    starts = [int(v) for v in offsets.tolist()]
    stops = [*starts[1:], int(rows.shape[0])]
    found = []
    for low, high in zip(starts, stops, strict=True):
        part = rows[low:high]
        if kept is not None:
            part = part[kept[low:high]]
        found.append(part.max(0).values if part.shape[0] else rows.new_zeros(rows.shape[1]))
    return stack(found)
