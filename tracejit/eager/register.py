"""How a function becomes public: ``tracejit.name``, ``Tensor.name`` and ``Tensor.name_``.

Invariant: the three are one function; the in-place form and ``out=`` write the plain one's result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tracejit.eager.inplace import check_writable, deliver, keeping_own, write_into
from tracejit.eager.modes import state
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Everything that the top-level module offers as a function."""


def public(
    *,
    function: bool = True,
    method: bool = True,
    inplace: bool = False,
    out: bool = False,
    aliases: tuple[str, ...] = (),
    into: dict[str, Callable[..., Any]] = FUNCTIONS,
) -> Callable[[F], F]:
    """Publish a function whose first argument is a tensor.

    inplace  adds the method ``name_``, which writes the result into the tensor.
    out      adds the argument ``out=`` to the function (not to the method).
    into     the module namespace that takes the function.
    """

    def publish(target: F) -> F:
        shown = _with_axis(target)
        for name in (target.__name__, *aliases):
            if function:
                into[name] = with_out(shown) if out else shown
            if method:
                setattr(Tensor, name, shown)
            if inplace:
                form = _inplace_form(shown, name)
                setattr(Tensor, f"{name}_", form)
                if function:
                    into[f"{name}_"] = form
        return target

    return publish


def _with_axis(target: Any) -> Any:
    """`target` that takes NumPy's ``axis`` and ``keepdims`` for ``dim`` and ``keepdim``, too."""
    code = target.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "dim" not in names or "axis" in names:
        return target

    @functools.wraps(target)
    def function(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if "axis" in kwargs:
                kwargs["dim"] = kwargs.pop("axis")
            if "keepdims" in kwargs:
                kwargs["keepdim"] = kwargs.pop("keepdims")
        return target(*args, **kwargs)

    return function


def with_names(target: Callable[..., Any], **names: str) -> Callable[..., Any]:
    """`target` that also takes arguments by other names: ``theirs="ours"``."""

    @functools.wraps(target)
    def function(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for theirs, ours in names.items():
                if theirs in kwargs:
                    kwargs[ours] = kwargs.pop(theirs)
        return target(*args, **kwargs)

    return function


# torch converts the result for the others; measured with torch 2.13's own samples.
EXACT_OUT = frozenset((
    "abs", "addbmm", "addmm", "addmv", "alias_copy", "amax", "amin", "aminmax", "argmax",
    "argmin", "as_strided_copy", "baddbmm", "bitwise_not", "bmm", "bucketize", "ceil",
    "cholesky_ex", "conj_physical", "cross", "cummax", "cummin", "det", "diag", "diagonal_copy",
    "diff", "dot", "eigh", "eigvalsh", "expand_copy", "float_power", "floor", "frac", "frexp",
    "gather", "heaviside", "histc", "histogram", "index_add", "index_copy", "index_reduce",
    "index_select", "inner", "inv", "inv_ex", "kthvalue", "log_softmax", "logcumsumexp",
    "lu_factor", "lu_factor_ex", "lu_solve", "lu_unpack", "masked_select", "matmul",
    "matrix_norm", "max", "min", "mm", "mode", "msort", "multi_dot", "mv", "nan_to_num",
    "nanquantile", "narrow_copy", "neg", "nonzero", "norm", "ormqr", "permute_copy", "qr",
    "quantile", "renorm", "round", "scatter", "scatter_add", "scatter_reduce", "searchsorted",
    "sgn", "sign", "slice_scatter", "slogdet", "softmax", "solve", "solve_ex",
    "solve_triangular", "sort", "split_with_sizes_copy", "squeeze_copy", "svd", "svdvals",
    "t_copy", "take", "take_along_dim", "tensordot", "topk", "transpose_copy",
    "triangular_solve", "tril", "triu", "trunc", "unbind_copy", "unfold_copy", "unsqueeze_copy",
    "vdot", "vecdot", "vector_norm", "view_copy", "where",
))  # fmt: skip
"""Functions whose ``out=`` must have the very dtype of the result."""


def _check_exact(name: str, result: Any, out: Any) -> None:
    """Raise RuntimeError where a tensor of `out` has another dtype than its result."""
    if name in ("max", "min") and isinstance(result, Tensor):
        return  # of two tensors: converted
    results = (result,) if isinstance(result, Tensor) else result
    outs = (out,) if isinstance(out, Tensor) else out
    for one, place in zip(results, outs, strict=False):
        if isinstance(place, Tensor) and place.dtype is not one.dtype:
            raise RuntimeError(at_user_line(
                f"{name}: Expected out tensor to have dtype {one.dtype.name}, but got "
                f"{place.dtype.name} instead"))  # fmt: skip


def with_out(target: Callable[..., Any]) -> Callable[..., Any]:
    """`target` with a keyword ``out``: a tensor (or a tuple of them) that takes the result."""
    name = target.__name__
    exact = name in EXACT_OUT

    @functools.wraps(target)
    def function(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        result = target(*args, **kwargs)
        if out is None:
            return result
        if exact:
            _check_exact(name, result, out)
        return deliver(result, out)

    return function


def _inplace_form(target: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(target)
    def inplace(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if state.grad:
            check_writable(self, f"{name}_")
            result = keeping_own(self, target, args, kwargs)
        else:
            result = target(self, *args, **kwargs)
        return write_into(self, result, f"{name}_")

    inplace.__name__ = inplace.__qualname__ = f"{name}_"
    inplace.__doc__ = f"`{name}`, written into the tensor itself, which is returned."
    return inplace
