"""Recorded work as a CUDA graph: kernel nodes in a chain, matrix products as captured child graphs.

Kernel nodes get other parameters between launches; what is running or queued keeps its own.
Invariant: the graph and the memory that its products were captured with live as long as the
executable graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.errors import DeviceError
from tracejit.runtime.device import THREADS, Array, LaunchStep, ProductStep, Recording
from tracejit.runtime.program import address_of

if TYPE_CHECKING:
    from tracejit.runtime.cuda_device import CudaDevice


class CudaRecording(Recording):
    """An instantiated graph of one device. Raises DeviceError where CUDA refuses a step."""

    def __init__(self, device: CudaDevice, steps: Sequence[LaunchStep | ProductStep]):
        self.device = device
        self.steps = list(steps)  # their arrays stay alive
        self.executable: Any = None
        self.graph = self._ask("cuGraphCreate", 0)
        self.nodes: list[Any] = []
        for step in steps:
            before = self.nodes[-1:]
            if isinstance(step, LaunchStep):
                asked = "cuGraphAddKernelNode", self._parameters(step)
            else:
                asked = "cuGraphAddChildGraphNode", self._captured(step)
            self.nodes.append(self._ask(asked[0], self.graph, before, len(before), asked[1]))
        self.executable = self._ask("cuGraphInstantiate", self.graph, 0)

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call the driver; its result besides the status."""
        driver = self.device.driver
        with self.device.card:
            status, *results = getattr(driver, name)(*arguments)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"{self.device.device}, a graph: {name}: {status.name}")
        return results[0] if results else None

    def _parameters(self, step: LaunchStep) -> Any:
        """A launch as node parameters, whose table CUDA copies when it is given them."""
        made = self.device.driver.CUDA_KERNEL_NODE_PARAMS()
        pointers = np.array([address_of(step.table)], np.uintp)
        made.func = step.kernel
        made.gridDimX, made.gridDimY, made.gridDimZ = max(1, -(-step.threads // THREADS)), 1, 1
        made.blockDimX, made.blockDimY, made.blockDimZ = THREADS, 1, 1
        made.sharedMemBytes = 0
        made.kernelParams = address_of(pointers)
        made.extra = 0
        self.given = pointers, step.table  # alive until CUDA has copied them
        return made

    def _captured(self, step: ProductStep) -> Any:
        """A product as a graph: cuBLAS's launches are captured instead of run."""
        driver, stream = self.device.driver, self.device.stream.ptr
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._ask("cuStreamBeginCapture", stream, mode)
        try:
            self.device.matmul(step.a, step.b, step.out)
        except DeviceError:
            self._ask("cuStreamEndCapture", stream)  # the stream must leave the mode
            raise
        return self._ask("cuStreamEndCapture", stream)

    def update(self, number: int, table: Array) -> None:
        step = self.steps[number]
        assert isinstance(step, LaunchStep)
        made = self._parameters(step._replace(table=table))
        self._ask("cuGraphExecKernelNodeSetParams", self.executable, self.nodes[number], made)

    def replay(self) -> None:
        self.device.replays += 1
        self._ask("cuGraphLaunch", self.executable, self.device.stream.ptr)

    def __del__(self) -> None:
        driver = self.device.driver
        if self.executable is not None:
            driver.cuGraphExecDestroy(self.executable)
        if getattr(self, "graph", None) is not None:
            driver.cuGraphDestroy(self.graph)
