"""Invertible maps with known volume change, and distributions passed through them.

Invariant: ``log_abs_det_jacobian(x, y)`` is per element, or per event of ``domain.event_dim``
dimensions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit.distributions import constraints
from tracejit.distributions.continuous import Normal
from tracejit.distributions.distribution import Distribution, Independent, Parameters, sum_last
from tracejit.eager.modes import no_grad
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.tensor import Tensor

__all__ = [
    "AbsTransform", "AffineTransform", "ComposeTransform", "CumulativeDistributionTransform",
    "ExpTransform", "IndependentTransform", "LogNormal", "PowerTransform", "SigmoidTransform",
    "SoftplusTransform", "TanhTransform", "Transform", "TransformedDistribution",
    "identity_transform",
]  # fmt: skip


class Transform(metaclass=WatchedClass):
    """Base class: a subclass defines `_call`, `_inverse` and `log_abs_det_jacobian`.

    cache_size  1 keeps the last pair (x, y), so that the inverse of a value just made is exact.
    domain, codomain  what goes in and comes out; `sign`: whether it rises (1) or falls (-1).
    """

    bijective = True
    sign: Any = 1
    domain: Any = constraints.real
    codomain: Any = constraints.real

    def __init__(self, cache_size: int = 0) -> None:
        self.cache_size = cache_size
        self._last: tuple[Any, Any] = (None, None)

    @property
    def event_dim(self) -> int:
        """Dimensions of one event of the result."""
        return int(self.codomain.event_dim)

    def __call__(self, x: Any) -> Any:
        if self.cache_size and x is self._last[0]:
            return self._last[1]
        y = self._call(x)
        if self.cache_size:
            self._last = (x, y)
        return y

    def _inv_call(self, y: Any) -> Any:
        if self.cache_size and y is self._last[1]:
            return self._last[0]
        return self._inverse(y)

    @property
    def inv(self) -> Transform:
        """The map back."""
        return _Inverse(self)

    def _call(self, x: Any) -> Any:
        raise NotImplementedError

    def _inverse(self, y: Any) -> Any:
        raise NotImplementedError(at_user_line(f"{type(self).__name__} has no inverse"))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """``log |dy / dx|``."""
        raise NotImplementedError

    def with_cache(self, cache_size: int = 1) -> Transform:
        """The same transform with another size of its cache."""
        if self.cache_size == cache_size:
            return self
        other = copy.copy(self)
        other.cache_size, other._last = cache_size, (None, None)
        return other

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        """The shape of the result for an argument of `shape`."""
        return shape

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        """The shape of the argument that gives `shape`."""
        return shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Inverse(Transform):
    """A transform the other way round."""

    def __init__(self, forward: Transform) -> None:
        super().__init__()
        self._forward = forward
        self.domain, self.codomain = forward.codomain, forward.domain
        self.bijective = forward.bijective

    @property
    def sign(self) -> Any:
        return self._forward.sign

    @property
    def inv(self) -> Transform:
        return self._forward

    def __call__(self, x: Any) -> Any:
        return self._forward._inv_call(x)

    def _inverse(self, y: Any) -> Any:
        return self._forward(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -self._forward.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        return self._forward.inverse_shape(shape)

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        return self._forward.forward_shape(shape)


class ExpTransform(Transform):
    """``y = exp(x)``."""

    codomain = constraints.positive

    def _call(self, x: Any) -> Any:
        return x.exp()

    def _inverse(self, y: Any) -> Any:
        return y.log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return x


class PowerTransform(Transform):
    """``y = x ** exponent`` on positive numbers."""

    domain = codomain = constraints.positive

    def __init__(self, exponent: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.exponent = exponent

    @property
    def sign(self) -> Any:
        e = self.exponent
        return e.sign() if isinstance(e, Tensor) else math.copysign(1, e)

    def _call(self, x: Any) -> Any:
        return x.pow(self.exponent)

    def _inverse(self, y: Any) -> Any:
        return y.pow(1 / self.exponent)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return (self.exponent * y / x).abs().log()


class SigmoidTransform(Transform):
    """``y = 1 / (1 + exp(-x))``."""

    codomain = constraints.unit_interval

    def _call(self, x: Any) -> Any:
        return x.sigmoid()

    def _inverse(self, y: Any) -> Any:
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -F.softplus(-x) - F.softplus(x)


class SoftplusTransform(Transform):
    """``y = log(1 + exp(x))``."""

    codomain = constraints.positive

    def _call(self, x: Any) -> Any:
        return F.softplus(x)

    def _inverse(self, y: Any) -> Any:
        return (-y).expm1().neg().log() + y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -F.softplus(-x)


class TanhTransform(Transform):
    """``y = tanh(x)``, as squashed policies use it."""

    codomain = constraints.interval(-1.0, 1.0)

    def _call(self, x: Any) -> Any:
        return x.tanh()

    def _inverse(self, y: Any) -> Any:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))


class AbsTransform(Transform):
    """``y = |x|``; its "inverse" is the identity."""

    bijective = False
    codomain = constraints.positive

    def _call(self, x: Any) -> Any:
        return x.abs()

    def _inverse(self, y: Any) -> Any:
        return y


class AffineTransform(Transform):
    """``y = loc + scale * x``."""

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.loc = loc
        self.scale = scale
        if event_dim:
            self.domain = self.codomain = constraints.independent(constraints.real, event_dim)

    @property
    def sign(self) -> Any:
        return self.scale.sign() if isinstance(self.scale, Tensor) else math.copysign(1, self.scale)

    def _call(self, x: Any) -> Any:
        return self.loc + self.scale * x

    def _inverse(self, y: Any) -> Any:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        size = self.scale
        log = size.abs().log() if isinstance(size, Tensor) else math.log(abs(size))
        return sum_last(log + 0 * x, self.event_dim)


class CumulativeDistributionTransform(Transform):
    """``y = distribution.cdf(x)``."""

    codomain = constraints.unit_interval

    def __init__(self, distribution: Distribution, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.distribution = distribution
        self.domain = distribution.support

    def _call(self, x: Any) -> Any:
        return self.distribution.cdf(x)

    def _inverse(self, y: Any) -> Any:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return self.distribution.log_prob(x)


class IndependentTransform(Transform):
    """A transform whose last `reinterpreted_batch_ndims` dimensions count as one event."""

    def __init__(
        self, base_transform: Transform, reinterpreted_batch_ndims: int, cache_size: int = 0
    ) -> None:
        super().__init__(cache_size)
        self.base_transform, self.reinterpreted_batch_ndims = (
            base_transform, reinterpreted_batch_ndims,
        )  # fmt: skip
        base, count = base_transform, reinterpreted_batch_ndims
        self.domain = constraints.independent(base.domain, count)
        self.codomain = constraints.independent(base.codomain, count)
        self.bijective = base.bijective

    @property
    def sign(self) -> Any:
        return self.base_transform.sign

    def _call(self, x: Any) -> Any:
        return self.base_transform(x)

    def _inverse(self, y: Any) -> Any:
        return self.base_transform.inv(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        each = self.base_transform.log_abs_det_jacobian(x, y)
        return sum_last(each, self.reinterpreted_batch_ndims)

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        return self.base_transform.forward_shape(shape)

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        return self.base_transform.inverse_shape(shape)


def _widened(first: Any, parts: Sequence[tuple[Any, Any]], last: Any) -> Any:
    """The constraint at one end of a chain: `first`, of as many dimensions as any part needs."""
    dims = last.event_dim
    for here, there in parts:
        dims = max(dims + here.event_dim - there.event_dim, here.event_dim)
    extra = dims - first.event_dim
    return constraints.independent(first, extra) if extra else first


class ComposeTransform(Transform):
    """Several transforms, one after the other."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.parts = list(parts)
        self.bijective = all(p.bijective for p in self.parts)
        if self.parts:
            first, last = self.parts[0].domain, self.parts[-1].codomain
            ends = [(p.domain, p.codomain) for p in self.parts]
            self.domain = _widened(first, ends[::-1], last)
            self.codomain = _widened(last, [(b, a) for a, b in ends], first)

    @property
    def sign(self) -> Any:
        return math.prod(p.sign for p in self.parts)

    def _call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Any) -> Any:
        for part in reversed(self.parts):
            y = part.inv(y)
        return y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        total: Any = 0 * x if not self.parts else 0
        dims = self.domain.event_dim
        for part in self.parts:
            after = part(x)
            change = part.log_abs_det_jacobian(x, after)
            total = total + sum_last(change, dims - part.domain.event_dim)
            dims += part.codomain.event_dim - part.domain.event_dim
            x = after
        return total

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return shape

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return shape


identity_transform = ComposeTransform([])


class TransformedDistribution(Distribution):
    """What transforms make of the draws of a distribution.

    Example: ``TransformedDistribution(Normal(0.0, 1.0), [TanhTransform()])``.
    """

    def __init__(
        self, base_distribution: Distribution, transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        if isinstance(transforms, Transform):
            transforms = [transforms]
        self.transforms = list(transforms)
        base, whole = base_distribution, ComposeTransform(self.transforms)
        shape = (*base.batch_shape, *base.event_shape)
        inner, outer = whole.domain.event_dim, whole.codomain.event_dim
        if len(shape) < inner:
            raise ValueError(
                at_user_line(
                    f"base_distribution needs to have shape with size at least {inner}, "
                    f"but got {shape}"
                )
            )
        after = tuple(whole.forward_shape(shape))
        needed = tuple(whole.inverse_shape(after))
        if needed != shape:
            base = base.expand(needed[: len(needed) - len(base.event_shape)])
        missing = inner - len(base.event_shape)
        self.base_dist: Any = Independent(base, missing) if missing > 0 else base
        dims = outer + max(len(base.event_shape) - inner, 0)
        super().__init__(after[: len(after) - dims], after[len(after) - dims :], validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_rsample)

    @property
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        found = self.transforms[-1].codomain
        extra = len(self._event_shape) - found.event_dim
        return constraints.independent(found, extra) if extra > 0 else found

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        whole = ComposeTransform(self.transforms)
        shape = tuple(whole.inverse_shape((*batch_shape, *self._event_shape)))
        base = self.base_dist.expand(shape[: len(shape) - len(self.base_dist.event_shape)])
        return TransformedDistribution(base, self.transforms, validate_args=False)

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
        dims, y = len(self._event_shape), value
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            dims += transform.domain.event_dim - transform.codomain.event_dim
            change = transform.log_abs_det_jacobian(x, y)
            total = total - sum_last(change, dims - transform.domain.event_dim)
            y = x
        base = self.base_dist
        return total + sum_last(base.log_prob(y), dims - len(base.event_shape))

    def _turned(self, value: Any) -> Any:
        """`value`, or one minus it where the transforms fall."""
        sign = math.prod(t.sign for t in self.transforms)
        return value if isinstance(sign, (int, float)) and sign == 1 else sign * (value - 0.5) + 0.5

    def cdf(self, value: Any) -> Any:
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        return self._turned(self.base_dist.cdf(value))

    def icdf(self, value: Any) -> Any:
        return self._mapped(self.base_dist.icdf(self._turned(value)))


class LogNormal(TransformedDistribution):
    """The exponential of a normal variable with mean `loc` and standard deviation `scale`."""

    arg_constraints: ClassVar[Parameters] = Normal.arg_constraints

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(loc, scale, validate_args), ExpTransform(), validate_args)

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
    def mode(self) -> Any:
        return (self.loc - self.scale.square()).exp()

    @property
    def variance(self) -> Any:
        square = self.scale.pow(2)
        return square.expm1() * (2 * self.loc + square).exp()

    def entropy(self) -> Any:
        return self.base_dist.entropy() + self.loc
