"""``MultiheadAttention``, and torch's choice of attention kernels, which chooses nothing.

Invariant: parameter names and shapes are torch's (one packed input projection where it fits).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from tracejit.eager.factories import empty
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.nn import init
from tracejit.nn.linear import Linear
from tracejit.nn.module import Module
from tracejit.nn.parameter import Parameter
from tracejit.tensor import Tensor


class NonDynamicallyQuantizableLinear(Linear):
    """`Linear` under the name that torch's attention shows."""


class MultiheadAttention(Module):
    """Attention over `num_heads` projections (Vaswani et al., 2017).

    Inputs are [length, batch, features], or [batch, length, features] with `batch_first`.
    """

    in_proj_weight: Any
    in_proj_bias: Any
    q_proj_weight: Any
    k_proj_weight: Any
    v_proj_weight: Any
    bias_k: Any
    bias_v: Any

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
        add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
        vdim: int | None = None, batch_first: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(at_user_line("embed_dim and num_heads must be greater than 0, got "
                             f"embed_dim={embed_dim} and num_heads={num_heads}"))  # fmt: skip
        if embed_dim % num_heads:
            raise AssertionError(at_user_line("embed_dim must be divisible by num_heads"))
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        how = {"device": device, "dtype": dtype}
        self._make_projections(bias, how)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, **how)
        for name in ("bias_k", "bias_v"):
            extra = Parameter(empty(1, 1, embed_dim, **how)) if add_bias_kv else None
            self.register_parameter(name, extra)
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _make_projections(self, bias: bool, how: dict[str, Any]) -> None:
        width = self.embed_dim
        shapes: dict[str, Any] = dict.fromkeys(("q_proj_weight", "k_proj_weight", "v_proj_weight"))
        shapes["in_proj_weight"] = None
        if self._qkv_same_embed_dim:
            shapes["in_proj_weight"] = (3 * width, width)
        else:
            shapes.update(q_proj_weight=(width, width), k_proj_weight=(width, self.kdim),
                          v_proj_weight=(width, self.vdim))  # fmt: skip
        for name, shape in shapes.items():
            weight = None if shape is None else Parameter(empty(*shape, **how))
            self.register_parameter(name, weight)
        packed = Parameter(empty(3 * width, **how)) if bias else None
        self.register_parameter("in_proj_bias", packed)

    def _reset_parameters(self) -> None:
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            weight = getattr(self, name)
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.constant_(self.in_proj_bias, 0.0)
            init.constant_(self.out_proj.bias, 0.0)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None,
        need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        swap = self.batch_first and query.ndim == 3
        if swap:
            same_key, same_value = key is query, value is key
            query = query.transpose(0, 1)
            key = query if same_key else key.transpose(0, 1)
            value = key if same_value else value.transpose(0, 1)
        output, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight,
            self.in_proj_bias, self.bias_k, self.bias_v, self.add_zero_attn, self.dropout,
            self.out_proj.weight, self.out_proj.bias, self.training, key_padding_mask,
            need_weights, attn_mask, not self._qkv_same_embed_dim, self.q_proj_weight,
            self.k_proj_weight, self.v_proj_weight, average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )  # fmt: skip
        return (output.transpose(0, 1) if swap else output), weights


class SDPBackend(Enum):
    """torch's implementations of attention; here there is one."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3


@contextmanager
def sdpa_kernel(backends: Any, set_priority: bool = False) -> Iterator[None]:
    """A block in which torch would choose among `backends`: runs as it would without."""
    yield
