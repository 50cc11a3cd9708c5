"""How a function becomes public: ``tracejit.name``, ``Tensor.name`` and ``Tensor.name_``.

Invariant: the three are one function; the in-place form and ``out=`` write the plain one's result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tracejit.eager.inplace import check_writable, deliver, keeping_own, write_into
from tracejit.eager.modes import state
from tracejit.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Everything that the top-level module offers as a function."""


def public(
    *,
    function: bool = True,
    method: bool = True,
    inplace: bool = False,
    out: bool = False,
    aliases: tuple[str, ...] = (),
    into: dict[str, Callable[..., Any]] = FUNCTIONS,
) -> Callable[[F], F]:
    """Publish a function whose first argument is a tensor.

    inplace  adds the method ``name_``, which writes the result into the tensor.
    out      adds the argument ``out=`` to the function (not to the method).
    into     the module namespace that takes the function.
    """

    def publish(target: F) -> F:
        shown = _with_axis(target)
        for name in (target.__name__, *aliases):
            if function:
                into[name] = with_out(shown) if out else shown
            if method:
                setattr(Tensor, name, shown)
            if inplace:
                form = _inplace_form(shown, name)
                setattr(Tensor, f"{name}_", form)
                if function:
                    into[f"{name}_"] = form
        return target

    return publish


def _with_axis(target: Any) -> Any:
    """`target` that takes NumPy's ``axis`` and ``keepdims`` for ``dim`` and ``keepdim``, too."""
    code = target.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "dim" not in names or "axis" in names:
        return target

    @functools.wraps(target)
    def function(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if "axis" in kwargs:
                kwargs["dim"] = kwargs.pop("axis")
            if "keepdims" in kwargs:
                kwargs["keepdim"] = kwargs.pop("keepdims")
        return target(*args, **kwargs)

    return function


def with_names(target: Callable[..., Any], **names: str) -> Callable[..., Any]:
    """`target` that also takes arguments by other names: ``theirs="ours"``."""

    @functools.wraps(target)
    def function(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for theirs, ours in names.items():
                if theirs in kwargs:
                    kwargs[ours] = kwargs.pop(theirs)
        return target(*args, **kwargs)

    return function


def with_out(target: Callable[..., Any]) -> Callable[..., Any]:
    """`target` with a keyword ``out``: a tensor (or a tuple of them) that takes the result."""

    @functools.wraps(target)
    def function(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        result = target(*args, **kwargs)
        return result if out is None else deliver(result, out)

    return function


def _inplace_form(target: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(target)
    def inplace(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if state.grad:
            check_writable(self, f"{name}_")
            result = keeping_own(self, target, args, kwargs)
        else:
            result = target(self, *args, **kwargs)
        return write_into(self, result, f"{name}_")

    inplace.__name__ = inplace.__qualname__ = f"{name}_"
    inplace.__doc__ = f"`{name}`, written into the tensor itself, which is returned."
    return inplace
