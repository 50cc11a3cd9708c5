"""``tracejit.autograd.forward_ad``: dual numbers, that is directional derivatives beside values.

Invariant: a tangent is the derivative of a gradient (as in `func.jvp`), worked out when it is
unpacked; so every operation with a gradient has a forward one, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tracejit.eager.backward import grad
from tracejit.eager.modes import enable_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import ShapeError, at_user_line
from tracejit.tensor import Tensor

__all__ = [
    "UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual",
    "unpack_dual",
]  # fmt: skip

_levels: list[list[tuple[Any, Any, bool]]] = []  # of each level: (dual, tangent, has a graph)


class UnpackedDualTensor(NamedTuple):
    """A value and its tangent (None if it does not depend on any dual tensor)."""

    primal: Any
    tangent: Any


def enter_dual_level() -> int:
    """Begin a level; only one can be open at a time, as in torch. Returns its number, 0."""
    if _levels:
        raise RuntimeError(at_user_line("nested forward mode AD is not supported"))
    _levels.append([])
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level; its dual tensors become plain ones."""
    if not _levels:
        raise RuntimeError(at_user_line("exit_dual_level: no level is open"))
    _levels.pop()


@contextmanager
def dual_level() -> Iterator[None]:
    """``with dual_level():`` is the only place in which dual tensors can be made.

    Example::

        x, t = torch.tensor(3.0), torch.tensor(1.0)
        with torch.autograd.forward_ad.dual_level():
            y = torch.autograd.forward_ad.make_dual(x, t) ** 2
            assert torch.autograd.forward_ad.unpack_dual(y).tangent == 6.0
    """
    enter_dual_level()
    try:
        yield
    finally:
        exit_dual_level()


def make_dual(tensor: Any, tangent: Any, *, level: int | None = None) -> Tensor:
    """`tensor` with a tangent of its shape and dtype.

    Raises RuntimeError outside a level, ShapeError for another shape, ValueError for no float.
    """
    if not _levels:
        raise RuntimeError(at_user_line(
            "trying to create a dual Tensor for forward AD but no level exists, make sure to "
            "enter_dual_level() first."))  # fmt: skip
    if tensor.dtype.kind != "f":
        raise ValueError(at_user_line(f"make_dual: needs a floating tensor, not {tensor.dtype}"))
    if tensor.shape != tangent.shape or tensor.dtype is not tangent.dtype:
        raise ShapeError(at_user_line(
            f"make_dual: a tangent {tangent.dtype} {list(tangent.shape)} does not fit "
            f"{tensor.dtype} {list(tensor.shape)}"))  # fmt: skip
    has_graph = bool(tensor.requires_grad)
    with enable_grad():
        dual = tensor * 1 if has_graph else tensor.detach().clone().requires_grad_()
    _levels[-1].append((dual, tangent, has_graph))
    return dual


def unpack_dual(tensor: Any, *, level: int | None = None) -> UnpackedDualTensor:
    """The value and the tangent of a result."""
    if not _levels or not _levels[-1] or not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    pairs = _levels[-1]
    with enable_grad():
        seed = FUNCTIONS["zeros_like"](tensor).requires_grad_()
        pulled = grad(
            tensor, [dual for dual, *_ in pairs], seed, retain_graph=True, create_graph=True,
            allow_unused=True,
        )  # fmt: skip
        terms = [(g * t).sum() for g, (_, t, _) in zip(pulled, pairs, strict=True) if g is not None]
        if not terms:
            return UnpackedDualTensor(tensor, None)
        found: Any = grad(
            sum(terms), seed, retain_graph=True, create_graph=True, materialize_grads=True
        )
    if any(has_graph for *_, has_graph in pairs):
        return UnpackedDualTensor(tensor, found[0])
    return UnpackedDualTensor(tensor.detach(), found[0].detach())
