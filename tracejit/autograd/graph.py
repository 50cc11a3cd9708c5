"""``tracejit.autograd.graph``: hooks on several gradients, and where saved values wait.

Invariant: results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from weakref import ref

from tracejit.eager.backward import running
from tracejit.eager.methods import RemovableHandle
from tracejit.eager.tape import bump_version, node_of
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

__all__ = ["increment_version", "register_multi_grad_hook", "save_on_cpu"]


class save_on_cpu(nullcontext[None]):
    """A block whose saved values torch would move to the CPU; they stay where they are."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        super().__init__()


def increment_version(tensor: Any) -> None:
    """Count a write to a tensor (or several) that was made past tracejit, as through NumPy."""
    for one in (tensor,) if isinstance(tensor, Tensor) else tensor:
        bump_version(one)


class _Gathered:
    """The gradients of one backward pass that some tensors have had so far."""

    def __init__(self, walk: Any, tensors: Sequence[Tensor]):
        below = set(walk.order)
        self.walk = ref(walk)
        self.missing = {i for i, t in enumerate(tensors) if node_of(t) in below}
        self.grads: list[Tensor | None] = [None] * len(tensors)


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[[Any], None], *, mode: str = "all"
) -> RemovableHandle:
    """Call `fn` once in each backward pass in which gradients of `tensors` are worked out.

    mode  'all': with the list of gradients, when the last of them is there (None where the pass
          does not reach the tensor); 'any': with the first of them.
    Returns a handle whose ``remove()`` takes the hook away. Raises ValueError for another mode.
    """
    if mode not in ("all", "any"):
        raise ValueError(at_user_line(f"expects mode to be one of ('all', 'any') but got {mode}"))
    now: list[_Gathered] = []

    def seen(i: int, gradient: Tensor) -> None:
        walk = running.walks[-1]
        first = not now or now[0].walk() is not walk
        if first:
            now[:] = [_Gathered(walk, tensors)]
        if mode == "any":
            if first:
                fn(gradient)
            return
        now[0].grads[i] = gradient
        now[0].missing.discard(i)
        if not now[0].missing:
            fn(now[0].grads)

    hooks = [t.register_hook(lambda g, i=i: seen(i, g)) for i, t in enumerate(tensors)]
    return _Handles(hooks)


class _Handles(RemovableHandle):
    """One handle for several hooks."""

    def __init__(self, hooks: Sequence[RemovableHandle]):
        super().__init__({})
        self._several = hooks

    def remove(self) -> None:
        """Take all of them away."""
        for hook in self._several:
            hook.remove()
