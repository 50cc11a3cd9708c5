"""``tracejit.utils.checkpoint``: torch's interface of gradient checkpointing.

Invariant: the numbers are those of the plain call. What a backward pass keeps and what it computes
again is decided by the compiler for each graph (a minimal cut), so nothing is asked of the user; in
eager code the values are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["checkpoint", "checkpoint_sequential", "get_device_states", "set_device_states"]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    context_fn: Any = None,
    determinism_check: str = "default",
    debug: bool = False,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``; the other arguments are torch's and change no result.

    Example: ``y = checkpoint(torch.tanh, torch.ones(3), use_reentrant=False)``.
    """
    return function(*args, **kwargs)


def checkpoint_sequential(
    functions: Iterable[Callable[..., Any]], segments: int, input: Any,
    use_reentrant: bool | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """`input` through all `functions` (modules of a Sequential, say), one after the other."""
    for function in functions:
        input = function(input)
    return input


def get_device_states(*args: Any) -> tuple[list[int], list[Any]]:
    """No devices and no states: all devices draw from the one generator of ``get_rng_state``."""
    return [], []


def set_device_states(devices: Any, states: Any, **kwargs: Any) -> None:
    """Nothing to put back; see `get_device_states`."""
