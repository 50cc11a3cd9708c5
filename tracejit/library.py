"""``tracejit.library``: registrations about operators that other packages compiled for torch.

Invariant: such operators do not exist here (``ops.load_library`` refuses), so what is said about
them is not kept. A Python function made an operator is called as that function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tracejit.autograd.function import Function

__all__ = ["CustomOpDef", "Library", "custom_op", "register_autograd", "register_fake"]


class Library:
    """A namespace of operators: takes definitions and keeps none."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = ""):
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def define(self, schema: str, *args: Any, **kwargs: Any) -> str:
        """The operator's name in `schema`; nothing is defined."""
        return f"{self.ns}::{schema.split('(')[0]}"

    def impl(self, op_name: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


_defined: dict[str, CustomOpDef] = {}


class CustomOpDef:
    """A Python function as an operator: runs as it stands, and its operations have gradients.

    `register_autograd` gives it a gradient of its own.
    """

    def __init__(self, name: str, fn: Callable[..., Any]):
        self._qualname, self._fn = name, fn
        self._function: Any = None  # the autograd.Function of a gradient of its own
        self._signature = inspect.signature(fn)
        _defined[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            return self._fn(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self._function.apply(*bound.args, *bound.kwargs.values())

    def _forward(self, *values: Any) -> Any:
        """The function, its keyword-only arguments given last."""
        named = [p.name for p in self._signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        count = len(values) - len(named)
        return self._fn(*values[:count], **dict(zip(named, values[count:])))

    def register_fake(self, fn: Any, /) -> Any:
        """`fn`: sizes come from the run itself."""
        return fn

    def register_autograd(self, backward: Any, /, *, setup_context: Any = None) -> None:
        """``backward(ctx, *grads)`` gives a gradient for each input; ``setup_context(ctx, inputs,
        output)`` may save for it.
        """

        def nothing(ctx: Any, inputs: Any, output: Any) -> None:
            """The backward pass needs nothing of the call."""

        parts = {"forward": self._forward, "setup_context": setup_context or nothing,
                 "backward": backward}  # fmt: skip
        name = self._qualname.rpartition("::")[2]
        self._function = type(name, (Function,), {k: staticmethod(v) for k, v in parts.items()})


def custom_op(
    name: str, fn: Any = None, /, *, mutates_args: Any = (), device_types: Any = None,
    schema: str | None = None, tags: Any = None,
) -> Any:  # fmt: skip
    """The operator called `name` that runs `fn`, or a decorator that makes it."""
    if fn is None:
        return lambda function: CustomOpDef(name, function)
    return CustomOpDef(name, fn)


def register_fake(op: Any, func: Any = None, /, **kwargs: Any) -> Callable[[Any], Any] | Any:
    """`func`, or a decorator that gives back its function."""
    return (lambda function: function) if func is None else func


def register_autograd(
    op: Any, backward: Any, /, *, setup_context: Any = None, lib: Any = None
) -> None:  # fmt: skip
    """As `CustomOpDef.register_autograd`; `op` may be the name of one.

    Nothing for operators compiled for torch, which do not exist here.
    """
    found = _defined.get(op) if isinstance(op, str) else op
    if isinstance(found, CustomOpDef):
        found.register_autograd(backward, setup_context=setup_context)
