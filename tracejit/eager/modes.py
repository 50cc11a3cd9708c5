"""What the present thread is doing: gradients on or off, capturing or not.

Invariant: one `state` per thread; a block that changes it restores it.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from tracejit import errors

F = TypeVar("F", bound=Callable[..., Any])


class _State(threading.local):
    grad: bool = True
    inference: bool = False
    capture: Any = None  # the tracejit.eager.tape.Capture in progress
    heard: Any = None  # what a trial run prints, kept back: a list of functions that print it
    saving: Any = None  # nodes whose values the in-place operation in progress saves


state = _State()


def _note_error(message: str, of_types: bool) -> None:
    if state.capture is not None:
        state.capture.note_error(message, of_types)


errors.WHEN_WORDED.append(_note_error)

MODULE_VERSION = [0]
"""Counts changes of modules and parameters (not of their contents), for the guards of traces."""


class _GradMode:
    """A context manager and decorator that sets gradient recording."""

    enabled = True

    def __init__(self, function: Any = None):
        self._before: list[bool] = []

    def __new__(cls, function: Any = None) -> Any:
        instance: Any = super().__new__(cls)
        if function is not None:  # used as @no_grad without parentheses
            instance.__init__()
            return instance(function)
        return instance

    def __enter__(self) -> _GradMode:
        self._before.append(state.grad)
        state.grad = self.enabled
        return self

    def __exit__(self, *exc: object) -> None:
        state.grad = self._before.pop()

    def __call__(self, function: F) -> F:
        return _decorate(function, type(self))


def _decorate(function: Any, make: Callable[[], Any]) -> Any:
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            iterator = function(*args, **kwargs)
            while True:
                with make():
                    try:
                        item = next(iterator)
                    except StopIteration as stop:
                        return stop.value
                yield item

        return generator

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with make():
            return function(*args, **kwargs)

    return wrapper


class no_grad(_GradMode):
    """Operations inside are not recorded for gradients. A context manager and a decorator.

    Example: ``with no_grad(): w -= 0.1 * w.grad``.
    """

    enabled = False


class enable_grad(_GradMode):
    """Operations inside are recorded again, also within `no_grad`."""

    enabled = True


class set_grad_enabled(_GradMode):
    """Gradient recording on or off: at once as a call, or for a block as a context manager."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        self._before = [state.grad]
        self.enabled = bool(mode)
        state.grad = self.enabled

    def __enter__(self) -> set_grad_enabled:
        state.grad = self.enabled
        return self

    def __call__(self, function: F) -> F:
        state.grad = self._before.pop()
        mode = self.enabled
        return _decorate(function, lambda: set_grad_enabled(mode))


class inference_mode(_GradMode):
    """Like `no_grad`, and says so: ``is_inference_mode_enabled()`` is true inside."""

    enabled = False

    def __new__(cls, mode: Any = True) -> Any:
        instance: Any = object.__new__(cls)
        if callable(mode) and not isinstance(mode, bool):
            instance.__init__(True)
            return instance(mode)
        return instance

    def __init__(self, mode: bool = True):
        super().__init__()
        self.mode = mode
        self._inference: list[bool] = []

    def __enter__(self) -> inference_mode:
        self._before.append(state.grad)
        self._inference.append(state.inference)
        if self.mode:
            state.grad = False
        state.inference = self.mode
        return self

    def __exit__(self, *exc: object) -> None:
        state.grad = self._before.pop()
        state.inference = self._inference.pop()

    def __call__(self, function: F) -> F:
        mode = self.mode
        return _decorate(function, lambda: inference_mode(mode))


def is_grad_enabled() -> bool:
    """Whether operations are recorded for gradients in this thread."""
    return state.grad


def read_scalar(container: Any, key: Any) -> Any:
    """``container[key]``, a number; in a capture it becomes a run-time input of the trace.

    For library code (optimizers): a number read this way never causes a re-trace.
    """
    value = container[key]
    if state.capture is None or type(value) not in (int, float):  # not bool, not traced already
        return value
    if hasattr(value, "scalar_node"):  # traced already: it varied, and the capture put it there
        return value
    return state.capture.lift_scalar(container, key, value)
