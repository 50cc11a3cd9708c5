"""Joining tensors and taking them apart: cat, stack, split and their relatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.eager.conversions import row_major
from tracejit.eager.dispatch import apply, common_dtype
from tracejit.eager.execute import ordered_copy
from tracejit.eager.factories import constant_tensor
from tracejit.eager.inplace import deliver
from tracejit.eager.pointwise import check_tensors
from tracejit.eager.register import FUNCTIONS, public, with_names
from tracejit.eager.shape import (
    axes_of,
    axis_of,
    expand,
    reshape,
    select,
    sizes_of,
    slice_axis,
    transpose,
    unpack_sizes,
    unsqueeze,
)
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt
from tracejit.tensor import Tensor


def _sequence(name: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, (list, tuple)):
        raise TypeError(at_user_line(
            f"{name}: expected a sequence of tensors, got {type(tensors).__name__}"))  # fmt: skip
    check_tensors(name, *tensors)
    if not tensors:
        raise ShapeError(at_user_line(f"{name}: expects a non-empty sequence of tensors"))
    return list(tensors)


def cat(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Joined along `dim`; dtypes promote; empty 1-d tensors are ignored, as in torch."""
    items = _sequence("cat", tensors)
    ndim = max(t._array.ndim for t in items)
    if ndim == 0 or any(t._array.ndim == 0 for t in items):
        raise RuntimeError(at_user_line("cat: 0-d tensors cannot be joined; use stack"))
    dtype = common_dtype(items)
    items = [t for t in items if not (ndim > 1 and sizes_of(t) == (0,))] or items[:1]
    axis = axis_of(dim, items[0]._array.ndim, "cat")
    result = apply(OPS["concatenate"], [t.to(dtype) for t in items], {"axis": axis})
    if out is None:
        return result
    if any(np.shares_memory(out._array, t._array) for t in items):
        raise RuntimeError(at_user_line("cat: out shares memory with an input; clone() it first"))
    return deliver(result, out)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Joined along a new dimension."""
    items = _sequence("stack", tensors)
    if len({t._array.shape for t in items}) > 1:
        shapes = [list(t._array.shape) for t in items]
        raise ShapeError(at_user_line(f"stack: expects tensors of equal shape, got {shapes}"))
    at = axis_of(dim, items[0]._array.ndim + 1, "stack")
    return cat([unsqueeze(t, at) for t in items], at)


def at_least(ndim: int, *tensors: Any) -> Any:
    """Each tensor with leading (for 3: also a trailing) dimensions of size 1 up to `ndim`."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return tuple(at_least(ndim, t) for t in tensors[0])
    if len(tensors) != 1:
        return tuple(at_least(ndim, t) for t in tensors)
    x = tensors[0]
    if ndim == 3 and x._array.ndim == 2:
        return unsqueeze(x, 2)
    while x._array.ndim < min(ndim, 2):
        x = unsqueeze(x, 0)
    return unsqueeze(x, 2) if ndim == 3 and x._array.ndim == 2 else x


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined column by column: along dimension 1, vectors along 0."""
    items = [at_least(1, t) for t in _sequence("hstack", tensors)]
    return cat(items, 0 if items[0]._array.ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined row by row; vectors count as rows."""
    return cat([at_least(2, t) for t in _sequence("vstack", tensors)], 0)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the third dimension."""
    return cat([at_least(3, t) for t in _sequence("dstack", tensors)], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dimension 1; vectors count as columns."""
    items = _sequence("column_stack", tensors)
    return hstack([t if t._array.ndim > 1 else reshape(t, t._array.size, 1) for t in items])


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given matrices along its diagonal and zeros elsewhere."""
    blocks = [at_least(2, t) for t in tensors]
    if any(b._array.ndim != 2 for b in blocks):
        raise RuntimeError(at_user_line("block_diag: expects tensors of at most 2 dimensions"))
    dtype = common_dtype(blocks) if blocks else None
    rows = sum(b._array.shape[0] for b in blocks)
    columns = sum(b._array.shape[1] for b in blocks)
    result = FUNCTIONS["zeros"](rows if blocks else 1, columns, dtype=dtype)
    row = column = 0
    for b in blocks:
        height, width = b._array.shape
        where = {"starts": (row, column), "stops": (row + height, column + width)}
        result = apply(OPS["slice_scatter"], (result, b.to(dtype)), {**where, "steps": (1, 1)})
        row, column = row + height, column + width
    return result


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every combination of one element from each vector, a row each."""
    if len(tensors) == 1:
        return tensors[0]
    grids = FUNCTIONS["meshgrid"](*tensors, indexing="ij")
    return stack([reshape(g, -1) for g in grids], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of `r` elements of a vector, a row each, in order."""
    if input._array.ndim != 1:
        raise RuntimeError(at_user_line("combinations: expects a 1-d tensor"))
    if r < 0:
        raise RuntimeError(at_user_line("combinations: r must not be negative"))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(sizes_of(input)[0]), r)), np.int64).reshape(-1, r)
    if r == 0:
        return input.new_empty(0)
    return input[constant_tensor(rows)]


for _joining in (stack, hstack, vstack, dstack, column_stack):
    public(method=False, out=True)(_joining)
public(method=False, aliases=("concat", "concatenate"))(cat)
_MORE: dict[str, Callable[..., Any]] = {
    "row_stack": FUNCTIONS["vstack"],
    "block_diag": block_diag, "cartesian_prod": cartesian_prod, "combinations": combinations,
    "atleast_1d": lambda *ts: at_least(1, *ts), "atleast_2d": lambda *ts: at_least(2, *ts),
    "atleast_3d": lambda *ts: at_least(3, *ts),
}  # fmt: skip
FUNCTIONS.update(_MORE)

# --- taking apart ----------------------------------------------------------------------------


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of so many elements each (or of the sizes listed) along `dim`."""
    shape = sizes_of(input)
    at = axis_of(dim, len(shape), "split")
    if not shape:
        raise RuntimeError(at_user_line("split: expects at least a 1-d tensor"))
    total = shape[at]
    if isinstance(split_size_or_sections, int):
        if split_size_or_sections < 0 or (split_size_or_sections == 0 and total != 0):
            raise RuntimeError(at_user_line(
                f"split: size {split_size_or_sections} is not positive"))  # fmt: skip
        sizes = _equal_parts(total, split_size_or_sections)
    else:
        sizes = list(split_size_or_sections)
        if sum(sizes) != total or any(n < 0 for n in sizes):
            raise RuntimeError(at_user_line(f"split: sizes {sizes} do not add up to {total}"))
    parts, begin = [], 0
    for n in sizes:
        parts.append(slice_axis(input, at, begin, begin + n, 1))
        begin = begin + n
    return tuple(parts)


def _equal_parts(total: Any, size: Any) -> list[Any]:
    step, whole = int(size), int(total)
    return [min(step, whole - i) for i in range(0, whole, step)] if whole else [0]


public(aliases=("unsafe_split",))(
    with_names(split, tensor="input", split_size="split_size_or_sections")
)


@public(aliases=("unsafe_split_with_sizes",))
def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """`split` with a list of sizes."""
    return split(input, list(split_sizes), dim)


@public(aliases=("unsafe_chunk",))
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size (the last may be smaller) along `dim`."""
    if input._array.ndim == 0:
        raise RuntimeError(at_user_line("chunk: expects at least a 1-d tensor"))
    total = sizes_of(input)[axis_of(dim, input._array.ndim, "chunk")]
    if chunks <= 0:
        raise RuntimeError(at_user_line("chunk: expects at least one chunk"))
    if type(total) is SymInt and total % chunks == 0:
        return split(input, [total // chunks] * chunks, dim)
    if int(total) == 0:
        return split(input, [0] * chunks, dim)
    return split(input, -(-int(total) // chunks), dim)


@public()
def tensor_split(
    input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None,
    sections: Any = None, tensor_indices_or_sections: Any = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """NumPy's array_split: near-equal sections, or cuts at the given indices."""
    if input._array.ndim == 0:
        raise RuntimeError(at_user_line("tensor_split: expects at least a 1-d tensor"))
    spellings = (indices_or_sections, indices, sections, tensor_indices_or_sections)
    how = next(x for x in spellings if x is not None)
    at = axis_of(dim, input._array.ndim, "tensor_split")
    total = int(sizes_of(input)[at])
    how = _split_points(how)
    if isinstance(how, int):
        if how <= 0:
            raise RuntimeError(at_user_line(f"tensor_split: {how} sections"))
        base, extra = divmod(total, how)
        cuts = [0, *itertools.accumulate(base + (i < extra) for i in range(how))]
    else:
        cuts = [0, *how, total]
    bounds = [slice(a, b).indices(total)[:2] for a, b in itertools.pairwise(cuts)]
    return tuple(slice_axis(input, at, a, max(a, b), 1) for a, b in bounds)


def _split_points(how: Any) -> Any:
    if not isinstance(how, Tensor):
        return how
    if how.dtype.kind not in "iu" or how._array.ndim > 1:
        raise RuntimeError(at_user_line("tensor_split: expects an int64 tensor of 0 or 1 dims"))
    return how.tolist()


def _define_split(name: str, ndim: int, axis: int) -> None:
    def function(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
        rank = input._array.ndim
        if rank < ndim:
            raise RuntimeError(at_user_line(f"{name}: expects at least {ndim} dimensions"))
        at = 0 if name == "hsplit" and rank == 1 else axis
        if isinstance(indices_or_sections, int):
            if indices_or_sections <= 0 or sizes_of(input)[at] % indices_or_sections:
                raise RuntimeError(at_user_line(
                    f"{name}: {sizes_of(input)[at]} cannot be divided into "
                    f"{indices_or_sections} equal parts"))  # fmt: skip
        return tensor_split(input, indices_or_sections, at)

    names = {"indices": "indices_or_sections", "sections": "indices_or_sections"}
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`tensor_split` along dimension {axis}."
    public()(with_names(function, **names))


_define_split("hsplit", 1, 1)
_define_split("vsplit", 2, 0)
_define_split("dsplit", 3, 2)


@public()
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views along one dimension."""
    at = axis_of(dim, input._array.ndim, "unbind")
    if input._array.ndim == 0:
        raise IndexError(at_user_line("unbind: a 0-d tensor has no dimension"))
    return tuple(select(input, at, i) for i in range(int(sizes_of(input)[at])))


@public(method=False)
def constant_pad_nd(input: Tensor, pad: Sequence[int], value: Any = 0) -> Tensor:
    """`value` added around: `pad` holds (before, after) from the last dimension backwards."""
    if len(pad) % 2 or len(pad) > 2 * input._array.ndim:
        raise RuntimeError(at_user_line(f"constant_pad_nd: {list(pad)} does not fit the tensor"))
    low, high = [0] * input._array.ndim, [0] * input._array.ndim
    for i in range(len(pad) // 2):
        at = input._array.ndim - 1 - i
        before, after, n = pad[2 * i], pad[2 * i + 1], int(sizes_of(input)[at])
        if n + before + after < 0:
            raise RuntimeError(at_user_line(f"constant_pad_nd: {list(pad)} leaves no elements"))
        input = slice_axis(input, at, max(-before, 0), n - max(-after, 0), 1)
        low[at], high[at] = max(before, 0), max(after, 0)
    params = {"low": tuple(low), "high": tuple(high), "value": value}
    return apply(OPS["pad"], (input,), params)


# --- turning ---------------------------------------------------------------------------------


@public()
def flip(input: Tensor, *dims: Any, **named_dims: Any) -> Tensor:
    """Reversed along `dims` (a copy, as in torch)."""
    given = unpack_sizes(dims) or named_dims.get("dims", ())
    given = (given,) if isinstance(given, int) else tuple(given)
    axes = axes_of(given, input._array.ndim, "flip") if given else ()
    if all(input._array.shape[a] == 1 for a in axes):  # nothing to turn: no copy would be made
        return input.clone()
    result = apply(OPS["flip"], (input,), {"axes": axes})
    result._array = ordered_copy(result._array)
    return result


@public()
def fliplr(input: Tensor) -> Tensor:
    """Reversed along dimension 1."""
    if input._array.ndim < 2:
        raise RuntimeError(at_user_line("fliplr: expects at least 2 dimensions"))
    return flip(input, 1)


@public()
def flipud(input: Tensor) -> Tensor:
    """Reversed along dimension 0."""
    if input._array.ndim < 1:
        raise RuntimeError(at_user_line("flipud: expects at least 1 dimension"))
    return flip(input, 0)


@public()
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by `k` quarters in the plane of two dimensions, from the first to the second."""
    ndim = input._array.ndim
    if len(dims) != 2 or ndim < 2:
        raise RuntimeError(at_user_line("rot90: expects two dims of a tensor with at least 2"))
    a, b = (axis_of(d, ndim, "rot90") for d in dims)
    if a == b:
        raise RuntimeError(at_user_line("rot90: the two dims must differ"))
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, a, b)
    return row_major(transpose(flip(input, b if k == 1 else a), a, b))


@public()
def roll(input: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    """Elements shifted along `dims`, those beyond the end coming back at the start."""
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if not shifts:
        raise RuntimeError(at_user_line("roll: shifts are required"))
    if not dims and len(shifts) == 1:
        return reshape(roll(reshape(input, -1), shifts[0], 0), *sizes_of(input))
    if len(shifts) != len(dims):
        raise RuntimeError(at_user_line(f"roll: {len(shifts)} shifts for {len(dims)} dims"))
    for shift, dim in zip(shifts, dims, strict=True):
        if not input._array.ndim:
            raise IndexError(at_user_line("roll: a 0-d tensor has no dimension"))
        at = axis_of(dim, input._array.ndim, "roll")
        n = int(sizes_of(input)[at])
        if n and shift % n:
            first = n - shift % n
            parts = slice_axis(input, at, first, n, 1), slice_axis(input, at, 0, first, 1)
            input = cat(parts, at)
    return input.clone()


@public()
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element (slice along `dim`) repeated `repeats` times: a number, or one for each.

    With one argument, a tensor of counts: the indices 0, 1, ... repeated so often.
    """
    if repeats is None:
        if input.dtype.kind not in "iu" or input._array.ndim != 1:
            raise RuntimeError(at_user_line("repeat_interleave: repeats must be 1-d and integer"))
        return _repeat_index(input, sizes_of(input)[0])
    x = input if dim is not None else reshape(input, -1)
    x = x if x._array.ndim else reshape(x, 1)
    at = axis_of(0 if dim is None else dim, x._array.ndim, "repeat_interleave")
    n = sizes_of(x)[at]
    if isinstance(repeats, Tensor) and repeats._array.size == 1:
        repeats = int(repeats.item())
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError(at_user_line("repeat_interleave: repeats must not be negative"))
        spread = expand(
            unsqueeze(x, at + 1), *sizes_of(x)[: at + 1], repeats, *sizes_of(x)[at + 1 :]
        )
        return reshape(spread, *sizes_of(x)[:at], n * repeats, *sizes_of(x)[at + 1 :]).clone()
    counts = repeats if isinstance(repeats, Tensor) else FUNCTIONS["tensor"](repeats)
    index = _repeat_index(counts, n)
    return apply(OPS["take"], (x, index), {"axis": at})


def _repeat_index(counts: Tensor, size: Any) -> Tensor:
    if counts._array.ndim != 1 or counts._array.size != int(size):
        raise RuntimeError(at_user_line(
            f"repeat_interleave: {counts._array.size} repeats for {size} elements"))  # fmt: skip
    if counts.dtype.kind not in "iu":
        raise DTypeError(at_user_line("repeat_interleave: repeats must be integers"))
    numbers = counts.tolist()
    if any(n < 0 for n in numbers):
        raise RuntimeError(at_user_line("repeat_interleave: repeats must not be negative"))
    return constant_tensor(np.repeat(np.arange(len(numbers)), numbers))
