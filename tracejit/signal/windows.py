"""Window functions: ``torch.signal.windows`` and the older ``torch.hann_window`` kind.

Every window is a sum of cosines or a closed form of the sample's place. A symmetric window of n
samples spans ``n - 1`` steps, a periodic one ``n``. Invariant: computed in float64, then cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.factories import arange, finish, tensor
from tracejit.eager.special import SPECIAL
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

i0 = SPECIAL["i0"]


def _checked(name: str, length: Any, dtype: Any) -> DType:
    kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if not kind.is_floating_point:
        raise RuntimeError(at_user_line(f"{name}: expects a floating dtype, got {kind.name}"))
    if length < 0:
        raise RuntimeError(at_user_line(f"{name}: needs a non-negative length, got {length}"))
    return kind


def _window(
    name: str, length: int, shape: Callable[[Any], Any], sym: bool, dtype: Any, device: Any,
    requires_grad: bool,
) -> Tensor:  # fmt: skip
    """`shape` of the places 0 to 1 (the end excluded in a periodic window)."""
    kind = _checked(name, length, dtype)
    if length == 1:
        values = tensor([1.0], dtype=dtypes.float64)
    else:
        steps = length - 1 if sym else length
        values = shape(arange(length, dtype=dtypes.float64) / max(steps, 1))
    return finish(values.to(kind), requires_grad, device)


def general_cosine(
    M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``sum over i of (-1)**i * a[i] * cos(2 pi i t)``, t from 0 to 1 over M samples.

    Raises RuntimeError for a negative M or a dtype that is not floating, TypeError or ValueError
    for coefficients that are no (or an empty) sequence.
    """
    if isinstance(a, (int, float)) or not isinstance(a, Iterable):
        raise TypeError(at_user_line("general_cosine: coefficients must be a list or tuple"))
    terms = list(a)
    if not terms:
        raise ValueError(at_user_line("general_cosine: coefficients cannot be empty"))

    def shape(t: Any) -> Any:
        return sum(
            (-1) ** i * weight * (t * (2 * math.pi * i)).cos() for i, weight in enumerate(terms)
        )

    return _window("general_cosine", M, shape, sym, dtype, device, requires_grad)


def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``alpha - (1 - alpha) * cos(2 pi t)``."""
    weights = (alpha, 1.0 - alpha)
    return general_cosine(
        M, a=weights, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad
    )


def _cosine_sum(name: str, weights: tuple[float, ...], doc: str) -> Any:
    def window(
        M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
        requires_grad: bool = False,
    ) -> Tensor:  # fmt: skip
        return general_cosine(
            M, a=weights, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad
        )

    window.__name__ = window.__qualname__ = name
    window.__doc__ = doc
    return window


hann = _cosine_sum("hann", (0.5, 0.5), "``sin(pi t)**2``.")
hamming = _cosine_sum("hamming", (0.54, 0.46), "``0.54 - 0.46 cos(2 pi t)``.")
blackman = _cosine_sum("blackman", (0.42, 0.5, 0.08), "Three terms (Blackman, Tukey, 1958).")
nuttall = _cosine_sum(
    "nuttall", (0.3635819, 0.4891775, 0.1365995, 0.0106411), "Four terms (Nuttall, 1981)."
)


def cosine(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Half a sine over the samples' middles: ``sin(pi (k + 1/2) / n)``, n = M or M + 1."""
    kind = _checked("cosine", M, dtype)
    count = M if sym or M <= 1 else M + 1
    values = ((arange(M, dtype=dtypes.float64) + 0.5) * (math.pi / max(count, 1))).sin()
    return finish(values.to(kind), requires_grad, device)


def bartlett(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A triangle that is 0 at its ends: ``1 - |2 t - 1|``."""
    return _window(
        "bartlett", M, lambda t: 1.0 - (2.0 * t - 1.0).abs(), sym, dtype, device, requires_grad
    )


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``exp(-|k - center| / tau)`` of the sample's number k; a `center` needs ``sym=False``."""
    if tau <= 0:
        raise ValueError(at_user_line(f"exponential: tau must be positive, got {tau}"))
    if sym and center is not None:
        raise ValueError(at_user_line("exponential: center must be None for a symmetric window"))
    kind = _checked("exponential", M, dtype)
    middle = ((M if not sym and M > 1 else M - 1) / 2.0) if center is None else center
    values = ((arange(M, dtype=dtypes.float64) - middle).abs() * (-1.0 / tau)).exp()
    return finish(values.to(kind), requires_grad, device)


def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``exp(-((k - middle) / std)**2 / 2)`` of the sample's number k."""
    if std <= 0:
        raise ValueError(at_user_line(f"gaussian: std must be positive, got {std}"))
    kind = _checked("gaussian", M, dtype)
    middle = (M if not sym and M > 1 else M - 1) / 2.0
    scaled = (arange(M, dtype=dtypes.float64) - middle) / (std * math.sqrt(2.0))
    return finish((-scaled.square()).exp().to(kind), requires_grad, device)


def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``I0(beta sqrt(1 - (2 t - 1)**2)) / I0(beta)`` (Kaiser, 1980)."""
    if beta < 0:
        raise ValueError(at_user_line(f"kaiser: beta must be non-negative, got {beta}"))
    whole = float(i0(tensor(float(beta), dtype=dtypes.float64)))

    def shape(t: Any) -> Any:
        inside = (1.0 - (2.0 * t - 1.0).square()).clamp(min=0.0)
        return i0(beta * inside.sqrt()) / whole

    return _window("kaiser", M, shape, sym, dtype, device, requires_grad)


# --- torch.hann_window and the like ---------------------------------------------------------------


def hann_window(window_length: int, periodic: bool = True, **how: Any) -> Tensor:
    """``hann``, periodic unless said otherwise."""
    return hann(window_length, sym=not periodic, **how)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, **how: Any
) -> Tensor:
    """``alpha - beta cos(2 pi t)``, periodic unless said otherwise."""
    return general_cosine(window_length, a=(alpha, beta), sym=not periodic, **how)


def blackman_window(window_length: int, periodic: bool = True, **how: Any) -> Tensor:
    """``blackman``, periodic unless said otherwise."""
    return blackman(window_length, sym=not periodic, **how)


def bartlett_window(window_length: int, periodic: bool = True, **how: Any) -> Tensor:
    """``bartlett``, periodic unless said otherwise."""
    return bartlett(window_length, sym=not periodic, **how)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, **how: Any
) -> Tensor:
    """``kaiser``, periodic unless said otherwise."""
    return kaiser(window_length, beta=beta, sym=not periodic, **how)
