"""``tracejit.library``: registrations about operators that other packages compiled for torch.

Invariant: such operators do not exist here (``ops.load_library`` refuses), so what is said about
them is not kept. A Python function made an operator is called as that function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.errors import at_user_line

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


class CustomOpDef:
    """A Python function as an operator: runs as it stands, and its operations have gradients.

    A gradient of its own, as `register_autograd` would set, belongs in ``autograd.Function`` here.
    """

    def __init__(self, name: str, fn: Callable[..., Any]):
        self._qualname, self._fn = name, fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fn(*args, **kwargs)

    def register_fake(self, fn: Any, /) -> Any:
        """`fn`: sizes come from the run itself."""
        return fn

    def register_autograd(self, backward: Any, /, *, setup_context: Any = None) -> None:
        """Raises RuntimeError, naming what to use."""
        raise RuntimeError(at_user_line(
            f"{self._qualname}: write the gradient as an autograd.Function"
        ))  # fmt: skip


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


def register_autograd(op: Any, backward: Any, /, **kwargs: Any) -> None:
    """Nothing."""
