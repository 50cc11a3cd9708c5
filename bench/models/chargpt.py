"""A character transformer: 4 layers, width 128, 4 heads, 64 positions, 65 characters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.models.mlp import cross_entropy

_LAYERS, _WIDTH, _HEADS, _LENGTH, _VOCABULARY = 4, 128, 4, 64, 65


def _block_shapes(i: int) -> dict[str, tuple[int, ...]]:
    d = _WIDTH
    return {
        f"blocks.{i}.norm1.weight": (d,), f"blocks.{i}.norm1.bias": (d,),
        f"blocks.{i}.qkv.weight": (3 * d, d), f"blocks.{i}.qkv.bias": (3 * d,),
        f"blocks.{i}.out.weight": (d, d), f"blocks.{i}.out.bias": (d,),
        f"blocks.{i}.norm2.weight": (d,), f"blocks.{i}.norm2.bias": (d,),
        f"blocks.{i}.up.weight": (4 * d, d), f"blocks.{i}.up.bias": (4 * d,),
        f"blocks.{i}.down.weight": (d, 4 * d), f"blocks.{i}.down.bias": (d,),
    }  # fmt: skip


SHAPES: dict[str, tuple[int, ...]] = {
    "tokens.weight": (_VOCABULARY, _WIDTH), "positions.weight": (_LENGTH, _WIDTH),
    **{k: v for i in range(_LAYERS) for k, v in _block_shapes(i).items()},
    "norm.weight": (_WIDTH,), "norm.bias": (_WIDTH,),
    "head.weight": (_VOCABULARY, _WIDTH), "head.bias": (_VOCABULARY,),
}  # fmt: skip


def batch(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    text = rng.integers(0, _VOCABULARY, (size, _LENGTH + 1))
    return [text[:, :-1].copy(), text[:, 1:].copy()]


def _block(t: Any) -> Any:
    nn, F = t.nn, t.nn.functional

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
            self.qkv, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
            self.up, self.down = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)

        def forward(self, x: Any) -> Any:
            b, n, d = x.shape
            parts = self.qkv(self.norm1(x)).reshape(b, n, 3, _HEADS, d // _HEADS)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, n, d))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    return Block()


def module(t: Any) -> Any:
    """The model in torch's API."""
    nn = t.nn

    class GPT(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(_VOCABULARY, _WIDTH)
            self.positions = nn.Embedding(_LENGTH, _WIDTH)
            self.blocks = nn.ModuleList([_block(t) for _ in range(_LAYERS)])
            self.norm = nn.LayerNorm(_WIDTH)
            self.head = nn.Linear(_WIDTH, _VOCABULARY)

        def forward(self, text: Any, following: Any) -> Any:
            x = self.tokens(text) + self.positions.weight
            for block in self.blocks:
                x = block(x)
            scores = self.head(self.norm(x))
            return nn.functional.cross_entropy(scores.flatten(0, 1), following.flatten())

    return GPT()


def loss(p: dict[str, Any], text: Any, following: Any, np_: Any) -> Any:
    """The loss with NumPy's names: `np_` is numpy or jax.numpy."""
    x = p["tokens.weight"][text] + p["positions.weight"]
    for i in range(_LAYERS):
        w = {k.removeprefix(f"blocks.{i}."): v for k, v in p.items()}
        x = x + _attention(w, _norm(x, w["norm1.weight"], w["norm1.bias"]), np_)
        hidden = _norm(x, w["norm2.weight"], w["norm2.bias"]) @ w["up.weight"].T + w["up.bias"]
        x = x + _gelu(hidden, np_) @ w["down.weight"].T + w["down.bias"]
    x = _norm(x, p["norm.weight"], p["norm.bias"])
    scores = x @ p["head.weight"].T + p["head.bias"]
    return cross_entropy(scores.reshape(-1, _VOCABULARY), following.reshape(-1), np_)


def _attention(w: dict[str, Any], x: Any, np_: Any) -> Any:
    b, n, d = x.shape
    parts = (x @ w["qkv.weight"].T + w["qkv.bias"]).reshape(b, n, 3, _HEADS, d // _HEADS)
    q, k, v = parts.transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(d // _HEADS)
    scores = np_.where(np_.tril(np_.ones((n, n), bool)), scores, -np_.inf)
    e = np_.exp(scores - scores.max(-1, keepdims=True))
    mixed = (e / e.sum(-1, keepdims=True)) @ v
    return mixed.swapaxes(1, 2).reshape(b, n, d) @ w["out.weight"].T + w["out.bias"]


def _norm(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / ((centred * centred).mean(-1, keepdims=True) + 1e-5) ** 0.5 * weight + bias


def _gelu(x: Any, np_: Any) -> Any:
    return 0.5 * x * (1 + np_.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
