"""The errors tracejit raises, and where in the user's code a thing happened.

Invariant: a message that concerns an op names the op, the types and the user's file:line.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_is_internal: dict[str, bool] = {}


class Location:
    """A place in the user's code. The line is worked out only when asked for: most never are."""

    __slots__ = ("code", "offset", "_fixed")

    def __init__(
        self, code: CodeType | None, offset: int = 0, fixed: tuple[str, int] | None = None
    ):
        self.code = code
        self.offset = offset
        self._fixed = fixed

    @property
    def filename(self) -> str:
        if self._fixed is not None:
            return self._fixed[0]
        assert self.code is not None
        return self.code.co_filename

    @property
    def line(self) -> int:
        if self._fixed is not None:
            return self._fixed[1]
        assert self.code is not None
        line = self.code.co_firstlineno
        for start, end, number in self.code.co_lines():
            if start <= self.offset < end and number is not None:
                line = number
        return line

    @property
    def source(self) -> str:
        """The text of the user's line, or '' if the file cannot be read."""
        return linecache.getline(self.filename, self.line).strip()

    def __str__(self) -> str:
        return f"{os.path.basename(self.filename)}:{self.line}"

    def full(self) -> str:
        """``path/file.py:12`` with the line's text where it can be had."""
        text = self.source
        return f"{self.filename}:{self.line}" + (f"  {text}" if text else "")


def user_frame() -> FrameType | None:
    """The innermost frame that does not belong to tracejit."""
    frame: FrameType | None = sys._getframe(1)
    known = _is_internal
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename in known:
            internal = known[filename]
        else:
            own = os.path.abspath(filename).startswith(_PACKAGE)
            internal = known[filename] = own or filename.startswith(("<frozen", "<tracejit"))
        if not internal:
            return frame
        frame = frame.f_back
    return None


def user_location() -> Location | None:
    """Where the user's code called into tracejit."""
    frame = user_frame()
    return None if frame is None else Location(frame.f_code, frame.f_lasti)


def user_stacklevel() -> int:
    """The `stacklevel` with which a warning given by the caller names the user's line."""
    wanted, level = user_frame(), 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not wanted:
        frame, level = frame.f_back, level + 1
    return level


WHEN_WORDED: list[Callable[[str, bool], None]] = []
"""Called with the message whenever an error is about to be raised: code that catches it goes by
what caused it. The flag says that only shapes and dtypes did."""


def with_user_line(message: str) -> str:
    """`message`, of an error that may be raised later, with the user's file:line added."""
    location = user_location()
    return message if location is None else f"{message}\n  at {location.full()}"


def at_user_line(message: str) -> str:
    """`message`, of an error that is about to be raised, with the user's file:line added."""
    text = with_user_line(message)
    for note in WHEN_WORDED:
        note(text, False)
    return text


class TracejitError(Exception):
    """Base of the errors that are tracejit's own."""


class VerifyError(TracejitError):
    """A graph or a plan breaks a rule of the IR."""


class ParseError(TracejitError, ValueError):
    """IR text that cannot be read."""


class CompileError(TracejitError, RuntimeError):
    """Code generation failed; the message names a reproducer file."""


class CaptureError(TracejitError, RuntimeError):
    """The function cannot be captured soundly (raised only under ``fullgraph=True``)."""


class CheckFailed(TracejitError, RuntimeError):
    """A check of a compiled trace does not hold (an index out of range, a division by zero)."""


class DeviceCheckFailed(CheckFailed, IndexError):
    """A check of a compiled function that a device found not to hold, told at a later wait."""


class DivergenceError(TracejitError, AssertionError):
    """A compiled call under ``compile(check=...)`` did not give what eager code gives."""


class DeviceError(TracejitError, RuntimeError):
    """A device that is missing, mixed devices, or device memory run out."""


class OutOfMemoryError(DeviceError):
    """A device has too little memory left; nothing was allocated."""


class _OfTypes(RuntimeError):
    """Base of errors that do not depend on the elements of tensors."""

    def __init__(self, *args: object):
        super().__init__(*args)
        for note in WHEN_WORDED:
            note(str(self), True)


class ShapeError(_OfTypes, ValueError):
    """Shapes that do not fit. A RuntimeError as in PyTorch, and a ValueError as in NumPy."""


class BoundsError(IndexError, RuntimeError):
    """An index out of range in `gather` and its like: an IndexError, and PyTorch's RuntimeError."""


class DTypeError(_OfTypes, TypeError):
    """Dtypes that do not fit. A RuntimeError as in PyTorch, and a TypeError as in NumPy."""


class DivisionError(RuntimeError, ZeroDivisionError):
    """An integer divided by zero: a RuntimeError as in PyTorch, Python's ZeroDivisionError too."""


class LinAlgError(RuntimeError, ValueError):
    """A matrix that a factorisation or a solver cannot take: singular, not positive definite."""


class TraceWarning(UserWarning):
    """A compiled function runs eagerly, and why."""
