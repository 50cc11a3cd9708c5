"""``tracejit.amp``: torch's mixed-precision interface; here everything computes in full precision.

Invariant: nothing in this file changes a number. `autocast` permits lower precision and does not
demand it, so results are at least as exact as torch's; they keep their float32 dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.ir.types import Device

__all__ = [
    "GradScaler", "autocast", "custom_bwd", "custom_fwd", "get_autocast_dtype",
    "is_autocast_available", "is_autocast_enabled",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])


class autocast:
    """A context manager and decorator that torch code puts around mixed-precision parts.

    Results keep the dtype of the operands: no operation runs in a lower precision here.
    `device_type` is checked, the other arguments are kept as attributes.

    Example: ``with amp.autocast("cpu", dtype=float16): y = model(x)``.
    """

    def __init__(
        self,
        device_type: str = "cuda",
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        self.device = Device(device_type).type
        self.fast_dtype = dtypes.float16 if dtype is None else dtype
        self.enabled = enabled
        self.cache_enabled = cache_enabled

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class GradScaler:
    """torch's loss scaler, switched off: gradients in float32 need no scaling.

    Every method does what torch's does for ``enabled=False``.

    Example: ``scaler.scale(loss).backward(); scaler.step(opt); scaler.update()``.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self.device = device
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval

    def scale(self, outputs: Any) -> Any:
        """`outputs`, unchanged."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Leaves the gradients as they are."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step()``."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Keeps the scale at 1."""

    def get_scale(self) -> float:
        """1.0, what every loss is multiplied by."""
        return 1.0

    def is_enabled(self) -> bool:
        """False."""
        return False

    def get_growth_factor(self) -> float:
        """The factor that was given; nothing grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Another factor; nothing grows."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """The factor that was given; nothing shrinks."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Another factor; nothing shrinks."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """The number of steps that was given; nothing grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Another number of steps; nothing grows."""
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """An empty dict: there is no state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state of any scaler; none of it matters without scaling."""


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """False: an `autocast` block computes as the code around it."""
    Device(device_type)
    return False


def get_autocast_dtype(device_type: str = "cuda") -> DType:
    """The dtype that `autocast` would use by default: float16."""
    Device(device_type)
    return dtypes.float16


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Accepted: an `autocast` block computes as the code around it, so nothing is switched."""


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Accepted: no operation runs in the dtype that autocast is told."""
    Device(device_type)


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Accepted: there is no cache of casts."""


def is_autocast_cache_enabled() -> bool:
    """False: there is no cache of casts."""
    return False


def clear_autocast_cache() -> None:
    """Nothing to forget: there is no cache of casts."""


def is_autocast_available(device_type: str) -> bool:
    """False: no device computes in mixed precision here."""
    Device(device_type)
    return False


def custom_fwd(
    fwd: Any = None, *, device_type: str = "cuda", cast_inputs: DType | None = None
) -> Any:
    """A decorator for ``autograd.Function.forward``; returns the function itself."""
    return (lambda function: function) if fwd is None else fwd


def custom_bwd(bwd: Any = None, *, device_type: str = "cuda") -> Any:
    """A decorator for ``autograd.Function.backward``; returns the function itself."""
    return (lambda function: function) if bwd is None else bwd
