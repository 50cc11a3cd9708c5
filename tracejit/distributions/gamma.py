"""The gamma family: gamma and its inverse, chi-squared, beta, Dirichlet, Fisher, Student's t.

Invariant: draws are made of gamma variables (`ops.sampling`), whose gradients by the concentration
are those of a fixed quantile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit import dtypes
from tracejit.distributions import constraints
from tracejit.distributions.continuous import LocationScale
from tracejit.distributions.distribution import Distribution, Parameters, broadcast_all
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.random import draw_from

__all__ = [
    "Beta", "Chi2", "Dirichlet", "ExponentialFamily", "FisherSnedecor", "Gamma", "InverseGamma",
    "StudentT", "standard_gamma",
]  # fmt: skip


def standard_gamma(concentration: Any) -> Any:
    """One gamma variable of rate 1 for each element of `concentration`."""
    return draw_from("random_gamma", concentration)


def _where(condition: Any, value: Any, other: float) -> Any:
    """`value`, or a number where `condition` does not hold."""
    return value.masked_fill(~condition, other)


class ExponentialFamily(Distribution):
    """A base class to recognise exponential families by; their formulas are written out here."""


class Gamma(ExponentialFamily):
    """The gamma distribution, density ``rate^a x^(a - 1) exp(-rate x) / gamma(a)``."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.nonnegative

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def mode(self) -> Any:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate.pow(2)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        drawn = standard_gamma(self.concentration.expand(self._extended(sample_shape)))
        return drawn / self.rate

    def log_prob(self, value: Any) -> Any:
        a, rate = self.concentration, self.rate
        return FUNCTIONS["xlogy"](a, rate) + FUNCTIONS["xlogy"](a - 1, value) - rate * value - (
            a.lgamma())  # fmt: skip

    def cdf(self, value: Any) -> Any:
        return FUNCTIONS["igamma"](*broadcast_all(self.concentration, self.rate * value))

    def entropy(self) -> Any:
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1 - a) * a.digamma()


class Chi2(Gamma):
    """The chi-squared distribution of `df` degrees of freedom."""

    arg_constraints: ClassVar[Parameters] = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        super().__init__(0.5 * df, 0.5, validate_args)

    @property
    def df(self) -> Any:
        """Degrees of freedom."""
        return self.concentration * 2


class InverseGamma(Distribution):
    """The reciprocal of a gamma variable."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = Gamma.arg_constraints
    support = constraints.positive

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self._gamma = Gamma(concentration, rate, validate_args=False)
        self.concentration, self.rate = self._gamma.concentration, self._gamma.rate
        super().__init__(self._gamma.batch_shape, (), validate_args)

    @property
    def mean(self) -> Any:
        a = self.concentration
        return _where(a > 1, self.rate / (a - 1), math.inf)

    @property
    def mode(self) -> Any:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Any:
        a = self.concentration
        return _where(a > 2, self.rate.square() / ((a - 1).square() * (a - 2)), math.inf)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        return self._gamma.rsample(sample_shape).reciprocal()

    def log_prob(self, value: Any) -> Any:
        return self._gamma.log_prob(value.reciprocal()) - 2 * value.log()

    def cdf(self, value: Any) -> Any:
        return 1 - self._gamma.cdf(value.reciprocal())

    def entropy(self) -> Any:
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()


class Dirichlet(ExponentialFamily):
    """Probability vectors with density proportional to the product of ``x_i^(a_i - 1)``."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "concentration": constraints.independent(constraints.positive, 1)
    }
    support = constraints.simplex

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError(
                at_user_line("`concentration` parameter must be at least one-dimensional.")
            )
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Any:
        most = (self.concentration - 1).clamp(min=0)
        mode = most / most.sum(-1, True)
        none = (self.concentration < 1).all(-1, True)  # then a corner is the most probable
        corner = F.one_hot(self.concentration.argmax(-1), self._event_shape[0])
        return FUNCTIONS["where"](none, corner.to(mode.dtype), mode)

    @property
    def variance(self) -> Any:
        total = self.concentration.sum(-1, True)
        rest = total - self.concentration
        return self.concentration * rest / (total.pow(2) * (total + 1))

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        drawn = standard_gamma(self.concentration.expand(self._extended(sample_shape)))
        share = drawn / drawn.sum(-1, True)
        return share.clamp(min=dtypes.finfo(share.dtype).tiny)

    def log_prob(self, value: Any) -> Any:
        a = self.concentration
        power = FUNCTIONS["xlogy"](a - 1.0, value).sum(-1)
        return power + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    def entropy(self) -> Any:
        a, k = self.concentration, self.concentration.shape[-1]
        total = a.sum(-1)
        return (a.lgamma().sum(-1) - total.lgamma() - (k - total) * total.digamma()
                - ((a - 1.0) * a.digamma()).sum(-1))  # fmt: skip


class Beta(ExponentialFamily):
    """The beta distribution, density proportional to ``x^(a - 1) (1 - x)^(b - 1)``.

    concentration1  a; concentration0  b.
    """

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        both = FUNCTIONS["stack"](list(broadcast_all(concentration1, concentration0)), -1)
        self._dirichlet = Dirichlet(both, validate_args=False)
        super().__init__(self._dirichlet.batch_shape, (), validate_args)

    @property
    def concentration1(self) -> Any:
        """The power of x, plus one."""
        return self._dirichlet.concentration[..., 0]

    @property
    def concentration0(self) -> Any:
        """The power of 1 - x, plus one."""
        return self._dirichlet.concentration[..., 1]

    @property
    def mean(self) -> Any:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Any:
        return self._dirichlet.mode[..., 0]

    @property
    def variance(self) -> Any:
        a, b = self.concentration1, self.concentration0
        return a * b / ((a + b).pow(2) * (a + b + 1))

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        return self._dirichlet.rsample(sample_shape)[..., 0]

    def log_prob(self, value: Any) -> Any:
        return self._dirichlet.log_prob(FUNCTIONS["stack"]([value, 1.0 - value], -1))

    def entropy(self) -> Any:
        return self._dirichlet.entropy()


class FisherSnedecor(Distribution):
    """The ratio of two chi-squared variables, each divided by its degrees of freedom."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "df1": constraints.positive,
        "df2": constraints.positive,
    }
    support = constraints.positive

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        super().__init__(self.df1.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return _where(self.df2 > 2, self.df2 / (self.df2 - 2), math.nan)

    @property
    def mode(self) -> Any:
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return _where(self.df1 > 2, mode, math.nan)

    @property
    def variance(self) -> Any:
        a, b = self.df1, self.df2
        spread = 2 * b.square() * (a + b - 2) / (a * (b - 2).square() * (b - 4))
        return _where(b > 4, spread, math.nan)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        shape = self._extended(sample_shape)
        tiny = dtypes.finfo(self.df1.dtype).tiny
        upper, lower = (standard_gamma((df * 0.5).expand(shape)) / df for df in
                        (self.df1, self.df2))  # fmt: skip
        return (upper / lower.clamp(min=tiny)).clamp(min=tiny)

    def log_prob(self, value: Any) -> Any:
        a, b = self.df1 * 0.5, self.df2 * 0.5
        ratio = self.df1 / self.df2
        start = (a + b).lgamma() - a.lgamma() - b.lgamma()
        return (start + a * ratio.log() + (a - 1) * value.log()
                - (a + b) * (ratio * value).log1p())  # fmt: skip


class StudentT(LocationScale):
    """Student's t distribution of `df` degrees of freedom, moved by `loc` and scaled."""

    arg_constraints: ClassVar[Parameters] = {
        "df": constraints.positive,
        **LocationScale.arg_constraints,
    }

    def __init__(
        self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        self.df, loc, scale = broadcast_all(df, loc, scale)
        super().__init__(loc, scale, validate_args)

    @property
    def mean(self) -> Any:
        return _where(self.df > 1, self.loc, math.nan)

    @property
    def variance(self) -> Any:
        df = self.df
        finite = _where(df > 2, self.scale.pow(2) * df / (df - 2), math.inf)
        return _where(df > 1, finite, math.nan)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        shape = self._extended(sample_shape)
        normal = FUNCTIONS["randn"](shape, dtype=self.loc.dtype)
        chi2 = 2 * standard_gamma((self.df * 0.5).expand(shape))
        return self.loc + self.scale * (normal * (chi2 / self.df).rsqrt())

    def _log_normaliser(self) -> Any:
        half = 0.5 * self.df
        return (self.scale.log() + 0.5 * self.df.log() + 0.5 * math.log(math.pi)
                + half.lgamma() - (half + 0.5).lgamma())  # fmt: skip

    def log_prob(self, value: Any) -> Any:
        y = (value - self.loc) / self.scale
        return -0.5 * (self.df + 1.0) * (y**2.0 / self.df).log1p() - self._log_normaliser()

    def entropy(self) -> Any:
        a, b = 0.5 * (self.df + 1), 0.5 * self.df
        log_beta = b.lgamma() + math.lgamma(0.5) - a.lgamma()
        return (self.scale.log() + a * (a.digamma() - b.digamma()) + 0.5 * self.df.log()
                + log_beta)  # fmt: skip
