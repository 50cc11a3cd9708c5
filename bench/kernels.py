"""Fused chains, softmax, normalisation and reductions over about 4 million float32 values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.frameworks import Framework
from bench.harness import Arrays, Case

_ROWS = (4096, 1024)
_FLAT = 1 << 22
_C = math.sqrt(2 / math.pi)


def _normal(*shapes: tuple[int, ...]) -> Callable[[bool], Arrays]:
    """Normal float32 arrays; a sixteenth of the first dimension when quick."""

    def make(quick: bool) -> Arrays:
        rng = np.random.default_rng(0)
        small = [(max(1, s[0] // 16), *s[1:]) if quick and s[0] > 1024 else s for s in shapes]
        return [rng.standard_normal(s, dtype=np.float32) for s in small]

    return make


def _np_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(_C * (x + 0.044715 * x**3)))


def _np_gelu_slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(_C * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _C * (1 + 3 * 0.044715 * x * x)


# --- gelu(x) * w ---------------------------------------------------------------------------------


def gelu_mul(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return lambda x, w: _np_gelu(x) * w
    if framework.is_jax:
        import jax

        return framework.compile(lambda x, w: jax.nn.gelu(x, approximate=True) * w)
    F = framework.api.nn.functional
    return framework.compile(lambda x, w: F.gelu(x, approximate="tanh") * w)


def gelu_gradients(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return lambda x, w: (_np_gelu_slope(x) * w, _np_gelu(x))
    if framework.is_jax:
        import jax

        def total(x: Any, w: Any) -> Any:
            return (jax.nn.gelu(x, approximate=True) * w).sum()

        return framework.compile(jax.grad(total, argnums=(0, 1)))
    t = framework.api
    return _with_gradients(
        framework, lambda x, w: (t.nn.functional.gelu(x, approximate="tanh") * w).sum(), (0, 1)
    )


def _with_gradients(
    framework: Framework, loss: Callable[..., Any], wrt: tuple[int, ...]
) -> Callable[..., Any]:
    """Gradients of a scalar; torch.compile takes the forward, tracejit the whole."""
    t = framework.api
    inner = loss if framework.whole_step else framework.compile(loss)

    def gradients(*args: Any) -> Any:
        return t.autograd.grad(inner(*args), [args[i] for i in wrt])

    return framework.compile(gradients) if framework.whole_step else gradients


# --- Black-Scholes -------------------------------------------------------------------------------

_RATE, _VOLATILITY = 0.03, 0.2


def _prices(quick: bool) -> Arrays:
    rng = np.random.default_rng(1)
    count = _FLAT >> 4 if quick else _FLAT
    ranges = ((50, 150), (50, 150), (0.1, 2.0))
    return [rng.uniform(a, b, count).astype(np.float32) for a, b in ranges]


def _call_price(log: Any, sqrt: Any, exp: Any, erf: Any) -> Callable[..., Any]:
    def price(spot: Any, strike: Any, years: Any) -> Any:
        spread = _VOLATILITY * sqrt(years)
        d1 = (log(spot / strike) + (_RATE + 0.5 * _VOLATILITY**2) * years) / spread
        d2 = d1 - spread
        first = spot * (0.5 * (1 + erf(d1 * math.sqrt(0.5))))
        return first - strike * exp(-_RATE * years) * (0.5 * (1 + erf(d2 * math.sqrt(0.5))))

    return price


def black_scholes(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return None  # NumPy has no erf
    if framework.is_jax:
        import jax
        import jax.numpy as jnp

        return framework.compile(_call_price(jnp.log, jnp.sqrt, jnp.exp, jax.scipy.special.erf))
    t = framework.api
    return framework.compile(_call_price(t.log, t.sqrt, t.exp, t.erf))


_np_black_scholes = _call_price(np.log, np.sqrt, np.exp, np.vectorize(math.erf))


# --- softmax and layer norm ----------------------------------------------------------------------


def _np_softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def softmax(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return _np_softmax
    if framework.is_jax:
        import jax

        return framework.compile(lambda x: jax.nn.softmax(x, axis=1))
    t = framework.api
    return framework.compile(lambda x: t.softmax(x, dim=1))


def softmax_gradient(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return _np_softmax_gradient
    if framework.is_jax:
        import jax

        return framework.compile(jax.grad(lambda x, g: (jax.nn.softmax(x, axis=1) * g).sum()))
    t = framework.api
    inner = _with_gradients(framework, lambda x, g: (t.softmax(x, dim=1) * g).sum(), (0,))
    return inner


def _np_softmax_gradient(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    y = _np_softmax(x)
    return y * (g - (g * y).sum(1, keepdims=True))


def _np_layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5) * w + b


def _jax_layer_norm(x: Any, w: Any, b: Any) -> Any:
    import jax

    mean = x.mean(1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * w + b


def layer_norm(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return _np_layer_norm
    if framework.is_jax:
        return framework.compile(_jax_layer_norm)
    F = framework.api.nn.functional
    return framework.compile(lambda x, w, b: F.layer_norm(x, (x.shape[1],), w, b))


def layer_norm_gradient(framework: Framework) -> Callable[..., Any] | None:
    if framework.name == "numpy":
        return _np_layer_norm_gradient
    if framework.is_jax:
        import jax

        def total(x: Any, w: Any, b: Any, g: Any) -> Any:
            return (_jax_layer_norm(x, w, b) * g).sum()

        return framework.compile(jax.grad(total, argnums=(0, 1, 2)))
    F = framework.api.nn.functional
    return _with_gradients(
        framework, lambda x, w, b, g: (F.layer_norm(x, (x.shape[1],), w, b) * g).sum(), (0, 1, 2)
    )


def _np_layer_norm_gradient(x: np.ndarray, w: np.ndarray, b: np.ndarray, g: np.ndarray) -> Any:
    centred = x - x.mean(1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5)
    unit, gw = centred * scale, g * w
    inner = gw - gw.mean(1, keepdims=True) - unit * (gw * unit).mean(1, keepdims=True)
    return scale * inner, (g * unit).sum(0), g.sum(0)


def block(framework: Framework) -> Callable[..., Any] | None:
    """gelu(x + bias) + residual, then layer norm."""
    if framework.name == "numpy":
        return lambda x, c, r, w, b: _np_layer_norm(_np_gelu(x + c) + r, w, b)
    if framework.is_jax:
        import jax

        return framework.compile(lambda x, c, r, w, b: _jax_layer_norm(
            jax.nn.gelu(x + c, approximate=True) + r, w, b))  # fmt: skip
    F = framework.api.nn.functional
    return framework.compile(lambda x, c, r, w, b: F.layer_norm(
        F.gelu(x + c, approximate="tanh") + r, (x.shape[1],), w, b))  # fmt: skip


# --- reductions ----------------------------------------------------------------------------------


def sum_of_squares(framework: Framework) -> Callable[..., Any] | None:
    return framework.compile(lambda x: (x * x).sum())


def column_sums(framework: Framework) -> Callable[..., Any] | None:
    return framework.compile(lambda x: x.sum(0))


_WIDE = (_ROWS[1],)

CASES = [
    Case("gelu(x)*w, 4 M", _normal((_FLAT,), (_FLAT,)), gelu_mul, lambda x, w: _np_gelu(x) * w,
         targets={"jax": 2.0, "inductor": 5, "torch": 20}),
    Case("Black-Scholes call, 4 M", _prices, black_scholes, _np_black_scholes, sample=4096,
         targets={"jax": 1.6, "inductor": 1.5, "torch": 9}),
    Case("gradients of gelu(x)*w, 4 M", _normal((_FLAT,), (_FLAT,)), gelu_gradients,
         lambda x, w: (_np_gelu_slope(x) * w, _np_gelu(x)), grads=(0, 1),
         targets={"jax": 1.8, "inductor": 3, "torch": 9}),
    Case("softmax 4096x1024", _normal(_ROWS), softmax, _np_softmax,
         targets={"jax": 1.5, "inductor": 1.6, "torch": 1.5}),
    Case("softmax and its gradient", _normal(_ROWS, _ROWS), softmax_gradient, _np_softmax_gradient,
         grads=(0,)),
    Case("layer norm 4096x1024", _normal(_ROWS, _WIDE, _WIDE), layer_norm, _np_layer_norm,
         targets={"jax": 1.5, "inductor": 1.4, "torch": 2.5}),
    Case("layer norm and its gradients", _normal(_ROWS, _WIDE, _WIDE, _ROWS), layer_norm_gradient,
         _np_layer_norm_gradient, grads=(0, 1, 2)),
    Case("gelu(x+c)+r, layer norm", _normal(_ROWS, _WIDE, _ROWS, _WIDE, _WIDE), block,
         lambda x, c, r, w, b: _np_layer_norm(_np_gelu(x + c) + r, w, b),
         targets={"jax": 2.5, "inductor": 4, "torch": 7}),
    Case("sum of squares, 4 M", _normal((_FLAT,)), sum_of_squares, lambda x: (x * x).sum(),
         targets={"jax": 1.0, "inductor": 4, "torch": 3}),
    Case("column sums 4096x1024", _normal(_ROWS), column_sums, lambda x: x.sum(0), tolerance=1e-4,
         targets={"jax": 1.0, "inductor": 4, "torch": 3}),
]  # fmt: skip
