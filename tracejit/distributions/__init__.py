"""``tracejit.distributions``: sampling and densities, with torch's names and meanings."""

from tracejit.distributions import kl, transforms
from tracejit.distributions.continuous import (
    Exponential,
    Gumbel,
    Laplace,
    MultivariateNormal,
    Normal,
    Uniform,
)
from tracejit.distributions.discrete import Bernoulli, Categorical, Geometric, OneHotCategorical
from tracejit.distributions.distribution import Distribution, Independent
from tracejit.distributions.kl import kl_divergence, register_kl
from tracejit.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    LogNormal,
    SigmoidTransform,
    TanhTransform,
    Transform,
    TransformedDistribution,
)

__all__ = [
    "AffineTransform", "Bernoulli", "Categorical", "ComposeTransform", "Distribution",
    "ExpTransform", "Exponential", "Geometric", "Gumbel", "Independent", "Laplace", "LogNormal",
    "MultivariateNormal", "Normal", "OneHotCategorical", "SigmoidTransform", "TanhTransform",
    "Transform", "TransformedDistribution", "Uniform", "kl", "kl_divergence", "register_kl",
    "transforms",
]  # fmt: skip
