"""``tracejit.distributed``: what programs ask before they use several processes; there is one.

Invariant: ``is_available()`` is False and nothing here communicates; what needs a process group
raises RuntimeError.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NoReturn

from tracejit.errors import at_user_line

__all__ = [
    "ReduceOp", "all_gather", "all_reduce", "barrier", "broadcast", "destroy_process_group",
    "get_rank", "get_world_size", "init_process_group",
    "is_available", "is_initialized", "is_torchelastic_launched",
    "nn",
]  # fmt: skip


def is_available() -> bool:
    """Whether there is distributed training: False."""
    return False


def is_initialized() -> bool:
    """Whether a process group was started: False."""
    return False


def is_torchelastic_launched() -> bool:
    """Whether a launcher started this process: False."""
    return False


def _no_group(name: str) -> NoReturn:
    raise RuntimeError(at_user_line(
        f"distributed.{name}: there is no process group; tracejit runs in one process"
    ))  # fmt: skip


def init_process_group(*args: Any, **kwargs: Any) -> None:
    """Raises RuntimeError: there is one process."""
    _no_group("init_process_group")


def destroy_process_group(group: Any = None) -> None:
    """Raises RuntimeError: there is no group to end."""
    _no_group("destroy_process_group")


def get_rank(group: Any = None) -> int:
    """Raises RuntimeError, as torch does before ``init_process_group``."""
    _no_group("get_rank")


def get_world_size(group: Any = None) -> int:
    """Raises RuntimeError, as torch does before ``init_process_group``."""
    _no_group("get_world_size")


class ReduceOp(Enum):
    """torch's ways to combine the values of several processes."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4


def all_reduce(*args: Any, **kwargs: Any) -> None:
    """Raises RuntimeError: there is no process group."""
    _no_group("all_reduce")


def all_gather(*args: Any, **kwargs: Any) -> None:
    """Raises RuntimeError: there is no process group."""
    _no_group("all_gather")


def broadcast(*args: Any, **kwargs: Any) -> None:
    """Raises RuntimeError: there is no process group."""
    _no_group("broadcast")


def barrier(*args: Any, **kwargs: Any) -> None:
    """Raises RuntimeError: there is nobody to wait for."""
    _no_group("barrier")


from tracejit.distributed import nn  # noqa: E402
