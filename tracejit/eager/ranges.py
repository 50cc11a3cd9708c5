"""Tensors made by a formula (linspace, eye, triangles, windows) and the shapes of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.conversions import row_major
from tracejit.eager.factories import arange, constant_tensor, empty, finish
from tracejit.eager.inplace import deliver, resize
from tracejit.eager.pointwise import where_of
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.scalars import SymFloat
from tracejit.eager.shape import expand, reshape, sizes_of, unpack_sizes
from tracejit.errors import DTypeError, at_user_line
from tracejit.tensor import Tensor


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError(at_user_line(f"{name}: start and end must be numbers or 0-d"))
        value = value.item()
    return value


def _even_of_numbers(name: str, start: Any, end: Any, steps: int, kind: dtypes.DType) -> Any:
    """`_even` as a tensor; where a number is one of a trace, the trace computes it."""
    traced = any(type(x) is SymFloat for x in (start, end)) and kind.kind == "f" and steps > 1
    if not traced:
        return constant_tensor(_even(name, start, end, steps, kind).astype(kind.numpy))
    low, high = _number(name, start), _number(name, end)
    step, place = (high - low) / (steps - 1), np.arange(steps)
    first = constant_tensor(place < steps // 2)
    up, down = (constant_tensor(p.astype(np.float64)) for p in (place, steps - 1 - place))
    return where_of(first, up * step + low, -(down * step) + high, dtypes.float64).to(kind)


def _even(name: str, start: Any, end: Any, steps: int, kind: dtypes.DType) -> np.ndarray:
    """`steps` even steps in float64, the second half counted from the end (as torch does)."""
    low, high = _number(name, start), _number(name, end)
    if steps < 0:
        raise RuntimeError(at_user_line(f"{name}: the number of steps must not be negative"))
    if kind.kind != "f":
        low, high = int(low), int(high)
    if steps <= 1:
        return np.full(steps, low, np.float64)
    step, place = (high - low) / (steps - 1), np.arange(steps)
    return np.where(place < steps // 2, low + step * place, high - step * (steps - 1 - place))


def linspace(
    start: Any, end: Any, steps: int, *, out: Tensor | None = None, dtype: Any = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` numbers evenly spaced from `start` to `end`, both included."""
    kind = _kind(dtype, out)
    result = _even_of_numbers("linspace", start, end, steps, kind)
    return finish(result, requires_grad, device) if out is None else deliver(result, out)


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, out: Tensor | None = None,
    dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """``base ** linspace(start, end, steps)``."""
    kind = _kind(dtype, out)
    with np.errstate(all="ignore"):
        values = np.power(float(base), _even("logspace", start, end, steps, kind))
        result = constant_tensor(values.astype(kind.numpy))
    return finish(result, requires_grad, device) if out is None else deliver(result, out)


def _kind(dtype: Any, out: Tensor | None) -> dtypes.DType:
    if dtype is not None:
        return dtypes.as_dtype(dtype)
    return dtypes.get_default_dtype() if out is None else out.dtype


def eye(
    n: int, m: int | None = None, *, out: Tensor | None = None, dtype: Any = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """The identity matrix, n x m."""
    width = n if m is None else m
    if n < 0 or width < 0:
        raise RuntimeError(at_user_line(f"eye: sizes {n}, {width} must not be negative"))
    rows, columns = reshape(arange(n), -1, 1), reshape(arange(width), 1, -1)
    result = (rows == columns).to(_kind(dtype, out))
    return finish(result, requires_grad, device) if out is None else deliver(result, out)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids of 1-d tensors; `indexing` 'ij' or 'xy'."""
    items = list(unpack_sizes(tensors))
    if indexing not in ("ij", "xy"):
        raise RuntimeError(at_user_line(f"meshgrid: indexing must be ij or xy, not {indexing!r}"))
    if not items:
        raise RuntimeError(at_user_line("meshgrid: expects a non-empty sequence of tensors"))
    if any(t.ndim > 1 for t in items):
        raise RuntimeError(at_user_line("meshgrid: expects 0-d and 1-d tensors"))
    if len({t.dtype for t in items}) > 1:
        raise DTypeError(at_user_line("meshgrid: expects tensors of equal dtype"))
    swap = indexing == "xy" and len(items) >= 2
    order = [items[1], items[0], *items[2:]] if swap else items
    shape = tuple(t.numel() for t in order)
    grids = [
        expand(reshape(t, *(1,) * i, -1, *(1,) * (len(order) - i - 1)), *shape)
        for i, t in enumerate(order)
    ]
    return (grids[1], grids[0], *grids[2:]) if swap else tuple(grids)


# --- triangles -------------------------------------------------------------------------------


def _triangle(input: Tensor, diagonal: int, lower: bool) -> Tensor:
    shape = sizes_of(input)
    if len(shape) < 2:
        raise RuntimeError(at_user_line("tril/triu: needs at least 2 dimensions"))
    rows, columns = reshape(arange(shape[-2]), -1, 1), reshape(arange(shape[-1]), 1, -1)
    keep = columns - rows <= diagonal if lower else columns - rows >= diagonal
    zero = False if input.dtype.kind == "b" else 0
    return row_major(where_of(keep, input, zero, input.dtype))


@public(inplace=True, out=True)
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle (elements above `diagonal` are zero)."""
    return _triangle(input, diagonal, True)


@public(inplace=True, out=True)
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle (elements below `diagonal` are zero)."""
    return _triangle(input, diagonal, False)


def _define_triangle_indices(name: str, lower: bool) -> None:
    def function(
        row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None,
        layout: Any = None,
    ) -> Tensor:  # fmt: skip
        if row < 0 or col < 0:
            raise RuntimeError(at_user_line(f"{name}: sizes must not be negative"))
        where = np.tril_indices(row, offset, col) if lower else np.triu_indices(row, offset, col)
        rows = np.stack(where).astype(dtypes.as_dtype(dtype).numpy)
        return finish(constant_tensor(rows), False, device)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Row and column indices [2, n] of the {name[:4]} part of a matrix."
    FUNCTIONS[name] = function


_define_triangle_indices("tril_indices", True)
_define_triangle_indices("triu_indices", False)


@public(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix: powers of the elements of a vector, a column each."""
    if x.ndim != 1:
        raise RuntimeError(at_user_line("vander: expects a vector"))
    columns = x.numel() if N is None else N
    if columns < 0:
        raise RuntimeError(at_user_line("vander: N must not be negative"))
    powers = x.unsqueeze(1) ** reshape(arange(columns), 1, -1)
    wide = dtypes.int64 if x.dtype.kind != "f" else x.dtype
    powers = powers.to(wide)
    return powers if increasing else powers.flip(1)


# --- memory ----------------------------------------------------------------------------------


def empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of a given geometry whose contents mean nothing (zeros here)."""
    if len(size) != len(stride) or any(n < 0 for n in size):
        raise RuntimeError(at_user_line(f"empty_strided: size {size} and stride {stride}"))
    count = 0 if 0 in size else 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    flat = empty(max(count, 0), dtype=dtype)
    result = flat.as_strided(size, stride) if count else empty(tuple(size), dtype=dtype)
    return finish(result, requires_grad, device)


def empty_permuted(
    size: Sequence[int], physical_layout: Sequence[int], *, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor whose dimensions lie in memory in the given order, outermost first."""
    if sorted(physical_layout) != list(range(len(size))):
        raise RuntimeError(at_user_line(
            f"empty_permuted: {physical_layout} is no order of {len(size)} dims"))  # fmt: skip
    base = empty(tuple(size[i] for i in physical_layout), dtype=dtype)
    order = [physical_layout.index(i) for i in range(len(size))]
    return finish(base.permute(order), requires_grad, device)


@public(function=False)
def new_empty_strided(
    self: Tensor, size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, **how: Any
) -> Tensor:
    """`empty_strided` of this tensor's dtype."""
    kind = self.dtype if dtype is None else dtype
    return empty_strided(size, stride, dtype=kind, **how)


@public(function=False)
def resize_(self: Tensor, *size: Any, memory_format: Any = None) -> Tensor:
    """Another shape for this tensor; elements keep their place in memory order."""
    return resize(self, tuple(int(n) for n in unpack_sizes(size)))


@public(function=False)
def resize_as_(self: Tensor, other: Tensor, *, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of `other`."""
    return resize(self, other._array.shape)


FUNCTIONS.update({
    "linspace": linspace, "logspace": logspace, "eye": eye, "meshgrid": meshgrid,
    "empty_strided": empty_strided, "empty_permuted": empty_permuted,
})  # fmt: skip


# --- complex functions of real tensors ---------------------------------------------------------


def _define_real(name: str) -> None:
    def function(input: Tensor) -> Tensor:
        return input

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The tensor itself: it is real."
    public()(function)


for _name in ("conj", "resolve_conj", "resolve_neg", "real"):
    _define_real(_name)


@public(out=True)
def conj_physical(input: Tensor) -> Tensor:
    """The tensor itself: it is real."""
    return input


setattr(Tensor, "conj_physical_", lambda self: self)
