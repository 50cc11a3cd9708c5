"""Distributions of counts: Poisson, binomial, negative binomial, multinomial.

Invariant: draws are whole numbers in the dtype of the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit.distributions import constraints
from tracejit.distributions.discrete import Categorical, OneHotCategorical, clamped, one_of
from tracejit.distributions.distribution import Distribution, Parameters, broadcast_all
from tracejit.distributions.gamma import ExponentialFamily, standard_gamma
from tracejit.eager.modes import no_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.random import draw_from

__all__ = [
    "Binomial", "Multinomial", "NegativeBinomial", "OneHotCategoricalStraightThrough", "Poisson",
]  # fmt: skip


class Poisson(ExponentialFamily):
    """Counts of rate `rate`: ``P(k) = rate^k exp(-rate) / k!``."""

    arg_constraints: ClassVar[Parameters] = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Any:
        return self.rate

    @property
    def mode(self) -> Any:
        return self.rate.floor()

    @property
    def variance(self) -> Any:
        return self.rate

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            return draw_from("random_poisson", self.rate.expand(self._extended(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        return FUNCTIONS["xlogy"](value, self.rate) - self.rate - (value + 1).lgamma()


class _Trials(Distribution):
    """A number of trials `total_count`, each of probability `probs` (or `logits`)."""

    def __init__(
        self, total_count: Any, probs: Any, logits: Any, validate_args: bool | None
    ) -> None:
        one_of(probs, logits)
        given = probs if logits is None else logits
        self.total_count, wide = broadcast_all(total_count, given)
        self.total_count = self.total_count.to(wide.dtype)
        self._probs: Any = wide if logits is None else None
        self._logits: Any = None if logits is None else wide
        super().__init__(wide.shape, (), validate_args)

    @property
    def probs(self) -> Any:
        """The probability of a success."""
        return self._logits.sigmoid() if self._probs is None else self._probs

    @property
    def logits(self) -> Any:
        """``log(p / (1 - p))``."""
        if self._logits is not None:
            return self._logits
        p = clamped(self._probs)
        return p.log() - (-p).log1p()


class Binomial(_Trials):
    """Successes among `total_count` trials."""

    arg_constraints: ClassVar[Parameters] = {
        "total_count": constraints.nonnegative_integer,
        "probs": constraints.unit_interval, "logits": constraints.real,
    }  # fmt: skip
    has_enumerate_support = True

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(total_count, probs, logits, validate_args)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def mode(self) -> Any:
        most = ((self.total_count + 1) * self.probs).floor()
        return FUNCTIONS["minimum"](most, self.total_count)

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            shape = self._extended(sample_shape)
            counts = self.total_count.expand(shape)
            return draw_from("random_binomial", counts, self.probs.expand(shape))

    def log_prob(self, value: Any) -> Any:
        n, logits = self.total_count, self.logits
        ways = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        return ways + value * logits - n * F.softplus(logits)

    def enumerate_support(self, expand: bool = True) -> Any:
        count = int(self.total_count.max())
        if int(self.total_count.min()) != count:
            raise NotImplementedError(at_user_line("Inhomogeneous total count not supported by "
                                      "`enumerate_support`."))  # fmt: skip
        return self._enumerated(FUNCTIONS["arange"](1 + count, dtype=self.probs.dtype), expand)

    def entropy(self) -> Any:
        values = self.enumerate_support(False)
        log = self.log_prob(values)
        return -(log.exp() * log).sum(0)


class NegativeBinomial(_Trials):
    """Successes before the `total_count`-th failure."""

    arg_constraints: ClassVar[Parameters] = {
        "total_count": constraints.nonnegative,
        "probs": constraints.half_open_interval(0.0, 1.0), "logits": constraints.real,
    }  # fmt: skip
    support = constraints.nonnegative_integer

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(total_count, probs, logits, validate_args)

    @property
    def mean(self) -> Any:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Any:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Any:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            shape = self._extended(sample_shape)
            rate = standard_gamma(self.total_count.expand(shape)) * self.logits.exp()
            return draw_from("random_poisson", rate)

    def log_prob(self, value: Any) -> Any:
        n, logits = self.total_count, self.logits
        unnormalised = n * F.logsigmoid(-logits) + value * F.logsigmoid(logits)
        norm = -(n + value).lgamma() + (1.0 + value).lgamma() + n.lgamma()
        return unnormalised - norm.masked_fill(n + value == 0.0, 0.0)


class Multinomial(Distribution):
    """How often each category occurs in `total_count` independent draws."""

    arg_constraints: ClassVar[Parameters] = {
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(total_count, int):
            raise NotImplementedError(at_user_line("inhomogeneous total_count is not supported"))
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        size = self._categorical._num_events
        super().__init__(self._categorical.batch_shape, (size,), validate_args)

    def _is_given(self, name: str) -> bool:
        return name == "total_count" or self._categorical._is_given(name)

    def _parameters(self) -> dict[str, Any]:
        return {"total_count": self.total_count, **super()._parameters()}

    @property
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def probs(self) -> Any:
        """Probabilities, summing to 1."""
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        """Logarithms of the probabilities."""
        return self._categorical.logits

    @property
    def mean(self) -> Any:
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            drawn = self._categorical.sample((self.total_count, *sample_shape))
            return F.one_hot(drawn, self._event_shape[0]).sum(0).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Any:
        logits, value = FUNCTIONS["broadcast_tensors"](self.logits, value)
        ways = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        impossible = (value == 0) & (logits == -float("inf"))
        return ways + (logits.masked_fill(impossible, 0.0) * value).sum(-1)

    def entropy(self) -> Any:
        n = FUNCTIONS["tensor"](float(self.total_count), dtype=self.probs.dtype)
        counts = FUNCTIONS["arange"](1, self.total_count + 1, dtype=self.probs.dtype)
        counts = counts.reshape(-1, *(1,) * self.probs.dim())
        log = Binomial(self.total_count, self.probs, validate_args=False).log_prob(counts)
        weighted = (log.exp() * (counts + 1).lgamma()).sum((0, -1))
        return n * self._categorical.entropy() - (n + 1).lgamma() + weighted


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """One-hot draws whose gradient is that of the probabilities (Bengio et al., 2013)."""

    has_rsample = True

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        probs = self.probs
        return self.sample(sample_shape) + (probs - probs.detach())
