"""Pointwise functions that choose, blend and compare: composites of a few ops each."""

from __future__ import annotations

import math
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.conversions import row_major
from tracejit.eager.dispatch import common_dtype, is_scalar, pointwise
from tracejit.eager.factories import check_integer
from tracejit.eager.inplace import deliver, write_into
from tracejit.eager.pointwise import (
    add,
    check_tensors,
    isfinite,
    isnan,
    pow,
    scaled,
    where_of,
)
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.scalars import as_float
from tracejit.eager.shape import sizes_of
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def check_fits(value: Any, dtype: DType, name: str) -> None:
    """Raise RuntimeError for a Python integer that `dtype` cannot hold."""
    if type(value) is int and dtype.kind in "iu":
        check_integer(value, dtype)


@public(inplace=True, out=True, aliases=("clip",))
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Each element brought into ``[min, max]``; NaN stays. Gradient 1 inside and on the bounds."""
    check_tensors("clamp", input)
    if min is None and max is None:
        raise RuntimeError(at_user_line("clamp: at least one of min and max must be given"))
    if (isinstance(min, Tensor) and is_scalar(max)) or (isinstance(max, Tensor) and is_scalar(min)):
        raise TypeError(at_user_line("clamp: min and max must both be tensors or both numbers"))
    bounds = [x for x in (min, max) if x is not None]
    dtype = common_dtype((input, *bounds))
    for bound in bounds:
        check_fits(bound, dtype, "clamp")
    result = input
    if min is not None:
        result = pointwise(OPS["clamp_min"], (result, min), dtype=dtype)
    if max is not None:
        result = pointwise(OPS["clamp_max"], (result, max), dtype=dtype)
    return result


@public(inplace=True, out=True)
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Elements below `min` become `min`."""
    if min is None:
        raise TypeError(at_user_line("clamp_min: min must be a number or a tensor"))
    return clamp(input, min=min)


@public(inplace=True, out=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Elements above `max` become `max`."""
    if max is None:
        raise TypeError(at_user_line("clamp_max: max must be a number or a tensor"))
    return clamp(input, max=max)


def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    """`input` where the condition holds, else `other`; one argument: indices of the true ones."""
    check_tensors("where", condition)
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if condition.dtype not in (dtypes.bool_, dtypes.uint8):
        raise DTypeError(at_user_line(
            f"where: expected a bool condition, got {condition.dtype.name}"))  # fmt: skip
    dtype = common_dtype((input, other))
    for value in (input, other):
        check_fits(value, dtype, "where")
    result = where_of(condition, input, other, dtype)
    return result if out is None else deliver(result, out)


FUNCTIONS["where"] = where


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where the condition holds, else `other`."""
    return where(condition, self, other)


setattr(Tensor, "where", _where_method)


@public()
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """The elements where `mask` is true replaced by `value`."""
    check_mask("masked_fill", mask, input, value)
    return row_major(where_of(mask, value, input, input.dtype))


def check_mask(name: str, mask: Tensor, input: Tensor, value: Any) -> None:
    """Raise unless `mask` is bool and `value` can stand in `input`."""
    check_tensors(name, input, mask)
    if mask.dtype is not dtypes.bool_:
        raise DTypeError(at_user_line(f"{name}: needs a bool mask, got {mask.dtype.name}"))
    if isinstance(value, Tensor) and value._array.ndim:
        raise RuntimeError(at_user_line(
            f"{name}: value must be a number or 0-d, got {value._array.ndim} dimensions"
        ))  # fmt: skip
    if not isinstance(value, Tensor) and not is_scalar(value):
        raise TypeError(at_user_line(f"{name}: value must be a number, got {value!r}"))
    check_fits(value, input.dtype, name)


@public(inplace=True, out=True)
def nan_to_num(
    input: Tensor, nan: float | None = 0.0, posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:  # fmt: skip
    """NaN and the infinities replaced (by default: 0 and the dtype's limits)."""
    if input.dtype.kind != "f":
        return input.clone()
    info = dtypes.finfo(input.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    result = where_of(isnan(input), 0.0 if nan is None else nan, input, input.dtype)
    result = where_of(pointwise(OPS["eq"], (input, math.inf)), high, result, input.dtype)
    return where_of(pointwise(OPS["eq"], (input, -math.inf)), low, result, input.dtype)


@public(inplace=True, out=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``input + weight * (end - input)``, exact at both ends."""
    check_tensors("lerp", input, end)
    tensors = [x for x in (input, end, weight) if isinstance(x, Tensor)]
    if len({x.dtype for x in tensors}) > 1:
        names = ", ".join(x.dtype.name for x in tensors)
        raise DTypeError(at_user_line(f"lerp: expected equal dtypes, got {names}"))
    rise = end - input
    if isinstance(weight, Tensor):
        near, far = input + weight * rise, end - rise * (1 - weight)
        return where_of(weight.abs() < 0.5, near, far, near.dtype)
    if abs(weight) < 0.5:
        return input + rise * weight
    return end - rise * (1 - weight)


@public(inplace=True, out=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    check_tensors("addcmul", input, tensor1, tensor2)
    return add(input, scaled(tensor1, value) * tensor2)


@public(inplace=True, out=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    check_tensors("addcdiv", input, tensor1, tensor2)
    if tensor1.dtype.kind != "f" and tensor2.dtype.kind != "f":
        raise DTypeError(at_user_line("addcdiv: integer tensors are not divided; use true_divide"))
    return add(input, scaled(tensor1, value) / tensor2)


@public(inplace=True, out=True)
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``log(x / (1 - x))``, with x first brought into ``[eps, 1 - eps]`` if `eps` is given."""
    x = input.to(dtypes.get_default_dtype()) if input.dtype.kind != "f" else input
    x = x if eps is None else clamp(x, eps, 1 - eps)
    return (x / (1 - x)).log()


@public(inplace=True, out=True)
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 below zero, 1 above, `values` at zero."""
    check_tensors("heaviside", input, values)
    if input.dtype is not values.dtype:
        raise DTypeError(at_user_line(
            f"heaviside: dtypes differ: {input.dtype.name}, {values.dtype.name}"))  # fmt: skip
    step = (input > 0).to(input.dtype)
    return where_of(input == 0, values, step, input.dtype)


@public(out=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent`` in float64."""
    operands = (input, exponent)
    common_dtype(operands)
    wide = [x.to(dtypes.float64) if isinstance(x, Tensor) else as_float(x) for x in operands]
    if not any(isinstance(x, Tensor) for x in wide):
        raise TypeError(at_user_line("float_power: at least one argument must be a tensor"))
    return pow(*wide)


@public(function=False)
def float_power_(self: Tensor, exponent: Any) -> Tensor:
    """`float_power`, written into the tensor, which must be float64."""
    if self.dtype is not dtypes.float64:
        raise RuntimeError(at_user_line(
            f"float_power_: the result is float64, the tensor {self.dtype.name}"))  # fmt: skip
    return write_into(self, float_power(self, exponent), "float_power_")


@public(inplace=True, out=True)
def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians."""
    return input * 0.017453292519943295


@public(inplace=True, out=True)
def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees."""
    return input * 57.29577951308232


# --- comparing whole tensors ------------------------------------------------------------------


@public()
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """``|input - other| <= atol + rtol * |other|`` element by element."""
    check_tensors("isclose", input, other)
    if input.dtype is not other.dtype:
        raise DTypeError(at_user_line(
            f"isclose: dtypes differ: {input.dtype.name}, {other.dtype.name}"))  # fmt: skip
    if rtol < 0 or atol < 0:
        raise RuntimeError(at_user_line("isclose: rtol and atol must be at least zero"))
    close = input == other
    if equal_nan and input.dtype.kind == "f":
        close = close | (isnan(input) & isnan(other))
    if (rtol == 0 and atol == 0) or input.dtype.kind == "b":
        return close
    if input.dtype.kind != "f":
        input, other = (x.to(dtypes.float64) for x in (input, other))
    error = (input - other).abs()
    return close | (isfinite(error) & (error <= (other * rtol).abs() + atol))


@public()
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@public()
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are equal."""
    check_tensors("equal", input, other)
    if sizes_of(input) != sizes_of(other):
        return False
    return bool((input == other).all())


@public(function=False)
def is_same_size(self: Tensor, other: Tensor) -> bool:
    """Whether the shapes are equal."""
    return bool(sizes_of(self) == sizes_of(other))
