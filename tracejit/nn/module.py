"""`Module`: parameters, buffers and submodules found by assignment; calls with hooks.

Invariant: `VERSION[0]` grows whenever a module's attributes, registrations or mode change, so that
a compiled function need only compare one number to know that no module has changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from tracejit.eager.methods import RemovableHandle
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.nn.module_hooks import call_with_hooks
from tracejit.nn.module_state import IncompatibleKeys, StateMixin
from tracejit.nn.module_walk import WalkMixin
from tracejit.nn.parameter import Buffer, Parameter
from tracejit.nn.version import VERSION, Registry, bump
from tracejit.tensor import Tensor

M = TypeVar("M", bound="Module")

_HOOK_TABLES = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks",
    "_state_dict_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip
_PLAIN = (bool, int, float, str, type(None))


class Module(WalkMixin, StateMixin, metaclass=WatchedClass):
    """Base class of all neural network modules.

    Assigning a `Parameter`, a Module or a `Buffer` to an attribute registers it.

    Example::

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2)

            def forward(self, x):
                return self.fc(x).relu()
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _has_hooks: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = self.__dict__
        own["training"] = True
        own["_parameters"] = Registry()
        own["_buffers"] = Registry()
        own["_modules"] = Registry()
        own["_non_persistent_buffers_set"] = set()
        own["_has_hooks"] = False
        for name in _HOOK_TABLES:
            own[name] = OrderedDict()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a call computes; every subclass defines it."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} defines no forward()"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._has_hooks:
            compiled = self.__dict__.get("_compiled_call")
            if compiled is not None:
                return compiled(*args, **kwargs)
            return call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """What a call does uncompiled."""
        return call_with_hooks(self, args, kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile this module's calls in place; the arguments are those of ``tracejit.compile``."""
        from tracejit.jit.compile import compile  # here, so that nn is imported without a compiler

        self.__dict__["_compiled_call"] = compile(self._call, *args, **kwargs)
        self.__dict__["_has_hooks"] = True
        bump()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_compiled_call"}

    # --- registration -----------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make `param` (or None, to reserve the name) the parameter `name`."""
        self._check_name(name, "parameter", self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(at_user_line(f"parameter {name!r} must be a Parameter or None, "
                            f"not {type(param).__name__}"))  # fmt: skip
        if param is not None and not param.is_leaf:
            raise ValueError(
                at_user_line(
                    f"parameter {name!r} must be a leaf; assign a tensor computed in "
                    "forward() as a plain attribute instead"
                )
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make `tensor` the buffer `name`; `persistent=False` keeps it out of state_dict."""
        self._check_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(at_user_line(f"buffer {name!r} must be a Tensor or None, "
                            f"not {type(tensor).__name__}"))  # fmt: skip
        self._buffers[name] = tensor
        self._set_persistent(name, persistent)

    def register_module(self, name: str, module: Module | None) -> None:
        """`add_module`."""
        self.add_module(name, module)

    def add_module(self, name: str, module: Module | None) -> None:
        """Make `module` the child `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                at_user_line(
                    f"child {name!r} must be a Module or None, not {type(module).__name__}"
                )
            )
        self._check_name(name, "module", self._modules)
        self._modules[name] = module

    def _check_name(self, name: str, kind: str, table: dict[str, Any]) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError("call super().__init__() before assigning to a Module")
        if not isinstance(name, str):
            raise TypeError(
                at_user_line(f"the name of a {kind} must be a string, not {type(name).__name__}")
            )
        if name == "" or "." in name:
            raise KeyError(f"the name of a {kind} can be neither empty nor contain a dot: {name!r}")
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute {name!r} already exists")

    def _set_persistent(self, name: str, persistent: bool) -> None:
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    # --- attributes -------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for table in ("_parameters", "_buffers", "_modules"):
            found = own.get(table)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        tables = own.get("_parameters")
        kind = _kind_of(value)
        if kind is not None:
            if tables is None:
                raise AttributeError("call super().__init__() before assigning to a Module")
            self._register(name, value, kind)
            return
        if tables is not None and self._replace_entry(name, value):
            return
        if name not in own or not _same(own[name], value):
            bump()
        object.__setattr__(self, name, value)

    def _replace_entry(self, name: str, value: Any) -> bool:
        """Put a plain value where a parameter, child or buffer of that name is; False if none."""
        own = self.__dict__
        for table, what, wanted in (("_parameters", "parameter", "Parameter"),
                                    ("_modules", "child", "Module"),
                                    ("_buffers", "buffer", "Tensor")):  # fmt: skip
            if name in own[table]:
                fits = value is None or (what == "buffer" and isinstance(value, Tensor))
                if not fits:
                    raise TypeError(at_user_line(
                        f"cannot assign {type(value).__name__} as {what} {name!r} "
                        f"(a {wanted} or None is expected)"))  # fmt: skip
                own[table][name] = value
                return True
        return False

    def _register(self, name: str, value: Any, kind: str) -> None:
        """Put a parameter, module or buffer in its table, and out of every other place."""
        own = self.__dict__
        if name in own:
            del own[name]
        for table in ("_parameters", "_buffers", "_modules"):
            if table != kind and name in own[table]:
                if table == "_buffers" and kind == "_parameters":
                    self._non_persistent_buffers_set.discard(name)
                del own[table][name]
        if kind == "_parameters":
            self.register_parameter(name, value)
        elif kind == "_modules":
            own["_modules"][name] = value
        else:
            own["_buffers"][name] = value
            self._set_persistent(name, value.persistent)

    def __delattr__(self, name: str) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__[table]:
                del self.__dict__[table][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)
        bump()

    def __dir__(self) -> list[str]:
        names = set(object.__dir__(self))
        names.update(self._parameters, self._buffers, self._modules)
        return sorted(n for n in names if not n[0].isdigit())

    # --- mode -------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Training mode (dropout, batch statistics) on or off, here and in all children."""
        if not isinstance(mode, bool):
            raise ValueError(at_user_line("training mode is expected to be boolean"))
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """``train(False)``."""
        return self.train(False)

    # --- hooks ------------------------------------------------------------------------------

    def _add_hook(self, table: str, hook: Any, prepend: bool = False) -> RemovableHandle:
        hooks = self.__dict__[table]
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        if table.startswith(("_forward", "_backward")):
            self.__dict__["_has_hooks"] = True
        bump()
        return handle

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Before forward: ``hook(module, args)`` may return new args (`with_kwargs`: a pair)."""
        return self._add_hook("_forward_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:  # fmt: skip
        """After forward: ``hook(module, args, output)`` may return a new output.

        `always_call` runs it also when forward raised (with None as output).
        """
        return self._add_hook("_forward_hooks", (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Before the module's backward: ``hook(module, grad_output)`` may replace the last of
        the outputs' gradients to arrive (with one output: the gradient)."""
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """After the module's backward: ``hook(module, grad_input, grad_output)``.

        What it returns (unless None) replaces the last input's gradient to arrive (with one
        input: the gradient). Inputs given by keyword are not watched.
        """
        return self._add_hook("_backward_hooks", hook, prepend)

    # --- printing ---------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses; subclasses define it."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({key}): {_indent(repr(m))}" for key, m in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


def _indent(text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *("  " + line for line in rest)])


def _kind_of(value: Any) -> str | None:
    """The table an assigned value belongs in, or None for a plain attribute."""
    if isinstance(value, Parameter):
        return "_parameters"
    if isinstance(value, Module):
        return "_modules"
    return "_buffers" if isinstance(value, Buffer) else None


def _same(a: Any, b: Any) -> bool:
    """Whether replacing `a` by `b` changes nothing that a trace could depend on."""
    return a is b or (type(a) is type(b) and type(a) in _PLAIN and repr(a) == repr(b))


_IncompatibleKeys = IncompatibleKeys  # torch's name for it

__all__ = ["VERSION", "Module"]
