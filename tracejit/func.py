"""``tracejit.func``: gradients of functions of tensors, as functions (torch.func's names).

Everything here is `autograd.grad` over fresh leaves, so it nests to any order and runs inside and
around compiled functions. Invariant: the caller's tensors are not changed and gain no ``.grad``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracejit.eager.backward import grad as autograd_grad
from tracejit.eager.modes import enable_grad
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import ShapeError, at_user_line
from tracejit.nn.batchnorm import _BatchNorm
from tracejit.nn.module import Module
from tracejit.nn.utils.stateless import functional_call, stack_module_state
from tracejit.tensor import Tensor

__all__ = [
    "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev",
    "jvp", "linearize", "replace_all_batch_norm_modules_", "stack_module_state",
    "value_and_grad", "vjp", "vmap",
]  # fmt: skip

Positions = int | tuple[int, ...]


def _leaves(tree: Any) -> list[Any]:
    """What tuples, lists and dicts hold, depth first."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [tree]


def _rebuilt(tree: Any, leaves: Iterator[Any]) -> Any:
    """A container like `tree` around other leaves."""
    if isinstance(tree, dict):
        return {key: _rebuilt(value, leaves) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_rebuilt(value, leaves) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(_rebuilt(value, leaves) for value in tree)
    return next(leaves)


def _fresh(value: Any) -> Any:
    """A tensor whose gradient can be asked for, connected to the one given."""
    if isinstance(value, (tuple, list, dict)):
        return _rebuilt(value, iter([_fresh(leaf) for leaf in _leaves(value)]))
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

    The value must be a tensor with one element. Arguments may be tuples, lists or dicts of tensors;
    their gradients have the same form. Example: ``value_and_grad(lambda x: (x * x).sum())``.
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
            found = autograd_grad(value, _leaves(wanted), create_graph=True, materialize_grads=True)
        trees = _rebuilt(wanted, iter(found))
        gradients = trees[0] if isinstance(argnums, int) else tuple(trees)
        plain = not any(isinstance(a, Tensor) and a._requires_grad for a in _leaves(args))
        if plain:
            gradients = _detached(gradients)
            value = value.detach()
        return (gradients, (value, aux)) if has_aux else (gradients, value)

    return wrapper


def _detached(value: Any) -> Any:
    leaves = (t.detach() if isinstance(t, Tensor) else t for t in _leaves(value))
    return _rebuilt(value, leaves)


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


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``(output, pull)``: `pull(cotangent)` gives the vector-Jacobian products, one per primal.

    has_aux  `func` gives ``(output, aux)``; then the result is ``(output, pull, aux)``.
    """
    with enable_grad():
        inputs = [_fresh(p) for p in primals]
        output, aux = func(*inputs) if has_aux else (func(*inputs), None)
    outputs = output if isinstance(output, tuple) else (output,)

    def pull(*cotangents: Any) -> tuple[Tensor | None, ...]:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        seeds = given if isinstance(given, tuple) else (given,)
        return autograd_grad(
            outputs, inputs, seeds, retain_graph=True, create_graph=True, materialize_grads=True
        )

    return (output, pull, aux) if has_aux else (output, pull)


def jvp(
    func: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *,
    strict: bool = False, has_aux: bool = False,
) -> Any:  # fmt: skip
    """``(output, directional derivative)`` along `tangents`: a gradient of a gradient.

    strict   accepted: a result that does not depend on the primals has derivative 0 either way.
    has_aux  `func` gives ``(output, aux)``, and the result has `aux` at its end.
    """
    output, pull, *aux = vjp(func, *primals, has_aux=has_aux)
    outputs = output if isinstance(output, tuple) else (output,)
    with enable_grad():
        seeds = tuple(FUNCTIONS["zeros_like"](o).requires_grad_() for o in outputs)
        pulled = pull(seeds)
        inner = sum(((p * t).sum() for p, t in zip(pulled, tangents, strict=True) if p is not None),
                    start=FUNCTIONS["zeros"](()))  # fmt: skip
        found = autograd_grad(inner, seeds, create_graph=True, materialize_grads=True)
    return output, (found if isinstance(output, tuple) else found[0]), *aux


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """``(output, push)``: `func` at `primals`, and its derivative there as a linear function.

    ``push(*tangents)`` is what `jvp` gives for them; the function itself runs only once. Primals
    may be tuples, lists or dicts of tensors; tangents then have the same form.

    Example: ``torch.func.linearize(sin, a)[1](torch.ones(2, 3, 4)).equal(cos(a))`` is ``True``.
    """
    with enable_grad():
        inputs = [_fresh(p) for p in primals]
        output = func(*inputs)
        outputs, leaves = _leaves(output), _leaves(inputs)
        seeds = [FUNCTIONS["zeros_like"](o).requires_grad_() for o in outputs]
        pulled = autograd_grad(
            outputs, leaves, seeds, retain_graph=True, create_graph=True, materialize_grads=True
        )

    def push(*tangents: Any) -> Any:
        given = _leaves(tangents)
        if [t.shape for t in given] != [p.shape for p in leaves]:
            raise ShapeError(at_user_line(
                f"linearize: the tangents' shapes {[list(t.shape) for t in given]} are not the "
                f"primals' {[list(p.shape) for p in leaves]}"))  # fmt: skip
        with enable_grad():
            inner = sum((p * t).sum() for p, t in zip(pulled, given, strict=True))
            found: Any = autograd_grad(
                inner, seeds, retain_graph=True, create_graph=True, materialize_grads=True
            )
        plain = not any(t._requires_grad for t in (*_leaves(primals), *given))
        return _rebuilt(output, (f.detach() if plain else f for f in found))

    plain = not any(isinstance(p, Tensor) and p._requires_grad for p in _leaves(primals))
    return (_detached(output) if plain else output), push


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """`func` itself: a compiled function's graph has no writes in any case (`fn.ir()`)."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(at_user_line(
            f"functionalize: remove must be 'mutations' or 'mutations_and_views', not {remove!r}"
        ))  # fmt: skip
    return func


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Make every batch norm in `root` use the batch's statistics alone, in place; returns it."""
    for module in root.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.running_mean = module.running_var = None
            module.num_batches_tracked = None
            module.track_running_stats = False
    return root


def jacrev(
    func: Callable[..., Any], argnums: Positions = 0, *, has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """The Jacobian: shape of the output, then shape of the input.

    has_aux     `func` gives ``(output, aux)``, and the result is ``(jacobian, aux)``.
    chunk_size  accepted: rows are worked out one by one.
    """
    positions = _as_tuple(argnums)

    def wrapper(*args: Any) -> Any:
        with enable_grad():
            inputs = _with_fresh(args, positions)
            output, aux = func(*inputs) if has_aux else (func(*inputs), None)
            wanted = [inputs[i] for i in positions]
            rows = [
                autograd_grad(
                    y, wanted, retain_graph=True, create_graph=True, materialize_grads=True
                )
                for y in output.reshape(-1)
            ]
        jacobians = tuple(
            FUNCTIONS["stack"]([row[k] for row in rows]).reshape(*output.shape, *wanted[k].shape)
            for k in range(len(wanted))
        )
        if not any(isinstance(a, Tensor) and a._requires_grad for a in args):
            jacobians = _detached(jacobians)
        result = jacobians[0] if isinstance(argnums, int) else jacobians
        return (result, _detached(aux)) if has_aux else result

    return wrapper


def jacfwd(
    func: Callable[..., Any], argnums: Positions = 0, has_aux: bool = False, *,
    randomness: str = "error",
) -> Callable[..., Any]:  # fmt: skip
    """As `jacrev`: forward derivatives are gradients of gradients here, so rows cost less."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The matrix of second derivatives of a function that gives one number.

    Example: ``hessian(lambda x: (x ** 3).sum())(tensor([1.0, 2.0]))`` is diag(6, 12).
    """
    return jacrev(grad(func, argnums), argnums)


def _dims_of(tree: Any, dims: Any) -> list[int | None]:
    """For each leaf of `tree` the mapped dimension; `dims` is a number or None for whole parts."""
    if dims is None or isinstance(dims, int):
        return [dims if isinstance(leaf, Tensor) else None for leaf in _leaves(tree)]
    pairs = [(tree[k], dims[k]) for k in tree] if isinstance(tree, dict) else (
        zip(tree, dims, strict=True))  # fmt: skip
    return [d for part, of_part in pairs for d in _dims_of(part, of_part)]


def vmap(
    func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error",
    *, chunk_size: int | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """A function over one more dimension: `func` applied to each slice, the results stacked.

    in_dims   the dimension of each argument to go over, or None for one that is shared; arguments
              may be tuples, lists or dicts, with one number for all or a container of numbers.
    out_dims  where the new dimension of the results goes.
    It calls `func` once per slice, so it saves writing the loop rather than time. Random numbers
    differ from slice to slice, whatever `randomness` says.
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        leaves, dims = _leaves(args), _dims_of(args, in_dims)
        dims += [0 if isinstance(leaf, Tensor) else None for leaf in _leaves(kwargs)]
        leaves += _leaves(kwargs)
        sizes = {a.shape[d] for a, d in zip(leaves, dims, strict=True) if d is not None}
        if len(sizes) != 1:
            raise ShapeError(at_user_line(f"vmap: mapped dimensions have sizes {sorted(sizes)}"))
        results = []
        for i in range(int(sizes.pop())):
            slices = (a if d is None else a.select(d, i) for a, d in zip(leaves, dims, strict=True))
            positional, named = _rebuilt((args, kwargs), iter(list(slices)))
            results.append(func(*positional, **named))
        columns = zip(*map(_leaves, results), strict=True)
        places = _dims_of(results[0], out_dims)
        stacked = [FUNCTIONS["stack"](list(c), d) for c, d in zip(columns, places, strict=True)]
        return _rebuilt(results[0], iter(stacked))

    return wrapper
