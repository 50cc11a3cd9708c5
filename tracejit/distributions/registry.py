"""``biject_to(constraint)``, ``transform_to(constraint)``: a map from all reals to a constraint.

Invariant: `biject_to` gives bijections; `transform_to` may give maps that are easier to optimise
through (softmax in the place of stick breaking).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.distributions.constraints import Constraint
from tracejit.distributions.shape_transforms import (
    CatTransform,
    CorrCholeskyTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    SoftmaxTransform,
    StackTransform,
    StickBreakingTransform,
)
from tracejit.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    SigmoidTransform,
    Transform,
    identity_transform,
)
from tracejit.errors import at_user_line

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]

Factory = Callable[[Any], Transform]


def _from(lower: Any) -> Transform:
    return ComposeTransform([ExpTransform(), AffineTransform(lower, 1)])


def _between(constraint: Constraint) -> Transform:
    lower, upper = constraint.bounds
    if isinstance(lower, (int, float)) and isinstance(upper, (int, float)) and (
        lower == 0 and upper == 1
    ):  # fmt: skip
        return SigmoidTransform()
    return ComposeTransform([SigmoidTransform(), AffineTransform(lower, upper - lower)])


def _above(constraint: Constraint) -> Transform:
    (lower,) = constraint.bounds
    is_zero = isinstance(lower, (int, float)) and lower == 0
    return ExpTransform() if is_zero else _from(lower)


class ConstraintRegistry:
    """Transforms by kind of constraint; calling it with a constraint makes the transform."""

    def __init__(self, simplex: type[Transform]) -> None:
        self._makers: dict[str, Factory] = {
            "real": lambda c: identity_transform,
            "greater_than": _above, "greater_than_eq": _above,
            "less_than": lambda c: ComposeTransform(
                [ExpTransform(), AffineTransform(c.bounds[0], -1)]),
            "interval": _between, "half_open_interval": _between,
            "simplex": lambda c: simplex(),
            "lower_cholesky": lambda c: LowerCholeskyTransform(),
            "positive_definite": lambda c: PositiveDefiniteTransform(),
            "positive_semidefinite": lambda c: PositiveDefiniteTransform(),
            "corr_cholesky": lambda c: CorrCholeskyTransform(),
            "independent": lambda c: IndependentTransform(self(c.parts[0]), c.bounds[0]),
            "cat": lambda c: CatTransform([self(p) for p in c.parts], *c.bounds),
            "stack": lambda c: StackTransform([self(p) for p in c.parts], *c.bounds),
        }  # fmt: skip

    def register(self, constraint: Any, factory: Factory | None = None) -> Any:
        """Use `factory` (also as a decorator) for constraints of this one's kind."""
        if factory is None:
            return lambda made: self.register(constraint, made)
        self._makers[constraint.kind] = factory
        return factory

    def __call__(self, constraint: Constraint) -> Transform:
        try:
            make = self._makers[constraint.kind]
        except KeyError:
            raise NotImplementedError(
                at_user_line(f"Cannot transform {constraint} constraints; use .register()")
            ) from None
        return make(constraint)


biject_to = ConstraintRegistry(StickBreakingTransform)
transform_to = ConstraintRegistry(SoftmaxTransform)
