"""Saving and restoring a module's tensors: `state_dict` and `load_state_dict`.

Invariant: loading checks every shape and name before it reports; a strict load that does not fit
raises with all that is wrong.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tracejit.eager.methods import RemovableHandle
from tracejit.eager.modes import no_grad
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.nn.parameter import Parameter
from tracejit.tensor import Tensor

_EXTRA = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found: names it missed and names it did not expect."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        missing, unexpected = self.missing_keys, self.unexpected_keys
        return f"_IncompatibleKeys(missing_keys={missing}, unexpected_keys={unexpected})"


class StateMixin(metaclass=WatchedClass):
    """The part of Module that saves and loads."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_pre_hooks: dict[int, Any]
    _state_dict_hooks: dict[int, Any]
    _load_state_dict_pre_hooks: dict[int, Any]
    _load_state_dict_post_hooks: dict[int, Any]
    _add_hook: Callable[..., RemovableHandle]

    # --- saving -----------------------------------------------------------------------------

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """Every parameter and persistent buffer by dotted name, sharing memory, detached.

        keep_vars  the parameters themselves instead of detached tensors.
        """
        found: Any = OrderedDict() if destination is None else destination
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(found, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            hook(self, found, prefix, {})
        return found

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put this module's own tensors into `destination`; subclasses may extend it."""
        for name, tensor in self._own_tensors().items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not StateMixin.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def _own_tensors(self) -> dict[str, Tensor]:
        own = {n: p for n, p in self._parameters.items() if p is not None}
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                own[name] = buffer
        return own

    def get_extra_state(self) -> Any:
        """More to save than tensors; a subclass that defines it defines `set_extra_state` too."""
        raise RuntimeError(at_user_line("get_extra_state is for subclasses to define"))

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` gave."""
        raise RuntimeError(at_user_line("set_extra_state is for subclasses to define"))

    # --- loading ----------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy the tensors of `state_dict` into this module's parameters and buffers.

        strict  raise RuntimeError unless the names are exactly those of ``state_dict()``.
        assign  take the tensors themselves instead of copying (their dtype wins).

        Shapes must be equal. Returns the missing and the unexpected names.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                at_user_line(f"state_dict should be a dict, not {type(state_dict).__name__}")
            )
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        _load_tree(self, dict(state_dict), "", {"assign_to_params_buffers": assign}, strict,
                   missing, unexpected, errors)  # fmt: skip
        keys = IncompatibleKeys(missing, unexpected)
        if strict:
            if unexpected:
                errors.insert(0, f"unexpected keys: {', '.join(map(repr, unexpected))}")
            if missing:
                errors.insert(0, f"missing keys: {', '.join(map(repr, missing))}")
        if errors:
            raise RuntimeError(
                at_user_line(f"load_state_dict of {type(self).__name__}:\n  " + "\n  ".join(errors))
            )
        return keys

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: dict[str, Any],
        strict: bool, missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load this module's own tensors from the names that start with `prefix`."""
        for hook in self._load_state_dict_pre_hooks.values():
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                 error_msgs)  # fmt: skip
        own = self._own_tensors()
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                self._load_one(name, tensor, key, state_dict[key], assign, error_msgs)
            else:
                missing_keys.append(key)
        self._load_extra(state_dict, prefix, missing_keys)
        if strict:
            unexpected_keys.extend(_unexpected(self, state_dict, prefix, own))

    def _load_extra(
        self, state_dict: Mapping[str, Any], prefix: str, missing_keys: list[str]
    ) -> None:
        key = prefix + _EXTRA
        if type(self).set_extra_state is not StateMixin.set_extra_state:
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            else:
                missing_keys.append(key)

    def _load_one(
        self, name: str, own: Tensor, key: str, given: Any, assign: bool, errors: list[str]
    ) -> None:
        if isinstance(given, Tensor) and own.dim() == 0 and given._array.shape == (1,):
            given = given[0]  # as torch loads files older than 0-d tensors
        if not isinstance(given, Tensor):
            errors.append(f"{key!r}: expected a Tensor, got {type(given).__name__}")
        elif given._array.shape != own._array.shape:
            shapes = list(given._array.shape), list(own._array.shape)
            errors.append(f"size mismatch for {key}: the checkpoint has shape {shapes[0]}, "
                          f"the module {shapes[1]}")  # fmt: skip
        elif assign:
            if isinstance(own, Parameter) and not isinstance(given, Parameter):
                given = Parameter(given, own._requires_grad)
            (self._parameters if name in self._parameters else self._buffers)[name] = given
        else:
            with no_grad():
                own.copy_(given)

    # --- hooks ------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(module, prefix, keep_vars)`` before the state is collected."""
        return self._add_hook("_state_dict_pre_hooks", hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(module, state_dict, prefix, local_metadata)`` after it is; may change it."""
        return self._add_hook("_state_dict_hooks", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Before each module is loaded: ``hook(module, state_dict, prefix, local_metadata,
        strict, missing_keys, unexpected_keys, error_msgs)``."""
        return self._add_hook("_load_state_dict_pre_hooks", hook)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        """torch's older name, which libraries use: by default `hook` is not given the module."""
        called = hook if with_module else _WithoutModule(hook)
        return self._add_hook("_load_state_dict_pre_hooks", called)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(module, incompatible_keys)`` after loading."""
        return self._add_hook("_load_state_dict_post_hooks", hook)


class _WithoutModule:
    """A hook called without its first argument, the module. A class, so that it can be copied."""

    def __init__(self, hook: Callable[..., Any]):
        self.hook = hook

    def __call__(self, module: Any, *args: Any) -> Any:
        return self.hook(*args)


def _load_tree(
    module: Any, state: Mapping[str, Any], prefix: str, metadata: dict[str, Any], strict: bool,
    missing: list[str], unexpected: list[str], errors: list[str],
) -> None:  # fmt: skip
    module._load_from_state_dict(state, prefix, metadata, True, missing, unexpected, errors)
    for name, child in module._modules.items():
        if child is not None:
            _load_tree(child, state, f"{prefix}{name}.", metadata, strict, missing, unexpected,
                       errors)  # fmt: skip
    keys = IncompatibleKeys(missing, unexpected)
    for hook in module._load_state_dict_post_hooks.values():
        hook(module, keys)


def _unexpected(
    module: Any, state: Mapping[str, Any], prefix: str, own: dict[str, Tensor]
) -> list[str]:
    """Names under `prefix` that belong neither to this module nor to a child."""
    found = []
    has_extra = type(module).set_extra_state is not StateMixin.set_extra_state
    for key in state:
        if not key.startswith(prefix):
            continue
        name, *below = key[len(prefix) :].split(".")
        if below:
            if name not in module._modules:
                found.append(key)
        elif name not in own and not (name == _EXTRA and has_extra):
            found.append(key)
    return found
