"""Parametrizations: a tensor of a module computed, at every access, from other parameters.

Invariant: ``module.name`` is ``parametrizations[name]()``; the stored tensors are the parameters
``parametrizations.name.original`` (or ``original0``, ``original1``, ...), as in torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.nn.containers import ModuleDict, ModuleList
from tracejit.nn.module import Module
from tracejit.nn.parameter import Parameter
from tracejit.nn.version import bump
from tracejit.tensor import Tensor

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization",
    "remove_parametrizations", "type_before_parametrizations",
]  # fmt: skip

_caching: list[dict[tuple[int, str], Tensor] | None] = [None]


class ParametrizationList(ModuleList):
    """The modules that compute one tensor, in their order, and the tensors they start from."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        with no_grad():
            start: Any = original
            for module in reversed(modules):
                inverse = getattr(module, "right_inverse", None)
                try:
                    start = start if inverse is None else inverse(start)
                except NotImplementedError:  # it has none after all: what it gives is not known
                    continue
        self.is_tensor = isinstance(start, Tensor)
        self.ntensors = 1 if self.is_tensor else len(start)
        for key, value in zip(self._keys(), [start] if self.is_tensor else start, strict=True):
            self._store(key, value, original)

    def _keys(self) -> list[str]:
        return ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]

    def _store(self, key: str, value: Tensor, original: Tensor) -> None:
        if not isinstance(original, Parameter):
            self.register_buffer(key, value)
        elif value is original:
            self.register_parameter(key, original)
        else:
            self.register_parameter(key, Parameter(value.detach(), original.requires_grad))

    def right_inverse(self, value: Tensor) -> None:
        """Set the stored tensors so that the computed one becomes `value`."""
        with no_grad():
            start: Any = value
            for module in reversed(list(self)):
                inverse = getattr(module, "right_inverse", None)
                if inverse is None:
                    raise RuntimeError(
                        at_user_line(
                            f"{type(module).__name__} has no right_inverse: the "
                            "tensor cannot be assigned"
                        )
                    )
                start = inverse(start)
            for key, new in zip(self._keys(), [start] if self.is_tensor else start, strict=True):
                getattr(self, key).copy_(new)

    def forward(self) -> Tensor:
        """The computed tensor."""
        first, *rest = list(self)
        value = first(*(getattr(self, key) for key in self._keys()))
        for module in rest:
            value = module(value)
        return value


def _computed(module: Any, name: str) -> Tensor:
    cache = _caching[0]
    if cache is None:
        return module.parametrizations[name]()
    key = (id(module), name)
    if key not in cache:
        cache[key] = module.parametrizations[name]()
    return cache[key]


def _make_class(module: Module) -> None:
    """Give the module a class of its own, in which computed tensors are properties."""
    base = type(module)

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if isinstance(type(self).__dict__.get(name), property) and isinstance(value, Tensor):
            self.parametrizations[name].right_inverse(value)
        else:
            base.__setattr__(self, name, value)

    own = type(f"Parametrized{base.__name__}", (base,), {"__setattr__": __setattr__})
    module.__class__ = own


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Compute the parameter or buffer `tensor_name` by `parametrization` from now on.

    Further parametrizations of one tensor apply after those before. A method ``right_inverse``
    of the parametrization gives the tensor(s) to store. Raises ValueError for a name that is no
    tensor of the module, and for a parametrization that changes shape or dtype unless `unsafe`.

    Example: ``register_parametrization(nn.Linear(4, 2), "weight", nn.Tanh())``.
    """
    if is_parametrized(module, tensor_name):
        module.parametrizations[tensor_name].append(parametrization)
        bump()
        return module
    table = next((t for t in (module._parameters, module._buffers) if tensor_name in t), None)
    original = None if table is None else table[tensor_name]
    if table is None or original is None:
        raise ValueError(at_user_line(f"module {type(module).__name__} has no parameter or buffer "
                         f"{tensor_name!r}"))  # fmt: skip
    parts = ParametrizationList([parametrization], original, unsafe)
    if not unsafe:
        _check_result(parts, original, tensor_name)
    if not is_parametrized(module):
        module.parametrizations = ModuleDict()
        _make_class(module)
    del table[tensor_name]
    module.parametrizations[tensor_name] = parts

    def get(self: Any) -> Tensor:
        return _computed(self, tensor_name)

    setattr(type(module), tensor_name, property(get))
    return module


def _check_result(parts: ParametrizationList, original: Tensor, name: str) -> None:
    with no_grad():
        result = parts()
    if result.shape != original.shape or result.dtype is not original.dtype:
        raise ValueError(at_user_line(f"the parametrization of {name!r} gives {result.dtype}, "
                         f"{tuple(result.shape)} instead of {original.dtype}, "
                         f"{tuple(original.shape)}; say unsafe=True to allow it"))  # fmt: skip


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the module (or its tensor `tensor_name`) is computed by a parametrization."""
    parts = module._modules.get("parametrizations")
    if not isinstance(parts, ModuleDict):
        return False
    return bool(len(parts)) if tensor_name is None else tensor_name in parts


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make the tensor a plain one again: the computed value, or the stored original.

    Raises ValueError if it is not parametrized, or has several originals to choose from.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(
            at_user_line(f"{type(module).__name__} has no parametrization on {tensor_name!r}")
        )
    parts = module.parametrizations[tensor_name]
    if not leave_parametrized and not parts.is_tensor:
        raise ValueError(
            at_user_line("remove_parametrizations: several originals; leave_parametrized=True only")
        )
    stored = getattr(parts, parts._keys()[0])
    with no_grad():
        value = (parts() if leave_parametrized else stored).clone()
    del module.parametrizations[tensor_name]
    delattr(type(module), tensor_name)
    if not len(module.parametrizations):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    if isinstance(stored, Parameter):
        module.register_parameter(tensor_name, Parameter(value.detach(), stored.requires_grad))
    else:
        module.register_buffer(tensor_name, value)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of the module as it was written."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


@contextmanager
def cached() -> Iterator[None]:
    """In this context each computed tensor is computed once, at its first use."""
    before, _caching[0] = _caching[0], {}
    try:
        yield
    finally:
        _caching[0] = before
