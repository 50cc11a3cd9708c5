"""Views by geometry (as_strided, unfold, diagonal), their writing twins (scatter) and copies.

Invariant: a view shares memory with its base and notes how it came about (`dispatch.view`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.conversions import clone, detach
from tracejit.eager.dispatch import apply, view
from tracejit.eager.joining import split, split_with_sizes, unbind
from tracejit.eager.modes import state
from tracejit.eager.pointwise import check_tensors
from tracejit.eager.register import FUNCTIONS, public, with_out
from tracejit.eager.shape import (
    axis_of,
    expand,
    narrow,
    permute,
    reshape,
    select,
    sizes_of,
    slice_axis,
    squeeze,
    t,
    transpose,
    unsqueeze,
)
from tracejit.eager.tape import type_of
from tracejit.errors import ShapeError, at_user_line, user_location
from tracejit.ir.op import OPS
from tracejit.runtime.device_array import address_of_array
from tracejit.tensor import Tensor


def _flat_memory(input: Tensor) -> tuple[Tensor, int]:
    """The memory of `input` as a vector view, and where `input` begins in it."""
    if state.capture is not None:
        state.capture.ask_layout(input, exact=True)
    array = input._array
    order = sorted(range(array.ndim), key=lambda i: -array.strides[i])
    if array.transpose(order).flags.c_contiguous:
        return reshape(permute(input, *order), -1), 0
    root = input._base
    if root is None or not root._array.flags.c_contiguous:
        raise RuntimeError(at_user_line(
            f"as_strided: the memory of {type_of(input)} is not one block; clone() it first"
        ))  # fmt: skip
    begin = (address_of_array(array) - address_of_array(root._array)) // array.itemsize
    return reshape(root, -1), begin


@public()
def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view with any geometry: element (i, j) is at ``offset + i * stride[0] + j * stride[1]``."""
    if len(size) != len(stride):
        raise RuntimeError(at_user_line("as_strided: size and stride differ in length"))
    flat, begin = _flat_memory(input)
    offset = begin if storage_offset is None else storage_offset
    how = {"shape": tuple(size), "steps": tuple(stride), "offset": int(offset)}
    try:
        OPS["as_strided"].infer((type_of(flat),), **how)
    except ShapeError as error:
        raise ShapeError(at_user_line(str(error))) from None
    return view(OPS["as_strided"], flat, how)


@public(function=False)
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements every `step` along a dimension; the window is the last one."""
    x = self if self._array.ndim else reshape(self, 1)
    at = axis_of(dimension, x._array.ndim, "unfold")
    if size < 0 or step <= 0:
        raise RuntimeError(at_user_line(f"unfold: size {size} and step {step} must be positive"))
    if size > sizes_of(x)[at]:
        raise RuntimeError(at_user_line(
            f"unfold: size {size} exceeds dimension {at} of {type_of(self)}"))  # fmt: skip
    how = {"axes": (at,), "sizes": (size,), "steps": (step,), "dilations": (1,)}
    if size == 0:
        count = sizes_of(x)[at] // step + 1
        shape = [count if i == at else n for i, n in enumerate(sizes_of(x))]
        return self.new_empty(*shape, 0)
    result = view(OPS["windows"], x, how)
    return result if self._array.ndim else select(result, 0, 0)


@public()
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal over two dimensions as the last one, a view."""
    ndim = input._array.ndim
    a, b = axis_of(dim1, ndim, "diagonal"), axis_of(dim2, ndim, "diagonal")
    if a == b:
        raise RuntimeError(at_user_line("diagonal: the two dimensions must differ"))
    return view(OPS["diagonal"], input, {"offset": int(offset), "axis1": a, "axis2": b})


@public(out=True)
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix (a copy), or a matrix with the given diagonal."""
    if input._array.ndim == 2:
        return FUNCTIONS["diagonal"](input, diagonal).clone()
    if input._array.ndim != 1:
        raise RuntimeError(at_user_line(f"diag: expects 1 or 2 dimensions, got {type_of(input)}"))
    return diag_embed(input, diagonal)


@public()
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices (in dimensions `dim1`, `dim2`) whose diagonals are the rows of `input`."""
    ndim = input._array.ndim + 1
    a, b = axis_of(dim1, ndim, "diag_embed"), axis_of(dim2, ndim, "diag_embed")
    if a == b:
        raise RuntimeError(at_user_line("diag_embed: the two dimensions must differ"))
    shape = list(sizes_of(input))
    size = shape.pop() + abs(offset)
    for at in sorted((a, b)):
        shape.insert(at, size)
    return diagonal_scatter(input.new_zeros(*shape), input, offset, a, b)


@public()
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with the flattened input on its diagonal."""
    return diag_embed(reshape(input, -1), offset)


@public()
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input._array.ndim != 2:
        raise RuntimeError(at_user_line(f"trace: expected a matrix, got {type_of(input)}"))
    return diagonal(input).sum()


# --- writing where a view would read ----------------------------------------------------------


def _scatter(name: str, input: Tensor, src: Tensor, how: dict[str, Any]) -> Tensor:
    check_tensors(name, input, src)
    return apply(OPS[name], (input, src.to(input.dtype)), how)


@public(out=True)
def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """A copy of `input` with `src` on its diagonal."""
    ndim = input._array.ndim
    a, b = axis_of(dim1, ndim, "diagonal_scatter"), axis_of(dim2, ndim, "diagonal_scatter")
    how = {"offset": int(offset), "axis1": a, "axis2": b}
    return _scatter("diagonal_scatter", input, src, how)


@public(out=True)
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
    step: int = 1,
) -> Tensor:  # fmt: skip
    """A copy of `input` with `src` written to ``start:end:step`` along `dim`."""
    shape = sizes_of(input)
    at = axis_of(dim, len(shape), "slice_scatter")
    low, high, _ = slice(start, end, step).indices(int(shape[at]))
    how = {
        "starts": tuple(low if i == at else 0 for i in range(len(shape))),
        "stops": tuple(max(low, high) if i == at else n for i, n in enumerate(shape)),
        "steps": tuple(step if i == at else 1 for i in range(len(shape))),
    }
    return _scatter("slice_scatter", input, src, how)


@public(out=True)
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of `input` with `src` written at one index along `dim`."""
    at = axis_of(dim, input._array.ndim, "select_scatter")
    n = sizes_of(input)[at]
    if not -n <= index < n:
        raise IndexError(at_user_line(f"select_scatter: index {index} is out of range for {n}"))
    begin = index % n
    return slice_scatter(input, unsqueeze(src, at), at, begin, begin + 1)


@public(out=True)
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:  # fmt: skip
    """A copy of `input` with `src` written where `as_strided` would read."""
    result = clone(input)
    as_strided(result, size, stride, storage_offset or 0).copy_(src)
    return result


# --- copies of views --------------------------------------------------------------------------


def _slice_copy(
    input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    at = axis_of(dim, input._array.ndim, "slice_copy")
    low, high, _ = slice(start, end, step).indices(int(sizes_of(input)[at]))
    return slice_axis(input, at, low, max(low, high), step)


def _define_copy(name: str, of: Callable[..., Any]) -> None:
    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = of(input, *args, **kwargs)
        return tuple(map(clone, result)) if isinstance(result, tuple) else clone(result)

    function.__name__ = function.__qualname__ = f"{name}_copy"
    function.__doc__ = f"A copy of what `{name}` would view."
    FUNCTIONS[f"{name}_copy"] = with_out(function)


_COPIES: dict[str, Callable[..., Any]] = {
    "alias": lambda x: x, "as_strided": as_strided, "detach": detach, "diagonal": diagonal,
    "expand": lambda x, size, implicit=False: expand(x, *size), "narrow": narrow,
    "permute": permute, "select": select, "slice": _slice_copy, "split": split,
    "split_with_sizes": split_with_sizes, "squeeze": squeeze, "t": t, "transpose": transpose,
    "unbind": unbind, "unfold": unfold, "unsqueeze": unsqueeze,
    "view": lambda x, *shape, **named: x.view(*shape, *named.values()),  # size= or dtype=
}  # fmt: skip
for _name, _function in _COPIES.items():
    _define_copy(_name, _function)
Tensor.narrow_copy = FUNCTIONS["narrow_copy"]

# --- the same tensor with another shape --------------------------------------------------------


def _become(self: Tensor, result: Tensor) -> Tensor:
    """`self` takes the geometry of `result`, a view of it."""
    if state.capture is not None and not state.capture.owns(self):
        state.capture.refuse("a tensor from outside changed its shape in place", user_location())
    self._array, self._node, self._trace = result._array, result._node, result._trace
    self._viewed = False
    if self._base is not None:
        self._view, self._seen = result._view, result._seen
    return self


@public(function=False)
def as_strided_(
    self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """This tensor itself with another geometry over its memory."""
    if self._requires_grad or state.capture is not None:
        raise RuntimeError(at_user_line("as_strided_: not for recorded tensors; use as_strided"))
    self._array = as_strided(self, size, stride, storage_offset)._array
    return self


def _define_inplace_view(function: Callable[..., Tensor], *names: str) -> None:
    for name in names:

        def method(self: Tensor, *args: Any, _name: str = name, **kwargs: Any) -> Tensor:
            if self._base is None and self._viewed:
                raise RuntimeError(at_user_line(f"{_name}: views of the tensor exist"))
            if self.is_leaf and self._requires_grad:
                raise RuntimeError(at_user_line(f"{_name}: a leaf that requires grad"))
            return _become(self, function(self, *args, **kwargs))

        method.__name__ = method.__qualname__ = name
        method.__doc__ = f"`{function.__name__}`, of this tensor itself."
        setattr(Tensor, name, method)


_define_inplace_view(squeeze, "squeeze_")
_define_inplace_view(unsqueeze, "unsqueeze_")
_define_inplace_view(transpose, "transpose_", "swapaxes_", "swapdims_")
_define_inplace_view(t, "t_")


def row_of(tensor: Tensor, index: int) -> Tensor | None:
    """``x[i]`` without parsing a key, for an index in range."""
    count, *rest = tensor._array.shape
    begin = index + count if index < 0 else index
    if not 0 <= begin < count:
        return None
    if count > 1:
        where = {"starts": (begin, *[0] * len(rest)), "stops": (begin + 1, *rest),
                 "steps": (1,) * (1 + len(rest))}  # fmt: skip
        tensor = view(OPS["slice"], tensor, where)
    return view(OPS["reshape"], tensor, {"shape": tuple(rest)})
