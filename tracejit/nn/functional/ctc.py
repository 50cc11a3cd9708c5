"""Connectionist temporal classification (Graves et al., 2006).

Invariant: the forward recursion runs over all examples and all states at once, one step of time
after the other; impossible states carry a large negative number rather than -inf, so gradients
stay finite.
"""

from __future__ import annotations

import math
from typing import Any

from tracejit import dtypes
from tracejit.eager.checks import is_on_device, require
from tracejit.eager.joining import cat, stack
from tracejit.eager.pointwise import where_of
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

_IMPOSSIBLE = -1e30


def _lengths(values: Any, like: Tensor) -> Any:
    """Lengths as an int64 tensor [N] beside `like`."""
    if isinstance(values, Tensor):
        return values.reshape(-1).to(like.device).long()
    numbers = [int(v) for v in values]
    return FUNCTIONS["tensor"](numbers, dtype=dtypes.int64, device=like.device)


def _padded_targets(targets: Any, lengths: Any, given: Any) -> Any:
    """[N, S] from [N, S], or from targets joined end to end; 0 after the end of each.

    given  the lengths as the user wrote them: in a capture, reading a tensor cuts the trace.
    """
    targets = targets.long()
    longest = (
        targets.shape[1]
        if targets.ndim == 2
        else int(lengths.max())
        if isinstance(given, Tensor)
        else max(map(int, given), default=0)
    )
    places = FUNCTIONS["arange"](longest, device=targets.device)
    inside = places < lengths.unsqueeze(1)
    if targets.ndim == 1:
        starts = (lengths.cumsum(0) - lengths).unsqueeze(1)
        targets = targets[where_of(inside, starts + places, 0, dtypes.int64)]
    return where_of(inside, targets, 0, dtypes.int64)


def _states(targets: Any, blank: int) -> tuple[Any, Any]:
    """Labels with blanks between them [N, 2S + 1], and where two states may be passed at once."""
    count, size = targets.shape
    blanks = targets.new_full((count, 1), blank)
    pairs = stack([targets, blanks.expand(count, size)], 2)
    labels: Any = cat([blanks, pairs.reshape(count, 2 * size)], 1)
    start = FUNCTIONS["zeros"]((count, min(2, 2 * size + 1)), dtype=dtypes.bool_,
                               device=targets.device)  # fmt: skip
    skip = cat([start, (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])], 1)
    return labels, skip


def _shifted(alpha: Any, by: int) -> Any:
    """State s holds what state ``s - by`` held."""
    edge = alpha.new_full((alpha.shape[0], min(by, alpha.shape[1])), _IMPOSSIBLE)
    return cat([edge, alpha[:, : max(alpha.shape[1] - by, 0)]], 1)


def _final(alpha: Any, target_lengths: Any) -> Any:
    """The log-probability of ending in the last label or the blank after it."""
    last = target_lengths * 2
    blank, label = (
        alpha.gather(1, (last - back).clamp(min=0).unsqueeze(1))[:, 0] for back in (0, 1)
    )
    label = where_of(last == 0, _IMPOSSIBLE, label, alpha.dtype)
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

    The gradient is torch's: of log-probabilities that stay normalised (``exp(log_probs)`` minus
    the expected counts), which behind log_softmax is the gradient of the value.
    """
    single = log_probs.ndim == 2
    lp = log_probs.unsqueeze(1) if single else log_probs
    inputs, outputs = (_lengths(v, lp) for v in (input_lengths, target_lengths))
    if len(inputs) != lp.shape[1] or len(outputs) != lp.shape[1]:
        raise RuntimeError(at_user_line("ctc_loss: a length is needed for every example"))
    if not is_on_device(inputs):
        if (inputs._array > lp._array.shape[0]).any():
            raise RuntimeError(at_user_line(
                f"ctc_loss: an input length exceeds {lp.shape[0]} steps"))  # fmt: skip
        require(lambda: (inputs <= lp.shape[0]).all(), "ctc_loss: an input length is too long")
    rows = _padded_targets(targets.unsqueeze(0) if single and targets.ndim == 1 else targets,
                           outputs, target_lengths)  # fmt: skip
    labels, skip = _states(rows, blank)
    alpha = _forward(lp, labels, skip, inputs)
    loss: Any = _normalised(-_final(alpha, outputs), lp, inputs)
    loss = where_of(loss > -_IMPOSSIBLE / 10, 0.0 if zero_infinity else math.inf, loss, lp.dtype)
    if reduction == "mean":
        return (loss / outputs.clamp(min=1).to(lp.dtype)).mean()
    if reduction == "sum":
        return loss.sum()
    if reduction != "none":
        raise ValueError(at_user_line(f"{reduction!r} is not a valid value for reduction"))
    return loss[0] if single else loss


def _normalised(loss: Any, lp: Any, lengths: Any) -> Any:
    """`loss` itself, with the gradient of the logarithm of each step's total added."""
    if not lp.requires_grad:
        return loss
    steps = FUNCTIONS["arange"](lp.shape[0], device=lp.device).unsqueeze(1)
    mass = where_of(steps < lengths, lp.exp().sum(2), 0.0, lp.dtype).sum(0)
    mass = where_of(mass < math.inf, mass, 0.0, lp.dtype)
    return loss + (mass - mass.detach())


def _forward(lp: Any, labels: Any, skip: Any, lengths: Any) -> Any:
    """The log-probability of being in each state at the end of each input."""
    start = FUNCTIONS["arange"](labels.shape[1], device=lp.device) < 2
    first = lp[0].gather(1, labels)
    alpha = where_of(start.unsqueeze(0), first, _IMPOSSIBLE, lp.dtype)
    for t in range(1, int(lp.shape[0])):
        by_two = where_of(skip, _shifted(alpha, 2), _IMPOSSIBLE, lp.dtype)
        ways: Any = stack([alpha, _shifted(alpha, 1), by_two])
        moved = ways.logsumexp(0) + lp[t].gather(1, labels)
        alpha = where_of((lengths > t).unsqueeze(1), moved, alpha, lp.dtype)
    return alpha


__all__ = ["ctc_loss"]
