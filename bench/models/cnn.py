"""A small convolutional net on 28 x 28 images: two convolutions with pooling, one linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.models.mlp import cross_entropy

SHAPES = {
    "conv1.weight": (16, 1, 3, 3), "conv1.bias": (16,), "conv2.weight": (32, 16, 3, 3),
    "conv2.bias": (32,), "fc.weight": (10, 32 * 7 * 7), "fc.bias": (10,),
}  # fmt: skip


def batch(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal((size, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, size)]


def module(t: Any) -> Any:
    """The model in torch's API."""
    F = t.nn.functional

    class CNN(t.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = t.nn.Conv2d(1, 16, 3, padding=1)
            self.conv2 = t.nn.Conv2d(16, 32, 3, padding=1)
            self.fc = t.nn.Linear(32 * 7 * 7, 10)

        def forward(self, x: Any, labels: Any) -> Any:
            x = F.max_pool2d(t.relu(self.conv1(x)), 2)
            x = F.max_pool2d(t.relu(self.conv2(x)), 2)
            return F.cross_entropy(self.fc(x.flatten(1)), labels)

    return CNN()


def loss(p: dict[str, Any], x: Any, labels: Any, np_: Any) -> Any:
    """The loss with NumPy's names: `np_` is numpy or jax.numpy."""
    convolve = _np_convolve if np_ is np else _jax_convolve
    for layer in ("conv1", "conv2"):
        bias = p[f"{layer}.bias"][None, :, None, None]
        x = np_.maximum(convolve(x, p[f"{layer}.weight"]) + bias, 0.0)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
    return cross_entropy(x.reshape(len(x), -1) @ p["fc.weight"].T + p["fc.bias"], labels, np_)


def _np_convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)


def _jax_convolve(x: Any, weight: Any) -> Any:
    import jax

    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME")
