"""Averages of a model's weights over training: plain (SWA) or exponential (EMA).

Invariant: the averaged model is a copy; averaging never touches the model that is trained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.nn.batchnorm import _BatchNorm
from tracejit.nn.module import Module
from tracejit.optim.lr_scheduler.base import LRScheduler
from tracejit.optim.optimizer import Optimizer

Average = Callable[[Any, Any, Any], Any]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average: ``decay * average + (1 - decay) * parameter``."""
    if not 0.0 <= decay <= 1.0:
        raise ValueError(at_user_line(f"the decay must be in [0, 1], not {decay}"))

    def average(averaged: Any, parameter: Any, count: Any) -> Any:
        return averaged * decay + parameter * (1 - decay)

    return average


def _each(average: Average) -> Callable[..., None]:
    """`average` for lists of tensors, written into the averages."""

    def averages(averaged: Any, current: Any, count: Any) -> None:
        with no_grad():
            for mine, other in zip(averaged, current, strict=True):
                mine.copy_(average(mine, other, count))

    return averages


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[..., None]:
    """`get_ema_avg_fn` for lists of parameters, in place."""
    return _each(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Callable[..., None]:
    """`get_swa_avg_fn` for lists of parameters, in place."""
    return _each(get_swa_avg_fn())


def get_swa_avg_fn() -> Average:
    """The plain average of all models seen (Izmailov et al., 2018)."""

    def average(averaged: Any, parameter: Any, count: Any) -> Any:
        return averaged + (parameter - averaged) / (count + 1)

    return average


class AveragedModel(Module):
    """A copy of a model whose parameters are averages over calls of `update_parameters`.

    avg_fn       (average, parameter, number averaged) to the new average; default: the mean.
    use_buffers  average floating buffers too; otherwise buffers are copied.

    Example: ``ema = AveragedModel(net, avg_fn=get_ema_avg_fn(0.99))``.
    """

    n_averaged: Any

    def __init__(
        self, model: Module, device: Any = None, avg_fn: Average | None = None,
        multi_avg_fn: Any = None, use_buffers: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError(
                at_user_line("Only one of avg_fn and multi_avg_fn should be provided")
            )
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=dtypes.int64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def _tensors(self, model: Module) -> list[Any]:
        found = list(model.parameters())
        return found + list(model.buffers()) if self.use_buffers else found

    def update_parameters(self, model: Module) -> None:
        """Take the model's present parameters into the average."""
        with no_grad():
            own, given = self._tensors(self.module), self._tensors(model)
            if int(self.n_averaged) == 0:
                for a, p in zip(own, given, strict=True):
                    a.copy_(p)
            elif self.multi_avg_fn is not None:
                self.multi_avg_fn(own, given, self.n_averaged)
            else:
                average = self.avg_fn or get_swa_avg_fn()
                for a, p in zip(own, given, strict=True):
                    a.copy_(average(a, p, self.n_averaged))
            if not self.use_buffers:
                for a, p in zip(self.module.buffers(), model.buffers(), strict=True):
                    a.copy_(p)
            self.n_averaged.add_(1)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Recompute the running statistics of all batch norms in one pass over the data."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    was_training = model.training
    model.train()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    with no_grad():
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """From the present rate to `swa_lr` in `anneal_epochs`, then constant.

    anneal_strategy  'cos' or 'linear'.
    """

    def __init__(
        self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10,
        anneal_strategy: str = "cos", last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                at_user_line(
                    "anneal_strategy must by one of 'cos' or 'linear', instead got "
                    f"{anneal_strategy}"
                )
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(
                at_user_line(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
            )
        count = len(optimizer.param_groups)
        rates = list(swa_lr) if isinstance(swa_lr, (list, tuple)) else [swa_lr] * count
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch: int) -> float:
        t = max(0.0, min(1.0, epoch / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(max(0, step - 1)), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            goal, lr = group["swa_lr"], group["lr"]
            first = goal if before == 1 else (lr - before * goal) / (1 - before)
            rates.append(goal * now + first * (1 - now))
        return rates


__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
    "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip
