"""What Tensor offers beyond functions: values out, gradients, hooks, Python's protocols.

Invariant: a value that leaves for Python inside a capture is a branch point of the trace.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracejit.eager.backward import backward as run_backward
from tracejit.eager.backward import node_watchers
from tracejit.eager.conversions import detach
from tracejit.eager.factories import as_device
from tracejit.eager.formatting import format_tensor, html_tensor, set_printoptions
from tracejit.eager.modes import MODULE_VERSION, state
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.shape import has_one_element, sizes_of
from tracejit.eager.tape import (
    DataStorage,
    Leaf,
    autograd_node,
    bump_version,
    node_of,
    storage_of,
    type_of,
)
from tracejit.errors import DTypeError, ShapeError, at_user_line, user_location
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of
from tracejit.runtime.device_array import address_of_array, host_copy, moved
from tracejit.runtime.pinned import is_pinned, pinned_copy
from tracejit.tensor import Tensor, new_tensor


def host_array(tensor: Tensor) -> np.ndarray:
    """The tensor's data as a NumPy array (copied from a device if need be)."""
    return host_copy(tensor._array)


def _single(self: Tensor, what: str) -> Any:
    if not has_one_element(self):
        raise ShapeError(at_user_line(
            f"{what}: a tensor with {self._array.size} elements has no single value"))  # fmt: skip
    return host_array(self).item()


@public(function=False)
def item(self: Tensor) -> Any:
    """The one element as a Python number. In a capture, a branch point."""
    value = _single(self, "item")
    return value if state.capture is None else state.capture.leave(self, value, "item")


@public(function=False)
def tolist(self: Tensor) -> Any:
    """The elements as nested lists of Python numbers. In a capture, a branch point."""
    value = host_array(self).tolist()
    return value if state.capture is None else state.capture.leave(self, value, "tolist")


@public(function=False)
def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """A NumPy array that shares the tensor's memory. Needs a CPU tensor without grad."""
    if self._requires_grad and not force:
        raise RuntimeError(at_user_line(
            "numpy: this tensor requires grad; use tensor.detach().numpy()"))  # fmt: skip
    if not isinstance(self._array, np.ndarray) and not force:
        raise TypeError(at_user_line(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."))  # fmt: skip
    if state.capture is not None:
        state.capture.leave_array(self)
    return host_array(self)


def _array_protocol(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = numpy(self)
    if dtype is not None and array.dtype != dtype:
        return array.astype(dtype)
    return array.copy() if copy else array


def _truth(self: Tensor) -> bool:
    if not has_one_element(self):
        raise RuntimeError(at_user_line(
            f"the truth of a tensor with {self._array.size} elements is ambiguous; "
            "use .any() or .all()"))  # fmt: skip
    value = bool(host_array(self).item())
    return value if state.capture is None else state.capture.leave(self, value, "bool")


def _to_int(self: Tensor) -> int:
    value = int(_single(self, "int"))
    return value if state.capture is None else state.capture.leave(self, value, "int")


def _to_index(self: Tensor) -> int:
    if self._array.dtype.kind not in "iub":
        raise TypeError(at_user_line(f"only integer tensors can be an index, not {type_of(self)}"))
    return _to_int(self)


def _to_float(self: Tensor) -> float:
    value = float(_single(self, "float"))
    return value if state.capture is None else state.capture.leave(self, value, "float")


def _length(self: Tensor) -> Any:
    if self._array.ndim == 0:
        raise TypeError(at_user_line("len() of a 0-d tensor"))
    return int(sizes_of(self)[0])


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if self._array.ndim == 0:
        raise TypeError(at_user_line("iteration over a 0-d tensor"))
    return iter(self.unbind(0))


def _contains(self: Tensor, value: Any) -> bool:
    return bool((self == value).any())


# --- gradients -------------------------------------------------------------------------------


def _get_requires_grad(self: Tensor) -> bool:
    return self._requires_grad


def _set_requires_grad(self: Tensor, value: bool) -> None:
    requires_grad_(self, value)


@public(function=False)
def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """Ask that operations on this (floating, leaf) tensor be recorded."""
    if requires_grad and self._array.dtype.kind != "f":
        raise RuntimeError(at_user_line(
            f"only floating tensors can require gradients, not {type_of(self)}"))  # fmt: skip
    if not requires_grad and not self.is_leaf:
        raise RuntimeError(at_user_line(
            "requires_grad can be changed on leaves only; use detach()"))  # fmt: skip
    if requires_grad and not self._requires_grad and state.capture is not None:
        node = state.capture.node_of(self)
        self._requires_grad = True
        state.capture.new_leaf(self, node)
    if self._requires_grad != bool(requires_grad):
        MODULE_VERSION[0] += 1
        if requires_grad and self._base is not None:
            self._base, self._view = None, ()  # a leaf has a history of its own
    self._requires_grad = bool(requires_grad)
    if not requires_grad:
        self._node = None
    return self


def _get_grad(self: Tensor) -> Tensor | None:
    if state.capture is not None:
        state.capture.touch_grad(self)
    return self._grad


def _set_grad(self: Tensor, value: Tensor | None) -> None:
    if value is not None:
        if not isinstance(value, Tensor):
            raise TypeError(at_user_line(f"grad must be a tensor or None, not {value!r}"))
        if value._array.shape != self._array.shape:
            raise ShapeError(at_user_line(
                f"grad of shape {list(value._array.shape)} for {type_of(self)}"))  # fmt: skip
        if value.dtype is not self.dtype:
            raise DTypeError(at_user_line(
                f"grad of dtype {value.dtype.name} for {type_of(self)}"))  # fmt: skip
    if state.capture is not None:
        state.capture.touch_grad(self)
    self._grad = value


setattr(Tensor, "requires_grad", property(_get_requires_grad, _set_requires_grad))
setattr(Tensor, "grad", property(_get_grad, _set_grad))


def _get_data(self: Tensor) -> Tensor:
    """The same memory, without gradients: a backward pass does not notice writes through it."""
    result = detach(self)
    result._storage = DataStorage(storage_of(self))
    return result


def _set_data(self: Tensor, value: Tensor) -> None:
    if state.capture is not None:
        state.capture.refuse("assignment to .data", None)
    if not isinstance(value, Tensor):
        raise TypeError(at_user_line(f"data has to be a tensor, not {type(value).__name__}"))
    MODULE_VERSION[0] += 1
    self._array = value._array
    bump_version(self)
    if self.is_leaf:
        self._node = None  # its type may have changed


setattr(Tensor, "data", property(_get_data, _set_data))


@public(function=False)
def detach_(self: Tensor) -> Tensor:
    """Forget how this tensor was computed."""
    if self._base is not None:
        raise RuntimeError(at_user_line("detach_: a view cannot be detached in place"))
    if state.capture is not None:
        state.capture.set_node(self, detach(self)._trace[1])
    self._requires_grad = False
    self._node = None
    return self


_NAMES = {
    "reduce_sum": "Sum", "reduce_prod": "Prod", "reduce_max": "Max", "reduce_min": "Min",
    "matmul": "Mm", "reshape": "View", "transpose": "Permute", "broadcast_to": "Expand",
    "concatenate": "Cat", "alias": "Clone", "cast": "ToCopy", "take": "Index", "get": "Get",
    "input": "AccumulateGrad",
}  # fmt: skip


class GradFn:
    """What ``tensor.grad_fn`` shows: the op and the line that made the tensor."""

    def __init__(self, node: Any):
        self.node = node

    def name(self) -> str:
        """The op in torch's words, such as ``MulBackward0``."""
        op = self.node.op.name
        title = _NAMES.get(op, "".join(part.title() for part in op.split("_")))
        return title if op == "input" else f"{title}Backward0"

    @property
    def next_functions(self) -> tuple[tuple[GradFn | None, int], ...]:
        """What made the operands, with the number of the result each one was."""
        return tuple((GradFn(x), 0) for x in self.node.inputs)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


Tensor.grad_fn = property(lambda self: None if self.is_leaf else GradFn(node_of(self)))


@public(function=False)
def backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradients of this tensor in the ``.grad`` of the leaves it depends on.

    gradient      cotangent of this tensor's shape; may be left out for one element.
    retain_graph  keep what the tape saved, so that backward can run again.
    create_graph  record the backward pass too, for gradients of gradients.
    inputs        accumulate in these tensors only.

    Example: ``x = tensor(3.0, requires_grad=True); (x * x).backward(); x.grad`` is 6.
    """
    chosen = [inputs] if isinstance(inputs, Tensor) else inputs
    run_backward([self], [gradient], retain_graph, create_graph, chosen)


class RemovableHandle:
    """Takes a hook off again: ``handle.remove()``, or ``with`` for a block."""

    _count = 0

    def __init__(self, hooks: dict[int, Any]):
        self.hooks = hooks
        self.id = RemovableHandle._count
        RemovableHandle._count += 1

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        self.hooks.pop(self.id, None)
        MODULE_VERSION[0] += 1  # traces look at the hooks of what they hold again

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class _Watcher:
    """Runs a tensor's hooks (and keeps its gradient) when a backward pass gets there."""

    def __init__(self) -> None:
        self.hooks: dict[int, Callable[[Tensor], Tensor | None]] = {}
        self.keep: Callable[[Tensor], None] | None = None
        self.after: dict[int, Callable[[Tensor], None]] = {}

    def __call__(self, walk: Any, g: Any) -> Any:
        for hook in list(self.hooks.values()):
            result = hook(walk.tensor(g))
            if result is not None:
                g = walk.node(result)
        if self.keep is not None:
            self.keep(walk.tensor(g))
        return g


def _watcher(tensor: Tensor) -> _Watcher:
    if not tensor._requires_grad:
        raise RuntimeError(at_user_line("hooks and retain_grad need a tensor that requires grad"))
    if tensor.is_leaf:  # kept by the tensor: a leaf's node may be replaced
        if tensor._hooks is None:
            tensor._hooks = _Watcher()
        MODULE_VERSION[0] += 1
        found: _Watcher = tensor._hooks
        return found
    return node_watchers.of(autograd_node(tensor), _Watcher)


def hooks_of(tensor: Tensor) -> tuple[Callable[[Tensor], Any], ...]:
    """The hooks that a backward pass calls at this leaf, in order."""
    watcher = tensor._hooks
    return () if watcher is None else (*watcher.hooks.values(), *watcher.after.values())


@public(function=False)
def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(gradient)` in every backward pass; what it returns replaces the gradient."""
    watcher = _watcher(self)
    handle = RemovableHandle(watcher.hooks)
    watcher.hooks[handle.id] = hook
    return handle


@public(function=False)
def register_post_accumulate_grad_hook(
    self: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """Call `hook(tensor)` whenever a backward pass has added to this leaf's ``.grad``."""
    if not self.is_leaf:
        raise RuntimeError(at_user_line("post accumulate grad hooks are for leaves"))
    watcher = _watcher(self)
    handle = RemovableHandle(watcher.after)
    watcher.after[handle.id] = hook
    return handle


@public(function=False)
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this non-leaf tensor in its ``.grad``."""
    if self.is_leaf and self._requires_grad:
        return
    watcher, self._retain = _watcher(self), True
    reference = weakref.ref(self)

    def keep(g: Tensor) -> None:
        tensor = reference()
        if tensor is not None:
            tensor._grad = g if tensor._grad is None else tensor._grad + g

    watcher.keep = keep


# --- copying and pickling --------------------------------------------------------------------


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise RuntimeError(at_user_line(
            "only leaf tensors can be deep-copied; detach() first"))  # fmt: skip
    if state.capture is not None and type(self) is Tensor and not self._requires_grad:
        result = memo[id(self)] = self.clone()
        return result
    _out_of_sight("a deep copy of a parameter")
    result = object.__new__(self.__class__)
    result._array = self._array.copy()
    result._requires_grad = self._requires_grad
    memo[id(self)] = result
    if self._grad is not None:
        result._grad = copy.deepcopy(self._grad, memo)
    for name, value in self.__dict__.items():
        if not name.startswith("_"):
            result.__dict__[name] = copy.deepcopy(value, memo)
    return result


def _rebuild(kind: Any, array: np.ndarray, requires_grad: bool, device: str = "cpu") -> Tensor:
    result: Tensor = object.__new__(kind)
    result._array = array if device == "cpu" else moved(array, Device(device))
    result._requires_grad = requires_grad
    return result


def _out_of_sight(what: str) -> None:
    """In a capture: note that a value goes where a trace cannot follow it."""
    if state.capture is not None:
        state.capture.refuse(f"{what} inside a compiled function", user_location())


def _data_ptr(self: Tensor) -> int:
    _out_of_sight("data_ptr()")
    return address_of_array(self._array)


def _cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """A copy on a GPU, the current one by default; raises DeviceError if there is none."""
    return self.to("cuda" if device is None else device, non_blocking=non_blocking)


def _pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in page-locked memory, from which `non_blocking` copies need no staging.

    The tensor itself if it is pinned, or where there is no GPU. `device` names another device.
    """
    from tracejit.runtime.cuda_device import device_count  # brings what only GPUs need

    if device is None and not device_count():
        return self
    if self._device.type != "cpu":
        raise RuntimeError(at_user_line(f"cannot pin a tensor on {self._device}: only cpu memory"))
    if is_pinned(self._array):
        return self
    _out_of_sight("pin_memory()")
    backend = backend_of(as_device("cuda" if device is None else device))
    return new_tensor(pinned_copy(self._array, backend.reserve_pinned))


def _reduce(self: Tensor) -> Any:
    _out_of_sight("a pickled or shallow copy of a tensor")
    if not self.is_leaf:
        raise RuntimeError(at_user_line("only leaf tensors can be pickled; detach() first"))
    held = (self.__class__, host_array(self), self._requires_grad)
    return _rebuild, held if self.device.type == "cpu" else (*held, str(self.device))


def _dlpack(self: Tensor, **how: Any) -> Any:
    if self._requires_grad:
        raise BufferError(at_user_line("tensors that require grad cannot be exported; detach()"))
    _out_of_sight("an exported tensor")
    return self._array.__dlpack__(**{k: v for k, v in how.items() if v is not None})


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor that shares the memory of any object with the DLPack protocol.

    copy  True gives a tensor of its own; `device` moves the result there.
    """
    _out_of_sight("from_dlpack()")
    foreign = isinstance(ext_tensor, np.ndarray)
    result = new_tensor(ext_tensor if foreign else np.from_dlpack(ext_tensor))
    result._is_foreign = True
    moved_there = result if device is None else result.to(as_device(device))
    return moved_there.clone() if copy else moved_there


def _install() -> None:
    protocols = {
        "__array__": _array_protocol, "__bool__": _truth, "__int__": _to_int,
        "__float__": _to_float, "__index__": _to_index, "__len__": _length,
        "__iter__": _iterate, "__contains__": _contains, "__deepcopy__": _deepcopy,
        "__reduce_ex__": lambda self, protocol: _reduce(self), "__repr__": format_tensor,
        "__dlpack__": _dlpack, "__dlpack_device__": lambda self: self._array.__dlpack_device__(),
        "_repr_html_": html_tensor,
        "__format__": lambda self, spec: (
            format(item(self), spec) if self._array.ndim == 0 else object.__format__(self, spec)
        ),
    }  # fmt: skip
    for name, function in protocols.items():
        setattr(Tensor, name, function)


_install()
Tensor.cpu = lambda self: self.to("cpu")
Tensor.cuda = _cuda
Tensor.nelement = lambda self: self.numel()
Tensor.element_size = lambda self: self._array.itemsize
Tensor.data_ptr = _data_ptr
Tensor.pin_memory = _pin_memory
Tensor.is_pinned = lambda self, device=None: is_pinned(self._array)
Tensor.share_memory_ = lambda self: self

FUNCTIONS["set_printoptions"] = set_printoptions

__all__ = ["GradFn", "Leaf", "RemovableHandle", "from_dlpack", "host_array"]
