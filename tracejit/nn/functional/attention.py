"""Attention: `scaled_dot_product_attention` and the multi-head form.

Invariant: a query that may look at no key gets zeros (and zero gradients), not NaN, as in torch's
`scaled_dot_product_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tracejit.eager.factories import arange
from tracejit.eager.joining import cat
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.nn.functional.attention_at_once import attend_at_once
from tracejit.nn.functional.dropout import dropout
from tracejit.nn.functional.linear import linear
from tracejit.tensor import Tensor


def causal_mask(queries: Any, keys: Any, device: Any = None) -> Any:
    """[queries, keys], true where a query may look: at keys no later than itself."""
    rows: Any = arange(queries, device=device)
    columns: Any = arange(keys, device=device)
    return rows.unsqueeze(1) >= columns.unsqueeze(0)


def _masked(scores: Any, mask: Any) -> tuple[Any, Any]:
    """The scores under a mask, and where a whole row is masked out."""
    if mask.dtype.kind == "b":
        scores = where_of(mask, scores, -math.inf, scores.dtype)
    else:
        scores = scores + mask
    dead = scores.detach().amax(-1, keepdim=True) == -math.inf
    return where_of(dead, 0.0, scores, scores.dtype), dead


def _repeated_heads(x: Any, heads: Any) -> Any:
    """Each head of `x` repeated so that there are `heads` (grouped-query attention)."""
    own = x.shape[-3]
    if own == heads:
        return x
    if heads % own:
        raise RuntimeError(at_user_line(f"attention: {heads} query heads for {own} key heads"))
    shape = tuple(x.shape)
    wide = x.unsqueeze(-3).expand(*shape[:-2], heads // own, *shape[-2:])
    return wide.reshape(*shape[:-3], heads, *shape[-2:])


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """``softmax(q @ k.T * scale + mask) @ v`` (Vaswani et al., 2017).

    query       [..., L, E]; key [..., S, E]; value [..., S, Ev].
    attn_mask   bool (true: may look) or floating (added), broadcast to [..., L, S].
    is_causal   query i may look at keys 0 .. i; excludes `attn_mask`.
    scale       default ``1 / sqrt(E)``.
    enable_gqa  keys and values may have fewer heads than queries.
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError(at_user_line("attention: attn_mask and is_causal exclude each other"))
    if enable_gqa:
        key, value = (_repeated_heads(x, query.shape[-3]) for x in (key, value))
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = causal_mask(query.shape[-2], key.shape[-2], query.device) if is_causal else None
    if attn_mask is None and not dropout_p:
        whole = attend_at_once(query, key, value, factor, mask)
        if whole is not None:
            return whole
    scores = query.matmul(key.transpose(-2, -1)) * factor
    if mask is not None:
        weights = where_of(mask, scores, -math.inf, scores.dtype).softmax(-1)
    elif attn_mask is not None:
        scores, dead = _masked(scores, attn_mask)
        weights = where_of(dead, 0.0, scores.softmax(-1), scores.dtype)
    else:
        weights = scores.softmax(-1)
    return dropout(weights, dropout_p).matmul(value)


# --- multi-head ------------------------------------------------------------------------------


def _additive(mask: Any, like: Any, name: str) -> Any:
    """A mask (true: may not look) as numbers to add."""
    if mask is None:
        return None
    if mask.dtype.kind == "b":
        return where_of(mask, -math.inf, 0.0, like.dtype)
    if mask.dtype.kind != "f":
        raise AssertionError(at_user_line(f"only bool and floating types of {name} are supported"))
    return mask


def _projections(query: Any, key: Any, value: Any, weight: Any, bias: Any, separate: Any) -> Any:
    """Queries, keys and values after their input projections."""
    biases: Any = (None, None, None) if bias is None else bias.chunk(3)
    if separate is not None:
        parts = zip((query, key, value), separate, biases, strict=True)
        return tuple(linear(x, w, b) for x, w, b in parts)
    if query is key and key is value:
        return tuple(linear(query, weight, bias).chunk(3, -1))
    parts = zip((query, key, value), weight.chunk(3), biases, strict=True)
    return tuple(linear(x, w, b) for x, w, b in parts)


def _heads(x: Any, heads: int) -> Any:
    """[length, batch, heads * size] as [batch, heads, length, size]."""
    length, batch, width = x.shape
    return x.reshape(length, batch, heads, width // heads).permute(1, 2, 0, 3)


class _Masks:
    """The two masks of multi-head attention, kept in step with keys that are added."""

    def __init__(self, query: Any, attention: Any, padding: Any):
        self.attention = _additive(attention, query, "attn_mask")
        self.padding = _additive(padding, query, "key_padding_mask")

    def with_key(self, longer: Iterable[Any]) -> tuple[Any, Any]:
        """Keys and values that are `longer` by one, which everyone may look at."""
        if self.attention is not None:
            m = self.attention
            self.attention = cat([m, m.new_zeros(*m.shape[:-1], 1)], -1)
        if self.padding is not None:
            p = self.padding
            self.padding = cat([p, p.new_zeros(p.shape[0], 1)], -1)
        keys, values = longer
        return keys, values

    def merged(self, batch: Any, heads: int) -> Any:
        """One mask to add to scores [batch, heads, L, S], or None."""
        mask = self.attention
        if mask is not None:
            mask = mask.reshape(batch, heads, *mask.shape[-2:]) if mask.ndim == 3 else mask
        if self.padding is None:
            return mask
        padding = self.padding.reshape(batch, 1, 1, -1)
        return padding if mask is None else mask + padding


def multi_head_attention_forward(
    query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int,
    in_proj_weight: Any, in_proj_bias: Any, bias_k: Any, bias_v: Any, add_zero_attn: bool,
    dropout_p: float, out_proj_weight: Any, out_proj_bias: Any, training: bool = True,
    key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None,
    average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Attention over `num_heads` projections; the function behind ``nn.MultiheadAttention``.

    query [L, N, E], key and value [S, N, *] (or without N). Returns output and attention weights.
    """
    batched = query.ndim == 3
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    _check_multi_head(
        query, key, value, embed_dim_to_check, num_heads, attn_mask, key_padding_mask, is_causal,
        use_separate_proj_weight,
    )  # fmt: skip
    use_causal = is_causal and key_padding_mask is None and not need_weights
    masks = _Masks(query, None if use_causal else attn_mask, key_padding_mask)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projections(query, key, value, in_proj_weight, in_proj_bias, separate)
    if bias_k is not None:
        k, v = masks.with_key(cat([x, b.expand(1, batch, b.shape[-1])])
                              for x, b in ((k, bias_k), (v, bias_v)))  # fmt: skip
    q = _heads(q, num_heads)
    k, v = _static(k, static_k, num_heads), _static(v, static_v, num_heads)
    if add_zero_attn:
        k, v = masks.with_key(cat([x, x.new_zeros(*x.shape[:2], 1, x.shape[3])], 2) for x in (k, v))
    mask = masks.merged(batch, num_heads)
    p, weights = dropout_p if training else 0.0, None
    if need_weights:
        attended, weights = _attend_with_weights(q, k, v, mask, p, average_attn_weights)
    else:
        attended = scaled_dot_product_attention(q, k, v, mask, p, use_causal)
    joined = attended.permute(2, 0, 1, 3).reshape(length, batch, width)
    output: Any = linear(joined, out_proj_weight, out_proj_bias)
    if batched:
        return output, weights
    return output.squeeze(1), None if weights is None else weights.squeeze(0)


def _static(x: Any, given: Any, heads: int) -> Any:
    """Keys or values by head: those given, or those projected."""
    if given is None:
        return _heads(x, heads)
    return given.reshape(-1, heads, *given.shape[-2:])


def _attend_with_weights(
    q: Any, k: Any, v: Any, mask: Any, p: float, average: bool
) -> tuple[Any, Any]:
    scores = (q * math.sqrt(1.0 / q.shape[-1])).matmul(k.transpose(-2, -1))
    weights: Any = (scores if mask is None else scores + mask).softmax(-1)
    weights = dropout(weights, p)
    return weights.matmul(v), weights.mean(1) if average else weights


def _check_multi_head(
    query: Any, key: Any, value: Any, width: int, heads: int, attn_mask: Any, padding: Any,
    is_causal: bool, separate: bool,
) -> None:  # fmt: skip
    length, batch, own = query.shape
    if own != width:
        raise AssertionError(
            at_user_line(f"was expecting embedding dimension of {width}, but got {own}")
        )
    if key.ndim != 3 or value.ndim != 3 or key.shape[:2] != value.shape[:2] or (
        not separate and key.shape != value.shape):  # fmt: skip
        raise AssertionError(at_user_line(
            f"key shape {list(key.shape)} does not match value shape {list(value.shape)}"
        ))  # fmt: skip
    if width % heads:
        raise AssertionError(at_user_line(f"embed_dim {width} not divisible by num_heads {heads}"))
    if padding is not None and tuple(padding.shape) != (batch, key.shape[0]):
        raise AssertionError(
            at_user_line(
                f"key_padding_mask of shape {list(padding.shape)}, expected "
                f"[{batch}, {key.shape[0]}]"
            )
        )
    if is_causal and attn_mask is None:
        raise RuntimeError(at_user_line("multi-head attention: is_causal needs attn_mask as well"))
    if attn_mask is not None:
        wanted: tuple[Any, ...] = (length, key.shape[0])
        if attn_mask.ndim == 3:
            wanted = (batch * heads, *wanted)
        if tuple(attn_mask.shape) != wanted:
            raise RuntimeError(at_user_line(f"attn_mask of shape {list(attn_mask.shape)}, expected "
                               f"{list(wanted)}"))  # fmt: skip
