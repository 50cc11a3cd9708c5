"""``tracejit.jit``: TorchScript's names, so that code which mentions them runs as it stands.

TorchScript compiled Python ahead of time; here `tracejit.compile` traces whatever runs. Invariant:
every function of this file returns the function or module it was given, and nothing is ever being
scripted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = [
    "Attribute", "Final", "ScriptFunction", "ScriptModule", "annotate", "export", "freeze",
    "ignore", "interface", "is_scripting", "is_tracing", "optimize_for_inference", "script",
    "script_if_tracing", "script_method", "unused",
]  # fmt: skip

T = TypeVar("T")


class ScriptModule:
    """The class of scripted modules; nothing is an instance of it."""


class ScriptFunction:
    """The class of scripted functions; nothing is an instance of it."""


def script(obj: T, *args: Any, **kwargs: Any) -> T:
    """`obj` (a function, class or module) itself: it keeps running as Python.

    Example::

        @tracejit.jit.script
        def gate(x, y):
            return x.sigmoid() * y
    """
    return obj


script_if_tracing = script_method = export = interface = script
freeze = optimize_for_inference = _overload = _overload_method = script


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """A decorator, with or without arguments, that returns the function itself."""
    return drop if callable(drop) else (lambda function: function)


def unused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` itself."""
    return fn


def is_scripting() -> bool:
    """False: code is traced as it runs, never scripted."""
    return False


def is_tracing() -> bool:
    """False; a capture of ``tracejit.compile`` does not count, as with ``torch.compile``."""
    return False


def annotate(the_type: Any, the_value: T) -> T:
    """`the_value`."""
    return the_value


def Attribute(value: T, type: Any) -> T:
    """`value`."""
    return value
