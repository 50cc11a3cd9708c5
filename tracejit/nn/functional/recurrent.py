"""Recurrent cells, and one layer of them run over a sequence.

Invariant: the input's share of the gates is one product for all steps; only the state's share is
computed step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.joining import stack
from tracejit.eager.pointwise import where_of
from tracejit.nn.functional.linear import linear

State = tuple[Any, ...]


def _elman(activate: Callable[[Any], Any]) -> Callable[..., State]:
    def step(gates: Any, state: State, weights: Sequence[Any]) -> State:
        return (activate(gates + linear(state[0], weights[0], weights[1])),)

    return step


def _lstm(gates: Any, state: State, weights: Sequence[Any]) -> State:
    """Input, forget, cell and output gates; an optional projection of h (Hochreiter, 1997)."""
    h, c = state
    i, f, g, o = (gates + linear(h, weights[0], weights[1])).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if weights[2] is None else linear(h, weights[2])), c


def _gru(gates: Any, state: State, weights: Sequence[Any]) -> State:
    """Reset, update and new gates (Cho et al., 2014)."""
    (h,) = state
    xr, xz, xn = gates.chunk(3, -1)
    hr, hz, hn = linear(h, weights[0], weights[1]).chunk(3, -1)
    reset, update = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    new = (xn + reset * hn).tanh()
    return ((h - new) * update + new,)


CELLS: dict[str, Callable[..., State]] = {
    "RNN_TANH": _elman(lambda x: x.tanh()),
    "RNN_RELU": _elman(lambda x: x.relu()),
    "LSTM": _lstm,
    "GRU": _gru,
}
"""The step functions by torch's mode names: (gates from the input, state, weights) to state."""


def run_layer(
    mode: str, input: Any, state: State, weights: Sequence[Any], reverse: bool, valid: Any = None
) -> tuple[Any, State]:
    """One layer in one direction over [T, N, features].

    weights  w_ih, w_hh, b_ih, b_hh, w_hr (None where absent).
    valid    [T, N, 1] bool: where it is false the state is carried over.

    Returns the outputs [T, N, hidden] and the last state.
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    steps = list(linear(input, w_ih, b_ih).unbind(0))
    order = range(len(steps))
    outputs: list[Any] = [None] * len(steps)
    cell = CELLS[mode]
    for t in reversed(order) if reverse else order:
        new = cell(steps[t], state, (w_hh, b_hh, w_hr))
        if valid is not None:
            new = tuple(where_of(valid[t], a, b, a.dtype) for a, b in zip(new, state, strict=True))
        state = new
        outputs[t] = state[0]
    return stack(outputs), state
