"""Normal vectors of low-rank covariance, and random matrices: Wishart, LKJ.

Invariant: covariances are given by factors; no formula inverts an n-by-n matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tracejit import dtypes
from tracejit.distributions import constraints
from tracejit.distributions.distribution import Distribution, Parameters, broadcast_all
from tracejit.distributions.gamma import Beta, ExponentialFamily, standard_gamma
from tracejit.eager.decompositions import LINALG
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line

__all__ = ["LKJCholesky", "LowRankMultivariateNormal", "Wishart"]

_LOG_2PI = math.log(2 * math.pi)


def _log_diagonal(factor: Any) -> Any:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _eye(n: int, like: Any) -> Any:
    return FUNCTIONS["eye"](n, dtype=like.dtype, device=like.device)


class LowRankMultivariateNormal(Distribution):
    """Normal vectors of covariance ``cov_factor @ cov_factor.T + diag(cov_diag)``.

    loc ``[..., n]``, cov_factor ``[..., n, r]``, cov_diag ``[..., n]``.
    """

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector

    def __init__(
        self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None
    ) -> None:
        n, rank = cov_factor.shape[-2:]
        if loc.shape[-1:] != (n,) or cov_diag.shape[-1:] != (n,):
            raise ValueError(
                at_user_line(
                    f"cov_factor must be a batch of matrices with shape {loc.shape[-1]} "
                    f"x m, and cov_diag of vectors of that size"
                )
            )
        batch = FUNCTIONS["broadcast_shapes"](
            loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1]
        )
        self.loc, self.cov_diag = loc.expand(*batch, n), cov_diag.expand(*batch, n)
        self.cov_factor = cov_factor.expand(*batch, n, rank)
        super().__init__(batch, (n,), validate_args)
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        self._capacitance = FUNCTIONS["cholesky"](_eye(rank, loc) + scaled @ self.cov_factor)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return self.cov_factor.pow(2).sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @property
    def scale_tril(self) -> Any:
        """The Cholesky factor of the covariance."""
        return FUNCTIONS["cholesky"](self.covariance_matrix)

    @property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance (Woodbury's identity)."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        half = LINALG["solve_triangular"](self._capacitance, scaled, upper=False)
        return self.cov_diag.reciprocal().diag_embed() - half.mT @ half

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        shape = self._extended(sample_shape)
        rank, dtype = self.cov_factor.shape[-1], self.loc.dtype
        few = FUNCTIONS["randn"]((*shape[:-1], rank), dtype=dtype)
        many = FUNCTIONS["randn"](shape, dtype=dtype)
        mixed = (self.cov_factor @ few.unsqueeze(-1)).squeeze(-1)
        return self.loc + mixed + self.cov_diag.sqrt() * many

    def _distance(self, off: Any) -> Any:
        """Mahalanobis' squared distance (Woodbury's identity)."""
        scaled = off / self.cov_diag
        inner = self.cov_factor.mT @ scaled.unsqueeze(-1)
        half = LINALG["solve_triangular"](self._capacitance, inner, upper=False)
        return (off * scaled).sum(-1) - half.pow(2).sum((-2, -1))

    def _log_det(self) -> Any:
        return 2 * _log_diagonal(self._capacitance) + self.cov_diag.log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        size = self._event_shape[0]
        return -0.5 * (size * _LOG_2PI + self._log_det() + self._distance(value - self.loc))

    def entropy(self) -> Any:
        return 0.5 * (self._event_shape[0] * (1.0 + _LOG_2PI) + self._log_det())


class Wishart(ExponentialFamily):
    """Positive definite matrices: ``X^T X`` for `df` normal rows X of the given covariance.

    One of covariance_matrix, precision_matrix, scale_tril (its Cholesky factor) is given.
    """

    has_rsample = True
    arg_constraints: ClassVar[Parameters] = {
        "df": constraints.greater_than(0), "scale_tril": constraints.lower_cholesky,
    }  # fmt: skip
    support = constraints.positive_definite

    def __init__(
        self, df: Any, covariance_matrix: Any = None, precision_matrix: Any = None,
        scale_tril: Any = None, validate_args: bool | None = None,
    ) -> None:  # fmt: skip
        given = [m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None]
        if len(given) != 1:
            raise ValueError(
                at_user_line(
                    "Expected exactly one of covariance_matrix or precision_matrix or "
                    "scale_tril to be specified."
                )
            )
        if scale_tril is None:
            matrix = covariance_matrix if precision_matrix is None else precision_matrix.inverse()
            scale_tril = FUNCTIONS["cholesky"](matrix)
        (degrees,) = broadcast_all(df)
        batch = FUNCTIONS["broadcast_shapes"](degrees.shape, scale_tril.shape[:-2])
        event = scale_tril.shape[-2:]
        self.df = degrees.to(scale_tril.dtype).expand(*batch)
        self.scale_tril = scale_tril.expand(*batch, *event)
        super().__init__(batch, event, validate_args)

    @property
    def covariance_matrix(self) -> Any:
        """The covariance of a row."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance of a row."""
        inverse = self.scale_tril.inverse()
        return inverse.mT @ inverse

    def _degrees(self) -> Any:
        return self.df.reshape(*self._batch_shape, 1, 1)

    @property
    def mean(self) -> Any:
        return self._degrees() * self.covariance_matrix

    @property
    def mode(self) -> Any:
        factor = self.df - self._event_shape[-1] - 1
        factor = factor.masked_fill(factor <= 0, math.nan)
        return factor.reshape(*self._batch_shape, 1, 1) * self.covariance_matrix

    @property
    def variance(self) -> Any:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        return self._degrees() * (v.pow(2) + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def rsample(self, sample_shape: Sequence[Any] = ()) -> Any:
        """Bartlett's decomposition."""
        shape = self._extended(sample_shape)
        p = self._event_shape[-1]
        places = FUNCTIONS["arange"](p, dtype=self.df.dtype)
        halves = ((self.df.unsqueeze(-1) - places) / 2).expand(shape[:-1])
        noise = FUNCTIONS["randn"](shape, dtype=self.df.dtype).tril(-1)
        factor = self.scale_tril @ (noise + (2 * standard_gamma(halves)).sqrt().diag_embed())
        return factor @ factor.mT

    def log_prob(self, value: Any) -> Any:
        nu, p = self.df, self._event_shape[-1]
        size = p * math.log(2) / 2 + _log_diagonal(self.scale_tril)
        trace = FUNCTIONS["cholesky_solve"](value, self.scale_tril).diagonal(dim1=-2, dim2=-1)
        return (-nu * size - FUNCTIONS["mvlgamma"](nu / 2, p)
                + (nu - p - 1) / 2 * value.slogdet()[1] - trace.sum(-1) / 2)  # fmt: skip

    def entropy(self) -> Any:
        nu, p = self.df, self._event_shape[-1]
        size = p * math.log(2) / 2 + _log_diagonal(self.scale_tril)
        places = FUNCTIONS["arange"](p, dtype=nu.dtype)
        slope = (nu.unsqueeze(-1) / 2 - places / 2).digamma().sum(-1)
        return ((p + 1) * size + FUNCTIONS["mvlgamma"](nu / 2, p) - (nu - p - 1) / 2 * slope
                + nu * p / 2)  # fmt: skip


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices of density ``det(C)^(concentration - 1)``.

    Source: Lewandowski, Kurowicka, Joe, "Generating random correlation matrices" (2009), onion.
    """

    arg_constraints: ClassVar[Parameters] = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(
        self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        if dim < 2:
            raise ValueError(
                at_user_line(
                    f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}."
                )
            )
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args)

    def _parameters(self) -> dict[str, Any]:
        return {"dim": self.dim, "concentration": self.concentration}

    def sample(self, sample_shape: Sequence[Any] = ()) -> Any:
        shape = self._extended(sample_shape)
        a = self.concentration
        below = (FUNCTIONS["arange"](self.dim, dtype=a.dtype) - 1).clamp(min=0)
        other = (a + 0.5 * (self.dim - 2)).unsqueeze(-1) - 0.5 * below
        length = Beta(below + 0.5, other, validate_args=False).sample(sample_shape).unsqueeze(-1)
        noise = FUNCTIONS["randn"](shape, dtype=a.dtype).tril(-1)
        size = noise.pow(2).sum(-1, keepdim=True).sqrt()
        rows = length.sqrt() * noise / size.masked_fill(size == 0, 1.0)
        rest = (1 - rows.pow(2).sum(-1)).clamp(min=dtypes.finfo(a.dtype).tiny).sqrt()
        return rows + rest.diag_embed()

    def log_prob(self, value: Any) -> Any:
        a, less = self.concentration, self.dim - 1
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = FUNCTIONS["arange"](2, self.dim + 1, dtype=a.dtype)
        order = 2 * (a - 1).unsqueeze(-1) + self.dim - order
        alpha = a + 0.5 * less
        norm = (0.5 * less * math.log(math.pi) + FUNCTIONS["mvlgamma"](alpha - 0.5, less)
                - alpha.lgamma() * less)  # fmt: skip
        return (order * diagonal.log()).sum(-1) - norm
