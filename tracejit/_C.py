"""``tracejit._C``: the few names of torch's C++ side that packages touch while they are imported.

Invariant: nothing here computes. Where a name says how torch is run, the answer is "as Python".
"""

from __future__ import annotations

from contextlib import nullcontext
from enum import IntFlag
from typing import Any

__all__ = ["DisableTorchFunctionSubclass", "DispatchKey", "DispatchKeySet", "Graph", "Value"]


class DispatchKey(IntFlag):
    """Keys of torch's dispatcher that packages register autocast rules for."""

    AutocastCPU = 1
    AutocastCUDA = 2
    AutocastXPU = 4


DispatchKeySet = DispatchKey


class DisableTorchFunctionSubclass(nullcontext[None]):
    """A block in which torch would not call ``__torch_function__``; it is never called here."""


class Graph:
    """torch's graph of an exporter: for annotations."""


class Value:
    """A value in torch's graph of an exporter: for annotations."""


_ExcludeDispatchKeyGuard = nullcontext


def _get_tracing_state() -> None:
    """None: torch.jit.trace is not running."""


def _log_api_usage_once(*args: Any) -> None:
    """Nothing is logged."""
