"""``tracejit.onnx.symbolic_helper``: a file of torch that packages import for their exporters.

Invariant: functions stay what they are; nothing is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["parse_args"]

F = TypeVar("F")


def parse_args(*descriptors: str) -> Callable[[F], F]:
    """A decorator that gives back its function."""
    return lambda function: function
