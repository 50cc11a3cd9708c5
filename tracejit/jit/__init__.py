"""Compilation: capture by one real run, guards on what steered it, a tree of traces.

The names it exports are TorchScript's, as in ``torch.jit``.
"""

from tracejit.jit.scripting import (
    Attribute,
    Final,
    ScriptFunction,
    ScriptModule,
    annotate,
    export,
    freeze,
    ignore,
    interface,
    is_scripting,
    is_tracing,
    optimize_for_inference,
    script,
    script_if_tracing,
    script_method,
    unused,
)
from tracejit.jit.scripting import (
    _overload as _overload,
)
from tracejit.jit.scripting import (
    _overload_method as _overload_method,
)
from tracejit.jit.scripting import (
    script_if_tracing as _script_if_tracing,
)

__all__ = [
    "Attribute", "Final", "ScriptFunction", "ScriptModule", "annotate", "export", "freeze",
    "ignore", "interface", "is_scripting", "is_tracing", "optimize_for_inference", "script",
    "script_if_tracing", "script_method", "unused",
]  # fmt: skip
