"""``print`` inside a compiled function: the capture keeps what was printed, a replay prints anew.

While a capture runs, `builtins.print` is a function that notes its arguments for the thread that
captures and is the plain one for all others. Invariant: a replay prints what eager would have
printed, after its program has run; what cannot be printed anew makes the function run eagerly.
"""

from __future__ import annotations

import builtins
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.dtypes import DType
from tracejit.eager.formatting import format_tensor, history_of
from tracejit.eager.integers import LiftedInt
from tracejit.eager.modes import state
from tracejit.eager.scalars import SymFloat
from tracejit.errors import user_location
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt
from tracejit.ir.types import Device
from tracejit.jit.structure import Structure
from tracejit.tensor import Size, Tensor

_PLAIN = (str, int, float, bool, complex, bytes, type(None), DType, Device)
_NUMBERS: dict[type, Callable[[Any], Any]] = {SymFloat: float, LiftedInt: int, SymInt: int}
_lock = threading.Lock()
_depth = [0]
_original = [builtins.print]


class Printed:
    """One call of `print`: its arguments with the tensors and traced numbers taken out.

    nodes     what stood there, in the trace, when it was printed.
    convert   for each: the type of a number, or None for a tensor.
    """

    def __init__(self, structure: Structure, options: dict[str, Any], stream: str | None):
        self.build = structure.build
        self.options = options
        self.stream = stream
        self.nodes = [_node(leaf) for leaf in structure.leaves]
        self.convert = [_NUMBERS.get(type(leaf)) for leaf in structure.leaves]
        self.history = [
            history_of(leaf) if isinstance(leaf, Tensor) else "" for leaf in structure.leaves
        ]

    def say(self, values: Sequence[Any]) -> None:
        """Print with these tensors and numbers."""
        shown = [
            _Text(format_tensor(value, history)) if isinstance(value, Tensor) else value
            for value, history in zip(values, self.history, strict=True)
        ]
        file = None if self.stream is None else getattr(sys, self.stream)
        aloud = functools.partial(_original[0], *self.build(shown), file=file, **self.options)
        if state.heard is None:
            aloud()
        else:
            state.heard.append(aloud)


class _Text:
    """Stands for a tensor, in containers too."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _node(leaf: Any) -> Node:
    if type(leaf) is SymInt:
        return OPS["size"](value=leaf)
    if type(leaf) in _NUMBERS:
        return leaf.scalar_node()
    node = state.capture.node_of(leaf)
    return OPS["alias"](node) if node.op.name == "input" else node  # may be written to later


def _print(*args: Any, **options: Any) -> None:
    """``print`` while captures run."""
    capture = state.capture
    if capture is None:
        return _original[0](*args, **options)
    file = options.pop("file", None)
    stream = _stream(file)
    problem = stream == "" or not all(map(_is_printable, (*args, *options.values())))
    structure = None if problem else Structure(args, lambda value: False)
    if structure is None or structure.problem is not None:
        capture.refuse("print() of an object or to a file inside a compiled function",
                       user_location())  # fmt: skip
        return _original[0](*args, file=file, **options)
    printed = Printed(structure, options, stream)
    capture.prints.append(printed)
    values = [getattr(leaf, "hint", leaf) for leaf in structure.leaves]
    state.capture = None  # the text of a tensor is no business of the trace
    try:
        printed.say(values)
    finally:
        state.capture = capture


def _stream(file: Any) -> str | None:
    """The name in `sys` of a stream, None for the usual one, "" for any other."""
    if file is None:
        return None
    return "stdout" if file is sys.stdout else "stderr" if file is sys.stderr else ""


def _is_printable(value: Any) -> bool:
    """Whether a value prints the same whenever it is printed, its tensors and numbers aside."""
    if isinstance(value, Tensor) or type(value) in _PLAIN or type(value) in _NUMBERS:
        return True
    if type(value) in (list, tuple, Size, set, frozenset):
        return all(map(_is_printable, value))
    return type(value) is dict and all(map(_is_printable, (*value, *value.values())))


class PrintHook:
    """``with PrintHook():`` calls of `print` are noted by the capture of their thread."""

    def __enter__(self) -> PrintHook:
        with _lock:
            if not _depth[0]:
                _original[0] = builtins.print
                vars(builtins)["print"] = _print  # unseen by what watches for replaced builtins
            _depth[0] += 1
        return self

    def __exit__(self, *exc: object) -> None:
        with _lock:
            _depth[0] -= 1
            if not _depth[0] and builtins.print is _print:
                vars(builtins)["print"] = _original[0]
