"""``_foreach_mul_`` and its kin: one operation over lists of tensors, as optimizers call it.

Invariant: the same as the tensor's own method called on each, in order; the names are torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor

__all__ = ["FOREACH"]

_UNARY = (
    "abs", "ceil", "cos", "erf", "exp", "expm1", "floor", "frac", "log", "log10", "log1p", "log2",
    "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "tan", "tanh",
)  # fmt: skip
_BINARY = {  # torch's name -> the method
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "pow": "pow",
    "maximum": "clamp_min", "minimum": "clamp_max", "clamp_min": "clamp_min",
    "clamp_max": "clamp_max", "copy": "copy",
}  # fmt: skip


def _column(value: Any, count: int) -> Sequence[Any]:
    """`value` for each of `count` tensors: a list gives one each, anything else is shared."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise RuntimeError(at_user_line(
            f"Tensor lists must have the same number of tensors, got {count} and {len(value)}"
        ))  # fmt: skip
    return value


def _over_lists(method: str, inplace: bool) -> Callable[..., Any]:
    def foreach(self: Sequence[Tensor], *operands: Any, **options: Any) -> Any:
        columns = [_column(operand, len(self)) for operand in operands]
        keyed = {key: _column(value, len(self)) for key, value in options.items()}
        results = [
            getattr(tensor, method)(
                *(column[i] for column in columns), **{k: v[i] for k, v in keyed.items()}
            )
            for i, tensor in enumerate(self)
        ]
        return None if inplace else results

    return foreach


def _fused(name: str, inplace: bool) -> Callable[..., Any]:
    """``addcmul`` and ``addcdiv``: the factor is a number, a list of them, or a tensor of them."""
    method = f"{name}_" if inplace else name

    def foreach(
        self: Sequence[Tensor], tensor1: Sequence[Tensor], tensor2: Sequence[Tensor],
        scalars: Any = 1, *, value: Any = None,
    ) -> Any:  # fmt: skip
        factors = scalars if value is None else value
        factors = factors.tolist() if isinstance(factors, Tensor) else factors
        results = [
            getattr(tensor, method)(a, b, value=factor)
            for tensor, a, b, factor in zip(
                self, tensor1, tensor2, _column(factors, len(self)), strict=True
            )
        ]
        return None if inplace else results

    return foreach


def _norm(self: Sequence[Tensor], ord: Any = 2, dtype: Any = None) -> list[Tensor]:
    return [FUNCTIONS["norm"](tensor, ord, dtype=dtype) for tensor in self]


def _copied(self: Sequence[Tensor], src: Sequence[Tensor]) -> list[Tensor]:
    return [b.to(a.dtype).expand(a.shape).clone() for a, b in zip(self, src, strict=True)]


FOREACH: dict[str, Callable[..., Any]] = {
    "_foreach_zero_": _over_lists("zero_", True),
    "_foreach_norm": _norm,
    **{f"_foreach_{name}": _over_lists(name, False) for name in _UNARY},
    **{f"_foreach_{name}_": _over_lists(f"{name}_", True) for name in _UNARY},
    **{f"_foreach_{name}": _over_lists(method, False) for name, method in _BINARY.items()},
    **{f"_foreach_{name}_": _over_lists(f"{method}_", True) for name, method in _BINARY.items()},
    "_foreach_copy": _copied,
    "_foreach_lerp": _over_lists("lerp", False),
    "_foreach_lerp_": _over_lists("lerp_", True),
    "_foreach_addcmul": _fused("addcmul", False),
    "_foreach_addcmul_": _fused("addcmul", True),
    "_foreach_addcdiv": _fused("addcdiv", False),
    "_foreach_addcdiv_": _fused("addcdiv", True),
}
