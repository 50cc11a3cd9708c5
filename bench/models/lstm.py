"""One LSTM layer over a sequence, its last state classified by a linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.models.mlp import cross_entropy

_IN, _HIDDEN, _STEPS = 32, 64, 32
SHAPES = {
    "rnn.weight_ih_l0": (4 * _HIDDEN, _IN), "rnn.weight_hh_l0": (4 * _HIDDEN, _HIDDEN),
    "rnn.bias_ih_l0": (4 * _HIDDEN,), "rnn.bias_hh_l0": (4 * _HIDDEN,),
    "fc.weight": (10, _HIDDEN), "fc.bias": (10,),
}  # fmt: skip


def batch(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(6)
    shape = (size, _STEPS, _IN)
    return [rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, size)]


def module(t: Any) -> Any:
    """The model in torch's API."""

    class LSTM(t.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = t.nn.LSTM(_IN, _HIDDEN, batch_first=True)
            self.fc = t.nn.Linear(_HIDDEN, 10)

        def forward(self, x: Any, labels: Any) -> Any:
            states, _ = self.rnn(x)
            return t.nn.functional.cross_entropy(self.fc(states[:, -1]), labels)

    return LSTM()


def loss(p: dict[str, Any], x: Any, labels: Any, np_: Any) -> Any:
    """The loss with NumPy's names: `np_` is numpy or jax.numpy."""

    def step(state: Any, value: Any) -> Any:
        hidden, cell = state
        gates = value @ p["rnn.weight_ih_l0"].T + hidden @ p["rnn.weight_hh_l0"].T
        gates = gates + p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"]
        i, f, g, o = np_.split(gates, 4, axis=1)
        cell = _sigmoid(f, np_) * cell + _sigmoid(i, np_) * np_.tanh(g)
        return (_sigmoid(o, np_) * np_.tanh(cell), cell), None

    zeros = np_.zeros((x.shape[0], _HIDDEN), x.dtype)
    state = (zeros, zeros)
    if np_ is np:
        for t in range(x.shape[1]):
            state, _ = step(state, x[:, t])
    else:
        import jax

        state, _ = jax.lax.scan(step, state, x.swapaxes(0, 1))
    return cross_entropy(state[0] @ p["fc.weight"].T + p["fc.bias"], labels, np_)


def _sigmoid(x: Any, np_: Any) -> Any:
    return 1 / (1 + np_.exp(-x))
