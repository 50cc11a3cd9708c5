"""How a function becomes public: ``tracejit.name``, ``Tensor.name`` and ``Tensor.name_``.

Invariant: the three are one function; the in-place form writes the result of the plain one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tracejit.eager.inplace import write_into
from tracejit.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Everything that the top-level module offers as a function."""


def public(
    *,
    function: bool = True,
    method: bool = True,
    inplace: bool = False,
    aliases: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Publish a function whose first argument is a tensor. `inplace` adds the method ``name_``."""

    def publish(target: F) -> F:
        for name in (target.__name__, *aliases):
            if function:
                FUNCTIONS[name] = target
            if method:
                setattr(Tensor, name, target)
            if inplace:
                setattr(Tensor, f"{name}_", _inplace_form(target, name))
        return target

    return publish


def _inplace_form(target: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(target)
    def inplace(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return write_into(self, target(self, *args, **kwargs), f"{name}_")

    inplace.__name__ = inplace.__qualname__ = f"{name}_"
    inplace.__doc__ = f"`{name}`, written into the tensor itself, which is returned."
    return inplace
