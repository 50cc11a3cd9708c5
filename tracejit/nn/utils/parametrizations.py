"""Weight normalisation and spectral normalisation as parametrizations.

Invariant: names of parameters and buffers are those of ``torch.nn.utils.parametrizations``.
"""

from __future__ import annotations

from typing import Any, TypeVar

from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.nn.functional.linear import normalize
from tracejit.nn.module import Module
from tracejit.nn.utils.orthogonal import orthogonal
from tracejit.nn.utils.parametrize import register_parametrization
from tracejit.nn.utils.weight_norm import norm_except
from tracejit.tensor import Tensor

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Any:
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Any, Any]:
        return norm_except(weight, self.dim), weight


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """A weight as size times direction (Salimans, Kingma, 2016): ``original0``, ``original1``.

    dim  the dimension along which there is a size for each index; None: one size.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    return module


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if iterations <= 0:
            raise ValueError(
                at_user_line(f"n_power_iterations should be positive, got {iterations}")
            )
        self.n_power_iterations = iterations
        self.dim = dim % weight.ndim
        self.eps = eps
        if weight.ndim > 1:
            rows, columns = self.matrix(weight.detach()).shape
            for part, size in (("_u", rows), ("_v", columns)):
                start = weight.detach().new_empty(size).normal_()
                self.register_buffer(part, normalize(start, dim=0, eps=eps))
            self.iterate(self.matrix(weight.detach()), 15)

    def matrix(self, weight: Any) -> Any:
        """The weight with `dim` first and the rest as one."""
        order = (self.dim, *(i for i in range(weight.ndim) if i != self.dim))
        return weight.permute(*order).reshape(weight.shape[self.dim], -1)

    def iterate(self, matrix: Any, count: int) -> None:
        """Bring the buffers nearer to the largest singular vectors."""
        with no_grad():
            for _ in range(count):
                self._u.copy_(normalize(matrix.mv(self._v), dim=0, eps=self.eps))
                self._v.copy_(normalize(matrix.t().mv(self._u), dim=0, eps=self.eps))

    def forward(self, weight: Any) -> Any:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = self.matrix(weight)
        if self.training:
            self.iterate(matrix.detach(), self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()
        return weight / u.dot(matrix.mv(v))

    def right_inverse(self, value: Any) -> Any:
        return value


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
    dim: int | None = None,
) -> M:  # fmt: skip
    """A weight divided by its largest singular value (Miyato et al., 2018).

    dim  the output dimension (default 0; 1 for transposed convolutions).
    """
    target: Any = module
    axis = int(getattr(target, "transposed", False)) if dim is None else dim
    rule = _SpectralNorm(getattr(target, name), n_power_iterations, axis, eps)
    register_parametrization(module, name, rule)
    return module
