"""Conditions that eager code has just verified and a replay must verify again.

On a device nothing is read back for a check: the device notes it, and its error is raised at the
next synchronisation. Invariant: without a capture and on the CPU nothing is computed here; eager
code has raised already if need be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.eager.modes import state
from tracejit.errors import with_user_line
from tracejit.runtime.device_array import DeviceArray
from tracejit.tensor import Tensor


def require(condition: Callable[[], Tensor], message: str) -> None:
    """In a capture: the 0-d bool tensor that `condition` makes must be true at every replay."""
    capture = state.capture
    if capture is not None:
        capture.checks.append((capture.node_of(condition()), message))


def is_on_device(tensor: Tensor) -> bool:
    """Whether reading the tensor's elements would make the host wait."""
    return type(tensor._array) is DeviceArray


def require_later(condition: Tensor, error: type[Exception], message: str) -> None:
    """All of `condition`, a bool tensor of a device, must hold; raised at the next wait if not."""
    before, state.grad = state.grad, False
    try:
        flag: Any = condition.all()
    finally:
        state.grad = before
    array = flag._array
    array.backend.check_later(array.address, error(with_user_line(message)))
    require(lambda: flag, message)
