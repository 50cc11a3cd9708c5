"""Settings of the library that a program may ask for.

Invariant: a setting that is asked for during a capture becomes a guard of the trace, and one that
the captured run leaves changed is no trace at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit import config, dtypes
from tracejit.eager.formatting import OPTIONS
from tracejit.eager.modes import state

SETTINGS: dict[str, Callable[[], Any]] = {
    "the gradient mode": lambda: state.grad,
    "the inference mode": lambda: state.inference,
    "the default dtype": dtypes.get_default_dtype,
    "the number of threads": lambda: config.threads,
    "the print options": lambda: tuple(OPTIONS.__dict__.values()),
}
"""What a run of the user's code may change besides its own state, in words for the refusal."""


def ask(read: Callable[[], Any]) -> Any:
    """``read()``, a setting; in a capture the trace holds only where it is the same again."""
    value = read()
    if state.capture is not None:
        state.capture.conditions.append((lambda args: read(), value))
    return value


def settings_now() -> dict[str, Any]:
    """All settings as they are."""
    return {name: read() for name, read in SETTINGS.items()}


def changed_settings(before: dict[str, Any]) -> list[str]:
    """Which settings are no longer as they were."""
    return [name for name, value in settings_now().items() if before.get(name, value) != value]


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return bool(ask(SETTINGS["the inference mode"]))


def get_num_threads() -> int:
    """Threads that a parallel kernel may use, the caller's included."""
    return int(ask(SETTINGS["the number of threads"]))
