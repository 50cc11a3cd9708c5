"""Discrete distributions: Bernoulli, categorical (numbers or one-hot), geometric.

Invariant: parameters are probabilities or logits, one of the two; the other is computed from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit import dtypes
from tracejit.distributions import constraints
from tracejit.distributions.distribution import Distribution, Parameters, broadcast_all
from tracejit.eager.modes import no_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn import functional as F

__all__ = ["Bernoulli", "Categorical", "Geometric", "OneHotCategorical"]


def one_of(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ValueError(
            at_user_line("Either `probs` or `logits` must be specified, but not both.")
        )


def clamped(probs: Any) -> Any:
    eps = dtypes.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


class Binary(Distribution):
    """Parameters of one probability: `probs`, or `logits` = log(p / (1 - p))."""

    arg_constraints: ClassVar[Parameters] = {
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        one_of(probs, logits)
        self._probs = None if probs is None else broadcast_all(probs)[0]
        self._logits = None if logits is None else broadcast_all(logits)[0]
        given: Any = self._logits if self._probs is None else self._probs
        super().__init__(given.shape, (), validate_args)

    @property
    def probs(self) -> Any:
        """The probability."""
        return self._logits.sigmoid() if self._probs is None else self._probs  # type: ignore[union-attr]

    @property
    def logits(self) -> Any:
        """``log(p / (1 - p))``."""
        if self._logits is not None:
            return self._logits
        p = clamped(self._probs)
        return p.log() - (-p).log1p()


class Bernoulli(Binary):
    """1 with probability `probs`, else 0."""

    support = constraints.boolean
    has_enumerate_support = True

    def enumerate_support(self, expand: bool = True) -> Any:
        values = FUNCTIONS["arange"](2, dtype=self.probs.dtype)
        return self._enumerated(values, expand)

    @property
    def mode(self) -> Any:
        p = self.probs
        return (p >= 0.5).to(p.dtype).masked_fill(p == 0.5, math.nan)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            return FUNCTIONS["bernoulli"](self.probs.expand(self._extended(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        logits, value = FUNCTIONS["broadcast_tensors"](self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Geometric(Binary):
    """The number of failures before the first success, each try succeeding with `probs`."""

    support = constraints.nonnegative_integer

    @property
    def mode(self) -> Any:
        return FUNCTIONS["zeros_like"](self.probs)

    @property
    def mean(self) -> Any:
        return 1 / self.probs - 1

    @property
    def variance(self) -> Any:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            u = FUNCTIONS["rand"](self._extended(sample_shape), dtype=self.probs.dtype)
            return ((-u).log1p() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Any) -> Any:
        return value * (-clamped(self.probs)).log1p() + self.probs.log()

    def entropy(self) -> Any:
        each = F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
        return each / self.probs


class Categorical(Distribution):
    """Numbers 0 to n - 1 with the probabilities of the last dimension of `probs` or `logits`.

    Probabilities are divided by their sum; logits need not be normalised.
    Example: ``Categorical(logits=net(state)).sample()`` chooses an action.
    """

    arg_constraints: ClassVar[Parameters] = {
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    has_enumerate_support = True

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    def enumerate_support(self, expand: bool = True) -> Any:
        return self._enumerated(FUNCTIONS["arange"](self._num_events), expand)

    @property
    def mean(self) -> Any:
        """NaN: the categories are names, not amounts."""
        return FUNCTIONS["full"](self._batch_shape, math.nan, dtype=self.probs.dtype)

    variance = mean

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        one_of(probs, logits)
        if logits is None:
            self._probs = probs / probs.sum(-1, keepdim=True)
            self._logits: Any = None
        else:
            self._probs = None
            self._logits = logits - logits.logsumexp(-1, keepdim=True)
        given: Any = probs if logits is None else logits
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], (), validate_args)

    @property
    def probs(self) -> Any:
        """Probabilities, summing to 1."""
        return self._logits.softmax(-1) if self._probs is None else self._probs

    @property
    def logits(self) -> Any:
        """Logarithms of the probabilities."""
        return clamped(self._probs).log() if self._logits is None else self._logits

    @property
    def param_shape(self) -> Any:
        """The shape of the parameters."""
        return (self.probs if self._logits is None else self._logits).shape

    @property
    def mode(self) -> Any:
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            table = self.probs.reshape(-1, self._num_events)
            count = 1
            for n in sample_shape:
                count *= n
            drawn = FUNCTIONS["multinomial"](table, count, True).t()
            return drawn.reshape(self._extended(sample_shape))

    def log_prob(self, value: Any) -> Any:
        shape = FUNCTIONS["broadcast_shapes"](value.shape, self.batch_shape)
        index = value.long().expand(shape).unsqueeze(-1)
        return self.logits.expand(*shape, self._num_events).gather(-1, index).squeeze(-1)

    def entropy(self) -> Any:
        lowest = dtypes.finfo(self.logits.dtype).min
        return -(self.logits.clamp(min=lowest) * self.probs).sum(-1)


class OneHotCategorical(Distribution):
    """A `Categorical` whose draws are one-hot vectors."""

    arg_constraints: ClassVar[Parameters] = {
        "probs": constraints.simplex,
        "logits": constraints.real_vector,
    }
    support = constraints.one_hot
    has_enumerate_support = True

    def _is_given(self, name: str) -> bool:
        return self._categorical._is_given(name)

    def enumerate_support(self, expand: bool = True) -> Any:
        n = self._event_shape[0]
        values = FUNCTIONS["eye"](n, dtype=self.probs.dtype)
        values = values.reshape(n, *(1,) * len(self._batch_shape), n)
        return values.expand(n, *self._batch_shape, n) if expand else values

    @property
    def mode(self) -> Any:
        return F.one_hot(self._categorical.mode, self._event_shape[0]).to(self.probs.dtype)

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        size = self._categorical._num_events
        super().__init__(self._categorical.batch_shape, (size,), validate_args)

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
        return self.probs

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        drawn = self._categorical.sample(sample_shape)
        return F.one_hot(drawn, self._categorical._num_events).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Any:
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Any:
        return self._categorical.entropy()
