"""``nn.attention.flex_attention``: attention whose scores a Python function changes or masks.

Invariant: `score_mod` and `mask_mod` are called once, on index tensors that broadcast to
``[batch, heads, queries, keys]``, so they must be made of pointwise operations and of indexing, as
torch's own ``vmap`` over scalars allows. The scores are held whole; nothing is skipped in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tracejit
from tracejit.errors import ShapeError, at_user_line
from tracejit.tensor import Tensor

__all__ = [
    "AuxOutput", "AuxRequest", "BlockMask", "and_masks", "create_block_mask", "create_mask",
    "flex_attention", "or_masks",
]  # fmt: skip

_Mask = Callable[..., Tensor]
_DEFAULT_SPARSE_BLOCK_SIZE = 128  # transformers imports it; nothing is skipped in blocks here


def _grid(sizes: tuple[int, int, int, int], device: Any) -> list[Tensor]:
    """Index tensors of the batch, head, query and key, each along its own axis of four."""
    return [
        tracejit.arange(size, device=device).reshape(*(-1 if i == axis else 1 for i in range(4)))
        for axis, size in enumerate(sizes)
    ]


def create_mask(
    mod_fn: _Mask, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = "cpu"
) -> Tensor:
    """The boolean mask ``[B, H, Q_LEN, KV_LEN]`` of ``mod_fn(b, h, q_idx, kv_idx)``."""
    sizes = (B or 1, H or 1, Q_LEN, KV_LEN)
    return mod_fn(*_grid(sizes, device)).expand(sizes)


class AuxRequest(NamedTuple):
    """What `flex_attention` shall give besides: logsumexp and maximum of each query's scores."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What an `AuxRequest` asked for, ``[B, H, L]`` each."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


class BlockMask:
    """Which scores count: a rule over indices, for the sizes it was made for."""

    def __init__(self, mask_mod: _Mask, sizes: tuple[int, int, int, int], device: Any):
        self.mask_mod = mask_mod
        self.shape = sizes
        self.seq_lengths = sizes[2:]
        self.device = device

    def to_dense(self) -> Tensor:
        """The whole mask as a boolean tensor."""
        return create_mask(self.mask_mod, *self.shape, device=self.device)


def create_block_mask(
    mask_mod: _Mask, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = "cpu",
    BLOCK_SIZE: Any = _DEFAULT_SPARSE_BLOCK_SIZE, _compile: bool = False, **kwargs: Any,
) -> BlockMask:  # fmt: skip
    """A `BlockMask` of ``mask_mod(b, h, q_idx, kv_idx)``; None for `B` or `H` means any."""
    return BlockMask(mask_mod, (B or 1, H or 1, Q_LEN, KV_LEN), device)


def and_masks(*mask_mods: _Mask) -> _Mask:
    """A rule that holds where all of `mask_mods` hold."""

    def both(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        result = mask_mods[0](b, h, q, k)
        for rule in mask_mods[1:]:
            result = result & rule(b, h, q, k)
        return result

    return both


def or_masks(*mask_mods: _Mask) -> _Mask:
    """A rule that holds where one of `mask_mods` holds."""

    def either(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        result = mask_mods[0](b, h, q, k)
        for rule in mask_mods[1:]:
            result = result | rule(b, h, q, k)
        return result

    return either


def flex_attention(
    query: Tensor, key: Tensor, value: Tensor, score_mod: Callable[..., Tensor] | None = None,
    block_mask: BlockMask | None = None, scale: float | None = None, enable_gqa: bool = False,
    return_lse: bool = False, kernel_options: Any = None, *, return_aux: AuxRequest | None = None,
) -> Any:  # fmt: skip
    """Attention ``[B, H, L, E]`` over keys and values ``[B, H, S, E]``.

    ``score_mod(score, b, h, q_idx, kv_idx)`` changes scores after scaling; `block_mask` says which
    count. A query that no key counts for gives zeros. With `return_lse` also the logarithm of the
    sum of the exponentials, ``[B, H, L]``; `return_aux` asks for an `AuxOutput`. Raises ShapeError
    where heads differ without `enable_gqa`.

    Example: ``x = tracejit.ones(1, 2, 3, 4); flex_attention(x, x, x, lambda s, *at: s * 2)``.
    """
    heads, kv_heads = query.shape[1], key.shape[1]
    if heads != kv_heads:
        if not enable_gqa or heads % kv_heads:
            raise ShapeError(at_user_line(
                f"flex_attention: {heads} heads of queries and {kv_heads} of keys"
            ))  # fmt: skip
        key = key.repeat_interleave(heads // kv_heads, dim=1)
        value = value.repeat_interleave(heads // kv_heads, dim=1)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query @ key.transpose(-2, -1)) * factor
    b, h, q, k = _grid(tuple(scores.shape), query.device)
    if score_mod is not None:
        scores = score_mod(scores, b, h, q, k)
    if block_mask is not None:
        scores = scores.masked_fill(~block_mask.mask_mod(b, h, q, k), -tracejit.inf)
    lse = scores.logsumexp(-1)
    weights = (scores - lse.masked_fill(lse == -tracejit.inf, 0.0).unsqueeze(-1)).exp()
    result = weights @ value
    if return_aux is None:
        return (result, lse) if return_lse else result
    highest = scores.amax(-1) if return_aux.max_scores else None
    return result, AuxOutput(lse if return_aux.lse else None, highest)
