"""``tracejit.special``: special functions with torch's names.

Each is one op, or a few ops where a formula is as good; gradients follow from those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit import dtypes
from tracejit.eager.dispatch import common_dtype, is_scalar, pointwise
from tracejit.eager.pointwise import check_tensors, isnan, where_of
from tracejit.eager.register import FUNCTIONS, F, public, with_names
from tracejit.eager.scalars import as_float
from tracejit.errors import DTypeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ops.bessel import BESSEL
from tracejit.tensor import Tensor

SPECIAL: dict[str, Callable[..., Any]] = {}


def _special(**how: Any) -> Callable[[F], F]:
    return public(method=False, into=SPECIAL, out=True, **how)


def _define_unary(name: str, shared: bool = False) -> None:
    """A function of one op; `shared`: also ``tracejit.name`` and a method."""
    op = OPS[name]

    def function(input: Tensor) -> Tensor:
        check_tensors(name, input)
        return pointwise(op, (input,), to_float=True)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.doc
    _special()(function)
    if shared:
        public(inplace=True, out=True)(function)


_define_unary("i0", shared=True)
for _name in ("i0e", "i1", "i1e", "erfcx", "log_ndtr", "ndtri", *(op.name for op in BESSEL)):
    _define_unary(_name)


def _operands(name: str, *values: Any) -> dtypes.DType:
    """The floating dtype of a function of several numbers; at least one must be a tensor."""
    if not any(isinstance(v, Tensor) for v in values):
        raise TypeError(at_user_line(f"{name}: expected at least one Tensor"))
    kind = common_dtype(values)
    return kind if kind.kind == "f" else dtypes.get_default_dtype()


def _convert(value: Any, kind: dtypes.DType) -> Any:
    return value.to(kind) if isinstance(value, Tensor) else as_float(value)


@_special()
def ndtr(input: Tensor) -> Tensor:
    """The distribution function of the normal distribution."""
    kind = _operands("ndtr", input)
    return (_convert(input, kind) * -math.sqrt(0.5)).erfc() * 0.5


@_special()
def entr(input: Tensor) -> Tensor:
    """``-x log x``; 0 at zero, -inf below."""
    x = _convert(input, _operands("entr", input))
    positive = x > 0
    value = -x * where_of(positive, x, 1.0, x.dtype).log()
    rest = where_of(x < 0, -math.inf, 0.0, x.dtype)
    return where_of(positive | isnan(x), value, rest, x.dtype)


def _x_log(
    x: Any, y: Any, kind: dtypes.DType, log: Callable[[Tensor], Tensor], low: float
) -> Tensor:
    """``x * log(y)``, 0 where x is 0 (unless y is NaN); `low`: where the logarithm is -inf."""
    x, y = _convert(x, kind), _convert(y, kind)
    y = y if isinstance(y, Tensor) else x.new_full((), y)
    harmless = (y > low) & (y != math.inf) | isnan(y)
    neutral = 1.0 if low == 0 else 0.0
    zero = x == 0
    drop = ~harmless if zero is True else zero & ~harmless if isinstance(zero, Tensor) else None
    safe = y if drop is None else where_of(drop, neutral, y, kind)
    return log(safe) * x


@public(inplace=True, out=True)
def xlogy(input: Any, other: Any) -> Tensor:
    """``input * log(other)``, 0 where `input` is 0 (unless `other` is NaN)."""
    kind = _operands("xlogy", input, other)
    return _x_log(input, other, kind, lambda y: y.log(), 0.0)


@_special()
def xlog1py(input: Any, other: Any) -> Tensor:
    """``input * log1p(other)``, 0 where `input` is 0 (unless `other` is NaN)."""
    kind = _operands("xlog1py", input, other)
    return _x_log(input, other, kind, lambda y: y.log1p(), -1.0)


@_special()
def zeta(input: Any, other: Any) -> Tensor:
    """Hurwitz's zeta function: the sum of ``(other + k) ** -input`` over k >= 0."""
    return pointwise(OPS["zeta"], (input, other), dtype=_operands("zeta", input, other))


def _define_incomplete(name: str, alias: str) -> None:
    op = OPS[name]

    def function(input: Tensor, other: Tensor) -> Tensor:
        check_tensors(name, input, other)
        kind = common_dtype((input, other))
        if kind.kind != "f":
            raise DTypeError(at_user_line(f"{name}: needs floating tensors, got {kind.name}"))
        return pointwise(op, (input, other))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.doc
    public(inplace=True, out=True)(function)
    SPECIAL[alias] = FUNCTIONS[name]


_define_incomplete("igamma", "gammainc")
_define_incomplete("igammac", "gammaincc")


@public(function=False, inplace=True)
def polygamma(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of `digamma`."""
    return _polygamma(n, self)


def _polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of `digamma`."""
    if n < 0:
        raise RuntimeError(at_user_line(f"polygamma: n must not be negative, got {n}"))
    kind = _operands("polygamma", input)
    x = _convert(input, kind)
    if n == 0:
        return x.digamma()
    return zeta(float(n + 1), x) * ((-1.0) ** (n + 1) * math.factorial(n))


_polygamma.__name__ = _polygamma.__qualname__ = "polygamma"
public(method=False, out=True)(_polygamma)


@public(inplace=True, out=True)
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension `p`."""
    if p < 1:
        raise RuntimeError(at_user_line(f"mvlgamma: p must be at least 1, got {p}"))
    x = _convert(input, _operands("mvlgamma", input))
    total = x.lgamma() + p * (p - 1) / 4 * math.log(math.pi)
    for i in range(1, p):
        total = total + (x - i / 2).lgamma()
    return total


@_special()
def spherical_bessel_j0(input: Tensor) -> Tensor:
    """``sin(x) / x``, 1 at zero."""
    x = _convert(input, _operands("spherical_bessel_j0", input))
    zero = x == 0
    safe = where_of(zero, 1.0, x, x.dtype)
    value = where_of(zero, 1.0, safe.sin() / safe, x.dtype)
    return where_of(x.abs() == math.inf, 0.0, value, x.dtype)


# --- orthogonal polynomials ---------------------------------------------------------------------


def _define_polynomial(
    name: str, start: Callable[[Any], Any], step: Callable[[int, Any, Any, Any], Any],
    shift: bool = False,
) -> None:  # fmt: skip
    """Polynomial n at x from p0 = 1, p1 = start(x), p(k+1) = step(k, x, p(k), p(k-1))."""

    def function(input: Any, n: Any) -> Tensor:
        kind = _operands(name, input, n)
        x = _convert(input, kind)
        if is_scalar(n):
            degree: Any = int(n)
            highest = degree
        else:
            degree = n.trunc() if n.dtype.kind == "f" else n
            highest = int(degree.max()) if degree.numel() else 0
        if not isinstance(x, Tensor):
            x = degree.new_full((), x, dtype=kind)
        at = x * 2 - 1 if shift else x
        before, last = at * 0 + 1, start(at)
        result = where_of(_equals(degree, 0, x), before, 0.0, kind)
        for k in range(1, highest + 1):
            result = where_of(_equals(degree, k, x), last, result, kind)
            before, last = last, step(k, at, last, before)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The {name.replace('_', ' ')} of degree n at x."
    _special()(with_names(function, x="input"))


def _equals(degree: Any, k: int, like: Tensor) -> Tensor:
    if isinstance(degree, Tensor):
        return degree == k
    return like.new_full((), degree == k, dtype=dtypes.bool_)


def _chebyshev_step(k: int, x: Any, p: Any, q: Any) -> Any:
    return x * 2 * p - q


for _prefix, _shift in (("chebyshev", False), ("shifted_chebyshev", True)):
    for _letter, _start in (
        ("t", lambda x: x), ("u", lambda x: x * 2), ("v", lambda x: x * 2 - 1),
        ("w", lambda x: x * 2 + 1),
    ):  # fmt: skip
        _define_polynomial(f"{_prefix}_polynomial_{_letter}", _start, _chebyshev_step, _shift)
_define_polynomial(
    "hermite_polynomial_h", lambda x: x * 2, lambda k, x, p, q: x * 2 * p - q * (2 * k)
)
_define_polynomial("hermite_polynomial_he", lambda x: x, lambda k, x, p, q: x * p - q * k)
_define_polynomial(
    "laguerre_polynomial_l", lambda x: 1 - x,
    lambda k, x, p, q: ((2 * k + 1 - x) * p - q * k) / (k + 1),
)  # fmt: skip
_define_polynomial(
    "legendre_polynomial_p", lambda x: x,
    lambda k, x, p, q: (x * (2 * k + 1) * p - q * k) / (k + 1),
)  # fmt: skip

# --- the same functions under special's names ------------------------------------------------

for _name, _of in {
    "digamma": "digamma", "psi": "digamma", "erf": "erf", "erfc": "erfc", "erfinv": "erfinv",
    "exp2": "exp2", "expit": "sigmoid", "expm1": "expm1", "gammaln": "lgamma", "log1p": "log1p",
    "logit": "logit", "logsumexp": "logsumexp", "multigammaln": "mvlgamma", "round": "round",
    "polygamma": "polygamma", "sinc": "sinc", "softmax": "softmax", "log_softmax": "log_softmax",
    "xlogy": "xlogy",
}.items():  # fmt: skip
    SPECIAL[_name] = FUNCTIONS[_of]
SPECIAL["modified_bessel_i0"], SPECIAL["modified_bessel_i1"] = SPECIAL["i0"], SPECIAL["i1"]
