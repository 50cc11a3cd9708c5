"""Indexing as in torch: ``x[1:, None, ..., mask]``, assignment, gather/scatter and relatives.

Basic keys give views; index tensors and masks give copies. Invariant: a bad index raises
IndexError with the user's line; it is never clamped. A compiled trace checks it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.checks import is_on_device, require, require_later
from tracejit.eager.conversions import copy_
from tracejit.eager.dispatch import apply, become_view, view
from tracejit.eager.factories import as_tensor, constant_tensor
from tracejit.eager.inplace import check_writable, store, write_into
from tracejit.eager.modes import state
from tracejit.eager.pointwise import as_bool, where_of
from tracejit.eager.register import FUNCTIONS, public, with_out
from tracejit.eager.selection import check_mask
from tracejit.eager.shape import expand, is_empty, select, sizes_of
from tracejit.eager.tape import on_root, type_of
from tracejit.eager.views import row_of
from tracejit.errors import DeviceError, DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt
from tracejit.runtime.device_array import moved
from tracejit.tensor import Tensor, new_tensor

# --- parsing a key ---------------------------------------------------------------------------


def _as_key(key: Any) -> list[Any]:
    items = list(key) if isinstance(key, tuple) else [key]
    return [_plain_item(item) for item in items]


def index_constant(item: Any, array: np.ndarray) -> Tensor:
    """An index written out in the program (a list) or held in an array."""
    if state.capture is not None and isinstance(item, np.ndarray):
        return as_tensor(array)
    return constant_tensor(array)


def _plain_item(item: Any) -> Any:
    if isinstance(item, (list, np.ndarray, range)):
        array = np.asarray(item)
        if array.dtype.kind == "f" and array.size:
            raise IndexError(at_user_line("tensors used as indices must be integer or bool"))
        item = index_constant(item, array.astype(np.int64) if array.dtype.kind != "b" else array)
    if isinstance(item, Tensor):
        if item.dtype.kind == "f":
            raise IndexError(at_user_line("tensors used as indices must be integer or bool"))
        plain = state.capture is None and not is_on_device(item)
        if item._array.ndim == 0 and item.dtype.kind in "iu" and plain:
            return int(item._array)
    return item


def _consumes(item: Any) -> int:
    if item is None or isinstance(item, bool):
        return 0
    if isinstance(item, Tensor) and item.dtype.kind == "b":
        return item._array.ndim
    return 1


def _expand_ellipsis(items: list[Any], ndim: int) -> list[Any]:
    used = sum(_consumes(i) for i in items if i is not Ellipsis)
    if used > ndim:
        raise IndexError(at_user_line(f"too many indices for tensor of dimension {ndim}"))
    spots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(spots) > 1:
        raise IndexError(at_user_line("an index can only have a single ellipsis ('...')"))
    fill = [slice(None)] * (ndim - used)
    at = spots[0] if spots else len(items)
    return [*items[:at], *fill, *items[at + (1 if spots else 0) :]]


class Key:
    """A key in two steps: a basic view, then index tensors at some axes of that view."""

    def __init__(self, tensor: Tensor, key: Any):
        items = _expand_ellipsis(_as_key(key), tensor._array.ndim)
        shape = sizes_of(tensor)
        self.starts: list[Any] = []
        self.stops: list[Any] = []
        self.steps: list[Any] = []
        self.shape: list[Any] = []  # of the basic view
        self.flips: list[int] = []  # axes of the sliced tensor that run backwards
        self.indices: list[tuple[int, Tensor]] = []  # (axis of the view, index tensor)
        axis = 0
        for item in items:
            axis += self._read(item, axis, shape)
        if self.indices:
            self._meet(tensor)

    def _meet(self, tensor: Tensor) -> None:
        """Indices of the CPU follow a tensor to its device, as in torch."""
        if is_on_device(tensor):
            self.indices = [
                (a, i if is_on_device(i) else i.to(tensor.device)) for a, i in self.indices
            ]
        elif any(is_on_device(i) for _, i in self.indices):
            raise DeviceError(at_user_line(
                "index: indices should be on the CPU, where the indexed tensor is"))  # fmt: skip

    def _read(self, item: Any, axis: int, shape: tuple[Any, ...]) -> int:
        if item is None:
            self.shape.append(1)
            return 0
        if isinstance(item, bool):
            mask = constant_tensor(np.array([0] if item else [], np.int64))
            self.shape.append(1)
            self.indices.append((len(self.shape) - 1, mask))
            return 0
        if isinstance(item, slice):
            self._slice(item, shape[axis], axis)
            return 1
        if isinstance(item, Tensor):
            return self._tensor(item, axis, shape)
        return self._integer(item, shape[axis], axis)

    def _whole(self, size: Any) -> None:
        self.starts.append(0)
        self.stops.append(size)
        self.steps.append(1)
        self.shape.append(size)

    def _integer(self, item: Any, size: Any, axis: int) -> int:
        try:
            index = item if type(item) is SymInt else item.__index__()
        except AttributeError:
            kind = type(item).__name__
            raise TypeError(at_user_line(f"cannot index a tensor with {kind}")) from None
        if not (-size <= index and index < size):
            raise IndexError(at_user_line(
                f"index {index} is out of bounds for dimension {axis} with size {size}"
            ))  # fmt: skip
        begin = index if index >= 0 else index + size
        self.starts.append(begin)
        self.stops.append(begin + 1)
        self.steps.append(1)
        return 1

    def _slice(self, item: slice, size: Any, axis: int) -> None:
        if item.step is not None and item.step <= 0:
            raise ValueError(at_user_line("slice step must be positive"))
        step = 1 if item.step is None else item.step
        low = _bound(item.start, 0, size)
        high = _bound(item.stop, size, size)
        high = high if high >= low else low
        self.starts.append(low)
        self.stops.append(high)
        self.steps.append(step)
        length = high - low
        self.shape.append(length if step == 1 else (length + step - 1) // step)

    def _tensor(self, item: Tensor, axis: int, shape: tuple[Any, ...]) -> int:
        if item.dtype.kind == "b":
            for i, n in enumerate(item._array.shape):
                if n != shape[axis + i]:
                    raise IndexError(at_user_line(
                        f"a mask of shape {list(item._array.shape)} does not match "
                        f"the tensor's {list(shape)} at dimension {axis + i}"))  # fmt: skip
            if item._array.ndim == 0:
                return self._read(bool(item), axis, shape)
            for i, index in enumerate(nonzero(item, as_tuple=True)):
                self._whole(shape[axis + i])
                self.indices.append((len(self.shape) - 1, index))
            return item._array.ndim
        if item.dtype is dtypes.uint8:
            return self._tensor(as_bool(item), axis, shape)
        self._whole(shape[axis])
        self.indices.append((len(self.shape) - 1, checked_index(item, shape[axis], "index")))
        return 1

    def basic(self, tensor: Tensor, itself: bool = True) -> Tensor:
        """The view that the slices, integers and Nones select; all may be the tensor `itself`."""
        shape = sizes_of(tensor)
        trivial = all(
            type(a) is int and a == 0 and step == 1 and (stop is n or stop == n)
            for a, stop, step, n in zip(self.starts, self.stops, self.steps, shape, strict=True)
        )
        if not (trivial and shape and (itself or len(self.shape) != len(shape))):
            where = {"starts": tuple(self.starts), "stops": tuple(self.stops),
                     "steps": tuple(self.steps)}  # fmt: skip
            tensor = view(OPS["slice"], tensor, where)
        if len(self.shape) != len(shape) or tuple(self.shape) != sizes_of(tensor):
            tensor = view(OPS["reshape"], tensor, {"shape": tuple(self.shape)})
        return tensor


def _bound(value: Any, default: Any, size: Any) -> Any:
    if value is None:
        return default
    if isinstance(value, Tensor):
        value = int(value)
    if type(value) is not SymInt:
        value = value.__index__()
    if value < 0:
        value = value + size
        return value if value >= 0 else 0
    return value if value <= size else size


def checked_index(index: Tensor, size: Any, name: str) -> Tensor:
    """`index` as non-negative int64; IndexError for one out of range."""
    if index.dtype.kind not in "iu":
        raise IndexError(at_user_line(f"{name}: an index must be integer, not {type_of(index)}"))
    index = index.to(dtypes.int64)
    array = index._array
    if is_on_device(index):
        return index_on_device(index, -size, size, name)
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < -size or high >= size:
            bad = low if low < -size else high
            raise IndexError(at_user_line(
                f"{name}: index {bad} is out of bounds for dimension with size {size}"
            ))  # fmt: skip
        if low < 0 and state.capture is None:
            return where_of(index < 0, index + size, index, dtypes.int64)
    if state.capture is not None:  # also where there are none: a replay may have some
        require(lambda: ((index >= -size) & (index < size)).all(),
                f"{name}: index out of bounds")  # fmt: skip
        return where_of(index < 0, index + size, index, dtypes.int64)
    return index


def index_on_device(index: Tensor, low: Any, size: Any, name: str) -> Tensor:
    """`index` as non-negative int64 in range; one out of [low, size) is an error told later."""
    if is_empty(index):
        return index
    valid = (index >= low) & (index < size)
    require_later(valid, IndexError, f"{name}: index out of bounds for dimension with size {size}")
    if type(low) is not int or low:
        index = where_of(index < 0, index + size, index, dtypes.int64)
    return where_of(valid, index, 0, dtypes.int64)


def _common_indices(indices: Sequence[tuple[int, Tensor]]) -> tuple[list[Tensor], tuple[int, ...]]:
    axes = tuple(a for a, _ in indices)
    try:
        tensors = FUNCTIONS["broadcast_tensors"](*(t for _, t in indices))
    except ShapeError:
        shapes = [list(t._array.shape) for _, t in indices]
        raise IndexError(at_user_line(
            f"shape mismatch: index tensors of shapes {shapes} do not broadcast"
        )) from None  # fmt: skip
    return list(tensors), axes


def _is_number(item: Any) -> bool:
    """Whether an item of a key is an index in a 0-d tensor: it selects, as an int does."""
    return isinstance(item, Tensor) and item._array.ndim == 0 and item.dtype.kind in "iu"


def _pick_elements(tensor: Tensor, key: Any) -> tuple[Tensor, Any]:
    """In a capture: what the 0-d index tensors of a key select, and the rest of the key.

    Eager code takes their values and makes views. The trace must not depend on the values, so its
    node is a copy; the capture sees to it that nobody can tell.
    """
    if not any(map(_is_number, key if isinstance(key, tuple) else (key,))):
        return tensor, key
    rest: list[Any] = []
    axis = 0
    for item in _expand_ellipsis(_as_key(key), tensor._array.ndim):
        if _is_number(item):
            tensor = _pick(tensor, axis, item)
        else:
            rest.append(item)
            axis += _consumes(item)
    return tensor, tuple(rest)


def _pick(tensor: Tensor, axis: int, index: Tensor) -> Tensor:
    place = checked_index(index, sizes_of(tensor)[axis], "index")
    result: Tensor = apply(OPS["take"], (tensor, place), {"axis": axis})
    at = int(place._array)
    result._array = tensor._array[(*[slice(None)] * axis, at, ...)]
    as_view = lambda: become_view(result, select(on_root(tensor), axis, at))  # noqa: E731
    state.capture.picked(result, tensor, as_view)
    return result


def getitem(self: Tensor, key: Any) -> Tensor:
    """``x[key]``."""
    if state.capture is not None:
        self, key = _pick_elements(self, key)
    elif type(key) is int and self._array.ndim:
        found = row_of(self, key)
        if found is not None:
            return found
    parsed = Key(self, key)
    part = parsed.basic(self, bool(parsed.indices))
    if not parsed.indices:
        return part
    if len(parsed.indices) == 1:
        axis, index = parsed.indices[0]
        return apply(OPS["take"], (part, index), {"axis": axis})
    tensors, axes = _common_indices(parsed.indices)
    return apply(OPS["index"], (part, *tensors), {"axes": axes})


def setitem(self: Tensor, key: Any, value: Any) -> None:
    """``x[key] = value``."""
    check_writable(self, "index assignment")
    source = value if isinstance(value, Tensor) else as_tensor(value).to(self.dtype)
    if isinstance(key, Tensor) and key.dtype.kind == "b" and source._array.size == 1:
        if key._array.shape == self._array.shape:
            store(self, where_of(key, source.reshape(()), self, self.dtype))
            return
    parsed = Key(self, key)
    part = parsed.basic(self)
    if not parsed.indices:
        copy_(part, _spread(source, part))
        return
    tensors, axes = _common_indices(parsed.indices)
    target = apply(OPS["index"], (part.detach(), *tensors), {"axes": axes})
    source = _spread(source.to(self.dtype), target)
    params = {"axes": axes, "accumulate": False}
    store(part, apply(OPS["index_put"], (part, source, *tensors), params))


def _spread(source: Tensor, target: Tensor) -> Tensor:
    """`source` with the shape of `target`, in which it is about to be written."""
    source = _fit(source, target._array.ndim)
    if source._array.shape == target._array.shape:
        return source
    try:
        return expand(source, *sizes_of(target))
    except RuntimeError:
        raise ShapeError(at_user_line(
            f"cannot assign shape {list(source._array.shape)} to indexed shape "
            f"{list(target._array.shape)}")) from None  # fmt: skip


def _fit(source: Tensor, ndim: int) -> Tensor:
    """Leading dimensions of size 1 beyond `ndim` dropped, as assignment allows."""
    shape = sizes_of(source)
    extra = len(shape) - ndim
    if extra > 0 and all(n == 1 for n in shape[:extra]):
        return source.reshape(*shape[extra:])
    return source


setattr(Tensor, "__getitem__", getitem)
setattr(Tensor, "__setitem__", setitem)


# --- functions -------------------------------------------------------------------------------


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Indices of the nonzero elements, [n, ndim] or a tuple. In a capture, a branch point."""
    x = input if input._array.ndim or not as_tuple else input.reshape(1)
    if x._array.ndim == 0:
        return FUNCTIONS["zeros"]((int(bool(x)), 0), dtype=dtypes.int64, device=x.device)
    if is_on_device(x):  # how many there are must be known here: the host waits
        where = np.nonzero(x._array.to_host("nonzero"))
        results = tuple(new_tensor(moved(w.astype(np.int64), x.device)) for w in where)
    else:
        where = np.nonzero(x._array)
        results = tuple(new_tensor(w.astype(np.int64)) for w in where)
    if state.capture is not None:
        state.capture.leave_shape(x, results, "nonzero")
    return results if as_tuple else FUNCTIONS["stack"](results, 1)


@public()
def argwhere(input: Tensor) -> Tensor:
    """Indices of the nonzero elements, [n, ndim]."""
    return nonzero(input)


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """`nonzero` with exactly `size` rows: cut, or filled up with `fill_value`."""
    found = nonzero(input)[:size]
    rest = size - int(sizes_of(found)[0])
    filler = found.new_full((rest, input._array.ndim), fill_value)
    return FUNCTIONS["cat"]([found, filler], 0)


FUNCTIONS["nonzero"] = with_out(nonzero)
FUNCTIONS["nonzero_static"] = with_out(nonzero_static)
setattr(Tensor, "nonzero", nonzero)
setattr(Tensor, "nonzero_static", nonzero_static)


@public(out=True)
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask` is true, in one dimension."""
    if mask.dtype is not dtypes.bool_:
        raise DTypeError(at_user_line(f"masked_select: needs a bool mask, got {type_of(mask)}"))
    x, chosen = FUNCTIONS["broadcast_tensors"](input, mask)
    if x._array.ndim == 0:
        x, chosen = x.reshape(1), chosen.reshape(1)
    return getitem(x, chosen)


@public(function=False)
def masked_fill_(self: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` written where `mask` is true."""
    check_writable(self, "masked_fill_")
    check_mask("masked_fill_", mask, self, value)
    return write_into(self, where_of(mask, value, self, self.dtype), "masked_fill_")


@public(inplace=True)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The elements where `mask` is true replaced by those of `source`, in order."""
    if mask.dtype is not dtypes.bool_:
        raise DTypeError(at_user_line(f"masked_scatter: needs a bool mask, got {type_of(mask)}"))
    if source.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"masked_scatter: dtypes differ: {type_of(input)}, {type_of(source)}"))  # fmt: skip
    x, chosen = FUNCTIONS["broadcast_tensors"](input, mask)
    if is_on_device(chosen):
        fits = chosen.sum() <= source.numel()
        require_later(fits, RuntimeError, "masked_scatter: too few elements")
    elif source._array.size < (count := int(chosen._array.sum())):
        raise RuntimeError(at_user_line(
            f"masked_scatter: {source._array.size} elements for {count} true ones"))  # fmt: skip
    if is_empty(source):
        return x.clone()
    if not is_on_device(chosen):
        require(lambda: chosen.sum() <= source.numel(), "masked_scatter: too few elements")
    order = chosen.reshape(-1).cumsum(0) - 1
    values = source.reshape(-1)[order.clamp(0, source.numel() - 1)]
    return where_of(chosen, values.reshape(sizes_of(x)), x, input.dtype)


@public(inplace=True)
def index_put(
    input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False
) -> Tensor:
    """`values` written (or added) at the index tensors of the leading dimensions (None: all)."""
    if values.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"index_put: dtypes differ: {type_of(input)}, {type_of(values)}"))  # fmt: skip
    parsed = Key(input, tuple(slice(None) if i is None else i for i in indices))
    part = parsed.basic(input)
    tensors, axes = _common_indices(parsed.indices)
    shape = sizes_of(apply(OPS["index"], (part.detach(), *tensors), {"axes": axes}))
    params = {"axes": axes, "accumulate": bool(accumulate)}
    result = apply(OPS["index_put"], (part, values.expand(*shape), *tensors), params)
    return result.reshape(sizes_of(input))


@public(out=True)
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened tensor at `index`."""
    _check_long("take", index)
    flat = input.reshape(-1)
    at = checked_index(index, flat.numel(), "take")
    return apply(OPS["take"], (flat, at), {"axis": 0})


@public(inplace=True)
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`source` written (or added) at places of the flattened tensor."""
    _check_long("put", index)
    if source.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"put: dtypes differ: {type_of(input)}, {type_of(source)}"))  # fmt: skip
    if source._array.size != index._array.size:
        raise ShapeError(at_user_line(
            f"put: {source._array.size} values for {index._array.size} places"))  # fmt: skip
    flat = input.reshape(-1)
    at = checked_index(index.reshape(-1), flat.numel(), "put")
    params = {"axes": (0,), "accumulate": bool(accumulate)}
    result = apply(OPS["index_put"], (flat, source.reshape(-1), at), params)
    return result.reshape(sizes_of(input))


def _check_long(name: str, index: Tensor) -> None:
    if index.dtype is not dtypes.int64:
        raise DTypeError(at_user_line(f"{name}: expected an int64 index, got {type_of(index)}"))


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Flat indices as one index tensor for each dimension of `shape`."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if indices.dtype.kind not in "iu" or any(n < 0 for n in sizes):
        raise TypeError(at_user_line("unravel_index: needs integer indices and sizes >= 0"))
    total = int(np.prod(sizes, dtype=np.int64))
    x = checked_index(indices, total, "unravel_index")
    found = []
    for n in reversed(sizes):
        found.append(x % n)
        x = x // n
    return tuple(reversed(found))


FUNCTIONS["unravel_index"] = unravel_index
