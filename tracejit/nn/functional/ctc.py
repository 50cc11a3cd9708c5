"""Connectionist temporal classification (Graves et al., 2006).

Invariant: the forward recursion runs over all examples and all states at once, one step of time
after the other; impossible states carry a large negative number rather than -inf, so gradients
stay finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.eager.factories import from_numpy
from tracejit.eager.joining import cat, stack
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

_IMPOSSIBLE = -1e30


def _lengths(values: Any) -> list[int]:
    return [int(v) for v in (values.reshape(-1).tolist() if isinstance(values, Tensor) else values)]


def _padded_targets(targets: Any, lengths: list[int]) -> np.ndarray:
    """[N, S] from [N, S], or from targets joined end to end."""
    array = np.asarray(targets.tolist(), np.int64)
    if targets.ndim == 2:
        return array
    rows = np.zeros((len(lengths), max(lengths, default=0)), np.int64)
    at = 0
    for row, n in zip(rows, lengths, strict=True):
        row[:n] = array[at : at + n]
        at += n
    return rows


def _states(targets: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with blanks between them [N, 2S + 1], and where two states may be passed at once."""
    count, size = targets.shape
    labels = np.full((count, 2 * size + 1), blank, np.int64)
    labels[:, 1::2] = targets
    skip = np.zeros(labels.shape, bool)
    skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skip


def _shifted(alpha: Any, by: int) -> Any:
    """State s holds what state ``s - by`` held."""
    edge = alpha.new_full((alpha.shape[0], min(by, alpha.shape[1])), _IMPOSSIBLE)
    return cat([edge, alpha[:, : max(alpha.shape[1] - by, 0)]], 1)


def _final(alpha: Any, target_lengths: list[int]) -> Any:
    """The log-probability of ending in the last label or the blank after it."""
    last = np.asarray(target_lengths, np.int64) * 2
    blank, label = (
        alpha.gather(1, from_numpy(np.maximum(last - back, 0)[:, None]))[:, 0] for back in (0, 1)
    )
    label = where_of(from_numpy(last == 0), _IMPOSSIBLE, label, alpha.dtype)
    return stack([blank, label]).logsumexp(0)


def ctc_loss(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Minus the log-probability of the targets over all alignments.

    log_probs       [T, N, C] (or [T, C]), from log_softmax.
    targets         [N, S] class indices, or all of them joined; never `blank`.
    input_lengths, target_lengths  [N]; an alignment that does not fit has loss inf
                    (0 with `zero_infinity`).
    reduction       'mean' divides each loss by its target's length first.
    """
    single = log_probs.ndim == 2
    lp = log_probs.unsqueeze(1) if single else log_probs
    inputs, outputs = _lengths(input_lengths), _lengths(target_lengths)
    if len(inputs) != lp.shape[1] or len(outputs) != lp.shape[1]:
        raise RuntimeError(at_user_line("ctc_loss: a length is needed for every example"))
    if max(inputs, default=0) > lp.shape[0]:
        raise RuntimeError(at_user_line(f"ctc_loss: an input length exceeds {lp.shape[0]} steps"))
    rows = _padded_targets(targets.unsqueeze(0) if single else targets, outputs)
    labels, skip = _states(rows, blank)
    alpha = _forward(lp, labels, skip, inputs)
    loss: Any = -_final(alpha, outputs)
    loss = where_of(loss > -_IMPOSSIBLE / 10, 0.0 if zero_infinity else math.inf, loss, lp.dtype)
    if reduction == "mean":
        scale: Any = from_numpy(np.maximum(np.asarray(outputs), 1).astype(lp.dtype.numpy))
        return (loss / scale).mean()
    if reduction == "sum":
        return loss.sum()
    if reduction != "none":
        raise ValueError(f"{reduction!r} is not a valid value for reduction")
    return loss[0] if single else loss


def _forward(lp: Any, labels: np.ndarray, skip: np.ndarray, lengths: list[int]) -> Any:
    """The log-probability of being in each state at the end of each input."""
    places: Any = from_numpy(labels)
    jump: Any = from_numpy(skip)
    states = labels.shape[1]
    alive = np.asarray(lengths, np.int64)
    start: Any = from_numpy(np.arange(states) < 2)
    first = lp[0].gather(1, places)
    alpha = where_of(start.unsqueeze(0), first, _IMPOSSIBLE, lp.dtype)
    for t in range(1, int(lp.shape[0])):
        by_two = where_of(jump, _shifted(alpha, 2), _IMPOSSIBLE, lp.dtype)
        ways: Any = stack([alpha, _shifted(alpha, 1), by_two])
        moved = ways.logsumexp(0) + lp[t].gather(1, places)
        running: Any = from_numpy(alive > t)
        alpha = where_of(running.unsqueeze(1), moved, alpha, lp.dtype)
    return alpha


__all__ = ["ctc_loss"]
