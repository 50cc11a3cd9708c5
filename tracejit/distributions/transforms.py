"""Invertible maps with known volume change, and distributions passed through them.

Invariant: ``log_abs_det_jacobian(x, y)`` is per element, or per event of `event_dim` dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracejit.distributions.continuous import Normal
from tracejit.distributions.distribution import Distribution, sum_last
from tracejit.eager.modes import no_grad
from tracejit.nn import functional as F
from tracejit.tensor import Tensor

__all__ = [
    "AffineTransform", "ComposeTransform", "ExpTransform", "LogNormal", "SigmoidTransform",
    "TanhTransform", "Transform", "TransformedDistribution",
]  # fmt: skip


class Transform:
    """Base class: a subclass defines `_call`, `_inverse` and `log_abs_det_jacobian`.

    cache_size  1 keeps the last pair (x, y), so that the inverse of a value just made is exact.
    """

    event_dim = 0
    bijective = True

    def __init__(self, cache_size: int = 0) -> None:
        self.cache_size = cache_size
        self._last: tuple[Any, Any] = (None, None)

    def __call__(self, x: Any) -> Any:
        if self.cache_size and x is self._last[0]:
            return self._last[1]
        y = self._call(x)
        if self.cache_size:
            self._last = (x, y)
        return y

    def inv(self, y: Any) -> Any:
        """The value that is mapped to `y`."""
        if self.cache_size and y is self._last[1]:
            return self._last[0]
        return self._inverse(y)

    def _call(self, x: Any) -> Any:
        raise NotImplementedError

    def _inverse(self, y: Any) -> Any:
        raise NotImplementedError

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """``log |dy / dx|``."""
        raise NotImplementedError


class ExpTransform(Transform):
    """``y = exp(x)``."""

    def _call(self, x: Any) -> Any:
        return x.exp()

    def _inverse(self, y: Any) -> Any:
        return y.log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return x


class SigmoidTransform(Transform):
    """``y = 1 / (1 + exp(-x))``."""

    def _call(self, x: Any) -> Any:
        return x.sigmoid()

    def _inverse(self, y: Any) -> Any:
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -F.softplus(-x) - F.softplus(x)


class TanhTransform(Transform):
    """``y = tanh(x)``, as squashed policies use it."""

    def _call(self, x: Any) -> Any:
        return x.tanh()

    def _inverse(self, y: Any) -> Any:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))


class AffineTransform(Transform):
    """``y = loc + scale * x``."""

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.loc = loc
        self.scale = scale
        self.event_dim = event_dim

    def _call(self, x: Any) -> Any:
        return self.loc + self.scale * x

    def _inverse(self, y: Any) -> Any:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        size = self.scale
        log = size.abs().log() if isinstance(size, Tensor) else math.log(abs(size))
        return sum_last(log + 0 * x, self.event_dim)


class ComposeTransform(Transform):
    """Several transforms, one after the other."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.parts = list(parts)
        self.event_dim = max((p.event_dim for p in self.parts), default=0)

    def _call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Any) -> Any:
        for part in reversed(self.parts):
            y = part.inv(y)
        return y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        total: Any = 0
        for part in self.parts:
            after = part(x)
            change = part.log_abs_det_jacobian(x, after)
            total = total + sum_last(change, self.event_dim - part.event_dim)
            x = after
        return total


class TransformedDistribution(Distribution):
    """What transforms make of the draws of a distribution.

    Example: ``TransformedDistribution(Normal(0.0, 1.0), [TanhTransform()])``.
    """

    def __init__(
        self, base_distribution: Distribution, transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self.base_dist = base_distribution
        if isinstance(transforms, Transform):
            transforms = [transforms]
        self.transforms = list(transforms)
        base = base_distribution
        shape = (*base.batch_shape, *base.event_shape)
        self._event_dims = max([len(base.event_shape), *(t.event_dim for t in self.transforms)])
        cut = len(shape) - self._event_dims
        super().__init__(shape[:cut], shape[cut:])

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    def _mapped(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        with no_grad():
            return self._mapped(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        return self._mapped(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        total: Any = 0
        y = value
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            change = transform.log_abs_det_jacobian(x, y)
            total = total - sum_last(change, self._event_dims - transform.event_dim)
            y = x
        extra = self._event_dims - len(self.base_dist.event_shape)
        return total + sum_last(self.base_dist.log_prob(y), extra)


class LogNormal(TransformedDistribution):
    """The exponential of a normal variable with mean `loc` and standard deviation `scale`."""

    base_dist: Normal

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(loc, scale), ExpTransform())

    @property
    def loc(self) -> Any:
        """The mean of the logarithm."""
        return self.base_dist.loc

    @property
    def scale(self) -> Any:
        """The standard deviation of the logarithm."""
        return self.base_dist.scale

    @property
    def mean(self) -> Any:
        return (self.loc + self.scale.pow(2) / 2).exp()

    @property
    def variance(self) -> Any:
        square = self.scale.pow(2)
        return square.expm1() * (2 * self.loc + square).exp()

    def entropy(self) -> Any:
        return self.base_dist.entropy() + self.loc
