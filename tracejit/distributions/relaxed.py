"""Continuous relaxations of discrete distributions, and mixtures.

Sources: Maddison, Mnih, Teh, "The concrete distribution" (2017); Jang et al., "Gumbel-softmax"
(2017). Invariant: `temperature` is a tensor or number, never changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit.distributions import constraints
from tracejit.distributions.continuous import Normal
from tracejit.distributions.discrete import Binary, Categorical, clamped
from tracejit.distributions.distribution import Distribution, Parameters
from tracejit.distributions.shape_transforms import StickBreakingTransform
from tracejit.distributions.transforms import (
    ExpTransform,
    SigmoidTransform,
    TransformedDistribution,
)
from tracejit.eager.modes import no_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn import functional as F

__all__ = [
    "ExpRelaxedCategorical", "LogisticNormal", "LogitRelaxedBernoulli", "MixtureSameFamily",
    "RelaxedBernoulli", "RelaxedOneHotCategorical",
]  # fmt: skip


def _log(value: Any) -> Any:
    """The logarithm of a temperature."""
    return math.log(value) if isinstance(value, (int, float)) else value.log()


class LogitRelaxedBernoulli(Binary):
    """The logit of a relaxed Bernoulli variable."""

    has_rsample = True
    support = constraints.real

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self.temperature = temperature
        super().__init__(probs, logits, validate_args)

    def _parameters(self) -> dict[str, Any]:
        return {"temperature": self.temperature, **super()._parameters()}

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        shape = self._extended(sample_shape)
        p = clamped(self.probs.expand(shape))
        u = clamped(FUNCTIONS["rand"](shape, dtype=p.dtype))
        return (u.log() - (-u).log1p() + p.log() - (-p).log1p()) / self.temperature

    def log_prob(self, value: Any) -> Any:
        off = self.logits - value * self.temperature
        return _log(self.temperature) + off - 2 * off.exp().log1p()


class RelaxedBernoulli(TransformedDistribution):
    """Numbers in (0, 1) that tend to Bernoulli variables as `temperature` goes to 0."""

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args)

    @property
    def temperature(self) -> Any:
        """How far from discrete."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Any:
        """``log(p / (1 - p))``."""
        return self.base_dist.logits

    @property
    def probs(self) -> Any:
        """The probability."""
        return self.base_dist.probs


class ExpRelaxedCategorical(Distribution):
    """The logarithm of a relaxed one-hot variable."""

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    support = constraints.real_vector

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self.temperature = temperature
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        size = self._categorical._num_events
        super().__init__(self._categorical.batch_shape, (size,), validate_args)

    def _is_given(self, name: str) -> bool:
        return self._categorical._is_given(name)

    def _parameters(self) -> dict[str, Any]:
        return {"temperature": self.temperature, **super()._parameters()}

    @property
    def probs(self) -> Any:
        """Probabilities, summing to 1."""
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        """Logarithms of the probabilities."""
        return self._categorical.logits

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        u = clamped(FUNCTIONS["rand"](self._extended(sample_shape), dtype=self.logits.dtype))
        scores = (self.logits - (-(u.log())).log()) / self.temperature
        return scores - scores.logsumexp(-1, keepdim=True)

    def log_prob(self, value: Any) -> Any:
        k = self._event_shape[0]
        logits, value = FUNCTIONS["broadcast_tensors"](self.logits, value)
        scale = math.lgamma(k) + _log(self.temperature) * (k - 1)
        score = logits - value * self.temperature
        return (score - score.logsumexp(-1, keepdim=True)).sum(-1) + scale


class RelaxedOneHotCategorical(TransformedDistribution):
    """Probability vectors that tend to one-hot ones as `temperature` goes to 0."""

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args)

    support = constraints.simplex

    @property
    def temperature(self) -> Any:
        """How far from one-hot."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Any:
        """Logarithms of the probabilities."""
        return self.base_dist.logits

    @property
    def probs(self) -> Any:
        """Probabilities, summing to 1."""
        return self.base_dist.probs


class LogisticNormal(TransformedDistribution):
    """Normal vectors mapped to the simplex by stick breaking (one more element)."""

    support = constraints.simplex

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        if not base.batch_shape:
            base = base.expand((1,))
        super().__init__(base, StickBreakingTransform(), validate_args)

    @property
    def loc(self) -> Any:
        """The mean before stick breaking."""
        return self.base_dist.loc

    @property
    def scale(self) -> Any:
        """The deviation before stick breaking."""
        return self.base_dist.scale


class MixtureSameFamily(Distribution):
    """A mixture: `mixture_distribution` picks one along the last batch dimension of components.

    Example: ``MixtureSameFamily(Categorical(weights), Normal(means, stds))``.
    """

    def __init__(
        self, mixture_distribution: Categorical, component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        mixture, component = mixture_distribution, component_distribution
        if not isinstance(mixture, Categorical):
            raise ValueError(
                at_user_line("The Mixture distribution needs to be an instance of Categorical")
            )
        if not isinstance(component, Distribution):
            raise ValueError(
                at_user_line("The Component distribution need to be an instance of Distribution")
            )
        if mixture._num_events != component.batch_shape[-1]:
            raise ValueError(
                at_user_line(
                    "`mixture_distribution` and `component_distribution` differ in their "
                    "number of components"
                )
            )
        self._mixture, self._component = mixture, component
        super().__init__(component.batch_shape[:-1], component.event_shape, validate_args)

    @property
    def mixture_distribution(self) -> Categorical:
        """Which component is drawn."""
        return self._mixture

    @property
    def component_distribution(self) -> Distribution:
        """The components, along the last batch dimension."""
        return self._component

    @property
    def support(self) -> Any:
        return self._component.support

    def _check_value(self, value: Any, method: str) -> None:
        """The components check it."""

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        component = self._component.expand((*batch_shape, self._mixture._num_events))
        mixture = self._mixture.expand(tuple(batch_shape))
        return MixtureSameFamily(mixture, component, validate_args=False)

    def _weights(self) -> Any:
        return self._mixture.probs.reshape(*self._mixture.probs.shape, *(1,) * self._rank)

    @property
    def _rank(self) -> int:
        return len(self._event_shape)

    @property
    def mean(self) -> Any:
        return (self._weights() * self._component.mean).sum(-1 - self._rank)

    @property
    def variance(self) -> Any:
        p, dim = self._weights(), -1 - self._rank
        within = (p * self._component.variance).sum(dim)
        off = self._component.mean - self.mean.unsqueeze(dim)
        return within + (p * off.pow(2)).sum(dim)

    def _padded(self, value: Any) -> Any:
        return value.unsqueeze(-1 - self._rank)

    def log_prob(self, value: Any) -> Any:
        each = self._component.log_prob(self._padded(value))
        return (each + F.log_softmax(self._mixture.logits, -1)).logsumexp(-1)

    def cdf(self, value: Any) -> Any:
        each = self._component.cdf(self._padded(value))
        return (each * self._mixture.probs).sum(-1)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            dim = len(sample_shape) + len(self._batch_shape)
            chosen = self._mixture.sample(sample_shape)
            index = chosen.reshape(*chosen.shape, *(1,) * (self._rank + 1))
            drawn = self._component.sample(sample_shape)
            index = index.expand(*chosen.shape, 1, *self._event_shape)
            return drawn.gather(dim, index).squeeze(dim)
