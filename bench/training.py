"""Whole training steps with Adam: MLP, CNN, LSTM and a character transformer.

tracejit compiles the step as one function; torch.compile takes the model (its update is torch's
own); JAX compiles the step as one function with donated state. Invariant: all start from the same
parameters and see the same batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from bench.frameworks import Framework
from bench.harness import Case
from bench.models import chargpt, cnn, lstm, mlp

_LR, _BETA1, _BETA2, _EPS = 1e-3, 0.9, 0.999, 1e-8


def parameters(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Start values by name: normal, scaled by the fan-in; ones and zeros for normalisations."""
    rng = np.random.default_rng(8)
    found = {}
    for name, shape in shapes.items():
        if "norm" in name:
            found[name] = np.full(shape, float(name.endswith("weight")), np.float32)
            continue
        scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.01
        found[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return found


def step(model: ModuleType) -> Callable[[Framework], Callable[..., Any] | None]:
    """How to build the training step of a model file for a framework."""

    def build(framework: Framework) -> Callable[..., Any] | None:
        if framework.name == "numpy":
            return None  # NumPy has no gradients
        return _jax_step(model) if framework.is_jax else _torch_step(model, framework)

    return build


def _torch_step(model: ModuleType, framework: Framework) -> Callable[..., Any]:
    t = framework.api
    net = model.module(t)
    net.load_state_dict({k: t.tensor(v) for k, v in parameters(model.SHAPES).items()})
    optimizer = t.optim.Adam(net.parameters(), lr=_LR)
    forward = net if framework.whole_step else framework.compile(net)

    def training_step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(*batch)
        loss.backward()
        optimizer.step()
        return loss

    return framework.compile(training_step) if framework.whole_step else training_step


def _jax_step(model: ModuleType) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def training_step(state: Any, *batch: Any) -> Any:
        params, first, second, count = state
        value, grads = jax.value_and_grad(model.loss)(params, *batch, jnp)
        count = count + 1
        first = jax.tree.map(lambda m, g: _BETA1 * m + (1 - _BETA1) * g, first, grads)
        second = jax.tree.map(lambda v, g: _BETA2 * v + (1 - _BETA2) * g * g, second, grads)
        rate, root = _LR / (1 - _BETA1**count), jnp.sqrt(1 - _BETA2**count)
        params = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + _EPS), params, first, second
        )
        return (params, first, second, count), value

    compiled = jax.jit(training_step, donate_argnums=0)
    start = {k: jnp.asarray(v) for k, v in parameters(model.SHAPES).items()}
    zeros = [jax.tree.map(jnp.zeros_like, start) for _ in range(2)]
    held = [(start, *zeros, jnp.float32(0))]

    def call(*batch: Any) -> Any:
        held[0], value = compiled(held[0], *batch)
        return value

    return call


def _case(name: str, model: ModuleType, size: int, **targets: float) -> Case:
    def reference(*batch: np.ndarray) -> Any:
        params = {k: v.astype(np.float64) for k, v in parameters(model.SHAPES).items()}
        return model.loss(params, *batch, np)

    return Case(name, lambda quick: model.batch(size), step(model), reference, targets=targets,
                trains=True)  # fmt: skip


CASES = [
    _case("MLP step, batch 32", mlp, 32, jax=1.4, inductor=4.5, torch=5.5),
    _case("MLP step, batch 256", mlp, 256, jax=1.25, inductor=2.5, torch=2.8),
    _case("CNN step, batch 32", cnn, 32),
    _case("LSTM step, batch 16", lstm, 16),
    _case("char-GPT step, batch 8", chargpt, 8, jax=1.5, inductor=1.5, torch=1.5),
]
