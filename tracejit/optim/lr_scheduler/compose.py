"""Schedules made of schedules.

Invariant: all parts drive the same optimizer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from tracejit.errors import at_user_line
from tracejit.optim.lr_scheduler.base import LRScheduler, assign, number_of
from tracejit.optim.optimizer import Optimizer


class SequentialLR(LRScheduler):
    """One scheduler after the other, changing at `milestones`."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Any], milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not schedulers:
            raise ValueError(at_user_line(f"{type(self).__name__} expects at least one scheduler"))
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                at_user_line(
                    f"{type(self).__name__} expects {len(schedulers) - 1} milestones for "
                    f"{len(schedulers)} schedulers, got {len(milestones)}"
                )
            )
        for scheduler in schedulers:
            if scheduler.optimizer is not optimizer:
                raise ValueError(at_user_line("all schedulers must belong to the same optimizer"))
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            assign(group, "lr", group["initial_lr"])
        for scheduler in self._schedulers:  # take back what their construction did
            scheduler.last_epoch -= 1
        self._schedulers[0].is_initial = True
        self._schedulers[0].step()
        self._schedulers[0].is_initial = False
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch with the scheduler whose turn it is."""
        self.last_epoch += 1
        which = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[which]
        if which > 0 and self._milestones[which - 1] == self.last_epoch:
            scheduler.step(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        skip = ("optimizer", "_schedulers")
        state = {k: v for k, v in self.__dict__.items() if k not in skip}
        state["_schedulers"] = [s.state_dict() for s in self._schedulers]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.__dict__.update({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, saved in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(saved)


class ChainedScheduler(LRScheduler):
    """Several schedulers stepped together."""

    def __init__(self, schedulers: Sequence[Any], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ValueError(at_user_line(f"{type(self).__name__} expects at least one scheduler"))
        self.optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        if any(s.optimizer is not self.optimizer for s in schedulers):
            raise ValueError(at_user_line("all schedulers must belong to the same optimizer"))
        self._schedulers = list(schedulers)
        self._last_lr = [number_of(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Step every scheduler."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = [number_of(group["lr"]) for group in self.optimizer.param_groups]

    state_dict = SequentialLR.state_dict
    load_state_dict = SequentialLR.load_state_dict
