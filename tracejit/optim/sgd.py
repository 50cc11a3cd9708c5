"""Stochastic gradient descent, and Rprop, ASGD which average or adapt its steps.

Invariant: updates are in place; nothing is read back to Python.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.optim.optimizer import (
    Optimizer,
    PerStep,
    advance_steps,
    check_options,
    decayed,
    gradient,
    group_options,
    scalars,
    zeros_for,
)


class SGD(Optimizer):
    """Gradient descent with momentum (Sutskever et al., 2013).

    momentum   factor of the running direction; dampening reduces the gradient's share in it.
    nesterov   look ahead along the running direction.
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
        foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                at_user_line("Nesterov momentum requires a momentum and zero dampening")
            )
        super().__init__(params, group_options(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
            nesterov=nesterov, maximize=maximize,
            foreach=foreach, differentiable=differentiable, fused=fused,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, momentum, dampening, decay = scalars(
            group, "lr", "momentum", "dampening", "weight_decay"
        )
        for p in params:
            g = decayed(group, p, decay)
            if momentum != 0:
                g = self._direction(p, g, group, momentum, dampening)
            p.add_(g * -lr)

    def _direction(self, p: Any, g: Any, group: Any, momentum: Any, dampening: Any) -> Any:
        state = self.state[p]
        held = state.get("momentum_buffer")
        if held is None:
            held = state["momentum_buffer"] = g.detach().clone()
        else:
            held.mul_(momentum).add_(g * (1 - dampening))
        return g + held * momentum if group["nesterov"] else held


class ASGD(Optimizer):
    """Averaged gradient descent (Polyak and Juditsky, 1992): ``state["ax"]`` is the average."""

    def __init__(
        self, params: Any, lr: Any = 1e-2, lambd: float = 1e-4, alpha: float = 0.75,
        t0: float = 1e6, weight_decay: float = 0, foreach: bool | None = None,
        maximize: bool = False, differentiable: bool = False, capturable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, weight_decay=weight_decay)
        super().__init__(params, group_options(
            lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, maximize=maximize,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, lambd, alpha, t0, decay = scalars(group, "lr", "lambd", "alpha", "t0", "weight_decay")
        for p in params:
            state = self.state[p]
            if not state:
                state["eta"] = tensor(float(group["lr"]), dtype=dtypes.float64, device=p.device)
                state["mu"] = tensor(1.0, dtype=dtypes.float64, device=p.device)
                state["ax"] = zeros_for(p)
        advance_steps([self.state[p] for p in params], group, self)
        eta_of = PerStep(lambda t: lr / (t * (lambd * lr) + 1) ** alpha)
        mu_of = PerStep(lambda t: 1 / (t - t0).clamp(min=1.0))
        for p in params:
            state = self.state[p]
            g = decayed(group, p, decay)
            p.mul_(1 - state["eta"] * lambd)
            p.add_(g * -state["eta"])
            ax = state["ax"]
            ax.copy_(where_of(state["mu"] == 1, p, ax + (p - ax) * state["mu"], ax.dtype))
            state["eta"].copy_(eta_of(state["step"]))
            state["mu"].copy_(mu_of(state["step"]))


class Rprop(Optimizer):
    """Resilient backpropagation (Riedmiller and Braun, 1993): steps by the gradient's sign.

    etas        factors by which a step shrinks or grows.
    step_sizes  the least and greatest step.
    """

    def __init__(
        self, params: Any, lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False,
        foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(at_user_line(f"Invalid eta values: {etas[0]}, {etas[1]}"))
        super().__init__(params, group_options(
            lr=lr, etas=etas, step_sizes=step_sizes, maximize=maximize,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        (shrink, grow), (least, most) = group["etas"], group["step_sizes"]
        for p in params:
            state = self.state[p]
            if not state:
                state["prev"] = zeros_for(p)
                state["step_size"] = zeros_for(p) + group["lr"]
        advance_steps([self.state[p] for p in params], group, self)
        for p in params:
            state = self.state[p]
            g = gradient(group, p)
            agreement = g * state["prev"]
            factor = where_of(agreement > 0, grow, 1.0, p.dtype)
            factor = where_of(agreement < 0, shrink, factor, p.dtype)
            state["step_size"].mul_(factor).clamp_(least, most)
            g = where_of(agreement < 0, 0.0, g, p.dtype)
            p.sub_(g.sign() * state["step_size"])
            state["prev"].copy_(g)
