"""``tracejit.profiler``: torch's profiler over the steps of a schedule.

Invariant: what is timed, and how, is the business of ``tracejit.autograd.profiler`` alone; here is
said when.
"""

from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from tracejit.autograd import profiler as _blocks
from tracejit.autograd.profiler import record_function

__all__ = [
    "ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule",
    "supported_activities", "tensorboard_trace_handler",
]  # fmt: skip


class ProfilerActivity(enum.Enum):
    """What torch can watch; here all is timed by the host's clock in any case."""

    CPU = 0
    CUDA = 2
    XPU = 1
    MTIA = 3
    HPU = 4


class ProfilerAction(enum.Enum):
    """What a step of a schedule does."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """CPU: the host's clock."""
    return {ProfilerActivity.CPU}


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0,
    skip_first_wait: int = 0,
) -> Callable[[int], ProfilerAction]:  # fmt: skip
    """After `skip_first` steps, cycles of `wait`, `warmup` and `active` steps, `repeat` of them.

    repeat           0 goes on for ever.
    skip_first_wait  not 0 leaves the first cycle's `wait` out.
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise ValueError("schedule: wait, warmup, repeat and skip_first must not be negative, "
                         "active must be positive")  # fmt: skip

    def action(step: int) -> ProfilerAction:
        step -= skip_first
        if step < 0:
            return ProfilerAction.NONE
        if skip_first_wait:
            step += wait
        length = wait + warmup + active
        cycle, place = divmod(step, length)
        if (repeat and cycle >= repeat) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        last = place == length - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD

    return action


class profile(_blocks.profile):
    """A block in which what runs is timed, step by step if there is a schedule.

    Eager ops have their names; a compiled call is ``compiled NAME``, its kernels and matrix
    products (CPU) have the name of the kernel and the user's line.

    activities, record_shapes, profile_memory, with_stack, ...  accepted.
    schedule        from a step's number to a ProfilerAction; call `step` after each step.
    on_trace_ready  called with the profiler when a cycle (or the block) has ended.

    Example::

        with tracejit.profiler.profile() as prof:
            with tracejit.profiler.record_function("forward"):
                tracejit.ones(3).sum()
        print(prof.key_averages().table(sort_by="cpu_time_total"))
    """

    def __init__(
        self, *, activities: Iterable[Any] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[Any], Any] | None = None, record_shapes: bool = False,
        profile_memory: bool = False, with_stack: bool = False, with_flops: bool = False,
        with_modules: bool = False, **options: Any,
    ):  # fmt: skip
        super().__init__()
        self.schedule = schedule
        self.on_trace_ready = on_trace_ready
        self.step_num = 0

    def _action(self) -> ProfilerAction:
        if self.schedule is None:
            return ProfilerAction.RECORD
        return self.schedule(self.step_num)

    def _turn(self) -> None:
        """Record from here on, or not, as the present step's action says."""
        recording = self.is_active
        wanted = self._action() in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if wanted and not recording:
            self.ranges = []
            super().__enter__()
        elif recording and not wanted:
            super().__exit__()

    def start(self) -> None:
        """As entering the block."""
        self._turn()

    def stop(self) -> None:
        """As leaving the block."""
        recording = self.is_active
        super().__exit__()
        if recording and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def step(self) -> None:
        """Say that a step of the training loop has ended."""
        ended = self._action() is ProfilerAction.RECORD_AND_SAVE
        self.step_num += 1
        if ended:
            super().__exit__()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
        self._turn()


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[Any], None]:
    """For `on_trace_ready`: writes each trace as a JSON file into a folder."""

    def handle(prof: Any) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json"
        prof.export_chrome_trace(os.path.join(dir_name, name))

    return handle
