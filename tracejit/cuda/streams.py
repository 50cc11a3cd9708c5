"""Streams and events of GPUs, over CuPy's.

Invariant: work of a thread goes to its chosen stream, the device's own unless it chose another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracejit.errors import DeviceError, at_user_line
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of

if TYPE_CHECKING:
    from tracejit.runtime.cuda_device import CudaDevice


def _backend(device: Any) -> CudaDevice:
    from tracejit.runtime.cuda_device import CudaDevice  # brings what only GPUs need

    found = Device("cuda", 0) if device is None else (
        Device("cuda", device) if isinstance(device, int) else Device(device)
    )  # fmt: skip
    backend = backend_of(found)
    if not isinstance(backend, CudaDevice):
        raise DeviceError(f"{found} has no streams")
    return backend


class Stream:
    """A queue of work: ``with cuda.stream(Stream()): ...``. Raises DeviceError without a GPU."""

    def __init__(self, device: Any = None, priority: int = 0, *, held: Any = None):
        self.backend = _backend(device)
        with self.backend.card:
            self.held = held or self.backend.cupy.cuda.Stream(non_blocking=True)

    @property
    def cuda_stream(self) -> int:
        """The address of CUDA's stream."""
        return int(self.held.ptr)

    def synchronize(self) -> None:
        """Wait for all work asked for so far."""
        self.held.synchronize()

    def query(self) -> bool:
        """Whether all work asked for so far is done."""
        return bool(self.held.done)

    def record_event(self, event: Event | None = None) -> Event:
        """An event at the present end of the queue."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Later work waits for the event."""
        self.held.wait_event(event.held)

    def wait_stream(self, stream: Stream) -> None:
        """Later work waits for what `stream` was asked so far."""
        self.wait_event(stream.record_event())


class Event:
    """A point in a stream, to wait for and to measure times between."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ):
        if interprocess:
            raise DeviceError(at_user_line("Event: none is shared among processes"))
        self.backend = _backend(None)
        self.held = self.backend.cupy.cuda.Event(block=blocking, disable_timing=not enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Put the event at the present end of a stream."""
        self.held.record(self.backend.stream if stream is None else stream.held)

    def synchronize(self) -> None:
        """Wait for it."""
        self.held.synchronize()

    def query(self) -> bool:
        """Whether it has been reached."""
        return bool(self.held.done)

    def wait(self, stream: Stream | None = None) -> None:
        """Later work of a stream waits for the event."""
        (self.backend.stream if stream is None else stream.held).wait_event(self.held)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to `end_event`; both must have been reached."""
        return float(self.backend.cupy.cuda.get_elapsed_time(self.held, end_event.held))


class StreamContext:
    """Work of this thread goes to a stream for a block."""

    def __init__(self, stream: Stream | None):
        self.stream = stream
        self.before: Any = None

    def __enter__(self) -> StreamContext:
        if self.stream is not None:
            chosen = self.stream.backend.chosen
            self.before = getattr(chosen, "stream", None)
            chosen.stream = self.stream.held
        return self

    def __exit__(self, *exc: object) -> None:
        if self.stream is not None:
            self.stream.backend.chosen.stream = self.before


def stream(stream: Stream | None) -> StreamContext:
    """``with cuda.stream(s):`` sends work to `s`; None changes nothing."""
    return StreamContext(stream)


def current_stream(device: Any = None) -> Stream:
    """The stream that work of this thread goes to."""
    return Stream(device, held=_backend(device).stream)


def default_stream(device: Any = None) -> Stream:
    """The device's own stream."""
    return Stream(device, held=_backend(device).own_stream)


class CUDAGraph:
    """Recorded launches, which tracejit makes by itself: raises RuntimeError when made."""

    def __init__(self, keep_graph: bool = False):
        raise RuntimeError(at_user_line(
            "CUDAGraph: use tracejit.compile, which launches a whole function at once"
        ))  # fmt: skip


class graph(CUDAGraph):
    """The context in which a CUDAGraph would be recorded: raises RuntimeError when made."""

    def __init__(
        self, cuda_graph: Any = None, pool: Any = None, stream: Any = None,
        capture_error_mode: str = "global",
    ):  # fmt: skip
        super().__init__()
