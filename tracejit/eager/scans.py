"""Functions along a dimension in order: cumulative sums, sorting, order statistics, searching.

Invariant: sorting is stable, NaN counts as the largest number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import dtypes
from tracejit.eager.conversions import row_major
from tracejit.eager.dispatch import apply, common_dtype
from tracejit.eager.factories import tensor
from tracejit.eager.pointwise import check_tensors, publish_named, where_of
from tracejit.eager.reduce import all as all_of
from tracejit.eager.reduce import any as any_of
from tracejit.eager.reduce import argmax, sum, to_dtype
from tracejit.eager.register import FUNCTIONS, public, with_out
from tracejit.eager.results import named
from tracejit.eager.shape import axis_of, reshape, sizes_of, slice_axis
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def _scan(name: str, input: Tensor, dim: int, dtype: Any) -> Tensor:
    x = to_dtype(input, dtype, dtypes.sum_dtype(input.dtype))
    at = axis_of(dim, x.ndim, name)
    if x.dtype.kind == "b":
        x = x.to(dtypes.int64)
    if x.ndim == 0:
        return x.clone()
    return apply(OPS[name], (x,), {"axis": at})


@public(inplace=True, out=True)
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The running sum along `dim`."""
    return _scan("cumsum", input, dim, dtype)


@public(inplace=True, out=True)
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The running product along `dim`."""
    return _scan("cumprod", input, dim, dtype)


@public(out=True)
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """``log(cumsum(exp(x)))`` along `dim` without overflow."""
    if input.dtype.kind != "f":
        raise DTypeError(at_user_line(f"logcumsumexp: not defined for {input.dtype.name}"))
    return row_major(_scan("logcumsumexp", input, dim, None))


def _define_cumextreme(name: str, largest: bool) -> None:
    def function(input: Tensor, dim: int) -> Any:
        at = axis_of(dim, input.ndim, name)
        result = named(name, "values indices")
        if input.ndim == 0:
            return result(input.clone(), input.new_zeros((), dtype=dtypes.int64))
        x = input.byte() if input.dtype.kind == "b" else input
        values, index = apply(OPS["cumextreme"], (x,), {"axis": at, "largest": largest})
        return result(row_major(values.to(input.dtype)), row_major(index))

    doc = f"(running {name[3:]}ima, their last indices) along `dim`."
    publish_named(function, name, doc, out=True)


_define_cumextreme("cummax", True)
_define_cumextreme("cummin", False)

# --- sorting ---------------------------------------------------------------------------------


@public(out=True)
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
    """(sorted values, indices) along `dim`; stable; NaN counts as the largest."""
    at = axis_of(dim, input.ndim, "sort")
    result = named("sort", "values indices")
    if input.ndim == 0:
        return result(input.clone(), input.new_zeros((), dtype=dtypes.int64))
    return result(*apply(OPS["sort"], (input,), {"axis": at, "descending": bool(descending)}))


@public(out=True)
def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Tensor:
    """The indices that sort along `dim`."""
    return sort(input, dim, descending).indices


@public(out=True)
def msort(input: Tensor) -> Tensor:
    """Sorted along the first dimension."""
    return sort(input, 0).values


@public(out=True)
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The `k` largest (or smallest) elements along `dim` and their indices, in order."""
    at = axis_of(dim, input.ndim, "topk")
    result = named("topk", "values indices")
    if isinstance(k, Tensor):
        k = int(k)
    if not 0 <= k <= (sizes_of(input)[at] if input.ndim else 1):
        raise RuntimeError(at_user_line(f"topk: k={k} is out of range"))
    if input.ndim == 0:
        return result(input.clone(), input.new_zeros((), dtype=dtypes.int64))
    found = apply(OPS["topk"], (input,), {"axis": at, "k": k, "largest": bool(largest)})
    return result(*map(row_major, found))


def _at_rank(input: Tensor, rank: Any, dim: int, keepdim: bool, name: str) -> Any:
    """(value, index) of the element with a rank (0: smallest), a number or one for each row."""
    result = named(name, "values indices")
    if input.ndim == 0:
        return result(input.clone(), input.new_zeros((), dtype=dtypes.int64))
    values, order = sort(input, dim)
    if isinstance(rank, Tensor):
        picked = [apply(OPS["gather"], (part, rank), {"axis": dim}) for part in (values, order)]
    else:
        picked = [slice_axis(part, dim, rank, rank + 1, 1) for part in (values, order)]
    return result(*(p.clone() if keepdim else p.squeeze(dim).clone() for p in picked))


@public(out=True)
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest element (counted from 1) along `dim` and its index."""
    at = axis_of(dim, input.ndim, "kthvalue")
    size = int(sizes_of(input)[at]) if input.ndim else 1
    if size == 0:
        raise IndexError(at_user_line("kthvalue: the dimension has no elements"))
    if not 1 <= k <= size:
        raise RuntimeError(at_user_line(f"kthvalue: k={k} is out of range for {size} elements"))
    return _at_rank(input, k - 1, at, keepdim, "kthvalue")


def _median(input: Tensor, dim: int | None, keepdim: bool, skip_nan: bool) -> Any:
    name = "nanmedian" if skip_nan else "median"
    if dim is None:
        flat = reshape(input, -1)
        if flat.numel() == 0:
            return input.new_full((), float("nan") if input.dtype.kind == "f" else -(2**63))
        return _median(flat, 0, False, skip_nan).values
    at = axis_of(dim, input.ndim, name)
    size = int(sizes_of(input)[at]) if input.ndim else 1
    if size == 0:
        raise IndexError(at_user_line(f"{name}: the dimension has no elements"))
    if input.dtype.kind != "f" or input.ndim == 0:
        return _at_rank(input, (size - 1) // 2, at, keepdim, name)
    numbers = sum(~input.isnan(), at, True)
    if skip_nan:
        rank = ((numbers - 1) // 2).clamp(min=0)
    else:  # NaN sorts last: its first index if there is one
        rank = where_of(numbers < size, numbers, (size - 1) // 2, dtypes.int64)
    return _at_rank(input, rank, at, keepdim, name)


@public(out=True)
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all, or (values, indices) along `dim`; NaN if there is one."""
    return _median(input, dim, keepdim, False)


@public(out=True)
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of the elements that are not NaN."""
    return _median(input, dim, keepdim, True)


def _run_lengths(values: Tensor, at: int) -> Tensor:
    """For sorted values: how many equal ones there are up to and including each."""
    n = int(sizes_of(values)[at])
    shape = [n if i == at else 1 for i in range(values.ndim)]
    position = reshape(FUNCTIONS["arange"](n), *shape)
    later, earlier = slice_axis(values, at, 1, n, 1), slice_axis(values, at, 0, n - 1, 1)
    first = FUNCTIONS["cat"]([later.new_ones(_with_size(values, at, 1), dtype=bool),
                              later != earlier], at)  # fmt: skip
    start = FUNCTIONS["cummax"](where_of(first, position, 0, dtypes.int64), at).values
    return position - start + 1


def _with_size(x: Tensor, at: int, n: int) -> tuple[Any, ...]:
    return tuple(n if i == at else s for i, s in enumerate(sizes_of(x)))


@public(out=True)
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value along `dim` (the smallest of equals) and an index of it."""
    at = axis_of(dim, input.ndim, "mode")
    result = named("mode", "values indices")
    if input.ndim == 0:
        return result(input.clone(), input.new_zeros((), dtype=dtypes.int64))
    if int(sizes_of(input)[at]) == 0:
        raise IndexError(at_user_line("mode: the dimension has no elements"))
    values, order = sort(input, at)
    where = argmax(_run_lengths(values.detach(), at), at, True)
    picked = [apply(OPS["gather"], (part, where), {"axis": at}) for part in (values, order)]
    return result(*(p if keepdim else p.squeeze(at) for p in picked))


# --- unique ----------------------------------------------------------------------------------


def _answer(values: Tensor, inverse: Any, counts: Any, wants: tuple[bool, bool]) -> Any:
    parts = [values, *(p for p, w in zip((inverse, counts), wants, strict=True) if w)]
    return parts[0] if len(parts) == 1 else tuple(parts)


def _differs_from_previous(rows: Tensor) -> Tensor:
    """For each row (element of a vector) but the first: whether it differs from the one before."""
    changed = rows[1:] != rows[:-1]
    rest = tuple(range(1, changed.ndim))
    return any_of(changed, rest) if rest else changed


def _runs(rows: Tensor, dim: int, inverse_of: Callable[[Tensor], Tensor]) -> tuple[Any, Any, Any]:
    """Values, inverse and counts of runs of equal rows."""
    n = int(sizes_of(rows)[0])
    if n == 0:
        empty = rows.new_empty(0, dtype=dtypes.int64)
        return rows.movedim(0, dim), empty, empty
    first = FUNCTIONS["cat"]([rows.new_ones(1, dtype=bool), _differs_from_previous(rows)])
    starts = first.nonzero(as_tuple=True)[0]
    ends = FUNCTIONS["cat"]([starts[1:], rows.new_full((1,), n, dtype=dtypes.int64)])
    return rows[starts].movedim(0, dim), inverse_of(cumsum(first, 0) - 1), ends - starts


@public()
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None,
) -> Any:  # fmt: skip
    """The first element (slice along `dim`) of every run of equal ones."""
    at = 0 if dim is None else axis_of(dim, input.ndim, "unique_consecutive")
    rows = reshape(input, -1) if dim is None else input.movedim(at, 0)
    shape = sizes_of(input) if dim is None else (-1,)
    found = _runs(rows.detach(), at, lambda i: i.reshape(shape))
    return _answer(*found, (return_inverse, return_counts))


@public()
def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None,
) -> Any:  # fmt: skip
    """The distinct elements (slices along `dim`) in rising order."""
    at = 0 if dim is None else axis_of(dim, input.ndim, "unique")
    rows = (reshape(input, -1) if dim is None else input.movedim(at, 0)).detach()
    order = _lexicographic_order(rows)
    shape = sizes_of(input) if dim is None else (-1,)

    def back(i: Tensor) -> Tensor:
        return i.new_empty(sizes_of(i)).scatter(0, order, i).reshape(shape)

    found = _runs(rows[order], at, back)
    return _answer(*found, (return_inverse, return_counts))


def _lexicographic_order(rows: Tensor) -> Tensor:
    """The order that sorts rows by their first column, then the second, and so on."""
    if rows.ndim == 1:
        return argsort(rows, 0)
    flat = rows.flatten(1)
    order = FUNCTIONS["arange"](sizes_of(rows)[0])
    for column in reversed(range(int(sizes_of(flat)[1]))):  # stable: last key first
        order = order[argsort(flat[:, column][order], 0)]
    return order


# --- searching -------------------------------------------------------------------------------


def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Where `input` goes in rows sorted upwards: the first place that keeps them sorted.

    right (or ``side="right"``)  the last such place instead.
    """
    check_tensors("searchsorted", sorted_sequence)
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(at_user_line(f"searchsorted: side={side!r} and right={right}"))
    x = input if isinstance(input, Tensor) else tensor(input, dtype=sorted_sequence.dtype)
    if not isinstance(input, Tensor) and sorted_sequence.ndim != 1:
        raise RuntimeError(at_user_line("searchsorted: a number needs a 1-d sequence"))
    if sorter is not None:
        if sizes_of(sorter) != sizes_of(sorted_sequence) or sorter.dtype is not dtypes.int64:
            raise RuntimeError(at_user_line("searchsorted: sorter must be int64 of equal shape"))
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    if sorted_sequence.ndim != 1 and sizes_of(x)[:-1] != sizes_of(sorted_sequence)[:-1]:
        raise RuntimeError(at_user_line(
            "searchsorted: sequence and input must have equal leading dimensions"))  # fmt: skip
    if sorted_sequence.dtype is not x.dtype:
        raise DTypeError(at_user_line(
            f"searchsorted: dtypes differ: {sorted_sequence.dtype.name}, {x.dtype.name}"
        ))  # fmt: skip
    return _search(sorted_sequence, x, right or side == "right", out_int32)


def _search(rows: Tensor, x: Tensor, right: bool, narrow: bool) -> Tensor:
    found: Tensor = apply(OPS["searchsorted"], (rows.detach(), x.detach()), {"right": bool(right)})
    return found.to(dtypes.int32) if narrow else found


def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The bucket of each element: the count of boundaries below it (`right`: not above it)."""
    if boundaries.ndim != 1:
        raise RuntimeError(at_user_line("bucketize: boundaries must be 1-d"))
    x = input if isinstance(input, Tensor) else tensor(input)
    dtype = common_dtype((x, boundaries))
    return _search(boundaries.to(dtype), x.to(dtype), right, out_int32)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is among `test_elements`."""
    x, among = (t if isinstance(t, Tensor) else tensor(t) for t in (elements, test_elements))
    dtype = common_dtype((x, among))
    x, among = x.to(dtype), reshape(among.to(dtype), -1)
    size = int(sizes_of(among)[0])
    if size == 0:
        found = x.new_zeros(sizes_of(x), dtype=bool)
    else:
        rows = sort(among, 0).values
        place = _search(rows, x, False, False).clamp(max=size - 1)
        found = rows[place] == x
    return ~found if invert else found


FUNCTIONS.update({
    "searchsorted": with_out(searchsorted), "bucketize": with_out(bucketize),
    "isin": with_out(isin),
})  # fmt: skip

__all__ = ["all_of"]
