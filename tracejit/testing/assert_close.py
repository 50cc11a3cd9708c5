"""``testing.assert_close``: tensors, numbers and containers of them compared, differences told.

Invariant: every message of a failure inside containers says where: ``['a'][0]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.factories import tensor
from tracejit.tensor import Tensor

Message = str | Callable[[str], str] | None

_TOLERANCES = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def _tolerances(kinds: Sequence[DType], rtol: Any, atol: Any) -> tuple[float, float]:
    """(rtol, atol): those given, or the widest of the dtypes' own, as in torch."""
    if rtol is not None:
        return float(rtol), float(atol)
    pairs = [_TOLERANCES.get(k.name, (0.0, 0.0)) for k in kinds]
    return max(p[0] for p in pairs), max(p[1] for p in pairs)


def _pairs(actual: Any, expected: Any, place: str) -> Iterator[tuple[Any, Any, str]]:
    """The tensors and numbers of two containers of one form, with where they are."""
    sequences = isinstance(actual, Sequence) and isinstance(expected, Sequence)
    if sequences and not isinstance(actual, str) and not isinstance(expected, str):
        if len(actual) != len(expected):
            raise AssertionError(f"The length of the sequences mismatch: {len(actual)} != "
                                 f"{len(expected)}{_at(place)}")  # fmt: skip
        for i, pair in enumerate(zip(actual, expected, strict=True)):
            yield from _pairs(*pair, f"{place}[{i}]")
    elif isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            missing = sorted(set(expected) - set(actual), key=repr)
            extra = sorted(set(actual) - set(expected), key=repr)
            raise AssertionError(
                "The keys of the mappings do not match:\n"
                f"Missing keys in the actual mapping: {missing}\n"
                f"Additional keys in the actual mapping: {extra}{_at(place)}")  # fmt: skip
        for key in actual:
            yield from _pairs(actual[key], expected[key], f"{place}[{key!r}]")
    else:
        yield actual, expected, place


def _at(place: str) -> str:
    return f"\n\nThe failure occurred for item {place}" if place else ""


def _as_tensors(actual: Any, expected: Any) -> tuple[Any, Any]:
    like = (Tensor, np.ndarray, np.generic)
    both_tensors = isinstance(actual, like) and isinstance(expected, like)
    if both_tensors or (isinstance(actual, Number) and isinstance(expected, Number)):
        wide = {float: dtypes.float64, int: dtypes.int64, bool: dtypes.bool_}
        return tuple(x if isinstance(x, Tensor) else tensor(x, dtype=wide.get(type(x)))
                     for x in (actual, expected))  # type: ignore[return-value] # fmt: skip
    if actual is None and expected is None:
        return None, None
    raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and "
                    f"{type(expected)}.")  # fmt: skip


def _check_attributes(a: Any, b: Any, checked: dict[str, bool]) -> None:
    found: dict[str, tuple[Any, Any]] = {"shape": (a.shape, b.shape)}
    if checked["device"]:
        found["device"] = (a.device, b.device)
    if checked["dtype"]:
        found["dtype"] = (a.dtype, b.dtype)
    if checked["stride"]:
        found["stride()"] = (a.stride(), b.stride())
    for name, (left, right) in found.items():
        if left != right:
            raise AssertionError(
                f"The values for attribute {name!r} do not match: {left} != {right}."
            )


def _difference(a: Any, b: Any, rtol: float, atol: float, equal_nan: bool, scalar: bool) -> str:
    """What differs, in words; "" if all is close."""
    left, right = (np.atleast_1d(t.detach().cpu().numpy()) for t in (a, b))
    exact = left.dtype.kind != "f" and right.dtype.kind != "f"
    x, y = (v.astype(np.int64 if exact else np.float64) for v in (left, right))
    if np.isclose(x, y, rtol, atol, equal_nan).all():
        return ""
    gap = np.abs(x - y)
    with np.errstate(all="ignore"):
        ratio = gap / np.abs(y)
    what = "equal" if rtol == 0 == atol else "close"
    allowed = ("", "") if what == "equal" else (
        f" (up to {atol} allowed)", f" (up to {rtol} allowed)")  # fmt: skip
    if scalar:
        return (f"Scalars are not {what}!\n\nExpected {right[0]} but got {left[0]}.\n"
                f"Absolute difference: {gap[0]}{allowed[0]}\n"
                f"Relative difference: {ratio[0]}{allowed[1]}")  # fmt: skip
    wrong = ~np.isclose(x, y, rtol, atol, equal_nan)
    lines = [f"Tensor-likes are not {what}!\n",
             f"Mismatched elements: {wrong.sum()} / {wrong.size} "
             f"({100 * wrong.sum() / wrong.size:.1f}%)"]  # fmt: skip
    for name, values, more in (("absolute", gap, allowed[0]), ("relative", ratio, allowed[1])):
        values = np.where(wrong, values, 0)  # what is close tells nothing
        at = np.unravel_index(int(np.argmax(values)), values.shape)
        where = tuple(int(i) for i in at)
        lines.append(f"Greatest {name} difference: {values[at]} at index {where}{more}")
    return "\n".join(lines)


def assert_close(
    actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None,
    atol: float | None = None, equal_nan: bool = False, check_device: bool = True,
    check_dtype: bool = True, check_layout: bool = True, check_stride: bool = False,
    msg: Message = None,
) -> None:  # fmt: skip
    """Raise AssertionError unless ``|actual - expected| <= atol + rtol * |expected|`` everywhere.

    Takes tensors, NumPy arrays, numbers, and sequences and mappings of them. The tolerances depend
    on the dtype (float32: 1.3e-6 and 1e-5; integers: 0); give both or none.

    check_device, check_dtype, check_stride  what else must agree; shapes always must.
    msg  the message of the error, or a function from the message to another one.
    Raises ValueError for one tolerance alone, TypeError for what cannot be compared.
    Example: ``assert_close(torch.ones(2) / 3 * 3, torch.ones(2))``.
    """
    if (rtol is None) != (atol is None):
        missing = "rtol" if rtol is None else "atol"
        raise ValueError("Both 'rtol' and 'atol' must be either specified or omitted, but got no "
                         f"{missing}.")  # fmt: skip
    checked = {"device": check_device, "dtype": check_dtype, "stride": check_stride}
    for left, right, place in _pairs(actual, expected, ""):
        scalar = isinstance(left, Number) and isinstance(right, Number)
        a, b = _as_tensors(left, right)
        if a is None:
            continue
        try:
            if not scalar:
                _check_attributes(a, b, checked)
            elif check_dtype and a.dtype is not b.dtype:
                raise AssertionError(f"The (d)types do not match: {type(left)} != {type(right)}.")
            relative, absolute = _tolerances((a.dtype, b.dtype), rtol, atol)
            found = _difference(a, b, relative, absolute, equal_nan, scalar)
            if found:
                raise AssertionError(found)
        except AssertionError as error:
            text = f"{error}{_at(place)}"
            raise AssertionError(msg(text) if callable(msg) else msg or text) from None


def assert_allclose(
    actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None,
    equal_nan: bool = True, msg: str = "",
) -> None:  # fmt: skip
    """`assert_close` over values alone (a name from PyTorch's past)."""
    actual, expected = (x if isinstance(x, Tensor) else tensor(x) for x in (actual, expected))
    assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=True,
                 check_dtype=False, check_stride=False, msg=msg or None)  # fmt: skip
