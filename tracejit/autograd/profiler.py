"""``tracejit.autograd.profiler``: torch's marks in profiles, as marks that record nothing.

Invariant: a marked block runs as if it were not; for what happened use ``tracejit.history``.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

__all__ = ["record_function"]


class record_function(ContextDecorator):
    """Names a block or a function for a profiler.

    Example: ``with tracejit.profiler.record_function("forward"): ...``
    """

    def __init__(self, name: str, args: str | None = None):
        self.name = name

    def __enter__(self) -> record_function:
        return self

    def __exit__(self, *exc: Any) -> None:
        pass
