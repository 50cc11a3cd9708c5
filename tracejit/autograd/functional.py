"""Derivatives of functions of tensors: Jacobians, Hessians, products with them.

Invariant: `func` is called with fresh tensors over the given data; the caller's tensors keep
their ``.grad``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.eager.backward import grad
from tracejit.eager.factories import zeros_like
from tracejit.eager.joining import stack
from tracejit.eager.modes import enable_grad
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor, new_tensor


def _as_tuple(values: Any, what: str, name: str) -> tuple[bool, tuple[Tensor, ...]]:
    is_tuple = isinstance(values, (tuple, list))
    items = tuple(values) if is_tuple else (values,)
    for i, x in enumerate(items):
        if not isinstance(x, Tensor):
            raise TypeError(at_user_line(
                f"{name}: {what} must be tensors, number {i} is {type(x).__name__}"))  # fmt: skip
    return is_tuple, items


def _fresh(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    """Tensors to differentiate by: views of the recorded ones, or new leaves."""
    made = []
    for x in inputs:
        keep = create_graph and x._requires_grad
        made.append(x.view_as(x) if keep else x.detach().requires_grad_())
    return tuple(made)


def _gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], seeds: Any, strict: bool, again: bool
) -> list[Tensor]:
    """Gradients, zeros where there is no dependence (an error if `strict`)."""
    live = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o._requires_grad]
    found: Any = [None] * len(inputs)
    if live:
        found = grad([o for o, _ in live], list(inputs), [s for _, s in live], retain_graph=True,
                     create_graph=again, allow_unused=True)  # fmt: skip
    if strict and any(g is None for g in found):
        raise RuntimeError(at_user_line("an output does not depend on an input (strict=True)"))
    return [zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def _run(
    name: str, func: Callable[..., Any], inputs: tuple[Tensor, ...]
) -> tuple[bool, tuple[Tensor, ...]]:
    return _as_tuple(func(*inputs), f"the outputs of the function given to {name}", name)


def _seeds_for(name: str, v: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if v is None:
        if len(outputs) != 1 or outputs[0]._array.size != 1:
            raise RuntimeError(at_user_line(f"{name}: v may be left out for one number only"))
        return (new_tensor(np.ones_like(outputs[0]._array)),)
    _, items = _as_tuple(v, "v", name)
    for s, o in zip(items, outputs, strict=True):
        if s._array.shape != o._array.shape:
            raise RuntimeError(at_user_line(
                f"{name}: v has shape {tuple(s.shape)}, expected {tuple(o.shape)}"))  # fmt: skip
    return items


def _given(values: Sequence[Tensor], is_tuple: bool, create_graph: bool) -> Any:
    done = tuple(values) if create_graph else tuple(v.detach() for v in values)
    return done if is_tuple else done[0]


@enable_grad()
def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(outputs, v times the Jacobian)."""
    several, given = _as_tuple(inputs, "inputs", "vjp")
    xs = _fresh(given, create_graph)
    several_out, ys = _run("vjp", func, xs)
    seeds = _seeds_for("vjp", v, ys)
    found = _gradients(ys, xs, seeds, strict, create_graph)
    return _given(ys, several_out, create_graph), _given(found, several, create_graph)


@enable_grad()
def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(outputs, the Jacobian times v), by differentiating the gradient by its seed."""
    _, given = _as_tuple(inputs, "inputs", "jvp")
    xs = _fresh(given, create_graph)
    several_out, ys = _run("jvp", func, xs)
    tangents = _seeds_for("jvp", v, xs)
    seeds = tuple(zeros_like(y).requires_grad_() for y in ys)
    first = _gradients(ys, xs, seeds, strict, True)
    found = _gradients(first, seeds, tangents, False, create_graph)
    return _given(ys, several_out, create_graph), _given(found, several_out, create_graph)


@enable_grad()
def jacobian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The derivative of every output element by every input element.

    Shape: the output's dimensions, then the input's; a tuple (of tuples) for several.
    """
    several, given = _as_tuple(inputs, "inputs", "jacobian")
    xs = _fresh(given, create_graph)
    several_out, ys = _run("jacobian", func, xs)
    table = []
    for y in ys:
        rows: list[list[Tensor]] = [[] for _ in xs]
        for where in np.ndindex(*y._array.shape):
            seed = np.zeros_like(y._array)
            seed[where] = 1
            found = _gradients([y], xs, [new_tensor(seed)], strict, create_graph)
            for row, g in zip(rows, found, strict=True):
                row.append(g)
        shape = tuple(y.shape)
        parts = [
            stack(row).reshape(*shape, *x.shape)
            if row
            else zeros_like(x).new_zeros(*shape, *x.shape)
            for row, x in zip(rows, xs, strict=True)
        ]
        table.append(_given(parts, several, create_graph))
    return tuple(table) if several_out else table[0]


def _scalar(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*inputs: Tensor) -> Tensor:
        result = func(*inputs)
        if not isinstance(result, Tensor) or result._array.size != 1:
            raise RuntimeError(at_user_line(f"{name}: the function must return one number"))
        return result.reshape(())

    return checked


def hessian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The second derivatives of a function with one number as its result."""
    several, _ = _as_tuple(inputs, "inputs", "hessian")

    def gradient(*xs: Tensor) -> Any:
        found = jacobian(_scalar("hessian", func), xs, create_graph=True, strict=strict)
        return found if several else found[0]

    return jacobian(gradient, inputs, create_graph=create_graph, strict=strict)


@enable_grad()
def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(output, v times the Hessian)."""
    several, given = _as_tuple(inputs, "inputs", "vhp")
    xs = _fresh(given, create_graph)
    y = _scalar("vhp", func)(*xs)
    first = _gradients([y], xs, [new_tensor(np.ones_like(y._array))], strict, True)
    found = _gradients(first, xs, _seeds_for("vhp", v, xs), strict, create_graph)
    return _given([y], False, create_graph), _given(found, several, create_graph)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(output, the Hessian times v); the same as `vhp`, the Hessian being symmetric."""
    return vhp(func, inputs, v, create_graph, strict)
