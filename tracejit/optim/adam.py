"""Adam and its kin: AdamW, NAdam, RAdam, Adamax.

Invariant: bias corrections are 0-d float64 tensors computed from the step count, never Python
numbers, so every step of a compiled loop is the same trace.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.eager.pointwise import where_of
from tracejit.errors import at_user_line
from tracejit.optim.at_once import update_adam
from tracejit.optim.optimizer import (
    Optimizer,
    PerStep,
    advance_steps,
    check_betas,
    check_options,
    decayed,
    gradient,
    group_options,
    scalars,
    zeros_for,
)
from tracejit.tensor import Tensor


def regularised(group: dict[str, Any], p: Any, lr: Any, decay: Any) -> Any:
    """The gradient of `p`; weight decay shrinks `p` itself (decoupled) or adds to the gradient."""
    if decay != 0 and group["decoupled_weight_decay"]:
        p.mul_(1 - lr * decay)
        return gradient(group, p)
    return decayed(group, p, decay)


def betas_of(group: dict[str, Any]) -> tuple[Any, Any]:
    """The group's two betas (guarded by value: a tuple is replaced, not written to)."""
    beta1, beta2 = group["betas"]
    return beta1, beta2


def corrections(beta1: Any, beta2: Any) -> PerStep:
    """``1 - beta1**t`` and ``1 - beta2**t`` for a step count t."""
    return PerStep(lambda t: (1 - beta1**t, 1 - beta2**t))


class _Moments(Optimizer):
    """What the family shares: the options and two running moments for each parameter."""

    moments: tuple[str, ...] = ("exp_avg", "exp_avg_sq")

    def prepare(self, group: dict[str, Any], params: list[Any]) -> None:
        """Make missing state, then count the step."""
        for p in params:
            state = self.state[p]
            if not any(k != "step" for k in state):
                for name in self.moments:
                    state[name] = zeros_for(p)
                self.more_state(group, p, state)
        advance_steps([self.state[p] for p in params], group, self)

    def more_state(self, group: dict[str, Any], p: Any, state: dict[str, Any]) -> None:
        """Put further tensors into a fresh state."""


def track(state: dict[str, Any], g: Any, beta1: Any, beta2: Any) -> tuple[Any, Any]:
    """Move both moments towards the gradient and its square."""
    first, second = state["exp_avg"], state["exp_avg_sq"]
    first.add_((g - first) * (1 - beta1))
    second.mul_(beta2).add_(g * g * (1 - beta2))
    return first, second


class Adam(_Moments):
    """Steps scaled by running moments of the gradient (Kingma and Ba, 2014).

    amsgrad                divide by the largest second moment so far (Reddi et al., 2018).
    decoupled_weight_decay  shrink the parameters instead of adding to the gradient (AdamW).
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, epsilon=eps, weight_decay=weight_decay)
        check_betas(betas)
        if foreach and not capturable:
            for name, value in (("lr", lr), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
                if isinstance(value, Tensor):
                    raise ValueError(
                        at_user_line(
                            f"{name} as a Tensor is not supported for capturable=False "
                            "and foreach=True"
                        )
                    )
        super().__init__(params, group_options(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            maximize=maximize, decoupled_weight_decay=decoupled_weight_decay,
            foreach=foreach, capturable=capturable, differentiable=differentiable, fused=fused,
        ))  # fmt: skip

    def more_state(self, group: dict[str, Any], p: Any, state: dict[str, Any]) -> None:
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_for(p)

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, eps, decay = scalars(group, "lr", "eps", "weight_decay")
        beta1, beta2 = betas_of(group)
        self.prepare(group, params)
        factors = PerStep(lambda t: (lr / (1 - beta1**t), 1 / (1 - beta2**t).sqrt()))
        states = [self.state[p] for p in params]
        if update_adam(group, params, states, (lr, eps, decay, beta1, beta2), factors):
            return
        for p in params:
            state = self.state[p]
            g = regularised(group, p, lr, decay)
            first, second = track(state, g, beta1, beta2)
            if group["amsgrad"]:
                second = state["max_exp_avg_sq"].copy_(state["max_exp_avg_sq"].maximum(second))
            step_size, scale2 = factors(state["step"])
            p.sub_(first * step_size / (second.sqrt() * scale2 + eps))


class AdamW(Adam):
    """`Adam` with decoupled weight decay (Loshchilov and Hutter, 2017)."""

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
        maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
        differentiable: bool = False, fused: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach,
            capturable=capturable, differentiable=differentiable, fused=fused,
            decoupled_weight_decay=True,
        )  # fmt: skip


class NAdam(_Moments):
    """Adam with Nesterov momentum (Dozat, 2016)."""

    def __init__(
        self, params: Any, lr: Any = 2e-3, betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0, momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
        maximize: bool = False, capturable: bool = False, differentiable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, epsilon=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        check_betas(betas)
        super().__init__(params, group_options(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
            momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def more_state(self, group: dict[str, Any], p: Any, state: dict[str, Any]) -> None:
        state["mu_product"] = tensor(1.0, dtype=dtypes.float64, device=p.device)

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, eps, decay, slowing = scalars(group, "lr", "eps", "weight_decay", "momentum_decay")
        beta1, beta2 = betas_of(group)
        self.prepare(group, params)

        def momenta(t: Any) -> tuple[Any, Any, Any]:
            now = (1 - 0.5 * 0.96 ** (t * slowing)) * beta1
            after = (1 - 0.5 * 0.96 ** ((t + 1) * slowing)) * beta1
            return now, after, 1 - beta2**t

        factors = PerStep(momenta)
        for p in params:
            state = self.state[p]
            g = regularised(group, p, lr, decay)
            now, after, correction2 = factors(state["step"])
            product = state["mu_product"].mul_(now)
            first, second = track(state, g, beta1, beta2)
            root = (second / correction2).sqrt() + eps
            p.sub_(g * (lr * (1 - now) / (1 - product)) / root)
            p.sub_(first * (lr * after / (1 - product * after)) / root)


class RAdam(_Moments):
    """Adam whose adaptive step waits until its variance is known (Liu et al., 2019)."""

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0, decoupled_weight_decay: bool = False, *,
        foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
        differentiable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, epsilon=eps, weight_decay=weight_decay)
        check_betas(betas)
        super().__init__(params, group_options(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
            decoupled_weight_decay=decoupled_weight_decay,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, eps, decay = scalars(group, "lr", "eps", "weight_decay")
        beta1, beta2 = betas_of(group)
        self.prepare(group, params)
        limit = 2 / (1 - beta2) - 1

        def rectification(t: Any) -> tuple[Any, Any, Any, Any]:
            correction1, correction2 = 1 - beta1**t, 1 - beta2**t
            length = limit - 2 * t * (1 - correction2) / correction2
            known = length > 5.0
            safe: Any = where_of(known, length, 6.0, dtypes.float64)
            ratio = (safe - 4) * (safe - 2) * limit / ((limit - 4) * (limit - 2) * safe)
            return correction1, correction2.sqrt(), known, ratio.sqrt()

        factors = PerStep(rectification)
        for p in params:
            state = self.state[p]
            g = regularised(group, p, lr, decay)
            first, second = track(state, g, beta1, beta2)
            correction1, root2, known, ratio = factors(state["step"])
            adaptive = ratio * root2 / (second.sqrt() + eps)
            p.sub_(first * (lr / correction1) * where_of(known, adaptive, 1.0, p.dtype))


class Adamax(_Moments):
    """Adam with the infinity norm (Kingma and Ba, 2014)."""

    moments = ("exp_avg", "exp_inf")

    def __init__(
        self, params: Any, lr: Any = 2e-3, betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0, foreach: bool | None = None, *,
        maximize: bool = False, differentiable: bool = False, capturable: bool = False,
    ) -> None:  # fmt: skip
        check_options(lr=lr, epsilon=eps, weight_decay=weight_decay)
        check_betas(betas)
        super().__init__(params, group_options(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
            foreach=foreach, capturable=capturable, differentiable=differentiable,
        ))  # fmt: skip

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        lr, eps, decay = scalars(group, "lr", "eps", "weight_decay")
        beta1, beta2 = betas_of(group)
        self.prepare(group, params)
        step_size = PerStep(lambda t: lr / (1 - beta1**t))
        for p in params:
            state = self.state[p]
            g = decayed(group, p, decay)
            first, norm = state["exp_avg"], state["exp_inf"]
            first.add_((g - first) * (1 - beta1))
            norm.copy_((norm * beta2).maximum(g.abs() + eps))
            p.sub_(first * step_size(state["step"]) / norm)
