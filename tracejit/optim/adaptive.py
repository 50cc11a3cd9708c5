"""Optimizers that scale by gradients seen so far: Adagrad, Adadelta, RMSprop.

Invariant: updates are in place; nothing is read back to Python.
"""

from __future__ import annotations

from typing import Any

from tracejit.errors import at_user_line
from tracejit.optim.optimizer import (
    Optimizer,
    PerStep,
    advance_steps,
    check_options,
    decayed,
    group_options,
    scalars,
    zeros_for,
)


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of squared gradients (Duchi et al., 2011)."""

    def __init__(
        self, params: Any, lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        check_options(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, epsilon=eps,
                      initial_accumulator_value=initial_accumulator_value)  # fmt: skip
        super().__init__(params, group_options(
            lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value, maximize=maximize,
            foreach=foreach, differentiable=differentiable, fused=fused,
        ))  # fmt: skip
        for group in self.param_groups:
            for p in group["params"]:
                total = p.new_full(tuple(p.shape), group["initial_accumulator_value"])
                self.state[p]["sum"] = total

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, lr_decay, decay, eps = scalars(group, "lr", "lr_decay", "weight_decay", "eps")
        advance_steps([self.state[p] for p in params], group, self)
        rate = PerStep(lambda t: lr / ((t - 1) * lr_decay + 1))
        for p in params:
            state = self.state[p]
            g = decayed(group, p, decay)
            total = state["sum"].add_(g * g)
            p.sub_(g * rate(state["step"]) / (total.sqrt() + eps))


class Adadelta(Optimizer):
    """Steps in units of earlier steps (Zeiler, 2012)."""

    def __init__(
        self, params: Any, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6,
        weight_decay: float = 0, foreach: bool | None = None, *, capturable: bool = False,
        maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, epsilon=eps, weight_decay=weight_decay)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(at_user_line(f"Invalid rho value: {rho}"))
        super().__init__(params, group_options(
            lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, rho, eps, decay = scalars(group, "lr", "rho", "eps", "weight_decay")
        for p in params:
            if not self.state[p]:
                self.state[p].update(square_avg=zeros_for(p), acc_delta=zeros_for(p))
        advance_steps([self.state[p] for p in params], group, self)
        for p in params:
            state = self.state[p]
            g = decayed(group, p, decay)
            squares = state["square_avg"].mul_(rho).add_(g * g * (1 - rho))
            delta = (state["acc_delta"] + eps).sqrt() / (squares + eps).sqrt() * g
            state["acc_delta"].mul_(rho).add_(delta * delta * (1 - rho))
            p.sub_(delta * lr)


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients (Hinton, 2012).

    centered  take the squared running mean out first.
    """

    def __init__(
        self, params: Any, lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0, momentum: float = 0, centered: bool = False,
        capturable: bool = False, foreach: bool | None = None, maximize: bool = False,
        differentiable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, epsilon=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, group_options(
            lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered,
            weight_decay=weight_decay, maximize=maximize,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, alpha, eps, decay, momentum = scalars(
            group, "lr", "alpha", "eps", "weight_decay", "momentum"
        )
        for p in params:
            self._make_state(group, p, momentum)
        advance_steps([self.state[p] for p in params], group, self)
        for p in params:
            state = self.state[p]
            g = decayed(group, p, decay)
            spread = state["square_avg"].mul_(alpha).add_(g * g * (1 - alpha))
            if group["centered"]:
                mean = state["grad_avg"].add_((g - state["grad_avg"]) * (1 - alpha))
                spread = spread - mean * mean
            scaled = g / (spread.sqrt() + eps)
            if momentum > 0:
                scaled = state["momentum_buffer"].mul_(momentum).add_(scaled)
            p.sub_(scaled * lr)

    def _make_state(self, group: dict[str, Any], p: Any, momentum: Any) -> None:
        state = self.state[p]
        if "square_avg" not in state:
            state["square_avg"] = zeros_for(p)
            if momentum > 0:
                state["momentum_buffer"] = zeros_for(p)
            if group["centered"]:
                state["grad_avg"] = zeros_for(p)
