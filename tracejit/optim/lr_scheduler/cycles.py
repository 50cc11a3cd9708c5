"""Schedules that rise and fall: `CyclicLR` and `OneCycleLR` (Smith, 2015 and 2017).

Invariant: with `cycle_momentum` the momentum (or beta1) moves against the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.errors import at_user_line
from tracejit.optim.lr_scheduler.base import LRScheduler, assign
from tracejit.optim.optimizer import Optimizer


def _per_group(optimizer: Optimizer, value: Any, name: str) -> list[Any]:
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(at_user_line(f"{name} must have {count} values, got {len(value)}"))
    return list(value)


def set_momentum(group: dict[str, Any], value: Any) -> None:
    """Write a group's momentum, or its first beta."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _check_momentum(optimizer: Optimizer) -> None:
    if not {"momentum", "betas"} & optimizer.defaults.keys():
        raise ValueError(
            at_user_line("optimizer must support momentum or beta1 with `cycle_momentum` enabled")
        )


class CyclicLR(LRScheduler):
    """Between `base_lr` and `max_lr` and back, again and again.

    mode  'triangular', 'triangular2' (the height halves each cycle) or 'exp_range' (it shrinks by
          ``gamma ** iteration``); or give `scale_fn` and `scale_mode` ('cycle' or 'iterations').
    """

    def __init__(
        self, optimizer: Optimizer, base_lr: Any, max_lr: Any, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle",
        cycle_momentum: bool = True, base_momentum: Any = 0.8, max_momentum: Any = 0.9,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(at_user_line("mode is invalid and scale_fn is None"))
        base_lrs = _per_group(optimizer, base_lr, "base_lr")
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                assign(group, "lr", lr)
        self.max_lrs = _per_group(optimizer, max_lr, "max_lr")
        up = float(step_size_up)
        down = up if step_size_down is None else float(step_size_down)
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn = scale_fn
        self.scale_mode = scale_mode if scale_fn else (
            "iterations" if mode == "exp_range" else "cycle"
        )  # fmt: skip
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            _check_momentum(optimizer)
            self.base_momentums = _per_group(optimizer, base_momentum, "base_momentum")
            self.max_momentums = _per_group(optimizer, max_momentum, "max_momentum")
            if last_epoch == -1:
                for group, momentum in zip(optimizer.param_groups, self.max_momentums, strict=True):
                    set_momentum(group, momentum)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height of a cycle."""
        if self._scale_fn is not None:
            return self._scale_fn(x)
        if self.mode == "triangular":
            return 1.0
        return 1 / (2.0 ** (x - 1)) if self.mode == "triangular2" else float(self.gamma**x)

    def get_lr(self) -> list[Any]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        share = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            bounds = zip(self.base_momentums, self.max_momentums, strict=True)
            for group, (low, high) in zip(self.optimizer.param_groups, bounds, strict=True):
                set_momentum(group, high - (high - low) * share * scale)
        pairs = zip(self.base_lrs, self.max_lrs, strict=True)
        return [low + (high - low) * share * scale for low, high in pairs]

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state.pop("_scale_fn")
        return state


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (1 + math.cos(math.pi * share))


def _linear(start: float, end: float, share: float) -> float:
    return (end - start) * share + start


class OneCycleLR(LRScheduler):
    """One rise to `max_lr` and one fall far below, stepped after every batch.

    total_steps, or epochs and steps_per_epoch  the length.
    pct_start         the share of it that rises.
    div_factor        max_lr over the first rate; final_div_factor: the first over the last.
    three_phase       fall back to the first rate symmetrically, then on to the last.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: Any, total_steps: int | None = None,
        epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
        anneal_strategy: str = "cos", cycle_momentum: bool = True, base_momentum: Any = 0.85,
        max_momentum: Any = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
        three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not 0 <= pct_start <= 1:
            raise ValueError(
                at_user_line(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                at_user_line(
                    "anneal_strategy must be one of 'cos' or 'linear', instead got "
                    f"{anneal_strategy}"
                )
            )
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._phases = self._make_phases(pct_start, three_phase)
        if last_epoch == -1:
            highest = _per_group(optimizer, max_lr, "max_lr")
            for group, high in zip(optimizer.param_groups, highest, strict=True):
                first = high / div_factor
                group.update(initial_lr=first, max_lr=high, min_lr=first / final_div_factor)
        if cycle_momentum:
            _check_momentum(optimizer)
            self._start_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _start_momentum(optimizer: Optimizer, base: Any, top: Any, last_epoch: int) -> None:
        lows = _per_group(optimizer, base, "base_momentum")
        highs = _per_group(optimizer, top, "max_momentum")
        if last_epoch == -1:
            for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
                set_momentum(group, high)
                group.update(base_momentum=low, max_momentum=high)

    def _make_phases(self, pct_start: float, three_phase: bool) -> list[tuple[Any, ...]]:
        """(last step, rate from, rate to, momentum from, momentum to) of each phase."""
        peak = float(pct_start * self.total_steps) - 1
        down = ("max_lr", "min_lr", "base_momentum", "max_momentum")
        up = (peak, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not three_phase:
            return [up, (self.total_steps - 1, *down)]
        back = ("max_lr", "initial_lr", "base_momentum", "max_momentum")
        end = ("initial_lr", "min_lr", "max_momentum", "max_momentum")
        middle = float(2 * pct_start * self.total_steps) - 2
        return [up, (middle, *back), (self.total_steps - 1, *end)]

    def get_lr(self) -> list[Any]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(
                at_user_line(
                    f"Tried to step {step} times. The specified number of total steps is "
                    f"{self.total_steps}"
                )
            )
        anneal = _cosine if self._anneal_func_type == "cos" else _linear
        start, left = 0.0, list(self._phases)
        while step > left[0][0] and len(left) > 1:
            start = left.pop(0)[0]
        end, lr_from, lr_to, m_from, m_to = left[0]
        share = (step - start) / (end - start)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(anneal(group[lr_from], group[lr_to], share))
            if self.cycle_momentum:
                set_momentum(group, anneal(group[m_from], group[m_to], share))
        return rates


def _total_steps(total: int | None, epochs: int | None, per_epoch: int | None) -> int:
    if total is not None:
        if total <= 0 or not isinstance(total, int):
            raise ValueError(
                at_user_line(f"Expected positive integer total_steps, but got {total}")
            )
        return total
    if epochs is None or per_epoch is None:
        raise ValueError(
            at_user_line("You must define either total_steps OR (epochs AND steps_per_epoch)")
        )
    if not isinstance(epochs, int) or epochs <= 0:
        raise ValueError(at_user_line(f"Expected positive integer epochs, but got {epochs}"))
    if not isinstance(per_epoch, int) or per_epoch <= 0:
        raise ValueError(
            at_user_line(f"Expected positive integer steps_per_epoch, but got {per_epoch}")
        )
    return epochs * per_epoch
