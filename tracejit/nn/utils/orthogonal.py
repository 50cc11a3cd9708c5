"""``nn.utils.parametrizations.orthogonal``: matrices kept orthogonal by construction.

Invariant: the value is orthogonal up to rounding whatever the stored parameter holds (Lezcano and
Martinez-Rubio, "Cheap orthogonal constraints in neural networks", 2019).
"""

from __future__ import annotations

from typing import Any, TypeVar

from tracejit.eager.decompositions import qr, solve
from tracejit.eager.householder import geqrf, householder_product
from tracejit.eager.joining import cat
from tracejit.eager.linalg import matmul
from tracejit.eager.matrix_functions import matrix_exp
from tracejit.eager.modes import no_grad
from tracejit.eager.ranges import eye
from tracejit.errors import at_user_line
from tracejit.nn.module import Module
from tracejit.nn.utils.parametrize import register_parametrization
from tracejit.tensor import Tensor

M = TypeVar("M", bound=Module)
_MAPS = ("matrix_exp", "cayley", "householder")


def _orthonormal(x: Any) -> Any:
    """The Q of a matrix whose R has a positive diagonal."""
    q, r = qr(x)
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def _is_orthonormal(x: Any) -> bool:
    n = x.shape[-1]
    gap = matmul(x.mT, x) - eye(n, dtype=x.dtype, device=x.device)
    return bool((gap.abs() < 10.0 * n * 2.0 ** (-52 if x.element_size() == 8 else -23)).all())


class _Orthogonal(Module):
    base: Any

    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Any) -> Any:
        wide = x.shape[-2] < x.shape[-1]
        x = x.mT if wide else x
        q = self._reflections(x) if self.orthogonal_map == "householder" else self._rotation(x)
        if hasattr(self, "base"):
            q = matmul(self.base, q)
        return q.mT if wide else q

    def _rotation(self, x: Any) -> Any:
        """The first columns of the rotation that a skew matrix generates."""
        (*batch, n, k) = x.shape
        x = x.tril()
        square = x if n == k else cat([x, x.new_zeros(*batch, n, n - k)], -1)
        skew = square - square.mT
        if self.orthogonal_map == "matrix_exp":
            q = matrix_exp(skew)
        else:
            unit = eye(n, dtype=x.dtype, device=x.device)
            q = solve(unit - 0.5 * skew, unit + 0.5 * skew)
        return q[..., :k]

    def _reflections(self, x: Any) -> Any:
        vectors = x.tril(-1)
        factors = 2.0 / (1.0 + vectors.square().sum(-2))
        signs = x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
        return householder_product(vectors, factors) * signs

    def right_inverse(self, value: Any) -> Any:
        """The parameter (and base) for which the value is `value`."""
        if value.shape != self.shape:
            raise ValueError(at_user_line(f"expected a matrix of shape {tuple(self.shape)}, "
                             f"got {tuple(value.shape)}"))  # fmt: skip
        with no_grad():
            wide = value.shape[-2] < value.shape[-1]
            tall = value.mT if wide else value
            if hasattr(self, "base"):
                self.base = self._completed(tall)
                identity = eye(*value.shape[-2:], dtype=value.dtype, device=value.device)
                return -identity.expand(value.shape)
            if self.orthogonal_map != "householder":
                raise NotImplementedError(
                    at_user_line(
                        "a matrix can be assigned only with use_trivialization=True or the map "
                        "'householder'"
                    )
                )
            vectors, factors = geqrf(tall)
            diagonal = vectors.diagonal(dim1=-2, dim2=-1)
            diagonal.copy_(diagonal.sign() * (1.0 - 2.0 * (factors == 0).to(factors.dtype)))
            return vectors.mT if wide else vectors

    def _completed(self, tall: Any) -> Any:
        (*batch, n, k) = tall.shape
        if n != k:
            return _orthonormal(cat([tall, tall.new_empty(*batch, n, n - k).normal_()], -1))
        return tall.clone() if _is_orthonormal(tall) else _orthonormal(tall)


def orthogonal(
    module: M, name: str = "weight", orthogonal_map: str | None = None, *,
    use_trivialization: bool = True,
) -> M:  # fmt: skip
    """Keep the rows or columns (the fewer) of a weight orthonormal.

    orthogonal_map      'matrix_exp' (square weights by default), 'cayley' or 'householder' (others
                        by default).
    use_trivialization  store the parameter relative to the first value (Lezcano, 2019); needed to
                        assign a matrix, except with 'householder'.
    Raises ValueError for a name that is no matrix and for an unknown map.
    Example: ``nn.utils.parametrizations.orthogonal(nn.Linear(20, 40)).weight``.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            at_user_line(f"module {type(module).__name__} has no parameter or buffer {name!r}")
        )
    if weight.ndim < 2:
        raise ValueError(
            at_user_line(
                f"expected a matrix or batch of matrices, got a tensor of {weight.ndim} dimensions"
            )
        )
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1]
        orthogonal_map = "matrix_exp" if square else "householder"
    if orthogonal_map not in _MAPS:
        raise ValueError(
            at_user_line(
                f"orthogonal_map must be one of {', '.join(map(repr, _MAPS))}, "
                f"not {orthogonal_map!r}"
            )
        )
    rule = _Orthogonal(weight, orthogonal_map, use_trivialization)
    register_parametrization(module, name, rule, unsafe=True)
    return module
