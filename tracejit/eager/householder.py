"""Products of Householder reflections: `geqrf`, `householder_product`, `orgqr`, `ormqr`.

Invariant: column i of a matrix of reflectors holds v_i below its diagonal; the 1 on the diagonal
and the zeros above are meant, whatever stands there. H_i = I - tau_i v_i v_i^T.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.decompositions import check_matrix, linalg_function
from tracejit.eager.dispatch import apply
from tracejit.eager.linalg import matmul
from tracejit.eager.modes import state
from tracejit.eager.ranges import eye, tril
from tracejit.eager.register import public
from tracejit.eager.results import named
from tracejit.eager.shape import expand, sizes_of
from tracejit.eager.tape import type_of
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor


@public(out=True)
def geqrf(input: Tensor) -> Any:
    """(a, tau): R in the upper triangle of `a`, the reflectors of Q below, their factors `tau`.

    As LAPACK's ``geqrf``; not differentiable (use `qr`).
    """
    check_matrix("geqrf", input)
    if input._requires_grad and state.grad:
        raise NotImplementedError(at_user_line(
            "the derivative for 'geqrf' is not implemented; use torch.linalg.qr"))  # fmt: skip
    return named("geqrf", "a tau")(*apply(OPS["geqrf"], (input,)))


def _check(name: str, input: Tensor, tau: Tensor) -> None:
    check_matrix(name, input)
    if tau.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"{name}: tau dtype {type_of(tau)} does not match input dtype {type_of(input)}"
        ))  # fmt: skip
    m, n = sizes_of(input)[-2:]
    if m < n and name != "ormqr":  # whose Q is square in any case
        raise ShapeError(at_user_line(
            f"{name}: needs at least as many rows as columns, got {type_of(input)}"
        ))  # fmt: skip
    fits = tau.ndim == input.ndim - 1 and sizes_of(tau)[:-1] == sizes_of(input)[:-2]
    if not fits or sizes_of(tau)[-1] > n:
        raise ShapeError(at_user_line(
            f"{name}: factors {type_of(tau)} do not fit the reflectors {type_of(input)}"
        ))  # fmt: skip


def _reflect(vectors: Any, tau: Any, target: Any, order: Any) -> Any:
    """``H_a H_b ... target`` for the reflectors of `order`, the last applied first."""
    lower = tril(vectors, -1)
    unit = eye(*sizes_of(vectors)[-2:], dtype=vectors.dtype, device=vectors.device)
    columns = lower + unit
    for i in order:
        v = columns[..., i : i + 1]
        target = target - tau[..., i, None, None] * matmul(v, matmul(v.mT, target))
    return target


@linalg_function(out=True)
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of ``H_1 H_2 ... H_k``, as many as `input` has.

    input  [..., m, n], m >= n: the reflectors; tau [..., k], k <= n.
    Example: ``householder_product(*geqrf(b.mT)).shape`` is ``(2, 5, 4)``.
    """
    _check("linalg.householder_product", input, tau)
    (*batch, m, n) = sizes_of(input)
    start = expand(eye(m, n, dtype=input.dtype, device=input.device), *batch, m, n)
    return _reflect(input, tau, start, reversed(range(int(sizes_of(tau)[-1]))))


@public(out=True)
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """`linalg.householder_product`, by LAPACK's name."""
    return householder_product(input, input2)


@public(out=True)
def ormqr(
    input: Tensor, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """`input3` times the square Q that the reflectors `input` and their factors `input2` make.

    left       Q input3; else input3 Q.
    transpose  by the transpose of Q.
    """
    tau, other = input2, input3
    _check("ormqr", input, tau)
    check_matrix("ormqr", other)
    place = -2 if left else -1
    if sizes_of(other)[place] != sizes_of(input)[-2]:
        raise ShapeError(at_user_line(
            f"ormqr: other.shape[{place}] must equal input.shape[-2], got {type_of(other)} "
            f"and {type_of(input)}"))  # fmt: skip
    order = range(int(sizes_of(tau)[-1]))
    forward = transpose if left else not transpose  # other Q = (Q^T other^T)^T
    steps = order if forward else reversed(order)
    result = _reflect(input, tau, other if left else other.mT, steps)
    return result if left else result.mT
