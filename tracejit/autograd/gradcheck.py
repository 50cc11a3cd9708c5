"""Gradients against central differences: `gradcheck`, and `gradgradcheck` for second ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.backward import grad
from tracejit.eager.factories import tensor
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor, new_tensor


class GradcheckError(RuntimeError):
    """The gradient of a function is not its derivative."""


def _tensors(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)


def _outputs(func: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Tensor]:
    return [
        y for y in _tensors(func(*inputs))
        if isinstance(y, Tensor) and y._array.dtype.kind == "f"
    ]  # fmt: skip


def _numerical(
    func: Callable[..., Any], inputs: tuple[Any, ...], x: Tensor, eps: float
) -> list[np.ndarray]:
    """One matrix for each output: a row per input element, by central differences."""
    flat = x._array.reshape(-1)
    if not np.shares_memory(flat, x._array) and flat.size:
        raise GradcheckError(at_user_line("gradcheck: an input must be contiguous"))
    columns: list[list[np.ndarray]] = []
    for i in range(flat.size):
        held, sides = flat[i], []
        for step in (eps, -eps):
            flat[i] = held + step
            sides.append([np.array(y._array, np.float64) for y in _outputs(func, inputs)])
        flat[i] = held
        columns.append([(up - down).ravel() / (2 * eps) for up, down in zip(*sides, strict=True)])
    return [np.array(c).reshape(flat.size, -1) for c in zip(*columns, strict=True)]


def _analytical(y: Tensor, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """One matrix for each input: a row per input element, a column per element of `y`."""
    found = [np.zeros((x._array.size, y._array.size)) for x in inputs]
    if not y._requires_grad:
        return found
    for j in range(y._array.size):
        seed = np.zeros_like(y._array)
        seed.reshape(-1)[j] = 1
        parts = grad([y], list(inputs), [new_tensor(seed)], retain_graph=True, allow_unused=True)
        for matrix, g in zip(found, parts, strict=True):
            if g is not None:
                matrix[:, j] = g._array.ravel()
    return found


def _fail(message: str, raise_exception: bool) -> bool:
    if raise_exception:
        raise GradcheckError(at_user_line(message))
    return False


def gradcheck(
    func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5,
    rtol: float = 1e-3, raise_exception: bool = True, nondet_tol: float = 0.0,
    check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
    check_batched_grad: bool = False, check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:  # fmt: skip
    """Whether the gradients of `func` agree with central differences.

    Forward derivatives are gradients of gradients here, so `check_forward_ad` is `gradgradcheck`.

    inputs           tensors; those that require grad are checked and should be float64.
    raise_exception  raise GradcheckError (naming input and output) instead of returning False.
    """
    given = _tensors(inputs)
    checked = [x for x in given if isinstance(x, Tensor) and x._requires_grad]
    if not checked:
        raise ValueError(at_user_line("gradcheck: no input requires grad"))
    ys = _outputs(func, given)
    exact = [_analytical(y, checked) for y in ys]
    for i, x in enumerate(checked):
        if x.dtype is not dtypes.float64 and raise_exception and eps < 1e-4:
            return _fail(f"gradcheck: input {i} is {x.dtype.name}; use float64", raise_exception)
        measured = _numerical(func, given, x, eps)
        for j, (row, numbers) in enumerate(zip(exact, measured, strict=False)):
            if not np.allclose(row[i], numbers, rtol, atol, equal_nan=True):
                return _fail(
                    f"gradcheck: the gradient of output {j} by input {i} differs:\n"
                    f"numerical:\n{numbers}\nanalytical:\n{row[i]}", raise_exception,
                )  # fmt: skip
    if check_forward_ad:
        return gradgradcheck(func, inputs, eps=eps, atol=atol, rtol=rtol,
                             raise_exception=raise_exception)  # fmt: skip
    return True


def gradgradcheck(
    func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6,
    atol: float = 1e-5, rtol: float = 1e-3, gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True, **how: Any,
) -> bool:  # fmt: skip
    """Whether the gradients of the gradients of `func` agree with central differences."""
    given = _tensors(inputs)
    checked = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x._requires_grad]
    ys = [y for y in _outputs(func, given) if y._requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = tuple(
            tensor(rng.uniform(-1, 1, y._array.shape), dtype=y.dtype).requires_grad_() for y in ys
        )
    else:
        seeds = _tensors(grad_outputs)

    def first(*arguments: Any) -> tuple[Tensor, ...]:
        xs, gs = arguments[: len(given)], arguments[len(given) :]
        outs = [y for y in _outputs(func, xs) if y._requires_grad]
        found = grad(outs, [xs[i] for i in checked], list(gs), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(first, (*given, *seeds), eps=eps, atol=atol, rtol=rtol,
                     raise_exception=raise_exception, **how)  # fmt: skip
