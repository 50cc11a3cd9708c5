"""``tracejit.cuda``: what programs ask of GPUs; see ``docs/cuda.md`` for what runs on them.

Invariant: no function claims a device that is not there; what needs one raises DeviceError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tracejit import random
from tracejit.cuda import amp
from tracejit.cuda.streams import (
    CUDAGraph,
    Event,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    graph,
    stream,
)
from tracejit.errors import OutOfMemoryError
from tracejit.ir.types import Device
from tracejit.runtime.device import Backend, backend_of, started
from tracejit.tensor import Tensor

__all__ = [
    "CUDAGraph", "DeviceProperties", "Event", "OutOfMemoryError", "Stream", "StreamContext", "amp",
    "current_device", "current_stream", "default_stream", "device", "device_count", "empty_cache",
    "get_device_capability", "get_device_name", "get_device_properties", "get_rng_state",
    "get_rng_state_all", "graph", "initial_seed", "init", "ipc_collect", "is_available",
    "is_bf16_supported", "is_initialized", "manual_seed", "manual_seed_all", "max_memory_allocated",
    "max_memory_reserved", "memory_allocated", "memory_reserved", "reset_peak_memory_stats",
    "set_device", "set_rng_state", "set_rng_state_all", "stream", "synchronize",
]  # fmt: skip


class DeviceProperties(NamedTuple):
    """What a GPU is: name, compute capability, bytes of memory, multiprocessors."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int


def is_available() -> bool:
    """Whether tensors can live on a GPU: packages, driver and a GPU are there."""
    return device_count() > 0


def device_count() -> int:
    """The number of GPUs; 0 without packages or driver."""
    from tracejit.runtime import cuda_device  # brings what only GPUs need

    return cuda_device.device_count()


def is_initialized() -> bool:
    """Whether a GPU is in use."""
    return any(b.device.type == "cuda" for b in started())


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether a GPU computes in bfloat16: False, tracejit has no such dtype."""
    return False


def _device(device: Any) -> Device:
    if device is None:
        return Device("cuda", _current[0])
    found = Device("cuda", device) if isinstance(device, int) else Device(device)
    return Device(found.type, found.index or 0)


def _used(device: Any) -> Backend | None:
    """The device, if it is in use already."""
    wanted = _device(device)
    return next((b for b in started() if b.device == wanted), None)


_current = [0]


def init() -> None:
    """Start the current GPU; raises DeviceError if there is none."""
    backend_of(_device(None))


def current_device() -> int:
    """The index of the current GPU; raises DeviceError if there is none."""
    init()
    return _current[0]


def set_device(device: Any) -> None:
    """Make a GPU the current one; a negative index changes nothing, as in torch."""
    if isinstance(device, int) and device < 0:
        return
    backend_of(_device(device))
    _current[0] = _device(device).index or 0


@contextmanager
def device(device: Any) -> Iterator[None]:
    """``with cuda.device(1):`` makes a GPU the current one for a block."""
    before = _current[0]
    set_device(device)
    try:
        yield
    finally:
        _current[0] = before


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Facts about a GPU; raises DeviceError if it does not exist."""
    facts = backend_of(_device(device)).describe()
    major, minor = facts["capability"]
    return DeviceProperties(
        facts["name"], major, minor, facts["memory"], facts.get("processors", 1)
    )


def get_device_name(device: Any = None) -> str:
    """The name of a GPU; raises DeviceError if it does not exist."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU; raises DeviceError if it does not exist."""
    facts = get_device_properties(device)
    return facts.major, facts.minor


def synchronize(device: Any = None) -> None:
    """Wait for all work of a GPU; raises DeviceError for what went wrong in it."""
    backend_of(_device(device)).synchronize()


def manual_seed(seed: int) -> None:
    """Seed the stream of random numbers, which all devices share (a no-op without GPUs)."""
    if is_available():
        random.manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """As `manual_seed`."""
    manual_seed(seed)


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of the stream of random numbers, which all devices share."""
    return random.get_rng_state()


def get_rng_state_all() -> list[Tensor]:
    """The state for each GPU; empty without any."""
    return [random.get_rng_state() for _ in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Continue from a state that `get_rng_state` gave."""
    random.set_rng_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Continue from what `get_rng_state_all` gave; GPUs share one stream, so the last counts."""
    for state in new_states:
        random.set_rng_state(state)


def initial_seed() -> int:
    """The seed of the stream that all devices share."""
    return random.initial_seed()


def empty_cache() -> None:
    """Give cached memory of GPUs back to the system."""
    for backend in started():
        backend.release_cached()


def ipc_collect() -> None:
    """There is no shared GPU memory to give back."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """The peak is what is in use now."""
    backend = _used(device)
    if backend is not None:
        backend.peak = backend.allocated


reset_max_memory_allocated = reset_peak_memory_stats


def memory_allocated(device: Any = None) -> int:
    """Bytes of a device's memory in tensors (also of ``"sim"``)."""
    backend = _used(device)
    return 0 if backend is None else backend.allocated


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that were in tensors at once since the last reset."""
    backend = _used(device)
    return 0 if backend is None else backend.peak


def memory_reserved(device: Any = None) -> int:
    """Bytes of a GPU's memory held, in use or cached."""
    backend = _used(device)
    return 0 if backend is None else backend.reserved()


def max_memory_reserved(device: Any = None) -> int:
    """Bytes held at most: pools do not shrink by themselves, so what is held now."""
    return memory_reserved(device)
