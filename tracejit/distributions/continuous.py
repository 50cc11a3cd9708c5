"""Continuous distributions: normal (one number, or vectors), uniform, Laplace, exponential, Gumbel.

Invariant: a draw is a differentiable function of the parameters and of one draw from the generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit.distributions import constraints
from tracejit.distributions.distribution import Distribution, Parameters, broadcast_all, check_all
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line

__all__ = ["Exponential", "Gumbel", "Laplace", "MultivariateNormal", "Normal", "Uniform"]

EULER = 0.57721566490153286061


class LocationScale(Distribution):
    """A base of distributions with a location `loc` and a positive `scale`."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    def _uniform(self, sample_shape: Sequence[Any]) -> Any:
        """Uniform numbers in [0, 1) of the shape of the draws."""
        return FUNCTIONS["rand"](self._extended(sample_shape), dtype=self.loc.dtype)


class Normal(LocationScale):
    """The normal distribution with mean `loc` and standard deviation `scale`.

    Example: ``Normal(0.0, 1.0).log_prob(tensor(0.0))`` is -0.5 log(2 pi).
    """

    @property
    def variance(self) -> Any:
        return self.scale.pow(2)

    @property
    def stddev(self) -> Any:
        return self.scale

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        noise = FUNCTIONS["randn"](self._extended(sample_shape), dtype=self.loc.dtype)
        return self.loc + noise * self.scale

    def log_prob(self, value: Any) -> Any:
        z = (value - self.loc) / self.scale
        return -0.5 * z * z - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Any) -> Any:
        return 0.5 * (1 + ((value - self.loc) / (self.scale * math.sqrt(2))).erf())

    def icdf(self, value: Any) -> Any:
        return self.loc + self.scale * (2 * value - 1).erfinv() * math.sqrt(2)

    def entropy(self) -> Any:
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()


class Laplace(LocationScale):
    """The Laplace distribution, density ``exp(-|x - loc| / scale) / (2 scale)``."""

    @property
    def variance(self) -> Any:
        return 2 * self.scale.pow(2)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        u = self._uniform(sample_shape) - 0.5
        return self.loc - self.scale * u.sign() * (-2 * u.abs()).clamp(min=-1 + 1e-7).log1p()

    def log_prob(self, value: Any) -> Any:
        return -(2 * self.scale).log() - (value - self.loc).abs() / self.scale

    def cdf(self, value: Any) -> Any:
        off = value - self.loc
        return 0.5 - 0.5 * off.sign() * (-off.abs() / self.scale).expm1()

    def icdf(self, value: Any) -> Any:
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()

    def entropy(self) -> Any:
        return 1 + (2 * self.scale).log()


class Gumbel(LocationScale):
    """The Gumbel distribution of maxima."""

    @property
    def mean(self) -> Any:
        return self.loc + self.scale * EULER

    @property
    def variance(self) -> Any:
        return (math.pi**2 / 6) * self.scale.pow(2)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        u = self._uniform(sample_shape).clamp(min=1e-20, max=1 - 1e-7)
        return self.loc - self.scale * (-(u.log())).log()

    def log_prob(self, value: Any) -> Any:
        z = (self.loc - value) / self.scale
        return z - z.exp() - self.scale.log()

    def cdf(self, value: Any) -> Any:
        return (-((self.loc - value) / self.scale).exp()).exp()

    def icdf(self, value: Any) -> Any:
        return self.loc - self.scale * (-(value.log())).log()

    def entropy(self) -> Any:
        return self.scale.log() + (1 + EULER)


class Uniform(Distribution):
    """Uniform on ``[low, high)``."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "low": constraints.dependent,
        "high": constraints.dependent,
    }

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, (), validate_args)
        if self._validate_args:
            check_all(self.low < self.high, "Uniform is not defined when low>= high")

    @property
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Any:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Any:
        return FUNCTIONS["full_like"](self.low, math.nan)

    @property
    def variance(self) -> Any:
        return (self.high - self.low).pow(2) / 12

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        u = FUNCTIONS["rand"](self._extended(sample_shape), dtype=self.low.dtype)
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        inside = ((self.low <= value) & (self.high > value)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def cdf(self, value: Any) -> Any:
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Any:
        return (self.high - self.low).log()


class Exponential(Distribution):
    """The exponential distribution, density ``rate exp(-rate x)``."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {"rate": constraints.positive}
    support = constraints.nonnegative

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return self.rate.reciprocal()

    @property
    def mode(self) -> Any:
        return FUNCTIONS["zeros_like"](self.rate)

    @property
    def variance(self) -> Any:
        return self.rate.pow(-2)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        u = FUNCTIONS["rand"](self._extended(sample_shape), dtype=self.rate.dtype)
        return -(-u).log1p() / self.rate

    def log_prob(self, value: Any) -> Any:
        return self.rate.log() - self.rate * value

    def cdf(self, value: Any) -> Any:
        return 1 - (-self.rate * value).exp()

    def icdf(self, value: Any) -> Any:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Any:
        return 1 - self.rate.log()


class MultivariateNormal(Distribution):
    """Normal vectors with mean `loc` and one of: covariance, precision, its Cholesky factor.

    loc  ``[..., n]``; matrices ``[..., n, n]``. Raises ValueError unless exactly one is given.
    """

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector

    def __init__(
        self, loc: Any, covariance_matrix: Any = None, precision_matrix: Any = None,
        scale_tril: Any = None, validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        given = [m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None]
        if len(given) != 1:
            raise ValueError(
                at_user_line(
                    "exactly one of covariance_matrix, precision_matrix or scale_tril "
                    "may be specified"
                )
            )
        if precision_matrix is not None:
            covariance_matrix = precision_matrix.inverse()
        if scale_tril is None:
            scale_tril = FUNCTIONS["cholesky"](covariance_matrix)
        batch = FUNCTIONS["broadcast_shapes"](loc.shape[:-1], scale_tril.shape[:-2])
        self.loc = loc.expand(*batch, loc.shape[-1])
        self.scale_tril = scale_tril.expand(*batch, *scale_tril.shape[-2:])
        super().__init__(batch, loc.shape[-1:], validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def covariance_matrix(self) -> Any:
        """``L L^T``."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance."""
        inverse = self.scale_tril.inverse()
        return inverse.mT @ inverse

    @property
    def variance(self) -> Any:
        return self.scale_tril.pow(2).sum(-1)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        noise = FUNCTIONS["randn"](self._extended(sample_shape), dtype=self.loc.dtype)
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def _log_scale(self) -> Any:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        difference = (value - self.loc).unsqueeze(-1)
        z = (self.scale_tril.inverse() @ difference).squeeze(-1)
        size = self.loc.shape[-1]
        return -0.5 * (size * math.log(2 * math.pi) + z.pow(2).sum(-1)) - self._log_scale()

    def entropy(self) -> Any:
        return 0.5 * self.loc.shape[-1] * (1 + math.log(2 * math.pi)) + self._log_scale()
