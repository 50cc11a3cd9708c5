"""Matrix products with all of torch's rank rules.

Invariant: the op multiplies stacks of matrices with equal batch axes; vectors and broadcasting
are spelled out here.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.dispatch import apply, broadcast_symbolic, common_dtype
from tracejit.eager.inplace import deliver
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.shape import sizes_of
from tracejit.eager.tape import type_of
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.tensor import Tensor


def _check(name: str, a: Tensor, b: Tensor) -> None:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        raise TypeError(at_user_line(f"{name}: expects two tensors"))
    if a.dtype is not b.dtype:
        raise DTypeError(at_user_line(
            f"{name}: expected equal dtypes, got {type_of(a)} and {type_of(b)}"))  # fmt: skip


@public()
def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The matrix product; vectors count as a row (left) or column (right), batches broadcast."""
    _check("matmul", input, other)
    a, b = input, other
    if a._array.ndim == 0 or b._array.ndim == 0:
        raise RuntimeError(at_user_line(
            f"matmul: both arguments need at least 1 dimension, got {type_of(a)}, {type_of(b)}"))  # fmt: skip
    inner_a, inner_b = sizes_of(a)[-1], sizes_of(b)[0 if b._array.ndim == 1 else -2]
    if inner_a != inner_b:
        raise ShapeError(at_user_line(
            f"matmul: {type_of(a)} and {type_of(b)} cannot be multiplied "
            f"({inner_a} against {inner_b})"))  # fmt: skip
    row, column = a._array.ndim == 1, b._array.ndim == 1
    a = a.unsqueeze(0) if row else a
    b = b.unsqueeze(1) if column else b
    result = _product(a, b)
    if row:
        result = result.squeeze(-2)
    if column:
        result = result.squeeze(-1)
    return deliver(result, out)


def _product(a: Tensor, b: Tensor) -> Tensor:
    shape_a, shape_b = sizes_of(a), sizes_of(b)
    if len(shape_b) == 2 and len(shape_a) > 2:  # one matrix for all rows: a single product
        flat = a.reshape(product(shape_a[:-1]), shape_a[-1])
        result = apply(OPS["matmul"], (flat, b))
        return result.reshape(*shape_a[:-1], shape_b[-1])  # type: ignore[no-any-return]
    if shape_a[:-2] != shape_b[:-2]:
        try:
            batch = broadcast_symbolic([shape_a[:-2], shape_b[:-2]])
        except ShapeError as error:
            raise ShapeError(at_user_line(f"matmul: batch {error}")) from None
        a = a.expand(*batch, *shape_a[-2:])
        b = b.expand(*batch, *shape_b[-2:])
    return apply(OPS["matmul"], (a, b))  # type: ignore[no-any-return]


def _ranked(name: str, rank_a: int, rank_b: int, doc: str) -> None:
    def function(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
        _check(name, input, mat2)
        if input._array.ndim != rank_a or mat2._array.ndim != rank_b:
            raise RuntimeError(at_user_line(
                f"{name}: expects {rank_a}-d and {rank_b}-d tensors, got {type_of(input)}, "
                f"{type_of(mat2)}"))  # fmt: skip
        if rank_a == 3 and sizes_of(input)[0] != sizes_of(mat2)[0]:
            raise ShapeError(at_user_line(
                f"{name}: batch sizes differ: {type_of(input)}, {type_of(mat2)}"))  # fmt: skip
        return matmul(input, mat2, out=out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    public()(function)


_ranked("mm", 2, 2, "The product of two matrices.")
_ranked("bmm", 3, 3, "The products of two stacks of matrices.")
_ranked("mv", 2, 1, "A matrix times a vector.")
_ranked("dot", 1, 1, "The inner product of two vectors.")


@public()
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions."""
    if input._array.ndim == 0 or other._array.ndim == 0:
        return input * other
    flat = other.reshape(-1, sizes_of(other)[-1])
    result = matmul(input, flat.t())
    return result.reshape(*sizes_of(input)[:-1], *sizes_of(other)[:-1])


@public(aliases=("ger",))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of two vectors' elements."""
    if input._array.ndim != 1 or vec2._array.ndim != 1:
        raise RuntimeError(at_user_line("outer: expects two 1-d tensors"))
    return input.unsqueeze(1) * vec2.unsqueeze(0)


def _added(name: str, product_name: str) -> None:
    def function(
        input: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1,
        out: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        result = FUNCTIONS[product_name](a, b)
        result = result if alpha == 1 else result * alpha
        if beta != 0:
            result = result + (input if beta == 1 else input * beta)
        return deliver(result, out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``beta * input + alpha * {product_name}(a, b)``."
    public(inplace=True)(function)


_added("addmm", "mm")
_added("addmv", "mv")
_added("baddbmm", "bmm")
_added("addr", "outer")


@public(method=False)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over `dims`: a count of axes, or two lists of them."""
    if isinstance(dims, int):
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left = [d % a.ndim for d in left]
    right = [d % b.ndim for d in right]
    keep_a = [i for i in range(a.ndim) if i not in left]
    keep_b = [i for i in range(b.ndim) if i not in right]
    shape_a, shape_b = sizes_of(a), sizes_of(b)
    inner_size = product(shape_a[i] for i in left)
    rows = a.permute(*keep_a, *left).reshape(product(shape_a[i] for i in keep_a), inner_size)
    columns = b.permute(*right, *keep_b).reshape(inner_size, product(shape_b[i] for i in keep_b))
    result = matmul(rows, columns)
    return result.reshape(*(shape_a[i] for i in keep_a), *(shape_b[i] for i in keep_b))


def _multiply(x: Tensor, y: Tensor) -> Tensor:
    dtype = common_dtype((x, y))
    return matmul(x.to(dtype), y.to(dtype))


FUNCTIONS["vdot"] = FUNCTIONS["dot"]
Tensor.__matmul__ = lambda self, other: matmul(self, other)  # type: ignore[attr-defined]
Tensor.__rmatmul__ = lambda self, other: matmul(other, self)  # type: ignore[attr-defined]
