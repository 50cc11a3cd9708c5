"""Matrix products with all of torch's rank rules.

Invariant: the op multiplies stacks of matrices with equal batch axes; vectors and broadcasting
are spelled out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.dispatch import apply, broadcast_symbolic
from tracejit.eager.inplace import deliver
from tracejit.eager.pointwise import check_tensors, where_of
from tracejit.eager.reduce import sum, vector_norm
from tracejit.eager.register import FUNCTIONS, public, with_names
from tracejit.eager.shape import axis_of, expand, permute, reshape, sizes_of, unsqueeze
from tracejit.eager.tape import type_of
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.tensor import Tensor


def _check(name: str, a: Tensor, b: Tensor) -> None:
    check_tensors(name, a, b)
    if a.dtype is not b.dtype:
        raise DTypeError(at_user_line(
            f"{name}: expected equal dtypes, got {type_of(a)} and {type_of(b)}"))  # fmt: skip


@public(out=True)
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product; vectors count as a row (left) or column (right), batches broadcast."""
    _check("matmul", input, other)
    a, b = input, other
    if a._array.ndim == 0 or b._array.ndim == 0:
        raise RuntimeError(at_user_line(
            f"matmul: both arguments need at least 1 dimension, got {type_of(a)}, {type_of(b)}"
        ))  # fmt: skip
    inner_a, inner_b = sizes_of(a)[-1], sizes_of(b)[0 if b._array.ndim == 1 else -2]
    if inner_a != inner_b:
        raise ShapeError(at_user_line(
            f"matmul: {type_of(a)} and {type_of(b)} cannot be multiplied "
            f"({inner_a} against {inner_b})"))  # fmt: skip
    row, column = a._array.ndim == 1, b._array.ndim == 1
    if row and column and a.dtype in (dtypes.float32, dtypes.float64):
        return sum(a * b)
    a = unsqueeze(a, 0) if row else a
    b = unsqueeze(b, 1) if column else b
    result = _product(a, b)
    if row:
        result = result.squeeze(-2)
    return result.squeeze(-1) if column else result


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype.kind == "b":
        return _product(a.to(dtypes.uint8), b.to(dtypes.uint8)).to(dtypes.bool_)
    shape_a, shape_b = sizes_of(a), sizes_of(b)
    if len(shape_b) == 2 and len(shape_a) > 2:  # one matrix for all rows: a single product
        flat = reshape(a, product(shape_a[:-1]), shape_a[-1])
        result = apply(OPS["matmul"], (flat, b))
        return reshape(result, *shape_a[:-1], shape_b[-1])
    if shape_a[:-2] != shape_b[:-2]:
        try:
            batch = broadcast_symbolic([shape_a[:-2], shape_b[:-2]])
        except ShapeError as error:
            raise ShapeError(at_user_line(f"matmul: batch {error}")) from None
        a = expand(a, *batch, *shape_a[-2:])
        b = expand(b, *batch, *shape_b[-2:])
    return apply(OPS["matmul"], (a, b))


def _ranked(name: str, rank_a: int, rank_b: int, doc: str, second: str = "mat2") -> None:
    """`second` is torch's name of the second operand."""

    def function(input: Tensor, mat2: Tensor) -> Tensor:
        _check(name, input, mat2)
        if input._array.ndim != rank_a or mat2._array.ndim != rank_b:
            raise RuntimeError(at_user_line(
                f"{name}: expects {rank_a}-d and {rank_b}-d tensors, got {type_of(input)}, "
                f"{type_of(mat2)}"))  # fmt: skip
        if rank_a == 3 and sizes_of(input)[0] != sizes_of(mat2)[0]:
            raise ShapeError(at_user_line(
                f"{name}: batch sizes differ: {type_of(input)}, {type_of(mat2)}"))  # fmt: skip
        return matmul(input, mat2)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    named = function if second == "mat2" else with_names(function, **{second: "mat2"})
    public(out=True)(named)


_ranked("mm", 2, 2, "The product of two matrices.")
_ranked("bmm", 3, 3, "The products of two stacks of matrices.")
_ranked("mv", 2, 1, "A matrix times a vector.", "vec")
_ranked("dot", 1, 1, "The inner product of two vectors.", "tensor")
_ranked("vdot", 1, 1, "The inner product of two vectors.", "other")


@public(out=True)
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions."""
    _check("inner", input, other)
    if input._array.ndim == 0 or other._array.ndim == 0:
        return input * other
    if sizes_of(input)[-1] != sizes_of(other)[-1]:
        raise ShapeError(at_user_line(
            f"inner: last dimensions differ: {type_of(input)}, {type_of(other)}"))  # fmt: skip
    flat = reshape(other, product(sizes_of(other)[:-1]), sizes_of(other)[-1])
    result = matmul(input, flat.t())
    return reshape(result, *sizes_of(input)[:-1], *sizes_of(other)[:-1])


@public(out=True, aliases=("ger",))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of two vectors' elements."""
    if input._array.ndim != 1 or vec2._array.ndim != 1:
        raise RuntimeError(at_user_line("outer: expects two 1-d tensors"))
    return unsqueeze(input, 1) * unsqueeze(vec2, 0)


# --- sums of products ------------------------------------------------------------------------


def _combine(name: str, input: Tensor, result: Tensor, beta: Any, alpha: Any) -> Tensor:
    """``beta * input + alpha * result``; fractions do not scale integers."""
    if result.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"{name}: expected equal dtypes, got {type_of(input)} and {type_of(result)}"
        ))  # fmt: skip
    try:
        wanted = broadcast_symbolic([sizes_of(input), sizes_of(result)])
    except ShapeError:
        wanted = ()
    if wanted != sizes_of(result):
        raise ShapeError(at_user_line(
            f"{name}: {type_of(input)} does not expand to {list(sizes_of(result))}"))  # fmt: skip
    kind = result.dtype.kind
    if kind != "f":
        beta, alpha = (int(x) if type(x) is float else x for x in (beta, alpha))
    if alpha != 1:
        result = (result & bool(alpha)) if kind == "b" else result * alpha
    if beta == 0:
        return result
    scaled = input if beta == 1 else (input & bool(beta)) if kind == "b" else input * beta
    return result + scaled


def _added(name: str, product_name: str, names: tuple[str, str]) -> None:
    def function(
        input: Tensor, a: Any = None, b: Any = None, *, beta: Any = 1, alpha: Any = 1, **given: Any
    ) -> Tensor:
        a, b = (given.pop(n, v) for n, v in zip(names, (a, b), strict=True))
        if given:
            raise TypeError(at_user_line(f"{name}: unknown arguments {list(given)}"))
        check_tensors(name, input, a, b)
        if product_name == "outer" and alpha != 1 and a.dtype.kind == "f":
            a, alpha = a * alpha, 1
        product_of = FUNCTIONS[product_name](a, b)
        if product_name == "bmm" and name == "addbmm":
            product_of = sum(product_of, 0, dtype=product_of.dtype)
        return _combine(name, input, product_of, beta, alpha)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``beta * input + alpha * {product_name}({', '.join(names)})``."
    public(inplace=True, out=True)(function)


_added("addmm", "mm", ("mat1", "mat2"))
_added("addmv", "mv", ("mat", "vec"))
_added("addbmm", "bmm", ("batch1", "batch2"))
_added("baddbmm", "bmm", ("batch1", "batch2"))
_added("addr", "outer", ("vec1", "vec2"))


@public(method=False, out=True)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over `dims`: a count of axes, or two lists of them."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0 or dims > min(a.ndim, b.ndim):
            raise RuntimeError(at_user_line(f"tensordot: cannot sum over {dims} dimensions"))
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left = [axis_of(d, a.ndim, "tensordot") for d in left]
    right = [axis_of(d, b.ndim, "tensordot") for d in right]
    for i, j in zip(left, right, strict=True):  # an axis of size 1 meets any other
        n, m = sizes_of(a)[i], sizes_of(b)[j]
        if n == 1 and m != 1:
            b = sum(b, j, True, dtype=b.dtype)
        elif m == 1 and n != 1:
            a = sum(a, i, True, dtype=a.dtype)
        elif n != m:
            raise ShapeError(at_user_line(f"tensordot: sizes {n} and {m} do not match"))
    keep_a = [i for i in range(a.ndim) if i not in left]
    keep_b = [i for i in range(b.ndim) if i not in right]
    shape_a, shape_b = sizes_of(a), sizes_of(b)
    inner_size = product(shape_a[i] for i in left)
    rows = reshape(permute(a, *keep_a, *left), product(shape_a[i] for i in keep_a), inner_size)
    flat = product(shape_b[i] for i in keep_b)
    result = matmul(rows, reshape(permute(b, *right, *keep_b), inner_size, flat))
    return reshape(result, *(shape_a[i] for i in keep_a), *(shape_b[i] for i in keep_b))


@public(out=True)
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: each element of `input` times the whole of `other`."""
    ndim = max(input.ndim, other.ndim)
    shape_a = (1,) * (ndim - input.ndim) + tuple(sizes_of(input))
    shape_b = (1,) * (ndim - other.ndim) + tuple(sizes_of(other))
    spread_a = [n for size in shape_a for n in (size, 1)]
    spread_b = [n for size in shape_b for n in (1, size)]
    result = reshape(input, *spread_a) * reshape(other, *spread_b)
    return reshape(result, *(n * m for n, m in zip(shape_a, shape_b, strict=True)))


def chain_matmul(*matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """The product of several matrices, in the order that needs the fewest multiplications."""
    items = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], Sequence) else matrices
    result = items[0] if len(items) == 1 else cheapest_product(list(items))
    return result if out is None else deliver(result, out)


def cheapest_product(items: list[Tensor]) -> Tensor:
    """Matrices multiplied in the best order (dynamic programming; Cormen et al., 15.2)."""
    sizes = [int(sizes_of(t)[0]) for t in items] + [int(sizes_of(items[-1])[1])]
    count = len(items)
    cost = [[0] * count for _ in range(count)]
    cut = [[0] * count for _ in range(count)]
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [
                (cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i][j], cut[i][j] = min(options)

    def multiply(i: int, j: int) -> Tensor:
        if i == j:
            return items[i]
        return matmul(multiply(i, cut[i][j]), multiply(cut[i][j] + 1, j))

    return multiply(0, count - 1)


_CDIST_ROWS = {
    "use_mm_for_euclid_dist_if_necessary": 25, "use_mm_for_euclid_dist": -1,
    "donot_use_mm_for_euclid_dist": None,
}  # fmt: skip
"""By mode, the number of rows above which distances come from a matrix product."""


def _euclidean_by_product(x1: Tensor, x2: Tensor) -> Tensor:
    squares = unsqueeze(sum(x1 * x1, -1), -1) + unsqueeze(sum(x2 * x2, -1), -2)
    squares = squares - matmul(x1, x2.transpose(-1, -2)) * 2
    none = squares <= 0  # rounding may go below; the gradient of no distance is 0, as torch's
    root = where_of(none, 1.0, squares, squares.dtype).sqrt()
    return where_of(none, 0.0, root, root.dtype)


@public(method=False)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """Distances (p-norms of differences) between the rows of two stacks of matrices.

    x1 [..., N, D], x2 [..., M, D]; the result is [..., N, M].
    compute_mode  when p = 2 goes through a matrix product, |a|^2 + |b|^2 - 2ab, which is faster and
                  cancels where rows are near each other: "use_mm_for_euclid_dist_if_necessary" (the
                  default: for more than 25 rows), "use_mm_for_euclid_dist",
                  "donot_use_mm_for_euclid_dist".
    Raises RuntimeError for other shapes and a negative p, ValueError for another mode.
    Example: ``cdist(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item()`` is ``5.0``.
    """
    if x1.ndim < 2 or x2.ndim < 2 or sizes_of(x1)[-1] != sizes_of(x2)[-1]:
        raise RuntimeError(at_user_line(
            f"cdist: {type_of(x1)} and {type_of(x2)} must be matrices with equal columns"
        ))  # fmt: skip
    if p < 0:
        raise RuntimeError(at_user_line(f"cdist: p={p} must not be negative"))
    mode = "use_mm_for_euclid_dist_if_necessary" if compute_mode is None else compute_mode
    if mode not in _CDIST_ROWS:
        raise ValueError(at_user_line(f"cdist: {mode} is not a valid value for compute_mode"))
    many = _CDIST_ROWS[mode]
    if p == 2 and many is not None and (sizes_of(x1)[-2] > many or sizes_of(x2)[-2] > many):
        return _euclidean_by_product(x1, x2)
    gap = unsqueeze(x1, -2) - unsqueeze(x2, -3)
    if not sizes_of(gap)[-1]:
        return sum(gap, -1)
    return vector_norm(gap, p, -1, False)


FUNCTIONS["chain_matmul"] = chain_matmul
setattr(Tensor, "__matmul__", lambda self, other: matmul(self, other))
setattr(Tensor, "__rmatmul__", lambda self, other: matmul(other, self))
