"""``tracejit.cuda``: what programs ask before they use a GPU; this build computes on the CPU.

Invariant: no function claims a device that is not there; what needs one raises DeviceError.
"""

from __future__ import annotations

from typing import Any, NoReturn

from tracejit.cuda import amp
from tracejit.errors import DeviceError, at_user_line

__all__ = [
    "amp", "current_device", "device_count", "empty_cache", "get_device_capability",
    "get_device_name", "get_device_properties", "init", "ipc_collect", "is_available",
    "is_bf16_supported", "is_initialized", "manual_seed", "manual_seed_all",
    "max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved",
    "reset_peak_memory_stats", "set_device", "synchronize",
]  # fmt: skip


def is_available() -> bool:
    """Whether tensors can live on a GPU: False."""
    return False


def is_initialized() -> bool:
    """Whether a GPU is in use: False."""
    return False


def is_bf16_supported() -> bool:
    """Whether a GPU computes in bfloat16: False."""
    return False


def device_count() -> int:
    """The number of GPUs: 0."""
    return 0


def _no_device(name: str) -> NoReturn:
    raise DeviceError(at_user_line(f"cuda.{name}: there is no CUDA device"))


def init() -> None:
    """Raises DeviceError: there is no GPU to start."""
    _no_device("init")


def current_device() -> int:
    """Raises DeviceError: there is no current GPU."""
    _no_device("current_device")


def set_device(device: Any) -> None:
    """Raises DeviceError for every device but a negative index, as in torch."""
    if not (isinstance(device, int) and device < 0):
        _no_device("set_device")


def get_device_name(device: Any = None) -> str:
    """Raises DeviceError: there is no GPU to name."""
    _no_device("get_device_name")


def get_device_properties(device: Any = None) -> Any:
    """Raises DeviceError: there is no GPU to describe."""
    _no_device("get_device_properties")


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """Raises DeviceError: there is no GPU."""
    _no_device("get_device_capability")


def synchronize(device: Any = None) -> None:
    """Raises DeviceError: there is no GPU to wait for."""
    _no_device("synchronize")


def manual_seed(seed: int) -> None:
    """Nothing to seed; ``tracejit.manual_seed`` seeds the CPU's stream."""
    int(seed)


def manual_seed_all(seed: int) -> None:
    """Nothing to seed; ``tracejit.manual_seed`` seeds the CPU's stream."""
    int(seed)


def empty_cache() -> None:
    """There is no cached GPU memory to give back."""


def ipc_collect() -> None:
    """There is no shared GPU memory to give back."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """There are no statistics to reset."""


def memory_allocated(device: Any = None) -> int:
    """Bytes of GPU memory in tensors: 0."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes of GPU memory ever in tensors: 0."""
    return 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of GPU memory held: 0."""
    return 0


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes of GPU memory ever held: 0."""
    return 0
