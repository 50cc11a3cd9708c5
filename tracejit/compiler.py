"""``tracejit.compiler``: torch's names for steering ``compile``.

Invariant: none of these changes a result.
"""

from __future__ import annotations

from typing import Any

from tracejit.jit.compile import compile

__all__ = [
    "allow_in_graph", "assume_constant_result", "cudagraph_mark_step_begin", "disable",
    "compile", "is_compiling", "is_dynamo_compiling", "is_exporting", "list_backends", "reset",
]  # fmt: skip


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """`fn` itself, or a decorator that returns it: a capture runs it as Python either way."""
    return (lambda function: function) if fn is None else fn


def allow_in_graph(fn: Any) -> Any:
    """`fn` itself."""
    return fn


assume_constant_result = allow_in_graph


def is_compiling() -> bool:
    """False, also inside compiled functions: they compute what eager code would."""
    return False


is_dynamo_compiling = is_compiling


def is_exporting() -> bool:
    """False: nothing is exported."""
    return False


def list_backends(exclude_tags: Any = ()) -> list[str]:
    """The one way in which `compile` makes code."""
    return ["tracejit"]


def reset() -> None:
    """Nothing to forget: compiled functions own their traces, which go when they go."""


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark: results stay valid after the next call."""
