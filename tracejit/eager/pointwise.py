"""Pointwise functions with torch's names, and the operators of Tensor.

Each is one op applied by `dispatch.pointwise`; promotion and broadcasting happen there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.checks import require
from tracejit.eager.dispatch import common_dtype, is_scalar, pointwise, select_where
from tracejit.eager.inplace import write_into
from tracejit.eager.register import FUNCTIONS, public
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor, new_tensor


def _publish(target: Callable[..., Any], name: str, doc: str, **how: Any) -> None:
    target.__name__ = target.__qualname__ = name
    target.__doc__ = doc
    public(**how)(target)


def _define_unary(name: str, op_name: str, to_float: bool, aliases: tuple[str, ...] = ()) -> None:
    op = OPS[op_name]

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        return deliver(pointwise(op, (input,), to_float=to_float), out)

    _publish(function, name, op.doc, inplace=True, aliases=aliases)


def deliver(result: Tensor, out: Tensor | None) -> Tensor:
    """`result`, written into `out` if that is given."""
    if out is None:
        return result
    return write_into(out, result, "out=")


for _name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sin", "cos",
    "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf",
    "erfc", "erfinv", "sigmoid", "lgamma", "digamma", "reciprocal",
):  # fmt: skip
    _define_unary(_name, _name, to_float=True)
for _alias, _name in (
    ("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"), ("arcsinh", "asinh"),
    ("arccosh", "acosh"), ("arctanh", "atanh"), ("special_erf", "erf"), ("expit", "sigmoid"),
):  # fmt: skip
    _define_unary(_alias, _name, to_float=True)
for _name in ("neg", "abs", "square", "relu"):
    _define_unary(_name, _name, to_float=False)
_define_unary("negative", "neg", to_float=False)
_define_unary("absolute", "abs", to_float=False)
_define_unary("sign", "sign", to_float=False)


def _define_rounding(name: str) -> None:
    op = OPS[name]

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if input.dtype.kind != "f":
            return deliver(input.clone(), out)
        return deliver(pointwise(op, (input,)), out)

    _publish(function, name, op.doc, inplace=True, aliases=("fix",) if name == "trunc" else ())


for _name in ("floor", "ceil", "trunc"):
    _define_rounding(_name)


@public(inplace=True)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounded to the nearest whole number (or to `decimals` digits), halves to even."""
    if input.dtype.kind != "f":
        return input.clone()
    if decimals == 0:
        return pointwise(OPS["round"], (input,))
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return pointwise(OPS["round"], (input * scale,)) / scale
    return pointwise(OPS["round"], (input / scale,)) * scale


@public(inplace=True)
def logical_not(input: Tensor) -> Tensor:
    """Whether each element is zero."""
    return pointwise(OPS["eq"], (input, 0)) if input.dtype.kind != "b" else ~input


def _define_predicate(name: str, whole: bool) -> None:
    op = OPS[name]

    def function(input: Tensor) -> Tensor:
        if input.dtype.kind == "f":
            return pointwise(op, (input,))
        return new_tensor(np.full(input._array.shape, whole))

    _publish(function, name, op.doc)


_define_predicate("isnan", False)
_define_predicate("isinf", False)


@public()
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN."""
    return ~(isnan(input) | isinf(input))


@public()
def signbit(input: Tensor) -> Tensor:
    """Whether each element's sign bit is set."""
    return pointwise(OPS["signbit"], (input,))


isnan, isinf = FUNCTIONS["isnan"], FUNCTIONS["isinf"]


# --- two operands ----------------------------------------------------------------------------


def _define_binary(
    name: str, op_name: str, to_float: bool = False, aliases: tuple[str, ...] = ()
) -> None:
    op = OPS[op_name]

    def function(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        return deliver(pointwise(op, (input, other), to_float=to_float), out)

    _publish(function, name, op.doc, inplace=True, aliases=aliases)


_define_binary("mul", "mul", aliases=("multiply",))
_define_binary("pow_tensor", "pow")
_define_binary("maximum", "maximum")
_define_binary("minimum", "minimum")
_define_binary("fmax", "fmax", to_float=True)
_define_binary("fmin", "fmin", to_float=True)
_define_binary("atan2", "atan2", to_float=True, aliases=("arctan2",))
_define_binary("hypot", "hypot", to_float=True)
_define_binary("copysign", "copysign", to_float=True)
for _name, _aliases in (
    ("eq", ()), ("ne", ("not_equal",)), ("lt", ("less",)), ("le", ("less_equal",)),
    ("gt", ("greater",)), ("ge", ("greater_equal",)),
):  # fmt: skip
    _define_binary(_name, _name, aliases=_aliases)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    _define_binary(_name, _name)
_define_binary("bitwise_left_shift", "shift_left")
_define_binary("bitwise_right_shift", "shift_right")
_define_unary("bitwise_not", "bitwise_not", to_float=False)


def _scaled(other: Any, alpha: Any) -> Any:
    return other if alpha == 1 else other * alpha


@public(inplace=True)
def add(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input + alpha * other``."""
    return deliver(pointwise(OPS["add"], (input, _scaled(other, alpha))), out)


@public(inplace=True, aliases=("subtract",))
def sub(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """``input - alpha * other``."""
    operands = (input, _scaled(other, alpha))
    if common_dtype(operands).kind == "b":
        raise DTypeError(at_user_line("sub: bool tensors cannot be subtracted; use ^ or ~"))
    return deliver(pointwise(OPS["sub"], operands), out)


@public()
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    return sub(other, _scaled(input, alpha))


@public(inplace=True, aliases=("divide",))
def div(
    input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None
) -> Tensor:
    """``input / other``; `rounding_mode` 'trunc' or 'floor' keeps integers integer."""
    if rounding_mode is None:
        return deliver(pointwise(OPS["div"], (input, other), to_float=True), out)
    if rounding_mode == "floor":
        return deliver(floor_divide(input, other), out)
    if rounding_mode != "trunc":
        raise RuntimeError(at_user_line(f"div: unknown rounding_mode {rounding_mode!r}"))
    dtype = common_dtype((input, other))
    if dtype.kind == "f":
        return deliver(pointwise(OPS["trunc"], (pointwise(OPS["div"], (input, other)),)), out)
    rest = fmod(input, other)
    return deliver(floor_divide(pointwise(OPS["sub"], (input, rest)), other), out)


@public(inplace=True)
def true_divide(input: Any, other: Any) -> Tensor:
    """``input / other`` in floating point."""
    return div(input, other)


def check_divisor(name: str, operands: tuple[Any, Any]) -> None:
    """Integer division by zero raises, as in torch."""
    if common_dtype(operands).kind in "iub":
        divisor = operands[1]
        array = divisor._array if isinstance(divisor, Tensor) else np.asarray(divisor)
        if not array.all():
            raise ZeroDivisionError(at_user_line(f"{name}: integer division by zero"))
        require_nonzero(divisor, name)


def require_nonzero(divisor: Any, name: str) -> None:
    """In a capture: a check that the divisor holds no zero at replay either."""
    if isinstance(divisor, Tensor):
        require(lambda: divisor.ne(0).all(), f"{name}: integer division by zero")


def _define_division(name: str, op_name: str) -> None:
    op = OPS[op_name]

    def function(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        check_divisor(name, (input, other))
        return deliver(pointwise(op, (input, other)), out)

    _publish(function, name, op.doc, inplace=True)


_define_division("floor_divide", "floor_divide")
_define_division("remainder", "remainder")
_define_division("fmod", "fmod")
floor_divide, fmod, remainder = (FUNCTIONS[n] for n in ("floor_divide", "fmod", "remainder"))


@public(inplace=True)
def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``input ** exponent``; small constant exponents become products and roots."""
    if isinstance(input, Tensor) and is_scalar(exponent) and not hasattr(exponent, "scalar_node"):
        if input.dtype.kind != "f" and isinstance(exponent, int) and exponent < 0:
            raise RuntimeError(at_user_line(
                "pow: integers to negative integer powers are not allowed"))  # fmt: skip
        special = _special_power(input, exponent)
        if special is not None:
            return deliver(special, out)
    return deliver(pointwise(OPS["pow"], (input, exponent)), out)


def _special_power(x: Tensor, exponent: Any) -> Tensor | None:
    """Exponents with an exact or cheaper spelling; None if there is none."""
    if x.dtype.kind == "b" or (isinstance(exponent, float) and x.dtype.kind != "f"):
        return None
    if exponent == 2:
        return pointwise(OPS["square"], (x,))
    if x.dtype.kind != "f":
        return None
    if exponent == 1:
        return x.clone()
    if exponent == 0.5:
        return pointwise(OPS["sqrt"], (x,))
    if exponent == 3:
        return pointwise(OPS["mul"], (pointwise(OPS["square"], (x,)), x))
    if exponent == -1:
        return pointwise(OPS["reciprocal"], (x,))
    return None


@public(function=False)
def __rpow__(self: Tensor, other: Any) -> Tensor:
    return pow(other, self)


@public(inplace=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent`` in float64."""
    return pointwise(OPS["pow"], (input, exponent), dtype=dtypes.float64)


def _define_logical(name: str, op_name: str) -> None:
    op = OPS[op_name]

    def function(input: Tensor, other: Tensor) -> Tensor:
        return pointwise(op, (as_bool(input), as_bool(other)))

    _publish(function, name, f"`{op_name}` of the elements' truth.", inplace=True)


def as_bool(value: Any) -> Any:
    """The truth of each element."""
    if isinstance(value, Tensor):
        return value if value.dtype.kind == "b" else pointwise(OPS["ne"], (value, 0))
    return bool(value)


_define_logical("logical_and", "bitwise_and")
_define_logical("logical_or", "bitwise_or")
_define_logical("logical_xor", "bitwise_xor")


# --- selection -------------------------------------------------------------------------------


@public(inplace=True)
def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Tensor:
    """Each element brought into ``[min, max]``; NaN stays. Gradient 1 inside and on the bounds."""
    if min is None and max is None:
        raise RuntimeError(at_user_line("clamp: at least one of min and max must be given"))
    operands = tuple(x for x in (input, min, max) if x is not None)
    dtype = common_dtype(operands)
    result = input
    if min is not None:
        result = pointwise(OPS["clamp_min"], (result, min), dtype=dtype)
    if max is not None:
        result = pointwise(OPS["clamp_max"], (result, max), dtype=dtype)
    return deliver(result, out)


@public(inplace=True)
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Elements below `min` become `min`."""
    return clamp(input, min=min)


@public(inplace=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Elements above `max` become `max`."""
    return clamp(input, max=max)


@public(inplace=True)
def clip(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """`clamp`."""
    return clamp(input, min, max)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, else `other`; one argument: indices of the true ones."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    dtype = common_dtype((input, other))
    return where_of(condition, input, other, dtype)


def where_of(condition: Tensor, x: Any, y: Any, dtype: DType) -> Tensor:
    """`where` with the result's dtype given."""
    return select_where(as_bool(condition), x, y, dtype)


FUNCTIONS["where"] = where


@public(function=False, method=True)
def masked_fill(self: Tensor, mask: Tensor, value: Any) -> Tensor:
    """The elements where `mask` is true replaced by `value`."""
    return where_of(mask, value, self, self.dtype)


FUNCTIONS["masked_fill"] = masked_fill


@public(inplace=True)
def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN and the infinities replaced (by default: 0 and the dtype's limits)."""
    if input.dtype.kind != "f":
        return input.clone()
    info = dtypes.finfo(input.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    result = where_of(isnan(input), nan, input, input.dtype)
    result = where_of(pointwise(OPS["eq"], (input, float("inf"))), high, result, input.dtype)
    return where_of(pointwise(OPS["eq"], (input, float("-inf"))), low, result, input.dtype)


@public(inplace=True)
def lerp(input: Tensor, end: Any, weight: Any) -> Tensor:
    """``input + weight * (end - input)``."""
    return input + weight * (end - input)


@public(inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    return input + _scaled(tensor1, value) * tensor2


@public(inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``."""
    return input + _scaled(tensor1, value) / tensor2


@public(inplace=True)
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``log(x / (1 - x))``, with x first brought into ``[eps, 1 - eps]`` if `eps` is given."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return (x / (1 - x)).log()


@public()
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """``log(exp(input) + exp(other))`` without overflow."""
    top = FUNCTIONS["maximum"](input, other)
    total = (-(input - other).abs()).exp().log1p() + top
    return where_of(isinf(top), top, total, total.dtype)


@public(inplace=True)
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 below zero, 1 above, `values` at zero."""
    step = (input > 0).to(input.dtype)
    return where_of(input == 0, values, step, input.dtype)


@public(inplace=True)
def frac(input: Tensor) -> Tensor:
    """``x - trunc(x)``."""
    return input - input.trunc()


@public(inplace=True)
def sgn(input: Tensor) -> Tensor:
    """`sign`."""
    return input.sign()


@public(inplace=True)
def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians."""
    return input * 0.017453292519943295


@public(inplace=True)
def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees."""
    return input * 57.29577951308232


@public()
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """``|input - other| <= atol + rtol * |other|`` element by element."""
    close = (input == other) | (
        isfinite(other) & ((input - other).abs() <= atol + rtol * other.abs())
    )
    return close | (isnan(input) & isnan(other)) if equal_nan else close


@public()
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@public()
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are equal."""
    if input.shape != other.shape:
        return False
    return bool((input == other).all())


# --- operators -------------------------------------------------------------------------------


def _operator(function: Callable[..., Any], swap: bool = False) -> Callable[..., Any]:
    def operator(self: Tensor, other: Any) -> Any:
        if not isinstance(other, Tensor) and not is_scalar(other):
            if isinstance(other, np.ndarray):
                other = new_tensor(other)
            else:
                return NotImplemented
        return function(other, self) if swap else function(self, other)

    return operator


def _install_operators() -> None:
    binary = {
        "add": add, "sub": sub, "mul": FUNCTIONS["mul"], "truediv": div, "mod": remainder,
        "floordiv": floor_divide, "pow": pow, "and": FUNCTIONS["bitwise_and"],
        "or": FUNCTIONS["bitwise_or"], "xor": FUNCTIONS["bitwise_xor"],
        "lshift": FUNCTIONS["bitwise_left_shift"], "rshift": FUNCTIONS["bitwise_right_shift"],
    }  # fmt: skip
    inplace = {"truediv": "div_", "mod": "remainder_", "floordiv": "floor_divide_",
               "and": "bitwise_and_", "or": "bitwise_or_", "xor": "bitwise_xor_",
               "lshift": "bitwise_left_shift_", "rshift": "bitwise_right_shift_"}  # fmt: skip
    for name, function in binary.items():
        setattr(Tensor, f"__{name}__", _operator(function))
        setattr(Tensor, f"__r{name}__", _operator(function, swap=True))
        setattr(Tensor, f"__i{name}__", getattr(Tensor, inplace.get(name, f"{name}_")))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _comparison(FUNCTIONS[name], name))
    for operator, name in (("neg", "neg"), ("abs", "abs"), ("invert", "bitwise_not")):
        function = FUNCTIONS[name]
        setattr(Tensor, f"__{operator}__", lambda self, function=function: function(self))
    Tensor.__pos__ = lambda self: self  # type: ignore[attr-defined]


def _comparison(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def compare(self: Tensor, other: Any) -> Any:
        if isinstance(other, Tensor) or is_scalar(other):
            return function(self, other)
        if isinstance(other, np.ndarray):
            return function(self, new_tensor(other))
        return NotImplemented

    compare.__name__ = f"__{name}__"
    return compare


_install_operators()
Tensor.__hash__ = object.__hash__  # type: ignore[method-assign]
del FUNCTIONS["pow_tensor"], Tensor.pow_tensor, Tensor.pow_tensor_  # type: ignore[attr-defined]
