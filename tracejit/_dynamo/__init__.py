"""``tracejit._dynamo``: names of torch's tracer that libraries call to steer it.

Invariant: none of these changes a result; `config` takes any setting and nothing reads it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tracejit.compiler import allow_in_graph, assume_constant_result, disable, is_compiling, reset

__all__ = [
    "allow_in_graph", "assume_constant_result", "config", "disable", "disallow_in_graph",
    "forbid_in_graph", "graph_break", "is_compiling", "mark_dynamic", "mark_static",
    "mark_static_address", "maybe_mark_dynamic", "reset", "skip",
]  # fmt: skip

config = SimpleNamespace(
    suppress_errors=False, cache_size_limit=8, recompile_limit=8, capture_scalar_outputs=False
)
disallow_in_graph = forbid_in_graph = skip = allow_in_graph


def graph_break(msg: str = "") -> None:
    """Nothing to break: a capture is a run of the Python code."""


def mark_dynamic(t: Any, index: Any, **kwargs: Any) -> None:
    """Nothing to mark: a size that changed once is a symbol from then on."""


maybe_mark_dynamic = mark_dynamic


def mark_static(t: Any, index: Any = None) -> None:
    """Nothing to mark."""


def mark_static_address(t: Any, guard: bool = True) -> None:
    """Nothing to mark."""
