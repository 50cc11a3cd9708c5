"""Switches of torch that change nothing here, and say so by what they return.

Invariant: what is set can be read again; no result depends on it.
"""

from __future__ import annotations

from tracejit.backends import are_deterministic_algorithms_enabled, use_deterministic_algorithms
from tracejit.errors import at_user_line

_switches = {"anomaly": False, "check_nan": True, "warn_always": False, "interop": 1}
_MODES = ("default", "warn", "error")


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """Accepted; errors of the backward pass name the forward line in any case."""
    _switches.update(anomaly=enabled, check_nan=check_nan)


def is_anomaly_enabled() -> bool:
    """What `set_anomaly_enabled` was told."""
    return bool(_switches["anomaly"])


def is_anomaly_check_nan_enabled() -> bool:
    """What `set_anomaly_enabled` was told of NaN."""
    return bool(_switches["check_nan"])


def set_warn_always(b: bool, /) -> None:
    """Accepted; Python's own filters say how often a warning shows."""
    _switches["warn_always"] = b


def is_warn_always_enabled() -> bool:
    """What `set_warn_always` was told."""
    return bool(_switches["warn_always"])


def set_flush_denormal(mode: bool) -> bool:
    """False: subnormal numbers are kept as IEEE says (torch: not supported)."""
    return False


def set_num_interop_threads(num: int, /) -> None:
    """Accepted; work is split inside operations only."""
    if num < 1:
        raise RuntimeError(at_user_line(f"set_num_interop_threads: needs at least 1, got {num}"))
    _switches["interop"] = num


def get_num_interop_threads() -> int:
    """What `set_num_interop_threads` was told."""
    return int(_switches["interop"])


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """'default', 'warn' or 'error' (0, 1, 2); results are the same at every run in any case."""
    mode = debug_mode if isinstance(debug_mode, int) else (
        _MODES.index(debug_mode) if debug_mode in _MODES else -1)  # fmt: skip
    if mode not in range(3):
        raise RuntimeError(at_user_line(f"invalid debug_mode {debug_mode!r}: one of {_MODES}"))
    use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


def get_deterministic_debug_mode() -> int:
    """0 or 2, as `use_deterministic_algorithms` was told."""
    return 2 if are_deterministic_algorithms_enabled() else 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """False: nothing here depends on chance, so there is nothing to warn of."""
    return False
