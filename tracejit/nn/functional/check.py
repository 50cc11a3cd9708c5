"""Checks of values (not of shapes) that hold in eager code and in replays of a trace.

Invariant: the message is the same in both.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.checks import is_on_device, require, require_later
from tracejit.errors import at_user_line


def check_all(condition: Any, message: str) -> None:
    """Raise RuntimeError unless every element of the bool tensor `condition` is true.

    In a capture the check becomes part of the trace instead of a branch point.
    """
    if is_on_device(condition):
        require_later(condition, RuntimeError, message)
        return
    if not condition._array.all():
        raise RuntimeError(at_user_line(message))
    require(lambda: condition.all(), message)
