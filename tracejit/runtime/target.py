"""`build(graph)` for the device that the graph's types name, and one op at once on a device.

Invariant: the choice between CPU and device is made here for graphs, in `eager.execute` for ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import from_numpy
from tracejit.errors import DeviceError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import CPU, Device, TensorType
from tracejit.runtime import executable
from tracejit.runtime.device import Backend, backend_of
from tracejit.runtime.device_array import DeviceArray, from_host, moved
from tracejit.runtime.executable import Executable, as_compile_error
from tracejit.runtime.single import apply_op
from tracejit.transforms.views import VIEW_OPS

_MOST = 4096
_executables: dict[Any, Executable] = {}
_VIEWS = VIEW_OPS | {"detach"}


def build(graph: Graph) -> Executable:
    """Compile a graph for the device of its tensors; see `executable.build`.

    Raises CompileError, and DeviceError for tensors of several devices.
    """
    device = device_of(graph)
    if device.type == "cpu":
        return executable.build(graph)
    with as_compile_error(f"compiling {graph.name}"):
        return _for_device(graph, backend_of(device))


def _for_device(graph: Graph, backend: Backend) -> Executable:
    from tracejit.runtime.device_frame import DeviceExecutable  # only programs on devices need it

    return DeviceExecutable(graph, backend)


def device_of(graph: Graph) -> Device:
    """The device of a graph's tensors. Raises DeviceError if there are several."""
    found: dict[Device, None] = {}
    for node in (*graph.inputs, *graph.nodes()):
        if isinstance(node.type, TensorType) and node.type.device.type != "cpu":
            found[node.type.device] = None
    if len(found) > 1:
        raise DeviceError(f"{graph.name}: tensors on {' and '.join(map(str, found))}")
    return next(iter(found), CPU)


def run_on_device(op: Op, arrays: Sequence[Any], params: dict[str, Any], backend: Backend) -> Any:
    """The result of `op` as new device arrays; views share memory where strides allow it.

    `arrays` are of `backend`, or 0-d arrays of the host, which are passed by value.
    Raises DeviceError where arrays are on several devices, and what the op's type rule raises.
    """
    for a in arrays:
        if isinstance(a, DeviceArray):
            if a.backend is not backend:
                raise DeviceError(
                    f"{op.name}: tensors on {backend.device} and {a.where}; move one with .to()"
                )
        elif np.ndim(a):
            raise DeviceError(
                f"{op.name}: tensors on {backend.device} and cpu; move one with .to()"
            )
    if op.name == "to_device":
        return moved(arrays[0], params["device"])
    if op.name in _VIEWS:
        return op.numpy(*arrays, **params)
    key = (
        op, backend,
        *[(a.dtype, a.shape if isinstance(a, DeviceArray) else None) for a in arrays],
        *params.items(),
    )  # fmt: skip
    found = _executables.get(key)
    if found is None:
        found = _executables[key] = _for_device(_op_graph(op, arrays, params), backend)
        while len(_executables) > _MOST:
            del _executables[next(iter(_executables))]
    results = found.run(arrays)
    return tuple(results) if op.multiple else results[0]


def beside_constants(arrays: Sequence[Any], nodes: Sequence[Node]) -> list[Any]:
    """Arrays of one op, with the constants that gradient rules make brought to the device.

    A constant belongs to no device; one with the same value everywhere takes one element.
    """
    device = next(a.where for a in arrays if isinstance(a, DeviceArray))
    placed = []
    for array, node in zip(arrays, nodes, strict=True):
        if isinstance(array, DeviceArray) or not array.ndim:
            placed.append(array)
        elif node.op.name == "full":
            one = from_host(array.reshape(-1)[:1], device)
            placed.append(one.strided(array.shape, (0,) * array.ndim))
        else:
            placed.append(from_host(array, device))
    return placed


def _op_graph(op: Op, arrays: Sequence[Any], params: dict[str, Any]) -> Graph:
    """The graph of one op; arrays of the host are scalar inputs."""
    inputs = tuple(_input(i, a) for i, a in enumerate(arrays))
    return Graph(op.name, inputs, apply_op(op, inputs, params))


def _input(index: int, array: Any) -> Node:
    kind = TensorType(from_numpy(array.dtype), array.shape)
    if isinstance(array, DeviceArray):
        return OPS["input"](name=f"x{index}", type=kind)
    return OPS["input"](name=f"x{index}", type=kind, role="scalar")
