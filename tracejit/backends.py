"""``tracejit.backends``: torch's switches of libraries that tracejit does not use.

Invariant: the switches can be read and set, and none of them changes a result; whatever is asked
for, ``is_available()`` is False.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tracejit.eager.modes import state
from tracejit.eager.settings import SETTINGS, ask
from tracejit.errors import user_location

__all__ = [
    "Library", "accelerator", "are_deterministic_algorithms_enabled", "cpu", "cuda", "cudnn",
    "get_float32_matmul_precision", "mkl", "mkldnn", "mps", "openmp",
    "set_float32_matmul_precision", "use_deterministic_algorithms", "xpu",
]  # fmt: skip

_PRECISIONS = ("highest", "high", "medium")


class Library(SimpleNamespace):
    """One library's switches, plain attributes; it is never available.

    Example: ``backends.cudnn.benchmark = True``.
    """

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name not in self.__dict__ or isinstance(value, Library):
            return value
        return ask(lambda: self.__dict__[name])

    def __setattr__(self, name: str, value: Any) -> None:
        if state.capture is not None:
            state.capture.refuse(f"sets {name} inside a compiled function", user_location())
        super().__setattr__(name, value)

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False

    def version(self) -> None:
        """None: the library is not used."""
        return None


cudnn = Library(
    enabled=False, benchmark=False, deterministic=False, allow_tf32=False, benchmark_limit=10
)
cuda = Library(matmul=Library(
    allow_tf32=False,
    allow_fp16_reduced_precision_reduction=False,
    allow_bf16_reduced_precision_reduction=False,
))  # fmt: skip
mps = Library(device_count=lambda: 0, empty_cache=lambda: None)
xpu = Library(device_count=lambda: 0, empty_cache=lambda: None)
accelerator = Library(device_count=lambda: 0, current_accelerator=lambda **_: None)
mkl = Library()
mkldnn = Library(enabled=False)
openmp = Library()
cpu = SimpleNamespace(get_cpu_capability=lambda: "DEFAULT")
_precision = ["highest"]
_deterministic = [False]
SETTINGS["the precision of products"] = lambda: _precision[0]
SETTINGS["the choice of deterministic algorithms"] = lambda: _deterministic[0]


def set_float32_matmul_precision(precision: str) -> None:
    """What lower precision float32 products may use; they are computed in float32 all the same.

    Raises ValueError unless `precision` is "highest", "high" or "medium".
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(_PRECISIONS)}")
    _precision[0] = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was given."""
    return str(ask(SETTINGS["the precision of products"]))


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for the same result at every run; every algorithm here gives that anyway."""
    _deterministic[0] = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was given."""
    return bool(ask(SETTINGS["the choice of deterministic algorithms"]))
