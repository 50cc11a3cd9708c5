"""`Optimizer`: parameter groups, state, zero_grad, state_dict, closures and hooks.

Invariant: a step reads every hyper-parameter through `read_scalar` and counts steps in tensors,
so a compiled training step has no Python number that changes.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.eager.methods import RemovableHandle
from tracejit.eager.modes import enable_grad, no_grad, read_scalar, set_grad_enabled, state
from tracejit.eager.watched import WatchedClass
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

REQUIRED = object()


class _Required:
    """The default of an option that has none, as optimizers of older packages say it."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class Optimizer(metaclass=WatchedClass):
    """Base class of all optimizers.

    params    parameters, (name, parameter) pairs, or dicts with a key ``params`` and options.
    defaults  options of groups that do not set them.

    A subclass defines ``update(group, params)``, called with the parameters that have gradients.
    """

    param_groups: list[dict[str, Any]]
    state: Any

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                at_user_line(
                    "params argument given to the optimizer should be an iterable of "
                    "Tensors or dicts, but got a Tensor"
                )
            )
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        self._pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._post_hooks: OrderedDict[int, Any] = OrderedDict()
        groups = list(params)
        if not groups:
            raise ValueError(at_user_line("optimizer got an empty parameter list"))
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own."""
        if not isinstance(param_group, dict):
            raise TypeError(
                at_user_line(f"param_group must be a dict, but got {type(param_group)}")
            )
        group = dict(param_group)
        items = self._members(group)
        group["params"] = items
        for p in items:
            _check_parameter(p, bool(self.defaults.get("differentiable")))
        for name, value in self.defaults.items():
            if value is REQUIRED and name not in group:
                raise ValueError(
                    at_user_line(f"parameter group didn't specify a value of required {name}")
                )
            group.setdefault(name, value)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in known for p in items):
            raise ValueError(
                at_user_line("some parameters appear in more than one parameter group")
            )
        if len({id(p) for p in items}) != len(items):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; "
                          "in future, this will cause an error", stacklevel=3)  # fmt: skip
        self.param_groups.append(group)

    def _members(self, group: dict[str, Any]) -> list[Any]:
        """The parameters of a new group; names given with them go to ``group["param_names"]``."""
        given = group["params"]
        if isinstance(given, set):
            raise TypeError(at_user_line("parameters need an order; a set has none"))
        items: list[Any] = [given] if isinstance(given, Tensor) else list(given)
        named = {isinstance(item, tuple) for item in items}
        if len(named) > 1:
            raise ValueError(at_user_line(
                "all optimizer params should be with/without names. Some param names are missing"
            ))  # fmt: skip
        if True in named:
            group["param_names"] = [name for name, _ in items]
            items = [p for _, p in items]
        if any(("param_names" in group) != ("param_names" in g) for g in self.param_groups):
            raise ValueError(at_user_line(
                "all optimizer param groups should be with/without names. "
                "cannot add param group with names to the optimizer"))  # fmt: skip
        return items

    # --- stepping ---------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients (or set them to zero)."""
        for p in self._parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad = p.grad.detach()
                    p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients.

        closure  re-evaluates the model and returns the loss, which `step` then returns.
        """
        for hook in list(self._pre_hooks.values()):
            hook(self, (closure,) if closure is not None else (), {})
        loss = self._run(closure)
        for hook in list(self._post_hooks.values()):
            hook(self, (closure,) if closure is not None else (), {})
        return loss

    def _run(self, closure: Callable[[], Any] | None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        recording = state.grad
        with no_grad():
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                if params:
                    with set_grad_enabled(bool(recording and group.get("differentiable"))):
                        self.update(group, params)
        return loss

    def update(self, group: dict[str, Any], params: list[Any]) -> None:
        """Update `params` (of `group`, all with gradients) in place; under no_grad."""
        raise NotImplementedError(at_user_line(f"{type(self).__name__} defines no update()"))

    def _parameters(self) -> Iterator[Any]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    # --- hooks ------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(optimizer, args, kwargs)`` before each step."""
        handle = RemovableHandle(self._pre_hooks)
        self._pre_hooks[handle.id] = hook
        return handle

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(optimizer, args, kwargs)`` after each step."""
        handle = RemovableHandle(self._post_hooks)
        self._post_hooks[handle.id] = hook
        return handle

    # --- saving and loading -----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {index: {...}}, "param_groups": [...]}`` with parameters as indices."""
        index = {id(p): i for i, p in enumerate(self._parameters())}
        groups = [
            {**{k: v for k, v in g.items() if k != "params"},
             "params": [index[id(p)] for p in g["params"]]}
            for g in self.param_groups
        ]  # fmt: skip
        state = {index[id(p)] if isinstance(p, Tensor) else p: v for p, v in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`; the groups must have the same sizes as here."""
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                at_user_line("loaded state dict has a different number of parameter groups")
            )
        for mine, theirs in zip(self.param_groups, saved, strict=True):
            if len(mine["params"]) != len(theirs["params"]):
                raise ValueError(
                    at_user_line(
                        "loaded state dict contains a parameter group that doesn't match "
                        "the size of optimizer's group"
                    )
                )
        ids = chain.from_iterable(g["params"] for g in saved)
        by_id = dict(zip(ids, self._parameters(), strict=True))
        self.state = defaultdict(dict)
        memo: dict[int, Any] = {}
        for key, value in state_dict["state"].items():
            if key in by_id:
                self.state[by_id[key]] = _state_for(by_id[key], value, memo)
            else:
                self.state[key] = copy.deepcopy(value, memo)
        for mine, theirs in zip(self.param_groups, saved, strict=True):
            fresh = {k: copy.deepcopy(v) for k, v in theirs.items() if k != "params"}
            params = mine["params"]
            mine.clear()
            mine.update({"params": params, **fresh})

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


def _check_parameter(p: Any, differentiable: bool) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(
            at_user_line(f"optimizer can only optimize Tensors, but one of the params is {type(p)}")
        )
    if not (p.is_leaf or p.retains_grad or differentiable):
        raise ValueError(at_user_line("can't optimize a non-leaf Tensor"))


def _state_for(param: Any, state: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """A copy of one parameter's state; floating tensors take the parameter's dtype, not `step`."""
    copied = copy.deepcopy(state, memo)
    for name, value in copied.items():
        if isinstance(value, Tensor) and value.dtype.kind == "f" and name != "step":
            copied[name] = value.to(param.dtype)
    return copied


# --- what the optimizers share ---------------------------------------------------------------


def group_options(**options: Any) -> dict[str, Any]:
    """Defaults of an optimizer, with torch's flags of how a step is carried out.

    ``foreach``, ``fused`` and ``capturable`` choose among torch's kernels; here a compiled step is
    fused and reads nothing back in any case, so they change nothing. Raises RuntimeError for flags
    that exclude each other.
    """
    if options.get("fused"):
        if options.get("differentiable"):
            raise RuntimeError(at_user_line("`fused` does not support `differentiable`"))
        if options.get("foreach"):
            raise RuntimeError(at_user_line("`fused` and `foreach` cannot be `True` together"))
    return options


def check_options(**options: Any) -> None:
    """Raise ValueError for a hyper-parameter that must not be negative and is."""
    for name, value in options.items():
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(at_user_line(f"Tensor {name} must be 1-element"))
        elif not value >= 0.0:
            label = "learning rate" if name == "lr" else name
            raise ValueError(at_user_line(f"Invalid {label} value: {value}"))


def check_betas(betas: tuple[Any, ...]) -> None:
    """Raise ValueError unless every beta is in [0, 1), and all are numbers or all are tensors."""
    if len({isinstance(beta, Tensor) for beta in betas}) > 1:
        raise ValueError(at_user_line("betas must be either both floats or both Tensors"))
    for i, beta in enumerate(betas):
        if not isinstance(beta, Tensor) and not 0.0 <= beta < 1.0:
            raise ValueError(at_user_line(f"Invalid beta parameter at index {i}: {beta}"))


def scalars(group: dict[str, Any], *names: str) -> list[Any]:
    """Hyper-parameters of a group, each read so that a change needs no re-trace."""
    return [read_scalar(group, name) for name in names]


def gradient(group: dict[str, Any], p: Any) -> Any:
    """The gradient of `p`, negated if the group maximizes."""
    return -p.grad if group.get("maximize") else p.grad


def decayed(group: dict[str, Any], p: Any, weight_decay: Any) -> Any:
    """The gradient of `p`, with an L2 penalty added where there is one."""
    g = gradient(group, p)
    return g + p * weight_decay if weight_decay != 0 else g


def zeros_for(p: Any) -> Any:
    """A zero tensor of a parameter's shape, dtype and device."""
    return p.new_zeros(p.shape)


def advance_steps(states: Iterable[dict[str, Any]], group: Any, optimizer: Optimizer) -> None:
    """Add 1 to the step count of every state.

    Parameters that have always been updated together share one count tensor, so that the
    corrections derived from it are computed once; one that misses a step gets its own.
    """
    states = list(states)
    fresh = [s for s in states if "step" not in s]
    if fresh:
        count = tensor(0.0, dtype=dtypes.float32, device=group["params"][0].device)
        for s in fresh:
            s["step"] = count
    _separate(states, group, optimizer)
    for count in {id(s["step"]): s["step"] for s in states}.values():
        count.add_(1)


def _separate(states: list[dict[str, Any]], group: Any, optimizer: Optimizer) -> None:
    """Give states that step now a count of their own where it is shared with ones that do not."""
    active = {id(s) for s in states}
    others = [optimizer.state[p] for p in group["params"] if p in optimizer.state]
    idle = {id(s["step"]) for s in others if id(s) not in active and "step" in s}
    replaced: dict[int, Any] = {}
    for s in states:
        key = id(s["step"])
        if key in idle:
            if key not in replaced:
                replaced[key] = s["step"].clone()
            s["step"] = replaced[key]


class PerStep:
    """Values that depend on a step count, computed once for each distinct count tensor."""

    def __init__(self, compute: Callable[[Any], Any]):
        self.compute = compute
        self.known: dict[int, Any] = {}

    def __call__(self, step: Any) -> Any:
        found = self.known.get(id(step))
        if found is None:
            found = self.known[id(step)] = self.compute(step.to(dtypes.float64))
        return found


__all__ = ["REQUIRED", "Optimizer"]
