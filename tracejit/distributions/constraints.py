"""``constraints``: what parameters and values must be, and tests of it.

Invariant: ``check(value)`` is a bool tensor, one element for each event of `event_dim` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.decompositions import LINALG
from tracejit.eager.register import FUNCTIONS

Check = Callable[[Any], Any]


class Constraint:
    """A set of values: `kind` names the family, `bounds` its numbers, `check` tests membership."""

    def __init__(
        self, kind: str, check: Check, event_dim: int = 0, is_discrete: bool = False,
        bounds: tuple[Any, ...] = (), parts: tuple[Constraint, ...] = (),
    ) -> None:  # fmt: skip
        self.kind, self._check = kind, check
        self.event_dim, self.is_discrete = event_dim, is_discrete
        self.bounds, self.parts = bounds, parts

    def check(self, value: Any) -> Any:
        """Whether each event of `value` belongs."""
        return self._check(value)

    def __repr__(self) -> str:
        inside = ", ".join(map(str, (*self.parts, *self.bounds)))
        return f"{self.kind}({inside})" if inside else self.kind


def _all(condition: Any, dims: int) -> Any:
    """`condition` over the last `dims` dimensions."""
    return condition.flatten(-dims).all(-1) if dims else condition


def _whole(value: Any) -> Any:
    return value % 1 == 0


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers above `lower_bound`."""
    return Constraint("greater_than", lambda v: v > lower_bound, bounds=(lower_bound,))


def greater_than_eq(lower_bound: Any) -> Constraint:
    """Numbers from `lower_bound` on."""
    return Constraint("greater_than_eq", lambda v: v >= lower_bound, bounds=(lower_bound,))


def less_than(upper_bound: Any) -> Constraint:
    """Numbers below `upper_bound`."""
    return Constraint("less_than", lambda v: v < upper_bound, bounds=(upper_bound,))


def interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers from `lower_bound` to `upper_bound`, both included."""
    return Constraint(
        "interval", lambda v: (v >= lower_bound) & (v <= upper_bound),
        bounds=(lower_bound, upper_bound),
    )  # fmt: skip


def half_open_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers from `lower_bound` to below `upper_bound`."""
    return Constraint(
        "half_open_interval", lambda v: (v >= lower_bound) & (v < upper_bound),
        bounds=(lower_bound, upper_bound),
    )  # fmt: skip


def integer_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Whole numbers from `lower_bound` to `upper_bound`."""
    return Constraint(
        "integer_interval", lambda v: _whole(v) & (v >= lower_bound) & (v <= upper_bound),
        is_discrete=True, bounds=(lower_bound, upper_bound),
    )  # fmt: skip


def integer_greater_than(lower_bound: Any) -> Constraint:
    """Whole numbers from `lower_bound` on (the name is torch's)."""
    return Constraint(
        "integer_greater_than", lambda v: _whole(v) & (v >= lower_bound), is_discrete=True,
        bounds=(lower_bound,),
    )  # fmt: skip


def multinomial(upper_bound: Any) -> Constraint:
    """Vectors of counts whose sum is at most `upper_bound`."""
    return Constraint(
        "multinomial", lambda v: (v >= 0).all(-1) & (v.sum(-1) <= upper_bound), 1, True,
        (upper_bound,),
    )  # fmt: skip


def independent(base_constraint: Constraint, reinterpreted_batch_ndims: int) -> Constraint:
    """`base_constraint` of all elements of the last dimensions."""
    base, count = base_constraint, reinterpreted_batch_ndims
    return Constraint(
        "independent", lambda v: _all(base.check(v), count), base.event_dim + count,
        base.is_discrete, (count,), (base,),
    )  # fmt: skip


def _slices(value: Any, dim: int, lengths: Sequence[int]) -> list[Any]:
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return [value.narrow(dim, a, n) for a, n in zip(starts, lengths, strict=True)]


def cat(cseq: Sequence[Constraint], dim: int = 0, lengths: Sequence[int] | None = None) -> Any:
    """Constraints of neighbouring slices along `dim`."""
    sizes = [1] * len(cseq) if lengths is None else list(lengths)

    def check(value: Any) -> Any:
        parts = zip(cseq, _slices(value, dim, sizes), strict=True)
        return FUNCTIONS["cat"]([c.check(v) for c, v in parts], dim)

    discrete = any(c.is_discrete for c in cseq)
    return Constraint("cat", check, max(c.event_dim for c in cseq), discrete, (dim, sizes),
                      tuple(cseq))  # fmt: skip


def stack(cseq: Sequence[Constraint], dim: int = 0) -> Constraint:
    """Constraints of the elements along `dim`."""

    def check(value: Any) -> Any:
        parts = [c.check(value.select(dim, i)) for i, c in enumerate(cseq)]
        return FUNCTIONS["stack"](parts, dim)

    most = max(c.event_dim for c in cseq)
    most += dim + most < 0
    return Constraint("stack", check, most, any(c.is_discrete for c in cseq), (dim,), tuple(cseq))


# --- matrices ------------------------------------------------------------------------------------


def _tolerance(value: Any) -> float:
    """How far a sum of `n` numbers may be off."""
    return float(dtypes.finfo(value.dtype).eps) * value.shape[-1] * 10


def _simplex(value: Any) -> Any:
    return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)


def _lower(value: Any) -> Any:
    return _all(value.tril() == value, 2)


def _positive_diagonal(value: Any) -> Any:
    return (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


def _corr_cholesky(value: Any) -> Any:
    unit = ((value.pow(2).sum(-1) - 1).abs() <= _tolerance(value)).all(-1)
    return _lower(value) & _positive_diagonal(value) & unit


def _symmetric(value: Any) -> Any:
    return _all((value - value.mT).abs() <= 1e-6, 2)


def _definite(value: Any) -> Any:
    return _symmetric(value) & (LINALG["cholesky_ex"](value)[1] == 0)


def _one_hot(value: Any) -> Any:
    return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


dependent = Constraint("dependent", lambda v: v == v)
boolean = Constraint("boolean", lambda v: (v == 0) | (v == 1), is_discrete=True)
one_hot = Constraint("one_hot", _one_hot, 1, True)
real = Constraint("real", lambda v: v == v)  # a NaN is none
real_vector = independent(real, 1)
positive = greater_than(0.0)
nonnegative = greater_than_eq(0.0)
unit_interval = interval(0.0, 1.0)
nonnegative_integer = integer_greater_than(0)
positive_integer = integer_greater_than(1)
simplex = Constraint("simplex", _simplex, 1)
lower_triangular = Constraint("lower_triangular", _lower, 2)
lower_cholesky = Constraint("lower_cholesky", lambda v: _lower(v) & _positive_diagonal(v), 2)
corr_cholesky = Constraint("corr_cholesky", _corr_cholesky, 2)
square = Constraint("square", lambda v: (v == v).flatten(-2).any(-1) | True, 2)
symmetric = Constraint("symmetric", _symmetric, 2)
positive_definite = Constraint("positive_definite", _definite, 2)
positive_semidefinite = Constraint(
    "positive_semidefinite",
    lambda v: _symmetric(v) & (LINALG["eigvalsh"](v) >= 0).all(-1), 2,
)  # fmt: skip


class dependent_property(property):
    """A property whose constraint depends on the other parameters, for a `Distribution`'s support.

    Example::

        class Above(Distribution):
            @constraints.dependent_property(is_discrete=False, event_dim=0)
            def support(self):
                return constraints.greater_than(self.low)
    """

    def __init__(self, fn: Any = None, *, is_discrete: Any = None, event_dim: Any = None) -> None:
        super().__init__(fn)
        self.is_discrete = is_discrete
        self.event_dim = event_dim

    def __call__(self, fn: Any) -> dependent_property:
        """The property over `fn`, for use as a decorator with arguments."""
        return dependent_property(fn, is_discrete=self.is_discrete, event_dim=self.event_dim)


def is_dependent(constraint: Constraint) -> bool:
    """Whether the constraint depends on other parameters and says nothing by itself."""
    return constraint.kind == "dependent"
