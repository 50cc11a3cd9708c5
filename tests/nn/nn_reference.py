"""What the tests of nn compare against: plain NumPy loops in float64, and numeric gradients.

Invariant: nothing here uses tracejit except to call the function under test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import tracejit as torch


def tensor(array: Any, grad: bool = False) -> Any:
    """A float64 tensor of an array."""
    result = torch.tensor(np.asarray(array, np.float64))
    return result.requires_grad_() if grad else result


def check_gradients(function: Callable[..., Any], *arrays: np.ndarray, tol: float = 1e-6) -> None:
    """Gradients of a weighted sum of ``function(*tensors)`` against central differences."""
    xs = [tensor(a, grad=True) for a in arrays]
    output = function(*xs)
    weights = np.cos(np.arange(output.numel())).reshape(tuple(output.shape))
    (output * tensor(weights)).sum().backward()

    def value(values: list[np.ndarray]) -> float:
        with torch.no_grad():
            return float((function(*map(tensor, values)) * tensor(weights)).sum())

    step = 1e-6
    for i, array in enumerate(arrays):
        expected = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[i][place] += sign * step
                ends.append(value(moved))
            expected[place] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(xs[i].grad.numpy(), expected, rtol=tol * 100, atol=tol)


def convolve(
    x: np.ndarray, w: np.ndarray, stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...], groups: int,
) -> np.ndarray:  # fmt: skip
    """A convolution of any rank, one output element at a time."""
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    kernel = w.shape[2:]
    spatial = tuple(
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(x.shape[2:], dilation, kernel, stride, strict=True)
    )
    out = np.zeros((x.shape[0], w.shape[0], *spatial))
    per_in, per_out = w.shape[1], w.shape[0] // groups
    for n, o in itertools.product(range(x.shape[0]), range(w.shape[0])):
        channels = slice(o // per_out * per_in, (o // per_out + 1) * per_in)
        for place in np.ndindex(spatial):
            where = tuple(
                slice(p * s, p * s + d * (k - 1) + 1, d)
                for p, s, d, k in zip(place, stride, dilation, kernel, strict=True)
            )
            out[(n, o, *place)] = (x[(n, channels, *where)] * w[o]).sum()
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def lstm(x: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One LSTM layer over [T, N, F] from a zero state: outputs, h, c."""
    w_ih, w_hh, b_ih, b_hh = weights
    size = w_hh.shape[1]
    h = c = np.zeros((x.shape[1], size))
    outputs = []
    for step in x:
        gates = step @ w_ih.T + b_ih + h @ w_hh.T + b_hh
        i, f, g, o = (gates[:, k * size : (k + 1) * size] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c


def gru(x: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One GRU layer over [T, N, F] from a zero state: outputs, h."""
    w_ih, w_hh, b_ih, b_hh = weights
    size = w_hh.shape[1]
    h = np.zeros((x.shape[1], size))
    outputs = []
    for step in x:
        a, b = step @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        r = sigmoid(a[:, :size] + b[:, :size])
        z = sigmoid(a[:, size : 2 * size] + b[:, size : 2 * size])
        n = np.tanh(a[:, 2 * size :] + r * b[:, 2 * size :])
        h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs), h
