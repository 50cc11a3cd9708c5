"""Distributions with a quantile in closed form, heavy-tailed or bounded; and von Mises.

Invariant: all but von Mises draw by their quantile, a differentiable function of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit.distributions import constraints
from tracejit.distributions.continuous import EULER, LocationScale, Normal
from tracejit.distributions.discrete import Binary, clamped
from tracejit.distributions.distribution import Distribution, Parameters, broadcast_all
from tracejit.eager.modes import no_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.eager.special import SPECIAL
from tracejit.nn import functional as F
from tracejit.random import draw_from

__all__ = [
    "Cauchy", "ContinuousBernoulli", "GeneralizedPareto", "HalfCauchy", "HalfNormal", "Kumaraswamy",
    "Pareto", "VonMises", "Weibull",
]  # fmt: skip


class _ByQuantile(Distribution):
    """A base that draws ``icdf(u)`` for uniform u, kept off 0 and 1."""

    has_rsample = True

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        like = next(v for v in self._parameters().values())
        u = FUNCTIONS["rand"](self._extended(sample_shape), dtype=like.dtype)
        return self._quantile(clamped(u))

    def _quantile(self, u: Any) -> Any:
        raise NotImplementedError

    def icdf(self, value: Any) -> Any:
        return self._quantile(value)


class Cauchy(LocationScale, _ByQuantile):
    """The Cauchy distribution, density ``1 / (pi scale (1 + z^2))``."""

    rsample = _ByQuantile.rsample

    @property
    def mean(self) -> Any:
        return FUNCTIONS["full_like"](self.loc, math.nan)

    @property
    def variance(self) -> Any:
        return FUNCTIONS["full_like"](self.loc, math.inf)

    def _quantile(self, u: Any) -> Any:
        return (math.pi * (u - 0.5)).tan() * self.scale + self.loc

    def log_prob(self, value: Any) -> Any:
        z = (value - self.loc) / self.scale
        return -math.log(math.pi) - self.scale.log() - (z**2).log1p()

    def cdf(self, value: Any) -> Any:
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def entropy(self) -> Any:
        return math.log(4 * math.pi) + self.scale.log()


class _Half(Distribution):
    """The absolute value of a symmetric distribution around 0."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {"scale": constraints.positive}
    support = constraints.nonnegative
    _whole: Any = None

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        self.base_dist = self._whole(0.0, scale, validate_args=False)
        super().__init__(self.base_dist.batch_shape, (), validate_args)

    @property
    def scale(self) -> Any:
        """The scale of the symmetric distribution."""
        return self.base_dist.scale

    @property
    def mode(self) -> Any:
        return FUNCTIONS["zeros_like"](self.scale)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        return self.base_dist.rsample(sample_shape).abs()

    def log_prob(self, value: Any) -> Any:
        inside = self.base_dist.log_prob(value) + math.log(2)
        return FUNCTIONS["where"](value >= 0, inside, -math.inf)

    def cdf(self, value: Any) -> Any:
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, value: Any) -> Any:
        return self.base_dist.icdf((value + 1) / 2)

    def entropy(self) -> Any:
        return self.base_dist.entropy() - math.log(2)


class HalfNormal(_Half):
    """The absolute value of a normal variable of mean 0 and deviation `scale`."""

    _whole = Normal

    @property
    def mean(self) -> Any:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Any:
        return self.scale.pow(2) * (1 - 2 / math.pi)


class HalfCauchy(_Half):
    """The absolute value of a Cauchy variable around 0."""

    _whole = Cauchy

    @property
    def mean(self) -> Any:
        return FUNCTIONS["full_like"](self.scale, math.inf)

    @property
    def variance(self) -> Any:
        return self.base_dist.variance


class Pareto(_ByQuantile):
    """The Pareto distribution: ``P(X > x) = (scale / x)^alpha`` for x above `scale`."""

    arg_constraints: ClassVar[Parameters] = {
        "scale": constraints.positive,
        "alpha": constraints.positive,
    }

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Any:
        a = self.alpha.clamp(min=1)  # infinite for alpha <= 1
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        a = self.alpha.clamp(min=2)  # infinite for alpha <= 2
        return self.scale.pow(2) * a / ((a - 1).pow(2) * (a - 2))

    def _quantile(self, u: Any) -> Any:
        return self.scale * (-(-u).log1p() / self.alpha).exp()

    def log_prob(self, value: Any) -> Any:
        return self.alpha.log() + self.alpha * self.scale.log() - (self.alpha + 1) * value.log()

    def cdf(self, value: Any) -> Any:
        return 1 - (self.scale / value).pow(self.alpha)

    def entropy(self) -> Any:
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class GeneralizedPareto(_ByQuantile):
    """Excesses over a threshold `loc`: ``P(X > x) = (1 + concentration z)^(-1/concentration)``."""

    arg_constraints: ClassVar[Parameters] = {
        "loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real,
    }  # fmt: skip

    def __init__(
        self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def support(self) -> Any:
        bounded = self.concentration < 0
        top = self.loc - self.scale / self.concentration
        return constraints.interval(self.loc, top.masked_fill(~bounded, math.inf))

    @property
    def mean(self) -> Any:
        c = self.concentration
        return (self.loc + self.scale / (1 - c)).masked_fill(c >= 1, math.inf)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        c = self.concentration
        return (self.scale**2 / ((1 - c) ** 2 * (1 - 2 * c))).masked_fill(c >= 0.5, math.inf)

    def _pieces(self) -> tuple[Any, Any]:
        """Where the concentration is (nearly) zero, and the concentration with 1 there."""
        zero = self.concentration.abs() < 1e-7
        return zero, self.concentration.masked_fill(zero, 1.0)

    def _log_survival(self, z: Any) -> Any:
        zero, safe = self._pieces()
        return FUNCTIONS["where"](zero, -z, -(safe * z).log1p() / safe)

    def _quantile(self, u: Any) -> Any:
        zero, safe = self._pieces()
        survival = (-u).log1p()
        z = FUNCTIONS["where"](zero, -survival, (-safe * survival).expm1() / safe)
        return self.loc + self.scale * z

    def log_prob(self, value: Any) -> Any:
        z = (value - self.loc) / self.scale
        zero, safe = self._pieces()
        slope = FUNCTIONS["where"](zero, -z, -(1 + 1 / safe) * (safe * z).log1p())
        outside = (z < 0) | ((self.concentration < 0) & (z > -1 / safe))
        return (slope - self.scale.log()).masked_fill(outside, -math.inf)

    def cdf(self, value: Any) -> Any:
        return -self._log_survival((value - self.loc) / self.scale).expm1()

    def entropy(self) -> Any:
        return self.scale.log() + self.concentration + 1


class Weibull(_ByQuantile):
    """The Weibull distribution: ``P(X > x) = exp(-(x / scale)^concentration)``."""

    arg_constraints: ClassVar[Parameters] = {
        "scale": constraints.positive,
        "concentration": constraints.positive,
    }
    support = constraints.positive

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return self.scale * (1 + self.concentration.reciprocal()).lgamma().exp()

    @property
    def mode(self) -> Any:
        inner = (self.concentration - 1) / self.concentration
        return self.scale * inner.clamp(min=0) ** self.concentration.reciprocal()

    @property
    def variance(self) -> Any:
        r = self.concentration.reciprocal()
        return self.scale.pow(2) * ((1 + 2 * r).lgamma().exp() - (2 * (1 + r).lgamma()).exp())

    def _quantile(self, u: Any) -> Any:
        return self.scale * (-(-u).log1p()) ** self.concentration.reciprocal()

    def log_prob(self, value: Any) -> Any:
        z = value / self.scale
        k = self.concentration
        return (k / self.scale).log() + (k - 1) * z.log() - z**k

    def cdf(self, value: Any) -> Any:
        return -(-((value / self.scale) ** self.concentration)).expm1()

    def entropy(self) -> Any:
        k = self.concentration
        return EULER * (1 - k.reciprocal()) + (self.scale / k).log() + 1


class Kumaraswamy(_ByQuantile):
    """The Kumaraswamy distribution: ``P(X <= x) = 1 - (1 - x^a)^b`` on (0, 1).

    concentration1  a; concentration0  b.
    """

    arg_constraints: ClassVar[Parameters] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration0.shape, (), validate_args)

    def _moment(self, n: int) -> Any:
        """E[X^n] = b B(1 + n / a, b)."""
        a, b = self.concentration1, self.concentration0
        c = 1 + n / a
        return (b.log() + c.lgamma() + b.lgamma() - (c + b).lgamma()).exp()

    @property
    def mean(self) -> Any:
        return self._moment(1)

    @property
    def mode(self) -> Any:
        a, b = self.concentration1, self.concentration0
        log = a.reciprocal() * ((-b).log1p() - (-a * b).log1p())
        return log.exp().masked_fill((a < 1) | (b < 1), math.nan)

    @property
    def variance(self) -> Any:
        return self._moment(2) - self._moment(1).pow(2)

    def _quantile(self, u: Any) -> Any:
        a, b = self.concentration1, self.concentration0
        return (1 - (1 - u) ** b.reciprocal()) ** a.reciprocal()

    def log_prob(self, value: Any) -> Any:
        a, b = self.concentration1, self.concentration0
        return a.log() + b.log() + (a - 1) * value.log() + (b - 1) * (-(value**a)).log1p()

    def cdf(self, value: Any) -> Any:
        return 1 - (1 - value**self.concentration1) ** self.concentration0

    def entropy(self) -> Any:
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1).digamma() + EULER
        return 1 - b.reciprocal() + (1 - a.reciprocal()) * harmonic - a.log() - b.log()


class ContinuousBernoulli(Binary):
    """Density proportional to ``p^x (1 - p)^(1 - x)`` on [0, 1] (Loaiza-Ganem, Cunningham, 2019).

    lims  where the formulas give way to Taylor expansions around p = 1/2.
    """

    has_rsample = True
    support = constraints.unit_interval

    def __init__(
        self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self._lims = lims
        super().__init__(probs, logits, validate_args)
        if self._probs is not None:
            self._probs = clamped(self._probs)

    def _split(self) -> tuple[Any, Any, Any]:
        """Where p is away from 1/2, p with another value where it is not, and p - 1/2."""
        p = self.probs
        away = (p <= self._lims[0]) | (p > self._lims[1])
        return away, p.masked_fill(~away, self._lims[0]), p - 0.5

    def _log_norm(self) -> Any:
        away, p, off = self._split()
        exact = ((-p).log1p() - p.log()).abs().log() - (1 - 2 * p).abs().log()
        near = math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * off**2) * off**2
        return FUNCTIONS["where"](away, exact, near)

    @property
    def mean(self) -> Any:
        away, p, off = self._split()
        exact = p / (2.0 * p - 1.0) + 1.0 / ((-p).log1p() - p.log())
        return FUNCTIONS["where"](away, exact, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * off**2) * off)

    @property
    def variance(self) -> Any:
        away, p, off = self._split()
        exact = p * (p - 1.0) / (1.0 - 2.0 * p) ** 2 + 1.0 / ((-p).log1p() - p.log()) ** 2
        square = off**2
        near = 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * square) * square
        return FUNCTIONS["where"](away, exact, near)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        u = FUNCTIONS["rand"](self._extended(sample_shape), dtype=self.probs.dtype)
        return self._quantile(u)

    def _quantile(self, u: Any) -> Any:
        away, p, _ = self._split()
        q = 1 - p
        exact = ((-p + u * (2.0 * p - 1.0)).log1p() - q.log()) / (p.log() - q.log())
        return FUNCTIONS["where"](away, exact, u)

    def icdf(self, value: Any) -> Any:
        return self._quantile(value)

    def log_prob(self, value: Any) -> Any:
        logits = self.logits
        return value * logits - F.softplus(logits) + self._log_norm()

    def cdf(self, value: Any) -> Any:
        away, p, _ = self._split()
        exact = (p**value * (1.0 - p) ** (1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        found = FUNCTIONS["where"](away, exact, value)
        return found.masked_fill(value <= 0, 0.0).masked_fill(value >= 1, 1.0)

    def entropy(self) -> Any:
        low, high = (-self.probs).log1p(), self.probs.log()
        return self.mean * (low - high) - self._log_norm() - low


class VonMises(Distribution):
    """Angles around `loc`, density proportional to ``exp(concentration cos(x - loc))``."""

    arg_constraints: ClassVar[Parameters] = {
        "loc": constraints.real,
        "concentration": constraints.positive,
    }
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        """The circular variance ``1 - I1 / I0``."""
        k = self.concentration
        return 1 - SPECIAL["i1e"](k) / SPECIAL["i0e"](k)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            wide = self.concentration.double().expand(self._extended(sample_shape))
            angle = draw_from("random_von_mises", wide).to(self.loc.dtype) + self.loc
            return (angle + math.pi) % (2 * math.pi) - math.pi

    def log_prob(self, value: Any) -> Any:
        k = self.concentration
        return (k * ((value - self.loc).cos() - 1) - math.log(2 * math.pi)
                - SPECIAL["i0e"](k).log())  # fmt: skip
