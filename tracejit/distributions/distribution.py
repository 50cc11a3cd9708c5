"""`Distribution`, the base class, and `Independent`.

Invariant: a sample has shape ``sample_shape + batch_shape + event_shape``; `sample` carries no
gradient, `rsample` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.eager.modes import no_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.tensor import Size, Tensor

__all__ = ["Distribution", "Independent", "broadcast_all"]


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Numbers and tensors as tensors of one shape and floating dtype (that of the first tensor)."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = dtypes.get_default_dtype() if like is None else like.dtype
    if not dtype.is_floating_point:
        dtype = dtypes.get_default_dtype()
    made = [v if isinstance(v, Tensor) else tensor(float(v), dtype=dtype) for v in values]
    return tuple(FUNCTIONS["broadcast_tensors"](*made))


def sum_last(value: Any, count: int) -> Any:
    """`value` summed over its last `count` dimensions."""
    return value.sum(tuple(range(-count, 0))) if count else value


class Distribution:
    """Base class of probability distributions.

    batch_shape  one distribution for each element of this shape.
    event_shape  the shape of one draw from one of them.

    Parameters are not checked: `validate_args` is accepted and ignored.
    """

    has_rsample = False

    def __init__(
        self, batch_shape: Sequence[Any] = (), event_shape: Sequence[Any] = (),
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)

    @property
    def batch_shape(self) -> Size:
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        return self._event_shape

    @property
    def mean(self) -> Any:
        """The expected value."""
        raise NotImplementedError

    @property
    def mode(self) -> Any:
        """The most probable value."""
        raise NotImplementedError(f"{type(self).__name__} does not know its mode")

    @property
    def variance(self) -> Any:
        """The variance."""
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        """The square root of the variance."""
        return self.variance.sqrt()

    def _extended(self, sample_shape: Sequence[Any]) -> tuple[Any, ...]:
        return (*sample_shape, *self._batch_shape, *self._event_shape)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        """Draws, without gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def sample_n(self, n: int) -> Any:
        """``sample((n,))``."""
        return self.sample((n,))

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        """Draws as a differentiable function of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample")

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density (or probability) at `value`."""
        raise NotImplementedError

    def cdf(self, value: Any) -> Any:
        """The probability of at most `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf")

    def icdf(self, value: Any) -> Any:
        """The inverse of `cdf`."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf")

    def entropy(self) -> Any:
        """The entropy in nats."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    def perplexity(self) -> Any:
        """``exp(entropy)``."""
        return self.entropy().exp()

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(batch_shape={self.batch_shape}, "
                f"event_shape={self.event_shape})")  # fmt: skip


class Independent(Distribution):
    """Counts the last `reinterpreted_batch_ndims` batch dimensions of a distribution as events.

    Example: ``Independent(Normal(mean, std), 1)`` is a normal distribution over vectors.
    """

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        base, count = base_distribution, reinterpreted_batch_ndims
        if count > len(base.batch_shape):
            raise ValueError(f"Independent: {count} dimensions of batch shape {base.batch_shape}")
        cut = len(base.batch_shape) - count
        super().__init__(base.batch_shape[:cut], (*base.batch_shape[cut:], *base.event_shape))
        self.base_dist = base
        self.reinterpreted_batch_ndims = count

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Any:
        return self.base_dist.mean

    @property
    def mode(self) -> Any:
        return self.base_dist.mode

    @property
    def variance(self) -> Any:
        return self.base_dist.variance

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        return sum_last(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Any:
        return sum_last(self.base_dist.entropy(), self.reinterpreted_batch_ndims)
