"""Pointwise functions with torch's names: one op each, and the operators of Tensor.

Promotion and broadcasting happen in `dispatch.pointwise`; `fast` takes the common case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.dtypes import DType, bool_
from tracejit.eager import fast
from tracejit.eager.checks import is_on_device, require, require_later
from tracejit.eager.dispatch import common_dtype, is_scalar, pointwise, select_where
from tracejit.eager.inplace import deliver
from tracejit.eager.register import FUNCTIONS, public
from tracejit.errors import DivisionError, DTypeError, at_user_line
from tracejit.ir.op import OPS, Op
from tracejit.tensor import Tensor, new_tensor


def check_tensors(name: str, *operands: Any) -> None:
    """Raise TypeError unless every operand is a tensor."""
    for x in operands:
        if not isinstance(x, Tensor):
            raise TypeError(at_user_line(f"{name}: expected a Tensor, got {type(x).__name__}"))


def publish_named(target: Callable[..., Any], name: str, doc: str, **how: Any) -> None:
    """Publish a function made by a loop under its own name."""
    target.__name__ = target.__qualname__ = name
    target.__doc__ = doc
    public(**how)(target)


# --- one operand -----------------------------------------------------------------------------


def _define_unary(name: str, op_name: str, to_float: bool, refuses: str = "", **how: Any) -> None:
    op = OPS[op_name]

    def function(input: Tensor) -> Tensor:
        result = fast.unary(op, input)
        if result is not None:
            return result
        check_tensors(name, input)
        if input.dtype.kind in refuses:
            raise DTypeError(at_user_line(f"{name}: not defined for dtype {input.dtype.name}"))
        return pointwise(op, (input,), to_float=to_float)

    publish_named(function, name, op.doc, inplace=True, out=True, **how)


for _name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sin", "cos",
    "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf",
    "erfc", "erfinv", "sigmoid", "lgamma", "digamma", "reciprocal",
):  # fmt: skip
    _define_unary(_name, _name, to_float=True)
for _alias, _name in (
    ("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"), ("arcsinh", "asinh"),
    ("arccosh", "acosh"), ("arctanh", "atanh"),
):  # fmt: skip
    _define_unary(_alias, _name, to_float=True)
_define_unary("neg", "neg", to_float=False, refuses="b", aliases=("negative",))
_define_unary("abs", "abs", to_float=False, refuses="b", aliases=("absolute",))
_define_unary("relu", "relu", to_float=False, refuses="b")
_define_unary("bitwise_not", "bitwise_not", to_float=False, refuses="f")


@public(inplace=True, out=True)
def square(input: Tensor) -> Tensor:
    """``x * x``; bools count as integers."""
    result = fast.unary(OPS["square"], input)
    if result is not None:
        return result
    return pointwise(OPS["square"], (input,)) if input.dtype.kind != "b" else pow(input, 2)


@public(inplace=True, out=True, aliases=("sgn",))
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1; a bool is its own sign."""
    return input.clone() if input.dtype.kind == "b" else pointwise(OPS["sign"], (input,))


@public(inplace=True, out=True)
def logical_not(input: Tensor) -> Tensor:
    """Whether each element is zero."""
    return pointwise(OPS["eq"], (input, 0)) if input.dtype.kind != "b" else ~input


def _define_predicate(name: str) -> None:
    op = OPS[name]

    def function(input: Tensor) -> Tensor:
        check_tensors(name, input)
        if input.dtype.kind == "f":
            return pointwise(op, (input,))
        return pointwise(OPS["ne"], (input, input))

    publish_named(function, name, op.doc)


_define_predicate("isnan")
_define_predicate("isinf")


@public()
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN."""
    check_tensors("isfinite", input)
    return ~(isnan(input) | isinf(input))


@public(out=True)
def isposinf(input: Tensor) -> Tensor:
    """Whether each element is plus infinity."""
    return isinf(input) & (input > 0)


@public(out=True)
def isneginf(input: Tensor) -> Tensor:
    """Whether each element is minus infinity."""
    return isinf(input) & (input < 0)


@public()
def isreal(input: Tensor) -> Tensor:
    """True everywhere: there are no complex tensors."""
    return input.new_ones(input.shape, dtype=bool)


@public(out=True)
def signbit(input: Tensor) -> Tensor:
    """Whether each element's sign bit is set."""
    x = input if input.dtype.kind != "b" else input.byte()
    return pointwise(OPS["signbit"], (x,))


isnan, isinf = FUNCTIONS["isnan"], FUNCTIONS["isinf"]

# --- two operands ----------------------------------------------------------------------------


def _define_binary(
    name: str, op_name: str, *, to_float: bool = False, numbers: str = "xy", refuses: str = "",
    aliases: tuple[str, ...] = (), inplace: bool = True,
) -> None:  # fmt: skip
    """`numbers` says which operands may be Python numbers."""
    op = OPS[op_name]

    def function(input: Any, other: Any) -> Tensor:
        result = fast.binary(op, input, other)
        if result is not None and (numbers or type(other) is Tensor):
            return result
        if "x" not in numbers:
            check_tensors(name, input)
        if "y" not in numbers:
            check_tensors(name, other)
        if not isinstance(input, Tensor) and not isinstance(other, Tensor):
            raise TypeError(at_user_line(f"{name}: expected at least one Tensor"))
        if refuses and common_dtype((input, other)).kind in refuses:
            raise DTypeError(at_user_line(
                f"{name}: not defined for dtype {common_dtype((input, other)).name}"))  # fmt: skip
        return pointwise(op, (input, other), to_float=to_float)

    publish_named(function, name, op.doc, inplace=inplace, out=True, aliases=aliases)


_define_binary("mul", "mul", aliases=("multiply",))
_define_binary("maximum", "maximum", numbers="", inplace=False)
_define_binary("minimum", "minimum", numbers="", inplace=False)
_define_binary("atan2", "atan2", to_float=True, numbers="", aliases=("arctan2",))
_define_binary("hypot", "hypot", numbers="", refuses="iub")
_define_binary("copysign", "copysign", to_float=True, numbers="y")
for _name, _aliases in (
    ("eq", ()), ("ne", ("not_equal",)), ("lt", ("less",)), ("le", ("less_equal",)),
    ("gt", ("greater",)), ("ge", ("greater_equal",)),
):  # fmt: skip
    _define_binary(_name, _name, numbers="y", aliases=_aliases)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    _define_binary(_name, _name, refuses="f")
_define_binary("bitwise_left_shift", "shift_left", refuses="fb")
_define_binary("bitwise_right_shift", "shift_right", refuses="fb")


def _define_fextreme(name: str, whole: str) -> None:
    op = OPS[name]

    def function(input: Tensor, other: Tensor) -> Tensor:
        check_tensors(name, input, other)
        chosen = op if common_dtype((input, other)).kind == "f" else OPS[whole]
        return pointwise(chosen, (input, other))

    publish_named(function, name, op.doc, out=True)


_define_fextreme("fmax", "maximum")
_define_fextreme("fmin", "minimum")


def scaled(other: Any, alpha: Any) -> Any:
    """``other * alpha``, without work for 1; a fraction does not scale integers."""
    if type(alpha) is int and alpha == 1:
        return other
    if isinstance(alpha, float) and isinstance(other, Tensor) and other.dtype.kind != "f":
        raise RuntimeError(at_user_line("for integral tensors, alpha must not be a float"))
    return other * alpha


@public(inplace=True, out=True)
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``."""
    other = scaled(other, alpha)
    result = fast.binary(_ADD, input, other)
    return pointwise(_ADD, (input, other)) if result is None else result


@public(inplace=True, out=True, aliases=("subtract",))
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``."""
    other = scaled(other, alpha)
    result = fast.binary(_SUB, input, other)
    if result is not None:
        return result
    if any(isinstance(x, bool) or getattr(x, "dtype", None) is bool_ for x in (input, other)):
        raise DTypeError(at_user_line("sub: bool tensors cannot be subtracted; use ^ or ~"))
    return pointwise(_SUB, (input, other))


_ADD, _SUB, _DIV, _MUL = OPS["add"], OPS["sub"], OPS["div"], OPS["mul"]


@public()
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    check_tensors("rsub", input)
    return sub(other, scaled(input, alpha))


@public(inplace=True, out=True, aliases=("divide",))
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; `rounding_mode` 'trunc' or 'floor' keeps integers integer."""
    if rounding_mode is None:
        result = fast.binary(_DIV, input, other)
        return pointwise(_DIV, (input, other), to_float=True) if result is None else result
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(at_user_line(f"div: unknown rounding_mode {rounding_mode!r}"))
    if common_dtype((input, other)).kind == "f":
        return pointwise(OPS["trunc"], (pointwise(_DIV, (input, other)),))
    rest = fmod(input, other)
    return floor_divide(pointwise(_SUB, (input, rest)), other)


@public(inplace=True, out=True)
def true_divide(input: Any, other: Any) -> Tensor:
    """``input / other`` in floating point."""
    return div(input, other)


def check_divisor(name: str, operands: tuple[Any, Any]) -> None:
    """Integer division by zero raises, as in torch."""
    if common_dtype(operands).kind in "iub":
        divisor = operands[1]
        if isinstance(divisor, Tensor) and is_on_device(divisor):
            require_later(divisor.ne(0), DivisionError, f"{name}: integer division by zero")
            return
        array = divisor._array if isinstance(divisor, Tensor) else np.asarray(divisor)
        if not array.all():
            raise DivisionError(at_user_line(f"{name}: integer division by zero"))
        if isinstance(divisor, Tensor):
            require(lambda: divisor.ne(0).all(), f"{name}: integer division by zero")


def _define_division(name: str, op_name: str, numbers: str) -> None:
    op = OPS[op_name]

    def function(input: Any, other: Any) -> Tensor:
        if "x" not in numbers or not isinstance(other, Tensor):
            check_tensors(name, input)
        check_divisor(name, (input, other))
        if common_dtype((input, other)).kind == "b":
            raise DTypeError(at_user_line(f"{name}: not defined for bool"))
        return pointwise(op, (input, other))

    publish_named(function, name, op.doc, inplace=True, out=True)


_define_division("floor_divide", "floor_divide", "xy")
_define_division("remainder", "remainder", "xy")
_define_division("fmod", "fmod", "y")
floor_divide, fmod, remainder = (FUNCTIONS[n] for n in ("floor_divide", "fmod", "remainder"))


@public(inplace=True, out=True)
def pow(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent``; small constant exponents become products and roots."""
    if not isinstance(exponent, Tensor):
        check_tensors("pow", input)
    if hasattr(exponent, "scalar_node") and exponent.is_one_of(_SPECIAL_POWERS):
        exponent = exponent.pinned_here()
    if isinstance(input, Tensor) and is_scalar(exponent):
        if input.dtype.kind != "f" and isinstance(exponent, int) and exponent < 0:
            raise RuntimeError(at_user_line(
                "pow: integers to negative integer powers are not allowed"))  # fmt: skip
        traced = hasattr(exponent, "scalar_node")  # then it is none of the special ones
        special = None if traced else _special_power(input, exponent)
        if special is not None:
            return special
    if common_dtype((input, exponent)).kind == "b":
        raise DTypeError(at_user_line("pow: not defined for bool"))
    return pointwise(OPS["pow"], (input, exponent))


_SPECIAL_POWERS = (2, 1, 0.5, 3, -1)


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
        return pointwise(_MUL, (pointwise(OPS["square"], (x,)), x))
    if exponent == -1:
        return pointwise(OPS["reciprocal"], (x,))
    return None


# --- logic and selection ----------------------------------------------------------------------


def as_bool(value: Any) -> Any:
    """The truth of each element."""
    if isinstance(value, Tensor):
        return value if value.dtype.kind == "b" else pointwise(OPS["ne"], (value, 0))
    return bool(value)


def _define_logical(name: str, op_name: str) -> None:
    op = OPS[op_name]

    def function(input: Tensor, other: Tensor) -> Tensor:
        check_tensors(name, input, other)
        return pointwise(op, (as_bool(input), as_bool(other)))

    publish_named(function, name, f"`{op_name}` of the elements' truth.", inplace=True, out=True)


_define_logical("logical_and", "bitwise_and")
_define_logical("logical_or", "bitwise_or")
_define_logical("logical_xor", "bitwise_xor")


def where_of(condition: Tensor, x: Any, y: Any, dtype: DType) -> Tensor:
    """`where` with the result's dtype given."""
    return select_where(as_bool(condition), x, y, dtype)


# --- operators -------------------------------------------------------------------------------


def _foreign(other: Any) -> Any:
    """An operand of an operator: arrays become tensors; NotImplemented for what is no number."""
    if isinstance(other, Tensor) or is_scalar(other):
        return other
    return new_tensor(other) if isinstance(other, np.ndarray) else NotImplemented


def _operator(
    function: Callable[..., Any], op: Op | None, swap: bool = False
) -> Callable[..., Any]:
    def operator(self: Tensor, other: Any) -> Any:
        if op is not None:
            result = fast.binary(op, self, other)
            if result is not None:
                return result
        other = _foreign(other)
        if other is NotImplemented:
            return other
        return function(other, self) if swap else function(self, other)

    return operator


def _install_operators() -> None:
    binary: dict[str, Callable[..., Any]] = {
        "add": add, "sub": sub, "mul": FUNCTIONS["mul"], "truediv": div, "mod": remainder,
        "floordiv": floor_divide, "pow": pow, "and": FUNCTIONS["bitwise_and"],
        "or": FUNCTIONS["bitwise_or"], "xor": FUNCTIONS["bitwise_xor"],
        "lshift": FUNCTIONS["bitwise_left_shift"], "rshift": FUNCTIONS["bitwise_right_shift"],
    }  # fmt: skip
    inplace = {"truediv": "div_", "mod": "remainder_", "floordiv": "floor_divide_",
               "and": "bitwise_and_", "or": "bitwise_or_", "xor": "bitwise_xor_",
               "lshift": "bitwise_left_shift_", "rshift": "bitwise_right_shift_"}  # fmt: skip
    direct = {"add": _ADD, "sub": _SUB, "mul": _MUL, "truediv": _DIV}
    for name, function in binary.items():
        op = direct.get(name)
        swapped = op if name in ("add", "mul") else None
        setattr(Tensor, f"__{name}__", _operator(function, op))
        setattr(Tensor, f"__r{name}__", _operator(function, swapped, swap=True))
        setattr(Tensor, f"__i{name}__", getattr(Tensor, inplace.get(name, f"{name}_")))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _operator(FUNCTIONS[name], OPS[name]))
    for operator, name in (("neg", "neg"), ("abs", "abs"), ("invert", "bitwise_not")):
        setattr(Tensor, f"__{operator}__", getattr(Tensor, name))
    setattr(Tensor, "__pos__", lambda self: self)
    setattr(Tensor, "__rdiv__", Tensor.__rtruediv__)


_install_operators()
setattr(Tensor, "__hash__", object.__hash__)  # comparing has replaced it

__all__ = ["as_bool", "check_tensors", "deliver", "publish_named", "scaled", "where_of"]
