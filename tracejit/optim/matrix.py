"""Optimizers that see a parameter as a matrix: Adafactor, Muon.

Invariant: updates are in place; nothing is read back to Python.
"""

from __future__ import annotations

import math
from typing import Any

from tracejit import dtypes
from tracejit.errors import at_user_line
from tracejit.optim.optimizer import (
    Optimizer,
    PerStep,
    advance_steps,
    check_options,
    gradient,
    scalars,
    zeros_for,
)


class Adafactor(Optimizer):
    """Adam with the second moment kept as one row and one column (Shazeer and Stern, 2018).

    beta2_decay  exponent of the decay of the moments; eps: (floor of the moments, of the scale).
    d            clip updates whose root mean square exceeds it.
    """

    def __init__(
        self, params: Any, lr: Any = 1e-2, beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0,
        *, foreach: bool | None = None, maximize: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, weight_decay=weight_decay)
        if eps[0] is not None and eps[0] < 0.0:
            raise ValueError(at_user_line(f"epsilon1 should be >= 0 but is: {eps[0]}"))
        if eps[1] < 0.0:
            raise ValueError(at_user_line(f"epsilon2 should be >= 0 but is: {eps[1]}"))
        if beta2_decay > 0:
            raise ValueError(at_user_line(f"beta2_decay should be <= 0 but is: {beta2_decay}"))
        if d < 1.0:
            raise ValueError(at_user_line(f"Clipping threshold d should be >= 1 but is: {d}"))
        super().__init__(params, {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d,
            "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
        })  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, decay_power, d, decay = scalars(group, "lr", "beta2_decay", "d", "weight_decay")
        for p in params:
            self._make_state(p)
        advance_steps([self.state[p] for p in params], group, self)

        def at_step(t: Any) -> tuple[Any, Any]:
            return t**decay_power, (1 / t.sqrt()).clamp(max=lr)

        factors = PerStep(at_step)
        for p in params:
            share, rate = factors(self.state[p]["step"])
            g = gradient(group, p)
            tiny, least = group["eps"]
            tiny = dtypes.finfo(p.dtype).eps if tiny is None else tiny
            size = math.sqrt(p.numel())
            alpha = (p.norm() / size).clamp(min=least) * rate
            if decay != 0:
                p.mul_(1 - lr * decay)
            spread = self._spread(self.state[p], g, share, tiny)
            step = spread.clamp(min=tiny * tiny).rsqrt() * g
            clip = (step.norm() / (d * size)).clamp(min=1.0)
            p.sub_(step * (alpha / clip))

    def _make_state(self, p: Any) -> None:
        state = self.state[p]
        if state:
            return
        if p.ndim > 1:
            state["row_var"] = p.new_zeros((*p.shape[:-1], 1))
            state["col_var"] = p.new_zeros((*p.shape[:-2], 1, p.shape[-1]))
        else:
            state["variance"] = zeros_for(p)

    @staticmethod
    def _spread(state: dict[str, Any], g: Any, share: Any, tiny: float) -> Any:
        """The estimate of the mean squared gradient."""
        squares = g.square()
        if "variance" in state:
            held = state["variance"]
            return held.add_((squares - held) * share)
        rows, columns = state["row_var"], state["col_var"]
        rows.add_((squares.mean(-1, keepdim=True) - rows) * share)
        columns.add_((squares.mean(-2, keepdim=True) - columns) * share)
        return rows * columns / rows.mean(-2, keepdim=True).clamp(min=tiny)


class Muon(Optimizer):
    """Momentum whose update is made (nearly) orthogonal (Jordan et al., 2024); matrices only.

    ns_coefficients, ns_steps  of the Newton-Schulz iteration, which runs in the parameter's dtype.
    adjust_lr_fn  'original' (default) or 'match_rms_adamw': how the rate follows the shape.
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315), eps: float = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: str | None = None,
    ) -> None:  # fmt: skip
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                at_user_line(f"Adjust learning rate function {adjust_lr_fn} is not supported")
            )
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        })  # fmt: skip
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(
                        at_user_line(
                            "Muon only supports 2D parameters whereas we found a "
                            f"parameter with size: {tuple(p.shape)}"
                        )
                    )

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, decay, momentum = scalars(group, "lr", "weight_decay", "momentum")
        for p in params:
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = zeros_for(p)
            held = state["momentum_buffer"]
            held.add_((p.grad - held) * (1 - momentum))
            step = p.grad + (held - p.grad) * momentum if group["nesterov"] else held
            step = orthogonalized(step, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rows, columns = p.shape
            if group["adjust_lr_fn"] == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(rows, columns))
            else:
                scale = math.sqrt(max(1, rows / columns))
            p.mul_(1 - lr * decay)
            p.sub_(step * (lr * scale))


def orthogonalized(matrix: Any, coefficients: tuple[float, ...], steps: int, eps: float) -> Any:
    """Newton-Schulz iterations towards the nearest orthogonal matrix."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.t() if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x.matmul(x.t())
        x = x * a + (gram * b + gram.matmul(gram) * c).matmul(x)
    return x.t() if tall else x
