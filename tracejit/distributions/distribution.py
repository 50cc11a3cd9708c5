"""`Distribution`, the base class, and `Independent`.

Invariant: a sample has shape ``sample_shape + batch_shape + event_shape``; `sample` carries no
gradient, `rsample` does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tracejit import dtypes
from tracejit.distributions.constraints import Constraint, independent, unit_interval
from tracejit.eager.checks import is_on_device, require, require_later
from tracejit.eager.factories import tensor
from tracejit.eager.modes import no_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.tensor import Size, Tensor

__all__ = ["Distribution", "Independent", "broadcast_all"]


Parameters = dict[str, Constraint]
"""What each parameter must be."""


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Numbers and tensors as tensors of one shape and floating dtype (that of the first tensor)."""
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype = dtypes.get_default_dtype() if like is None else like.dtype
    if not dtype.is_floating_point:
        dtype = dtypes.get_default_dtype()
    made = [v if isinstance(v, Tensor) else tensor(_number(v), dtype=dtype) for v in values]
    return tuple(FUNCTIONS["broadcast_tensors"](*made))


def _number(value: Any) -> Any:
    """A float; a number that a capture does not fix as it is."""
    return value if hasattr(value, "scalar_node") else float(value)


def sum_last(value: Any, count: int) -> Any:
    """`value` summed over its last `count` dimensions."""
    return value.sum(tuple(range(-count, 0))) if count else value


def check_all(valid: Any, message: str) -> None:
    """Raise ValueError unless all of `valid` holds; a replay of a capture checks it again."""
    whole = valid.all()
    if is_on_device(whole):
        require_later(whole, ValueError, message)
        return
    if not whole._array:
        raise ValueError(at_user_line(f"{message}, but found invalid values"))
    require(lambda: whole, message)


def _checked(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`method`, after a check of the value that it is given."""

    @functools.wraps(method)
    def checked(self: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        if self._validate_args:
            self._check_value(value, name)
        return method(self, value, *args, **kwargs)

    return checked


class Distribution(metaclass=WatchedClass):
    """Base class of probability distributions.

    batch_shape  one distribution for each element of this shape.
    event_shape  the shape of one draw from one of them.
    arg_constraints  what each parameter must be; `support`: what draws are.

    Parameters, and the values given to `log_prob`, `cdf` and `icdf`, are checked (ValueError)
    unless `validate_args` is False or ``Distribution.set_default_validate_args(False)`` was called.
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: ClassVar[Parameters] = {}
    support: Any = None
    _validate_args = __debug__

    def __init__(
        self, batch_shape: Sequence[Any] = (), event_shape: Sequence[Any] = (),
        validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)
        if validate_args is not None:
            self._validate_args = bool(validate_args)
        if self._validate_args:
            for name, constraint in self.arg_constraints.items():
                if self._is_given(name) and constraint.kind != "dependent":
                    message = (
                        "Expected parameter {} of distribution {} to satisfy the constraint {}"
                    )
                    text = message.format(name, type(self).__name__, constraint)
                    check_all(constraint.check(getattr(self, name)), text)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let `log_prob`, `cdf` and `icdf` of a subclass check their value first."""
        super().__init_subclass__(**kwargs)
        for name in ("log_prob", "cdf", "icdf"):
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name], name))

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check their arguments."""
        Distribution._validate_args = bool(value)

    def _is_given(self, name: str) -> bool:
        """Whether a parameter was given rather than computed from another one."""
        return self.__dict__.get(f"_{name}", self) is not None

    def _parameters(self) -> dict[str, Any]:
        """The arguments of the constructor that were given."""
        names = [n for n in self.arg_constraints if self._is_given(n)]
        return {n: getattr(self, n) for n in names}

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        """The same distribution with its batch dimensions expanded to `batch_shape`."""
        wide = {}
        for name, value in self._parameters().items():
            if isinstance(value, Tensor) and name in self.arg_constraints:
                inner = value.ndim - len(self._batch_shape)
                value = value.expand(*batch_shape, *value.shape[value.ndim - max(inner, 0) :])
            wide[name] = value
        return type(self)(**wide, validate_args=False)

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values of a discrete distribution, along a new first dimension."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} has no enumerate_support"))

    def _enumerated(self, values: Any, expand: bool) -> Any:
        values = values.reshape(-1, *(1,) * len(self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values

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
        raise NotImplementedError(at_user_line(f"{type(self).__name__} does not know its mode"))

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

    def _check_value(self, value: Any, method: str) -> None:
        """Raise ValueError where a value cannot belong to the distribution."""
        if not isinstance(value, Tensor):
            raise ValueError(at_user_line("The value argument to log_prob must be a Tensor"))
        FUNCTIONS["broadcast_shapes"](value.shape, (*self._batch_shape, *self._event_shape))
        support = unit_interval if method == "icdf" else self.support
        if support is not None and support.kind != "dependent":
            name = type(self).__name__
            text = f"Expected value argument to be within the support ({support}) of {name}"
            check_all(support.check(value), text)

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        """Draws, without gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def sample_n(self, n: int) -> Any:
        """``sample((n,))``."""
        return self.sample((n,))

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        """Draws as a differentiable function of the parameters."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} has no rsample"))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density (or probability) at `value`."""
        raise NotImplementedError

    def cdf(self, value: Any) -> Any:
        """The probability of at most `value`."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} has no cdf"))

    def icdf(self, value: Any) -> Any:
        """The inverse of `cdf`."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} has no icdf"))

    def entropy(self) -> Any:
        """The entropy in nats."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} has no entropy"))

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
            raise ValueError(
                at_user_line(f"Independent: {count} dimensions of batch shape {base.batch_shape}")
            )
        cut = len(base.batch_shape) - count
        self.base_dist = base
        self.reinterpreted_batch_ndims = count
        shapes = base.batch_shape[:cut], (*base.batch_shape[cut:], *base.event_shape)
        super().__init__(*shapes, validate_args)

    @property
    def support(self) -> Any:
        if not self.reinterpreted_batch_ndims or self.base_dist.support is None:
            return self.base_dist.support
        return independent(self.base_dist.support, self.reinterpreted_batch_ndims)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> Any:
        inner = self._event_shape[: self.reinterpreted_batch_ndims]
        wide = self.base_dist.expand((*batch_shape, *inner))
        return Independent(wide, self.reinterpreted_batch_ndims, validate_args=False)

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
