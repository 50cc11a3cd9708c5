"""Recurrent networks as functions of ``torch`` itself: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`.

Invariant: each computes what the module of `nn` computes with the same parameters, given as torch
orders them: for every layer and direction w_ih, w_hh, then b_ih, b_hh if there are biases, then
w_hr if there is a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.joining import cat, stack
from tracejit.errors import ShapeError, at_user_line
from tracejit.nn.functional.dropout import dropout as _dropout
from tracejit.nn.functional.recurrent import run_layer
from tracejit.tensor import Tensor


def _grouped(name: str, params: Sequence[Any], has_biases: bool, count: int) -> list[list[Any]]:
    """The parameters of each layer and direction: w_ih, w_hh, b_ih, b_hh, w_hr or None."""
    each, rest = divmod(len(params), count)
    plain = 4 if has_biases else 2
    if rest or each not in (plain, plain + 1):
        raise ShapeError(at_user_line(
            f"{name}: {len(params)} parameters do not make {count} layers and directions "
            f"of {plain} each"))  # fmt: skip
    groups = []
    for i in range(count):
        own = list(params[i * each : (i + 1) * each])
        projection = own.pop() if each > plain else None
        own += [None] * (4 - len(own))
        groups.append([*own, projection])
    return groups


def _run(
    mode: str, input: Any, state: tuple[Any, ...], params: Sequence[Any], has_biases: bool,
    num_layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Any, ...]:  # fmt: skip
    if input.ndim != 3:
        raise ShapeError(at_user_line(
            f"{mode.lower()}: expected input [T, N, features], got {list(input.shape)}; packed "
            "sequences are taken by the modules of nn"))  # fmt: skip
    directions = 2 if bidirectional else 1
    groups = _grouped(mode.lower(), params, has_biases, num_layers * directions)
    x = input.transpose(0, 1) if batch_first else input
    finals = []
    for layer in range(num_layers):
        outputs = []
        for reverse in range(directions):
            i = layer * directions + reverse
            y, last = run_layer(mode, x, tuple(s[i] for s in state), groups[i], bool(reverse))
            outputs.append(y)
            finals.append(last)
        x = outputs[0] if directions == 1 else cat(outputs, -1)
        if dropout and train and layer < num_layers - 1:
            x = _dropout(x, dropout, True)
    last_states = [stack(list(parts)) for parts in zip(*finals, strict=True)]
    return (x.transpose(0, 1) if batch_first else x), *last_states


def lstm(
    input: Any, hx: Sequence[Any], params: Sequence[Any], has_biases: bool, num_layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(outputs, h, c) of a stacked LSTM over ``input`` [T, N, features] from ``hx = (h, c)``."""
    y, h, c = _run("LSTM", input, tuple(hx), params, has_biases, num_layers, dropout, train,
                   bidirectional, batch_first)  # fmt: skip
    return y, h, c


def _define(name: str, mode: str, doc: str) -> Any:
    def function(
        input: Any, hx: Any, params: Sequence[Any], has_biases: bool, num_layers: int,
        dropout: float, train: bool, bidirectional: bool, batch_first: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        y, h = _run(mode, input, (hx,), params, has_biases, num_layers, dropout, train,
                    bidirectional, batch_first)  # fmt: skip
        return y, h

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


gru = _define("gru", "GRU", "(outputs, h) of a stacked GRU over ``input`` [T, N, features].")
rnn_tanh = _define("rnn_tanh", "RNN_TANH", "(outputs, h) of a stacked Elman network with tanh.")
rnn_relu = _define("rnn_relu", "RNN_RELU", "(outputs, h) of a stacked Elman network with relu.")
