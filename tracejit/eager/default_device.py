"""``set_default_device`` and ``with torch.device(...)``: where factories make tensors.

Invariant: traces hold for one default device; to change it makes compiled functions forget theirs,
and a captured run that changes it is no trace.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.factories import DEFAULT_DEVICE, as_device
from tracejit.eager.modes import state
from tracejit.eager.register import FUNCTIONS
from tracejit.eager.settings import SETTINGS
from tracejit.eager.watched import replaced
from tracejit.errors import user_location
from tracejit.ir.types import CPU, Device

_outer: list[Device] = []


def _change(device: Device) -> None:
    if device == DEFAULT_DEVICE[0]:
        return
    if state.capture is not None:
        state.capture.refuse("changes the default device", user_location())
    DEFAULT_DEVICE[0] = device
    replaced()


def set_default_device(device: Any) -> None:
    """Where `zeros`, `rand`, `tensor` and the like make tensors from now on; None: the CPU.

    Tensors that exist stay where they are, and a device given to a factory goes before.
    Example: ``set_default_device("cpu")``.
    """
    _change(CPU if device is None else as_device(device))


def get_default_device() -> Device:
    """Where factories make tensors."""
    return DEFAULT_DEVICE[0]


def _enter(self: Device) -> Device:
    """``with torch.device("cuda"):`` makes it the default device of a block."""
    _outer.append(DEFAULT_DEVICE[0])
    _change(as_device(self))
    return self


def _leave(self: Device, *exc: object) -> None:
    _change(_outer.pop())


SETTINGS["the default device"] = lambda: DEFAULT_DEVICE[0]
setattr(Device, "__enter__", _enter)
setattr(Device, "__exit__", _leave)
FUNCTIONS["set_default_device"] = set_default_device
FUNCTIONS["get_default_device"] = get_default_device
