"""784-256-10 with relu, cross entropy; the definition of what "an MLP step" means here."""

from __future__ import annotations

from typing import Any

import numpy as np

SHAPES = {"fc1.weight": (256, 784), "fc1.bias": (256,), "fc2.weight": (10, 256), "fc2.bias": (10,)}


def batch(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.standard_normal((size, 784), dtype=np.float32), rng.integers(0, 10, size)]


def module(t: Any) -> Any:
    """The model in torch's API."""

    class MLP(t.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = t.nn.Linear(784, 256)
            self.fc2 = t.nn.Linear(256, 10)

        def forward(self, x: Any, labels: Any) -> Any:
            scores = self.fc2(t.relu(self.fc1(x)))
            return t.nn.functional.cross_entropy(scores, labels)

    return MLP()


def loss(p: dict[str, Any], x: Any, labels: Any, np_: Any) -> Any:
    """The loss with NumPy's names: `np_` is numpy or jax.numpy."""
    hidden = np_.maximum(x @ p["fc1.weight"].T + p["fc1.bias"], 0.0)
    return cross_entropy(hidden @ p["fc2.weight"].T + p["fc2.bias"], labels, np_)


def cross_entropy(scores: Any, labels: Any, np_: Any) -> Any:
    """Mean of minus log softmax at the labels; scores [n, classes]."""
    shifted = scores - scores.max(1, keepdims=True)
    logs = shifted - np_.log(np_.exp(shifted).sum(1, keepdims=True))
    return -np_.take_along_axis(logs, labels[:, None], 1).mean()
