"""Walking over a module's parts, and changing all of its tensors at once.

Invariant: a tensor or module that is reachable by several names is visited once unless
`remove_duplicate=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.factories import as_device
from tracejit.eager.modes import no_grad
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.ir.types import Device
from tracejit.tensor import Tensor


class WalkMixin(metaclass=WatchedClass):
    """The part of Module that iterates and converts."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]

    # --- iteration --------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, module) of this module ('') and everything below it."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, below, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Any]:
        """This module and everything below it."""
        found = self.named_modules(remove_duplicate=remove_duplicate)
        return (module for _, module in found)

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """(name, module) of the immediate children."""
        seen = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Any]:
        """The immediate children."""
        return (child for _, child in self.named_children())

    def _named(
        self, table: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        owners = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else iter([(prefix, self)])
        )
        for owner, module in owners:
            for name, value in module.__dict__[table].items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{owner}.{name}" if owner else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, parameter) of this module and, if `recurse`, of all below it."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The parameters, as an optimizer wants them."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, buffer) of this module and, if `recurse`, of all below it."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    # --- parts by dotted name ---------------------------------------------------------------

    def get_submodule(self, target: str) -> Any:
        """The module at a dotted path ('' is this one); AttributeError if there is none."""
        module: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute {name!r}")
            module = getattr(module, name)
            if not isinstance(module, WalkMixin):
                raise AttributeError(f"{name!r} is not a Module")
        return module

    def set_submodule(self, target: str, module: Any, strict: bool = False) -> None:
        """Put `module` at a dotted path; with `strict` there must be one already."""
        path, _, name = target.rpartition(".")
        if not target:
            raise ValueError(at_user_line("Cannot set the submodule without a target name!"))
        parent = self.get_submodule(path)
        if strict and name not in parent._modules:
            raise AttributeError(f"{type(parent).__name__} has no submodule {name!r}")
        if not isinstance(module, WalkMixin):
            raise ValueError(at_user_line(f"{type(module).__name__} is not a Module"))
        setattr(parent, name, module)

    def _get_part(self, target: str, table: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if name not in module.__dict__[table]:
            raise AttributeError(f"{type(module).__name__} has no {kind} {name!r}")
        return module.__dict__[table][name]

    def get_parameter(self, target: str) -> Any:
        """The parameter at a dotted path."""
        return self._get_part(target, "_parameters", "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        return self._get_part(target, "_buffers", "buffer")

    # --- conversion -------------------------------------------------------------------------

    def apply(self, fn: Callable[[Any], Any]) -> Any:
        """Call ``fn(module)`` for every module below, then for this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Replace the data of every parameter and buffer by ``fn(data)``, parameters in place."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        with no_grad():
            for param in self._parameters.values():
                if param is not None:
                    _convert(param, fn)
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Converted in place: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(tensor)``.

        A dtype is applied to floating parameters and buffers only.
        """
        dtype, device = _parse_to(args, kwargs)

        def convert(t: Tensor) -> Tensor:
            wanted = dtype if dtype is not None and t.dtype.kind == "f" else None
            result = t if device is None else t.to(device)
            return result if wanted is None else result.to(wanted)

        return self._apply(convert)

    def _to_floating(self, dtype: DType) -> Any:
        return self._apply(lambda t: t.to(dtype) if t.dtype.kind == "f" else t)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Any:
        """Parameters and buffers moved to a device, their contents unspecified."""
        return self._apply(lambda t: t.to(device), recurse)

    def float(self) -> Any:
        """Floating parameters and buffers to float32."""
        return self._to_floating(dtypes.float32)

    def double(self) -> Any:
        """Floating parameters and buffers to float64."""
        return self._to_floating(dtypes.float64)

    def half(self) -> Any:
        """Floating parameters and buffers to float16."""
        return self._to_floating(dtypes.float16)

    def type(self, dst_type: Any) -> Any:
        """All parameters and buffers to one dtype."""
        return self._apply(lambda t: t.to(dtypes.as_dtype(dst_type)))

    def cpu(self) -> Any:
        """Parameters and buffers to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Any:
        """Parameters and buffers to a CUDA device."""
        return self.to("cuda" if device is None else as_device(device))

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Gradients of all parameters wanted or not."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or set them to zero)."""
        for param in self.parameters():
            if param.grad is not None:
                if set_to_none:
                    param.grad = None
                else:
                    param.grad = param.grad.detach()
                    param.grad.zero_()

    def share_memory(self) -> Any:
        """Itself: under fork, children see the same pages until they write."""
        return self


def _convert(param: Tensor, fn: Callable[[Tensor], Tensor]) -> None:
    data = fn(param.data)
    if data._array is not param._array:
        param.data = data
    if param.grad is not None:
        param.grad = fn(param.grad.detach())


def _parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The dtype and device that the arguments of `to` ask for."""
    dtype, device = kwargs.get("dtype"), kwargs.get("device")
    for value in args:
        if isinstance(value, Tensor):
            dtype, device = value.dtype, value.device
        elif isinstance(value, DType):
            dtype = value
        elif isinstance(value, (str, Device)) or type(value) is int:
            device = as_device(value)
    if dtype is not None and dtypes.as_dtype(dtype).kind != "f":
        raise TypeError(at_user_line(f"Module.to accepts only floating dtypes, not {dtype}"))
    return dtype, device
