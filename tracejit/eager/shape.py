"""Shape functions with torch's names: views where torch gives views.

Invariant: everything that can share memory does, through `dispatch.view`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.eager.dispatch import view
from tracejit.eager.integers import LiftedInt
from tracejit.eager.modes import state
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.tape import node_of, type_of
from tracejit.errors import ShapeError, at_user_line, user_location
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, product
from tracejit.ops.declare import normalize_axis
from tracejit.tensor import Size, Tensor, new_tensor


def sizes_of(tensor: Tensor) -> tuple[Any, ...]:
    """The shape: symbolic inside a capture, plain ints else."""
    if state.capture is None:
        return tensor._array.shape
    return node_of(tensor).type.shape


def is_empty(tensor: Tensor) -> bool:
    """Whether the tensor has no elements; inside a capture a decision on the sizes that vary."""
    return any(size == 0 for size in sizes_of(tensor))


def has_one_element(tensor: Tensor) -> bool:
    """Whether the tensor has just one element; inside a capture a decision like `is_empty`."""
    return all(size == 1 for size in sizes_of(tensor))


def axis_of(dim: int, ndim: int, name: str) -> int:
    """A non-negative axis; IndexError with the user's line."""
    try:
        return normalize_axis(name, dim.__index__(), ndim)
    except IndexError as error:
        raise IndexError(at_user_line(str(error))) from None


def axes_of(dims: Any, ndim: int, name: str) -> tuple[int, ...]:
    """Sorted non-negative axes from an int, a sequence or None (all)."""
    if dims is None:
        return tuple(range(ndim))
    given = (dims,) if isinstance(dims, int) else tuple(dims)
    if not given:
        return tuple(range(ndim))
    for d in given:
        if not hasattr(d, "__index__"):
            raise TypeError(at_user_line(f"{name}: dim must be an int, not {type(d).__name__}"))
    axes = [axis_of(d, ndim, name) for d in given]
    if len(set(axes)) != len(axes):
        raise RuntimeError(at_user_line(f"{name}: a dim appears twice in {tuple(dims)}"))
    return tuple(sorted(axes)) if ndim else ()


def unpack_sizes(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` alike; a lifted int becomes the int that it is."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    if state.capture is not None:
        return tuple(n.pinned() if type(n) is LiftedInt else n for n in sizes)
    return sizes


def _shape_property(self: Tensor) -> Size:
    return Size(sizes_of(self))


setattr(Tensor, "shape", property(_shape_property))


@public(function=False)
def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or one size of it."""
    shape = sizes_of(self)
    return Size(shape) if dim is None else shape[axis_of(dim, len(shape), "size")]


@public()
def numel(input: Tensor) -> Any:
    """The number of elements."""
    return product(sizes_of(input))


@public(function=False)
def dim(self: Tensor) -> int:
    """The number of dimensions."""
    return self._array.ndim


@public(function=False)
def ndimension(self: Tensor) -> int:
    """The number of dimensions."""
    return self._array.ndim


@public(function=False)
def stride(self: Tensor, dim: int | None = None) -> Any:
    """Steps in memory, counted in elements."""
    if state.capture is not None:
        state.capture.ask_layout(self, exact=True)
        is_flat = self._array.flags.c_contiguous  # then the first size is in no stride
        for size in sizes_of(self)[1 if is_flat else 0 :]:
            operator.index(size)
    strides = tuple(s // self._array.itemsize for s in self._array.strides)
    return strides if dim is None else strides[dim]


@public(function=False)
def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    if state.capture is not None:
        state.capture.ask_layout(self)
    return bool(self._array.flags.c_contiguous)


# --- reshaping -------------------------------------------------------------------------------


def complete_shape(tensor: Tensor, shape: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """`shape` with its -1 worked out; raises ShapeError if the count does not fit."""
    total = product(sizes_of(tensor))
    wanted = tuple(n if type(n) is SymInt else int(n) for n in shape)
    unknown = [i for i, n in enumerate(wanted) if type(n) is int and n == -1]
    if len(unknown) > 1:
        raise ShapeError(at_user_line(f"{name}: only one dimension can be inferred"))
    if unknown:
        rest = product(n for i, n in enumerate(wanted) if i != unknown[0])
        if rest == 0 or total % rest != 0:
            raise ShapeError(at_user_line(
                f"{name}: shape {list(shape)} is invalid for {type_of(tensor)}"))  # fmt: skip
        at = unknown[0]
        wanted = (*wanted[:at], total // rest, *wanted[at + 1 :])
    elif product(wanted) != total or any(n < 0 for n in wanted):
        raise ShapeError(at_user_line(
            f"{name}: shape {list(shape)} is invalid for {type_of(tensor)}"))  # fmt: skip
    return wanted


@public()
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The elements in another shape; a view where the layout allows it."""
    given = unpack_sizes(sizes if shape is None else (shape,))
    target = complete_shape(input, given, "reshape")
    return view(OPS["reshape"], input, {"shape": target})


def _view(self: Tensor, *shape: Any) -> Tensor:
    """`reshape` that raises where a copy would be needed; a dtype: the bits reinterpreted."""
    if len(shape) == 1 and isinstance(shape[0], DType):
        return _reinterpret(self, shape[0])
    target = complete_shape(self, unpack_sizes(shape), "view")
    result = view(OPS["reshape"], self, {"shape": target})
    if result._base is None and self._array.size:
        raise RuntimeError(at_user_line(
            f"view: shape {list(target)} is not compatible with the strides of "
            f"{type_of(self)}; use reshape()"))  # fmt: skip
    return result


Tensor.view = _view


def _reinterpret(self: Tensor, dtype: DType) -> Tensor:
    """The same memory read as another dtype; the last dimension grows or shrinks."""
    own, wanted = self.dtype.itemsize, dtype.itemsize
    if own != wanted and (self._array.ndim == 0 or self._array.shape[-1] * own % wanted):
        raise RuntimeError(at_user_line(f"view: {type_of(self)} cannot be read as {dtype.name}"))
    if state.capture is not None:
        state.capture.refuse("view of a tensor as another dtype", user_location())
    return new_tensor(self._array.view(dtype.numpy))


@public(function=False)
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """`view` with the shape of `other`."""
    return self.view(*sizes_of(other))


@public(function=False)
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """`reshape` with the shape of `other`."""
    return reshape(self, *sizes_of(other))


@public()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions `start_dim` to `end_dim` joined into one."""
    shape = sizes_of(input)
    if not shape:
        return reshape(input, 1)
    low, high = (axis_of(d, len(shape), "flatten") for d in (start_dim, end_dim))
    if low > high:
        raise RuntimeError(at_user_line("flatten: start_dim cannot come after end_dim"))
    return reshape(input, *shape[:low], product(shape[low : high + 1]), *shape[high + 1 :])


@public()
def ravel(input: Tensor) -> Tensor:
    """One dimension."""
    return reshape(input, -1)


@public()
def unflatten(input: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    """One dimension split into several."""
    shape = sizes_of(input)
    at = axis_of(dim, len(shape), "unflatten")
    sizes = tuple(sizes)
    if not sizes:
        raise RuntimeError(at_user_line("unflatten: sizes must not be empty"))
    if -1 in sizes:
        rest = product(n for n in sizes if n != -1)
        if rest == 0 or shape[at] % rest != 0:
            raise RuntimeError(at_user_line(f"unflatten: {sizes} does not divide {shape[at]}"))
        sizes = tuple(shape[at] // rest if n == -1 else n for n in sizes)
    if product(sizes) != shape[at]:
        raise RuntimeError(at_user_line(f"unflatten: {sizes} does not multiply to {shape[at]}"))
    return reshape(input, *shape[:at], *sizes, *shape[at + 1 :])


@public(inplace=False)
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of size 1 (all, or those named) removed."""
    shape = sizes_of(input)
    if isinstance(dim, (tuple, list)) and not dim:
        return view(OPS["reshape"], input, {"shape": shape})
    axes = axes_of(dim, len(shape), "squeeze")
    return _as_view(input, tuple(n for i, n in enumerate(shape) if i not in axes or n != 1))


@public()
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 inserted at `dim`."""
    shape = sizes_of(input)
    at = axis_of(dim, len(shape) + 1, "unsqueeze")
    return _as_view(input, (*shape[:at], 1, *shape[at:]))


def _as_view(input: Tensor, shape: tuple[Any, ...]) -> Tensor:
    return view(OPS["reshape"], input, {"shape": shape})


@public()
def permute(input: Tensor, *dims: Any, **named_dims: Any) -> Tensor:
    """Dimensions in the order `dims`."""
    order = unpack_sizes(dims or (named_dims.get("dims", ()),))
    ndim = input._array.ndim
    if len(order) != ndim:
        raise RuntimeError(at_user_line(f"permute: {len(order)} dims for {type_of(input)}"))
    perm = tuple(axis_of(d, ndim, "permute") for d in order)
    if len(set(perm)) != ndim:
        raise RuntimeError(at_user_line(f"permute: a dim appears twice in {order}"))
    return view(OPS["transpose"], input, {"perm": perm})


@public(aliases=("swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    ndim = input._array.ndim
    a, b = axis_of(dim0, ndim, "transpose"), axis_of(dim1, ndim, "transpose")
    if ndim == 0:
        return view(OPS["transpose"], input, {"perm": ()})
    perm = list(range(ndim))
    perm[a], perm[b] = perm[b], perm[a]
    return view(OPS["transpose"], input, {"perm": tuple(perm)})


@public()
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix (a vector or 0-d tensor is itself)."""
    if input._array.ndim > 2:
        raise RuntimeError(at_user_line(f"t: expects at most 2 dimensions, got {type_of(input)}"))
    return permute(input, *reversed(range(input._array.ndim)))


Tensor.T = property(lambda self: permute(self, *reversed(range(self._array.ndim))))
Tensor.mT = property(lambda self: _matrix_transpose(self))
Tensor.mH = Tensor.mT  # type: ignore[attr-defined]
Tensor.H = property(lambda self: _adjoint(self))


def _adjoint(self: Tensor) -> Tensor:
    if self._array.ndim not in (0, 2):
        raise RuntimeError(at_user_line(f"H: expects a matrix, got {type_of(self)}; use mH"))
    return transpose(self, 0, 1) if self._array.ndim else transpose(self, 0, 0)


def _matrix_transpose(self: Tensor) -> Tensor:
    if self._array.ndim < 2:
        raise RuntimeError(at_user_line(f"mT: expects at least 2 dimensions, got {type_of(self)}"))
    return transpose(self, -2, -1)


Tensor.adjoint = lambda self: _matrix_transpose(self)


@public(aliases=("moveaxis",))
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions `source` moved to positions `destination`, the others in order."""
    ndim = input._array.ndim
    src = [axis_of(d, ndim, "movedim") for d in ([source] if isinstance(source, int) else source)]
    given = [destination] if isinstance(destination, int) else destination
    dst = [axis_of(d, ndim, "movedim") for d in given]
    for name, axes in (("source", src), ("destination", dst)):
        if len(set(axes)) != len(axes) or len(axes) != len(src):
            raise RuntimeError(at_user_line(f"movedim: bad {name} {axes}: repeated or too few"))
    order: list[Any] = [None] * ndim
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter(i for i in range(ndim) if i not in src)
    return permute(input, *(next(rest) if o is None else o for o in order))


# --- expanding -------------------------------------------------------------------------------


@public(function=False)
def expand(self: Tensor, *sizes: Any) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a size."""
    wanted, own = unpack_sizes(sizes), sizes_of(self)
    extra = len(wanted) - len(own)
    if extra < 0:
        raise RuntimeError(at_user_line(f"expand: {list(wanted)} has fewer dims than the tensor"))
    shape = tuple(
        own[i - extra] if type(n) is int and n == -1 and i >= extra else n
        for i, n in enumerate(wanted)
    )
    for have, want in zip(own, shape[extra:], strict=True):
        if have != want and have != 1:
            raise RuntimeError(at_user_line(
                f"expand: {type_of(self)} cannot become {list(wanted)}"))  # fmt: skip
    return view(OPS["broadcast_to"], self, {"shape": shape})


@public(function=False)
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of `other`."""
    return expand(self, *sizes_of(other))


@public(method=False)
def broadcast_to(input: Tensor, size: Sequence[Any]) -> Tensor:
    """`expand`."""
    return expand(input, *size)


Tensor.broadcast_to = lambda self, size: expand(self, *size)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All tensors expanded to their common shape."""
    try:
        shape = np.broadcast_shapes(*(t._array.shape for t in tensors))
    except ValueError as error:
        raise ShapeError(at_user_line(f"broadcast_tensors: {error}")) from None
    return tuple(expand(t, *shape) for t in tensors)


FUNCTIONS["broadcast_tensors"] = broadcast_tensors
FUNCTIONS["broadcast_shapes"] = lambda *shapes: Size(np.broadcast_shapes(*shapes))


@public(function=False)
def repeat(self: Tensor, *sizes: Any) -> Tensor:
    """The tensor tiled `sizes` times along each dimension (copies)."""
    times = unpack_sizes(sizes)
    if any(not hasattr(n, "__index__") or n < 0 for n in times):
        raise RuntimeError(at_user_line(f"repeat: counts {times} must be whole and not negative"))
    own = sizes_of(self)
    own = (1,) * (len(times) - len(own)) + tuple(own)
    if len(own) != len(times):
        raise RuntimeError(at_user_line("repeat: needs a count for every dimension"))
    spread: list[Any] = []
    for n in own:
        spread += [1, n]
    wide: list[Any] = []
    for k, n in zip(times, own, strict=True):
        wide += [k, n]
    expanded = expand(reshape(self, *spread), *wide)
    result = reshape(expanded, *(k * n for k, n in zip(times, own, strict=True)))
    made = result._base is None
    return result if made else result.clone(memory_format="contiguous_format")


@public()
def tile(input: Tensor, *dims: Any, **named_dims: Any) -> Tensor:
    """`repeat` that pads missing leading counts with 1."""
    times = unpack_sizes(dims or (named_dims.get("dims", ()),))
    return repeat(input, *((1,) * (input._array.ndim - len(times)) + tuple(times)))


# --- parts ----------------------------------------------------------------------------------


@public()
def narrow(input: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    """`length` elements from `start` along `dim`, as a view."""
    shape = sizes_of(input)
    at = axis_of(dim, len(shape), "narrow")
    if isinstance(start, Tensor):
        if start._array.ndim or start.dtype.kind not in "iu":
            raise RuntimeError(at_user_line("narrow: start must be a 0-d integer tensor"))
        start = int(start)
    if not shape:
        raise RuntimeError(at_user_line("narrow: a 0-d tensor has no dimension"))
    begin = start if start >= 0 else start + shape[at]
    if begin < 0 or length < 0 or begin + length > shape[at]:
        raise RuntimeError(at_user_line(
            f"narrow: start {start}, length {length} exceed size {shape[at]}"))  # fmt: skip
    return slice_axis(input, at, begin, begin + length, 1)


def slice_axis(input: Tensor, axis: int, start: Any, stop: Any, step: Any) -> Tensor:
    """A view of elements start:stop:step along one axis (bounds already proper)."""
    shape = sizes_of(input)
    starts = tuple(start if i == axis else 0 for i in range(len(shape)))
    stops = tuple(stop if i == axis else n for i, n in enumerate(shape))
    steps = tuple(step if i == axis else 1 for i in range(len(shape)))
    return view(OPS["slice"], input, {"starts": starts, "stops": stops, "steps": steps})


@public()
def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The view at one index along `dim`, which disappears."""
    shape = sizes_of(input)
    at = axis_of(dim, len(shape), "select")
    if not shape:
        raise IndexError(at_user_line("select: a 0-d tensor has no dimension to select from"))
    if not (-shape[at] <= index and index < shape[at]):
        raise IndexError(at_user_line(
            f"index {index} is out of bounds for dimension {at} with size {shape[at]}"
        ))  # fmt: skip
    begin = index if index >= 0 else index + shape[at]
    part = slice_axis(input, at, begin, begin + 1, 1)
    return _as_view(part, (*shape[:at], *shape[at + 1 :]))
