"""``tracejit.func``: gradients of functions of tensors, as functions (torch.func's names).

Everything here is `autograd.grad` over fresh leaves, so it nests to any order and runs inside and
around compiled functions. Invariant: the caller's tensors are not changed and gain no ``.grad``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.backward import grad as autograd_grad
from tracejit.eager.modes import enable_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import ShapeError, at_user_line
from tracejit.tensor import Tensor

Positions = int | tuple[int, ...]


def _fresh(value: Any) -> Any:
    """A tensor whose gradient can be asked for, connected to the one given."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value * 1 if value._requires_grad else value.detach().clone().requires_grad_()
    return value


def _with_fresh(args: Sequence[Any], positions: tuple[int, ...]) -> list[Any]:
    return [_fresh(a) if i in positions else a for i, a in enumerate(args)]


def _as_tuple(argnums: Positions) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def value_and_grad(
    func: Callable[..., Any], argnums: Positions = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives ``(gradients, value)`` as ``grad_and_value`` does, value last.

    The value must be a tensor with one element. Example: ``value_and_grad(lambda x: (x * x).sum())``.
    """
    positions = _as_tuple(argnums)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            inputs = _with_fresh(args, positions)
            output = func(*inputs, **kwargs)
            value, aux = output if has_aux else (output, None)
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ShapeError(at_user_line("grad: the function must give one number"))
            wanted = [inputs[i] for i in positions]
            found = autograd_grad(value, wanted, create_graph=True, materialize_grads=True)
        gradients = found[0] if isinstance(argnums, int) else tuple(found)
        plain = not any(isinstance(a, Tensor) and a._requires_grad for a in args)
        if plain:
            gradients = _detached(gradients)
            value = value.detach()
        return (gradients, (value, aux)) if has_aux else (gradients, value)

    return wrapper


def _detached(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_detached, value))
    return value.detach() if isinstance(value, Tensor) else value


grad_and_value = value_and_grad


def grad(
    func: Callable[..., Any], argnums: Positions = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a function that gives one number.

    Example: ``grad(lambda x: x.sin())(tensor(0.0))`` is 1; ``grad(grad(f))`` is the second one.
    """
    both = value_and_grad(func, argnums, has_aux)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradients, value = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return wrapper


def vjp(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """``(output, pull)``: `pull(cotangent)` gives the vector-Jacobian products, one per primal."""
    with enable_grad():
        inputs = [_fresh(p) for p in primals]
        output = func(*inputs)
    outputs = output if isinstance(output, tuple) else (output,)

    def pull(*cotangents: Any) -> tuple[Tensor | None, ...]:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        seeds = given if isinstance(given, tuple) else (given,)
        return autograd_grad(
            outputs, inputs, seeds, retain_graph=True, create_graph=True, materialize_grads=True
        )

    return output, pull


def jvp(func: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """``(output, directional derivative)`` along `tangents`: a gradient of a gradient."""
    output, pull = vjp(func, *primals)
    outputs = output if isinstance(output, tuple) else (output,)
    with enable_grad():
        seeds = tuple(FUNCTIONS["zeros_like"](o).requires_grad_() for o in outputs)
        pulled = pull(seeds)
        inner = sum(((p * t).sum() for p, t in zip(pulled, tangents, strict=True) if p is not None),
                    start=FUNCTIONS["zeros"](()))  # fmt: skip
        found = autograd_grad(inner, seeds, create_graph=True, materialize_grads=True)
    return output, found if isinstance(output, tuple) else found[0]


def jacrev(func: Callable[..., Any], argnums: Positions = 0) -> Callable[..., Any]:
    """The Jacobian: shape of the output, then shape of the input."""
    positions = _as_tuple(argnums)

    def wrapper(*args: Any) -> Any:
        with enable_grad():
            inputs = _with_fresh(args, positions)
            output = func(*inputs)
            wanted = [inputs[i] for i in positions]
            rows = [
                autograd_grad(y, wanted, retain_graph=True, create_graph=True, materialize_grads=True)
                for y in output.reshape(-1)
            ]
        jacobians = tuple(
            FUNCTIONS["stack"]([row[k] for row in rows]).reshape(*output.shape, *wanted[k].shape)
            for k in range(len(wanted))
        )
        if not any(isinstance(a, Tensor) and a._requires_grad for a in args):
            jacobians = _detached(jacobians)
        return jacobians[0] if isinstance(argnums, int) else jacobians

    return wrapper


jacfwd = jacrev


def hessian(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The matrix of second derivatives of a function that gives one number.

    Example: ``hessian(lambda x: (x ** 3).sum())(tensor([1.0, 2.0]))`` is diag(6, 12).
    """
    return jacrev(grad(func, argnums), argnums)


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: int = 0) -> Callable[..., Any]:
    """A function over one more dimension: `func` applied to each slice, the results stacked.

    in_dims  the dimension of each argument to go over, or None for one that is shared.
    It calls `func` once per slice, so it saves writing the loop rather than time.
    """

    def wrapper(*args: Any) -> Any:
        dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
        sizes = {a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None}
        if len(sizes) != 1:
            raise ShapeError(at_user_line(f"vmap: mapped dimensions have sizes {sorted(sizes)}"))
        (count,) = sizes
        results = [
            func(*(a if d is None else a.select(d, i) for a, d in zip(args, dims, strict=True)))
            for i in range(int(count))
        ]
        if isinstance(results[0], tuple):
            return tuple(FUNCTIONS["stack"](list(r), out_dims) for r in zip(*results, strict=True))
        return FUNCTIONS["stack"](results, out_dims)

    return wrapper
