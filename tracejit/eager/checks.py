"""Conditions that eager code has just verified and a replay must verify again.

Invariant: without a capture nothing is computed here; eager code has raised already if need be.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.eager.modes import state
from tracejit.tensor import Tensor


def require(condition: Callable[[], Tensor], message: str) -> None:
    """In a capture: the 0-d bool tensor that `condition` makes must be true at every replay."""
    capture = state.capture
    if capture is not None:
        capture.checks.append((capture.node_of(condition()), message))
