"""Every switch of tracejit in one table: name, default, one-line help.

A switch is read as an attribute (``config.threads``), set from the environment (TRACEJIT_THREADS)
or for a block of code (``with config.override(check=1): ...``). This file knows no other module.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _default_cache_dir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "tracejit")


# name -> (default, help). The type of the default is the type of the switch.
SWITCHES: dict[str, tuple[Any, str]] = {
    "threads": (_available_cores(), "threads that a parallel kernel may use"),
    "cache": (True, "keep compiled kernels on disk"),
    "cache_dir": (_default_cache_dir(), "folder of the kernel cache (private to the user)"),
    "cache_bytes": (256 << 20, "size bound of the kernel cache in bytes"),
    "debug": (0, "1: say what is compiled; 2: with timings; 3: with kernel sources"),
    "dump": ("", "stages of the IR to print: 'captured', a pass, 'plan', 'all'; comma separated"),
    "check": (0, "1: verify the graph after every pass; 2: also run every kernel as plain Python"),
    "disable": (False, "run functions under @compile eagerly, traced or not"),
    "disable_passes": ("", "passes to switch off, comma separated (to bisect a fault)"),
    "max_traces": (64, "traces kept for one compiled function; the least used goes first"),
    "max_branches": (16, "outcomes of one branch point before the function stays eager"),
    "gemm": ("auto", "matrix multiplication provider: auto, builtin, openblas, onednn"),
    "fast_math": (False, "let LLVM reassociate and contract (never nnan or ninf)"),
    "parallel_grain": (32768, "elements of pointwise work under which a kernel stays serial"),
    "device_graphs": (True, "replay the launches of a program on a device as one (CUDA graphs)"),
    "forbid_sync": (False, "raise where the host would wait for a device unasked: docs/cuda.md"),
}


DISABLED = [False]
"""The switch `disable` where every compiled call can look at it without cost."""


if TYPE_CHECKING:  # the switches become attributes of the module below

    def __getattr__(name: str) -> Any: ...


def _parse(name: str, text: str) -> Any:
    """The value of switch `name` written as `text`; raises ValueError naming the variable."""
    default = SWITCHES[name][0]
    if isinstance(default, bool):
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off", ""):
            return False
        raise ValueError(f"TRACEJIT_{name.upper()}={text!r}: expected 0 or 1")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            message = f"TRACEJIT_{name.upper()}={text!r}: expected a whole number"
            raise ValueError(message) from None
    return text


class _Config(types.ModuleType):
    """The module's own type, so that a misspelt switch raises instead of being set."""

    threads: int
    cache: bool
    cache_dir: str
    cache_bytes: int
    debug: int
    dump: str
    check: int
    disable: bool
    disable_passes: str
    max_traces: int
    max_branches: int
    gemm: str
    fast_math: bool
    parallel_grain: int
    device_graphs: bool
    forbid_sync: bool

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("__") and name not in SWITCHES:
            raise AttributeError(f"tracejit.config has no switch {name!r}; see config.describe()")
        super().__setattr__(name, value)
        if name == "disable":
            DISABLED[0] = bool(value)


def load_environment() -> None:
    """Set every switch from its default and its environment variable."""
    module = sys.modules[__name__]
    for name, (default, _) in SWITCHES.items():
        text = os.environ.get(f"TRACEJIT_{name.upper()}")
        setattr(module, name, default if text is None else _parse(name, text))


@contextmanager
def override(**switches: Any) -> Iterator[None]:
    """Set switches for a block: ``with config.override(check=1): ...``."""
    module = sys.modules[__name__]
    before = {name: getattr(module, name) for name in switches}
    try:
        for name, value in switches.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def describe() -> str:
    """A table of the switches with their present values."""
    module = sys.modules[__name__]
    rows = (f"{n:15s} {getattr(module, n)!r:24}  {text}" for n, (_, text) in SWITCHES.items())
    return "\n".join(rows)


sys.modules[__name__].__class__ = _Config
load_environment()
