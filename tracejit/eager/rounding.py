"""Rounding, the parts of a number, whole-number theory, and stable sums of exponentials."""

from __future__ import annotations

import math
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.dispatch import common_dtype, pointwise
from tracejit.eager.pointwise import check_tensors, isinf, publish_named, where_of
from tracejit.eager.register import public
from tracejit.eager.results import named
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


def _define_rounding(name: str) -> None:
    op = OPS[name]

    def function(input: Tensor) -> Tensor:
        check_tensors(name, input)
        if input.dtype.kind == "b":
            raise DTypeError(at_user_line(f"{name}: not defined for bool"))
        if input.dtype.kind != "f":
            return input.clone()
        return pointwise(op, (input,))

    aliases = ("fix",) if name == "trunc" else ()
    publish_named(function, name, op.doc, inplace=True, out=True, aliases=aliases)


for _name in ("floor", "ceil", "trunc"):
    _define_rounding(_name)


@public(inplace=True, out=True)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounded to the nearest whole number (or to `decimals` digits), halves to even."""
    if input.dtype.kind == "b":
        raise DTypeError(at_user_line("round: not defined for bool"))
    if input.dtype.kind != "f":
        if decimals:
            raise DTypeError(at_user_line("round: decimals needs a floating dtype"))
        return input.clone()
    if decimals == 0:
        return pointwise(OPS["round"], (input,))
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return pointwise(OPS["round"], (input * scale,)) / scale
    return pointwise(OPS["round"], (input / scale,)) * scale


@public(inplace=True, out=True)
def frac(input: Tensor) -> Tensor:
    """``x - trunc(x)``."""
    if input.dtype.kind != "f":
        raise DTypeError(at_user_line(f"frac: needs a floating dtype, got {input.dtype.name}"))
    return input - input.trunc()


@public(inplace=True, out=True)
def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The next representable number after `input` towards `other`."""
    check_tensors("nextafter", input, other)
    if common_dtype((input, other)).kind != "f":
        raise DTypeError(at_user_line("nextafter: needs floating tensors"))
    return pointwise(OPS["nextafter"], (input, other))


@public(out=True)
def frexp(input: Tensor) -> Any:
    """(mantissa in [0.5, 1), int32 exponent) with ``input = mantissa * 2 ** exponent``."""
    if input.dtype.kind != "f":
        raise DTypeError(at_user_line("frexp: needs a floating tensor"))
    wide = input.to(dtypes.float64)
    regular = (wide != 0) & wide.isfinite()
    safe = where_of(regular, wide.abs(), 1.0, dtypes.float64)
    power = safe.log2().floor()
    # log2 may round up to the next whole number: bring the mantissa into [0.5, 1) exactly
    power = power + (safe >= (power + 1).exp2()) - (safe < power.exp2()).to(dtypes.float64)
    power = where_of(regular, power + 1, 0.0, dtypes.float64)
    half = (power / 2).floor()
    mantissa = wide * (-half).exp2() * (half - power).exp2()
    mantissa = where_of(regular, mantissa, wide, dtypes.float64)
    return named("frexp", "mantissa exponent")(mantissa.to(input.dtype), power.to(dtypes.int32))


@public(inplace=True, out=True)
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """``input * 2 ** other``."""
    check_tensors("ldexp", input, other)
    return input * pointwise(OPS["pow"], (2.0, other))


@public(inplace=True, out=True)
def gcd(input: Tensor, other: Tensor) -> Tensor:
    """The greatest common divisor of the elements."""
    check_whole("gcd", input, other)
    return pointwise(OPS["gcd"], (input, other))


@public(inplace=True, out=True)
def lcm(input: Tensor, other: Tensor) -> Tensor:
    """The least common multiple of the elements (0 if either is 0)."""
    check_whole("lcm", input, other)
    divisor = pointwise(OPS["gcd"], (input, other))
    safe = where_of(divisor == 0, 1, divisor, divisor.dtype)
    return (pointwise(OPS["floor_divide"], (input, safe)) * other).abs()


def check_whole(name: str, *operands: Tensor) -> None:
    """Raise unless the operands are integer tensors."""
    check_tensors(name, *operands)
    kind: DType = common_dtype(operands)
    if kind.kind not in "iu":
        raise DTypeError(at_user_line(f"{name}: not defined for {kind.name}"))


def _floating(*tensors: Tensor) -> list[Tensor]:
    default = dtypes.get_default_dtype()
    return [x if x.dtype.kind == "f" else x.to(default) for x in tensors]


def _log_sum(input: Tensor, other: Tensor, base: float | None) -> Tensor:
    """log(b**x + b**y) = max + log1p(b**-|x - y|) / log(b)."""
    x, y = _floating(input, other)
    top = pointwise(OPS["maximum"], (x, y))
    same = isinf(top) & (x == y)
    gap = where_of(same, 0.0, -(x - y).abs(), top.dtype)
    if base is None:
        return top + gap.exp().log1p()
    return top + gap.exp2().log1p() * (1.0 / math.log(base))


@public(out=True)
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """``log(exp(input) + exp(other))`` without overflow."""
    check_tensors("logaddexp", input, other)
    return _log_sum(input, other, None)


@public(out=True)
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """``log2(2 ** input + 2 ** other)`` without overflow."""
    check_tensors("logaddexp2", input, other)
    return _log_sum(input, other, 2.0)


@public(inplace=True, out=True)
def sinc(input: Tensor) -> Tensor:
    """``sin(pi x) / (pi x)``, 1 at zero."""
    (x,) = _floating(input)
    zero = x == 0
    angle = where_of(zero, 1.0, x * math.pi, x.dtype)
    return where_of(zero, 1.0, angle.sin() / angle, x.dtype)


@public(out=True)
def angle(input: Tensor) -> Tensor:
    """pi for negative numbers, 0 for others, NaN for NaN."""
    (x,) = _floating(input)
    turned = where_of(x < 0, math.pi, 0.0, x.dtype)
    return where_of(x != x, x, turned, x.dtype)


@public()
def positive(input: Tensor) -> Tensor:
    """The tensor itself (not a bool one)."""
    if input.dtype.kind == "b":
        raise DTypeError(at_user_line("positive: not defined for bool"))
    return input
