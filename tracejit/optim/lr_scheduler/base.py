"""`LRScheduler`: epochs counted, rates written to the optimizer, state saved.

Invariant: a scheduler writes hyper-parameters of groups and nothing else that a step reads; a
tensor learning rate is written in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.modes import no_grad
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.optim.optimizer import Optimizer
from tracejit.tensor import Tensor


def number_of(value: Any) -> Any:
    """A learning rate as a number (a copy, if it is a tensor)."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def assign(group: dict[str, Any], name: str, value: Any) -> None:
    """Set an option of a group; a tensor is written in place."""
    if isinstance(group[name], Tensor):
        with no_grad():
            group[name].fill_(float(value))
    else:
        group[name] = value


class LRScheduler(metaclass=WatchedClass):
    """Base class: a subclass defines ``get_lr()``, the rates of epoch ``self.last_epoch``.

    last_epoch  the epoch to continue from; -1 starts anew and notes the present rates as
                ``initial_lr``.
    """

    optimizer: Optimizer
    base_lrs: list[Any]
    last_epoch: int

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(at_user_line(f"{type(optimizer).__name__} is not an Optimizer"))
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", number_of(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when "
                               "resuming an optimizer")  # fmt: skip
        self.base_lrs = [number_of(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._last_lr: list[Any] = []
        self.is_initial = True
        self.step()
        self.is_initial = False

    def get_lr(self) -> list[Any]:
        """The rates of epoch ``self.last_epoch``, one for each group."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} defines no get_lr()"))

    def get_last_lr(self) -> list[Any]:
        """The rates that the last `step` set."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch (or to `epoch`) and set the rates."""
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            values = self.get_lr()
        else:
            self.last_epoch = epoch
            closed = getattr(self, "_get_closed_form_lr", None)
            values = closed() if closed is not None else self.get_lr()
        self._set(values)

    def _set(self, values: Sequence[Any]) -> None:
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            assign(group, "lr", lr)
        self._last_lr = [number_of(group["lr"]) for group in self.optimizer.param_groups]

    def rates(self) -> list[Any]:
        """The present rates."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (functions are left out, callable objects' state kept)."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.__dict__.update(state_dict)
