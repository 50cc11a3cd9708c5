"""Transforms of vectors and matrices: softmax, stick breaking, triangular factors, parts, reshapes.

Invariant: the dimensions of one event are those of `domain` and `codomain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.distributions import constraints
from tracejit.distributions.distribution import sum_last
from tracejit.distributions.transforms import Transform
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn import functional as F

__all__ = [
    "CatTransform", "CorrCholeskyTransform", "LowerCholeskyTransform", "PositiveDefiniteTransform",
    "ReshapeTransform", "SoftmaxTransform", "StackTransform", "StickBreakingTransform",
]  # fmt: skip


class SoftmaxTransform(Transform):
    """``y = softmax(x)``; its "inverse" is the logarithm."""

    bijective = False
    domain = constraints.real_vector
    codomain = constraints.simplex

    def _call(self, x: Any) -> Any:
        return x.softmax(-1)

    def _inverse(self, y: Any) -> Any:
        return y.log()


class StickBreakingTransform(Transform):
    """n numbers to n + 1 probabilities: each takes a share of what is left of a stick."""

    domain = constraints.real_vector
    codomain = constraints.simplex

    @staticmethod
    def _offset(n: int, like: Any) -> Any:
        """Logarithms that map zeros to equal shares."""
        return FUNCTIONS["arange"](n, 0, -1, dtype=like.dtype, device=like.device).log()

    def _call(self, x: Any) -> Any:
        z = (x - self._offset(x.shape[-1], x)).sigmoid()
        left = (1 - z).cumprod(-1)
        return F.pad(z, (0, 1), value=1) * F.pad(left, (1, 0), value=1)

    def _inverse(self, y: Any) -> Any:
        shares = y[..., :-1]
        left = (1 - shares.cumsum(-1)).clamp(min=dtypes.finfo(y.dtype).tiny)
        return shares.log() - left.log() + self._offset(shares.shape[-1], y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        x = x - self._offset(x.shape[-1], x)
        return (-x + F.logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        return (*shape[:-1], shape[-1] - 1)


class LowerCholeskyTransform(Transform):
    """The strict lower triangle of a matrix, with the exponential of its diagonal."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky

    def _call(self, x: Any) -> Any:
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: Any) -> Any:
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(Transform):
    """``L L^T`` for the factor L that `LowerCholeskyTransform` gives."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite

    def _call(self, x: Any) -> Any:
        factor = LowerCholeskyTransform()(x)
        return factor @ factor.mT

    def _inverse(self, y: Any) -> Any:
        return LowerCholeskyTransform().inv(FUNCTIONS["cholesky"](y))


def _triangle(values: Any, n: int, below: int) -> Any:
    """A matrix whose lower triangle from diagonal `below` on holds `values`, row by row."""
    rows, columns = FUNCTIONS["tril_indices"](n, n, below)
    flat = values.new_zeros((*values.shape[:-1], n * n))
    place = (rows * n + columns).expand(values.shape)
    return flat.scatter(-1, place, values).unflatten(-1, (n, n))


class CorrCholeskyTransform(Transform):
    """n (n - 1) / 2 numbers to the Cholesky factor of a correlation matrix (LKJ, 2009)."""

    domain = constraints.real_vector
    codomain = constraints.corr_cholesky

    def _call(self, x: Any) -> Any:
        eps = dtypes.finfo(x.dtype).eps
        n = self.forward_shape(x.shape)[-1]
        r = _triangle(x.tanh().clamp(min=-1 + eps, max=1 - eps), n, -1)
        left = (1 - r**2).sqrt().cumprod(-1)
        r = r + FUNCTIONS["eye"](n, dtype=r.dtype, device=r.device)
        return r * F.pad(left[..., :-1], (1, 0), value=1)

    def _inverse(self, y: Any) -> Any:
        left = F.pad(1 - (y * y).cumsum(-1)[..., :-1], (1, 0), value=1)
        n = y.shape[-1]
        rows, columns = FUNCTIONS["tril_indices"](n, n, -1)
        t = y[..., rows, columns] / left[..., rows, columns].sqrt()
        return (t.log1p() - (-t).log1p()) / 2

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        left = 1 - (y * y).cumsum(-1)
        n = y.shape[-1]
        rows, columns = FUNCTIONS["tril_indices"](n - 1, n - 1, -1)
        inner = left[..., rows + 1, columns].log().sum(-1) * 0.5
        return inner - 2 * (x + F.softplus(-2 * x) - math.log(2.0)).sum(-1)

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        count = shape[-1]
        n = round((0.25 + 2 * count) ** 0.5 + 0.5)
        if n * (n - 1) // 2 != count:
            raise ValueError(at_user_line("Input is not a flattened lower-diagonal number"))
        return (*shape[:-1], n, n)

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        n = shape[-1]
        return (*shape[:-2], n * (n - 1) // 2)


class ReshapeTransform(Transform):
    """An event of shape `in_shape` seen in `out_shape`."""

    def __init__(
        self, in_shape: Sequence[int], out_shape: Sequence[int], cache_size: int = 0
    ) -> None:
        super().__init__(cache_size)
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            raise ValueError(at_user_line("in_shape, out_shape have different numbers of elements"))
        self.domain = constraints.independent(constraints.real, len(self.in_shape))
        self.codomain = constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Any) -> Any:
        return x.reshape(*x.shape[: x.dim() - len(self.in_shape)], *self.out_shape)

    def _inverse(self, y: Any) -> Any:
        return y.reshape(*y.shape[: y.dim() - len(self.out_shape)], *self.in_shape)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return x.new_zeros(x.shape[: x.dim() - len(self.in_shape)])

    def forward_shape(self, shape: Sequence[Any]) -> Any:
        return (*shape[: len(shape) - len(self.in_shape)], *self.out_shape)

    def inverse_shape(self, shape: Sequence[Any]) -> Any:
        return (*shape[: len(shape) - len(self.out_shape)], *self.in_shape)


class _Parts(Transform):
    """A transform for each part of a tensor along `dim`."""

    def __init__(self, tseq: Sequence[Transform], dim: int, cache_size: int) -> None:
        super().__init__(cache_size)
        self.transforms, self.dim = list(tseq), dim
        self.bijective = all(t.bijective for t in self.transforms)

    def _split(self, value: Any) -> list[Any]:
        raise NotImplementedError

    def _join(self, values: list[Any]) -> Any:
        raise NotImplementedError

    def _call(self, x: Any) -> Any:
        pairs = zip(self.transforms, self._split(x), strict=True)
        return self._join([t(part) for t, part in pairs])

    def _inverse(self, y: Any) -> Any:
        pairs = zip(self.transforms, self._split(y), strict=True)
        return self._join([t.inv(part) for t, part in pairs])

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        widest = self.domain.event_dim
        changes = []
        for t, a, b in zip(self.transforms, self._split(x), self._split(y), strict=True):
            change = t.log_abs_det_jacobian(a, b)
            changes.append(sum_last(change, widest - t.domain.event_dim))
        return self._join(changes)


class CatTransform(_Parts):
    """Transforms of neighbouring slices of the given `lengths` along `dim`."""

    def __init__(
        self, tseq: Sequence[Transform], dim: int = 0, lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        self.domain, self.codomain = (
            constraints.cat([getattr(t, end) for t in self.transforms], dim, self.lengths)
            for end in ("domain", "codomain")
        )

    def _split(self, value: Any) -> list[Any]:
        return list(value.split(self.lengths, self.dim))

    def _join(self, values: list[Any]) -> Any:
        return FUNCTIONS["cat"](values, self.dim)


class StackTransform(_Parts):
    """A transform for each element along `dim`."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(tseq, dim, cache_size)
        self.domain, self.codomain = (
            constraints.stack([getattr(t, end) for t in self.transforms], dim)
            for end in ("domain", "codomain")
        )

    def _split(self, value: Any) -> list[Any]:
        return list(value.unbind(self.dim))

    def _join(self, values: list[Any]) -> Any:
        return FUNCTIONS["stack"](values, self.dim)
