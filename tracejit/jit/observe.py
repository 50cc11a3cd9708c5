"""What a program can be seen to do: snapshots of values, and how the snapshots of two runs differ.

An `Observer` follows one run. What it sees is turned into plain data at once: dtypes, shapes, bits,
gradients, which tensors are one object and which share memory. Invariant: two runs that a user
could tell apart without looking at addresses or clocks give different logs.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.jit.layouts import order_of
from tracejit.tensor import Tensor

_PLAIN = (bool, int, str, bytes, type(None), type, types.FunctionType, types.BuiltinFunctionType)
_MAX_SHARED = 48
"""Tensors whose memory is compared pairwise; later ones are compared with the last of these."""


class Near:
    """A value that must also be near `wanted`, worked out independently (NumPy, float64)."""

    def __init__(self, value: Any, wanted: Any, rtol: float = 1e-5, atol: float = 1e-6):
        self.value = value
        self.wanted = np.asarray(wanted)
        self.rtol = rtol
        self.atol = atol

    def problem(self) -> str | None:
        """What is wrong with the value, or None."""
        got = np.asarray(self.value._array if isinstance(self.value, Tensor) else self.value)
        if got.shape != self.wanted.shape:
            return f"shape {got.shape}, the reference has {self.wanted.shape}"
        a, b = got.astype(np.float64), self.wanted.astype(np.float64)
        if np.allclose(a, b, rtol=self.rtol, atol=self.atol, equal_nan=True):
            return None
        return f"got {got!r}, the reference is {self.wanted!r}"


class Seen:
    """A tensor at the moment it was seen."""

    __slots__ = ("label", "facts", "data", "grad")

    def __init__(self, label: int, facts: tuple[Any, ...], data: np.ndarray, grad: Any):
        self.label = label
        self.facts = facts
        self.data = data
        self.grad = grad

    def __repr__(self) -> str:
        return f"tensor#{self.label}{self.facts} {self.data.tolist()!r} grad={self.grad!r}"


class Observer:
    """Turns what one run shows into a log that can be compared with another run's.

    strides  whether the order of elements in memory counts as visible (``is_contiguous``); "order":
             only which axes have the larger steps, as a compiled call's results have no gaps, and
             not of gradients, which a compiled backward pass gives in row-major order.
    """

    def __init__(self, strides: bool | str = True) -> None:
        self.tensors: list[Tensor] = []
        self.labels: dict[int, int] = {}
        self.gradients: set[int] = set()  # labels of what was a gradient when it was first seen
        self.log: list[Any] = []
        self.problems: list[str] = []
        self.strides = strides

    def see(self, value: Any) -> None:
        """Log a value as it is now, with the aliasing of all tensors seen so far."""
        if isinstance(value, Near):
            problem = value.problem()
            if problem is not None:
                self.problems.append(f"value {len(self.log)}: {problem}")
            value = value.value
        self.log.append((self._value(value, ()), self._sharing()))

    def finish(self) -> None:
        """Log every tensor again: earlier results must not have been written to."""
        self.log.append([self._tensor(t, ()) for t in list(self.tensors)])

    # --- values ---------------------------------------------------------------------------------

    def _value(self, value: Any, above: tuple[int, ...]) -> Any:
        if id(value) in above:
            return "..."
        above = (*above, id(value))
        if isinstance(value, Tensor):
            return self._tensor(value, above)
        if isinstance(value, np.ndarray):
            return Seen(-1, (value.dtype.str, value.shape), value.copy(), None)
        if isinstance(value, (float, complex, np.generic)):
            return (type(value).__name__, repr(value))
        if isinstance(value, (*_PLAIN, enum.Enum)):
            return (type(value).__name__, _plain_text(value))
        if isinstance(value, (set, frozenset)):
            return (type(value).__name__, sorted(map(repr, value)))
        if isinstance(value, dict):
            return (
                type(value).__name__,
                [(repr(k), self._value(v, above)) for k, v in value.items()],
            )
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, [self._value(v, above) for v in value])
        if isinstance(value, BaseException):
            return (type(value).__name__, str(value))
        held = getattr(value, "__dict__", {})
        return (type(value).__name__, [(k, self._value(v, above)) for k, v in held.items()])

    def _tensor(self, tensor: Tensor, above: tuple[int, ...]) -> Seen:
        label = self.labels.get(id(tensor))
        if label is None:
            label = self.labels[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        array = tensor._array
        layout: Any = _layout(array) if self.strides is True else ()
        if self.strides == "order" and type(array) is np.ndarray and label not in self.gradients:
            layout = order_of(array)
        facts = (type(tensor).__name__, array.dtype.str, array.shape, layout,
                 tensor._requires_grad, tensor.is_leaf)  # fmt: skip
        grad = tensor._grad
        seen = None
        if grad is not None and id(grad) not in above:
            if id(grad) not in self.labels:
                self.gradients.add(len(self.tensors))
            seen = self._tensor(grad, (*above, id(grad)))
        return Seen(label, facts, array.copy(), seen)

    def _sharing(self) -> list[tuple[int, int]]:
        arrays = [t._array for t in self.tensors[:_MAX_SHARED]]
        return [
            (i, j)
            for i, a in enumerate(arrays)
            for j, b in enumerate(arrays[:i])
            if a.size and b.size and np.shares_memory(a, b)
        ]


def _plain_text(value: Any) -> str:
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return getattr(value, "__qualname__", "?")
    return repr(value)


def _layout(array: np.ndarray) -> tuple[int, ...]:
    """The strides of the dimensions longer than 1, in elements."""
    if array.size == 0:
        return ()
    return tuple(
        s // array.itemsize for s, n in zip(array.strides, array.shape, strict=True) if n > 1
    )


# --- comparing -----------------------------------------------------------------------------------


class Tolerance:
    """How far two floats may be apart: 0 means the same bits (any NaN equals any NaN)."""

    def __init__(self, ulps: float = 0.0, atol: float = 0.0):
        self.ulps = ulps
        self.atol = atol

    def fits(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether the arrays are equal up to the tolerance."""
        return bool(self.near(a, b).all())

    def near(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Flat: which elements are equal up to the tolerance."""
        same = equal_bits(a, b)
        if a.dtype.kind != "f" or same.all() or not (self.ulps or self.atol):
            return same
        wide, other = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
        scale = np.abs(wide) * float(np.finfo(a.dtype).eps) * self.ulps
        with np.errstate(invalid="ignore"):
            return same | (np.abs(wide - other) <= scale + self.atol)


EXACT = Tolerance()


def difference(a: Any, b: Any, tolerance: Tolerance = EXACT, where: str = "") -> str | None:
    """The first place where two logs (or parts of logs) differ, in words; None if they agree."""
    if isinstance(a, Seen) and isinstance(b, Seen):
        return _tensor_difference(a, b, tolerance, where)
    if type(a) is not type(b):
        return f"{where}: {_short(a)} against {_short(b)}"
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{where}: {_short(a)} against {_short(b)}"
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            found = difference(x, y, tolerance, f"{where}[{i}]")
            if found is not None:
                return found
        return None
    return None if a == b else f"{where}: {_short(a)} against {_short(b)}"


def _tensor_difference(a: Seen, b: Seen, tolerance: Tolerance, where: str) -> str | None:
    if a.label != b.label:
        return f"{where}: tensor object #{a.label} against #{b.label}"
    names = ("class", "dtype", "shape", "strides", "requires_grad", "is_leaf")
    for name, x, y in zip(names, a.facts, b.facts):
        if x != y:
            return f"{where}: {name} {x} against {y}"
    if not tolerance.fits(a.data, b.data):
        wrong = int(np.argmax(~tolerance.near(a.data, b.data)))
        return (
            f"{where}: element {wrong} of {a.facts[1]}{a.facts[2]}: "
            f"{a.data.reshape(-1)[wrong]!r} against {b.data.reshape(-1)[wrong]!r}"
        )
    return difference(a.grad, b.grad, tolerance, f"{where}.grad")


def equal_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Flat: where elements have the same bits (any NaN equals any NaN)."""
    if a.dtype.kind != "f":
        return np.asarray(a == b).reshape(-1)
    return np.asarray(
        (np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))
    ).reshape(-1)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 160 else text[:157] + "..."


def compare_logs(a: Sequence[Any], b: Sequence[Any], tolerance: Tolerance = EXACT) -> str | None:
    """Like `difference` for whole logs, saying which value and whether sharing differs."""
    for i, (x, y) in enumerate(zip(a, b)):
        last = i == len(a) - 1
        found = difference(x, y, tolerance, "at the end" if last else f"value {i}")
        if found is not None:
            return found
    return None if len(a) == len(b) else f"{len(a)} values against {len(b)}"
