"""`ReduceLROnPlateau`: reduce the rate when a metric stops improving.

Invariant: it steps by a metric, not by the epoch.
"""

from __future__ import annotations

from typing import Any

from tracejit.errors import at_user_line
from tracejit.optim.lr_scheduler.base import LRScheduler, assign, number_of
from tracejit.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """The rate times `factor` after more than `patience` epochs without improvement.

    mode            'min' or 'max': which way is better.
    threshold       an improvement must exceed this, relative ('rel') or absolute ('abs').
    cooldown        epochs to wait after a reduction; min_lr: a floor for all or for each group.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        if factor >= 1.0:
            raise ValueError(at_user_line("Factor should be < 1.0."))
        if not isinstance(optimizer, Optimizer):
            raise TypeError(at_user_line(f"{type(optimizer).__name__} is not an Optimizer"))
        if mode not in ("min", "max"):
            raise ValueError(at_user_line(f"mode {mode} is unknown!"))
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(at_user_line(f"threshold mode {threshold_mode} is unknown!"))
        groups = len(optimizer.param_groups)
        floors = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * groups
        if len(floors) != groups:
            raise ValueError(at_user_line(f"expected {groups} min_lrs, got {len(floors)}"))
        self.optimizer = optimizer
        self.factor = factor
        self.min_lrs = floors
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.last_epoch = 0
        self._last_lr = [number_of(group["lr"]) for group in optimizer.param_groups]
        self._reset()

    def _reset(self) -> None:
        self.best = float("inf") if self.mode == "min" else float("-inf")
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Note the metric of an epoch; reduce the rates if it is time."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [number_of(group["lr"]) for group in self.optimizer.param_groups]

    def _reduce(self) -> None:
        for group, floor in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, floor)
            if old - new > self.eps:
                assign(group, "lr", new)

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are being waited out."""
        return self.cooldown_counter > 0

    def is_better(self, a: float, best: float) -> bool:
        """Whether `a` improves on `best` by more than the threshold."""
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            margin = best * (1.0 + sign * self.threshold)
        else:
            margin = best + sign * self.threshold
        return a < margin if self.mode == "min" else a > margin
