"""Clipping gradients in place.

Invariant: no value leaves for Python, so clipping inside a compiled step is no branch point
(except with `error_if_nonfinite`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracejit.eager.factories import tensor
from tracejit.eager.joining import stack
from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in items if p.grad is not None]


def get_total_norm(
    tensors: Iterable[Any], norm_type: float = 2.0, error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """The norm of all elements of all tensors as of one vector."""
    norms = [t.detach().norm(norm_type) for t in tensors]
    if not norms:
        return tensor(0.0)
    total: Any = norms[0] if len(norms) == 1 else stack(norms).norm(norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(
            at_user_line(
                f"the total norm of order {norm_type} of the gradients is not finite; "
                "pass error_if_nonfinite=False to clip anyway"
            )
        )
    return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Any,
    foreach: bool | None = None,
) -> None:  # fmt: skip
    """Scale all gradients by ``max_norm / total_norm`` if that is below 1, in place."""
    factor = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    with no_grad():
        for g in _gradients(parameters):
            g.mul_(factor)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
    error_if_nonfinite: bool = False, foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """Scale all gradients so that their total norm is at most `max_norm`; returns the old norm."""
    items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    with no_grad():
        total = get_total_norm(_gradients(items), norm_type, error_if_nonfinite)
        clip_grads_with_norm_(items, max_norm, total)
    return total


clip_grad_norm = clip_grad_norm_


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Bring every element of every gradient into ``[-clip_value, clip_value]``, in place."""
    with no_grad():
        for g in _gradients(parameters):
            g.clamp_(-float(clip_value), float(clip_value))
