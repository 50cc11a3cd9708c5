"""Linear maps: `linear`, `bilinear`, and similarities of vectors.

Invariant: the last dimension holds the features.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.inplace import deliver
from tracejit.eager.pointwise import where_of
from tracejit.eager.shape import broadcast_tensors, sizes_of
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor


def linear(input: Any, weight: Any, bias: Any = None, *, out: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``; input [..., in], weight [out, in] or [in], bias [out]."""
    result = input.matmul(weight.t() if weight.ndim == 2 else weight)
    result = result if bias is None else result + bias
    return result if out is None else deliver(result, out)


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x1 @ weight[k] @ x2 + bias[k]`` for each k; weight [out, in1, in2]."""
    out, in1, in2 = weight.shape
    if input1.shape[-1] != in1 or input2.shape[-1] != in2:
        raise RuntimeError(
            at_user_line(
                f"bilinear: inputs with {input1.shape[-1]} and {input2.shape[-1]} "
                f"features for a weight of shape {list(weight.shape)}"
            )
        )
    left = input1.matmul(weight.permute(1, 0, 2).reshape(in1, out * in2))
    left = left.reshape(*input1.shape[:-1], out, in2)
    result = (left * input2.unsqueeze(-2)).sum(-1, dtype=left.dtype)  # integers keep theirs
    return result if bias is None else result + bias


def safe_norm(x: Any, p: float, dim: Any, keepdim: bool) -> Tensor:
    """The p-norm, whose gradient at the zero vector is 0 rather than NaN."""
    if p == 0 or p == 1 or p in (float("inf"), float("-inf")):
        return x.norm(p, dim, keepdim)
    powers = x.square() if p == 2 else x.abs().pow(p)
    total = powers.sum(dim, keepdim)
    zero = total == 0
    inside = where_of(zero, 1.0, total, total.dtype)
    root = inside.sqrt() if p == 2 else inside.pow(1.0 / p)
    return where_of(zero, 0.0, root, total.dtype)


def normalize(
    input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """``x / max(norm(x), eps)`` along `dim`."""
    result: Tensor = input / safe_norm(input, p, dim, True).clamp(min=eps)
    return result if out is None else out.copy_(result)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """``x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))`` along `dim`."""
    if sizes_of(x1) != sizes_of(x2):  # the norms are those of the common shape
        x1, x2 = broadcast_tensors(x1, x2)
    a = x1 / safe_norm(x1, 2, dim, True).clamp(min=eps)
    b = x2 / safe_norm(x2, 2, dim, True).clamp(min=eps)
    return (a * b).sum(dim)


def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` over the last dimension."""
    return safe_norm(x1 - x2 + eps, p, -1, keepdim)


def pdist(input: Any, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows i < j, in order."""
    if input.ndim != 2:
        raise RuntimeError(at_user_line(f"pdist: expects a matrix, got {input.ndim} dimensions"))
    rows = int(input.shape[0])
    first = [i for i in range(rows) for _ in range(i + 1, rows)]
    second = [j for i in range(rows) for j in range(i + 1, rows)]
    if not first:
        return input.new_zeros(0)
    return safe_norm(input[first] - input[second], p, -1, False)
