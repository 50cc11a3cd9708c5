"""``tracejit.distributions``: sampling and densities, with torch's names and meanings."""

import sys as _sys

from tracejit.distributions import constraints, kl, transforms
from tracejit.distributions import continuous as _continuous
from tracejit.distributions import counts as _counts
from tracejit.distributions import discrete as _discrete
from tracejit.distributions import distribution as _distribution
from tracejit.distributions import gamma as _gamma
from tracejit.distributions import matrices as _matrices
from tracejit.distributions import registry as constraint_registry
from tracejit.distributions import relaxed as _relaxed
from tracejit.distributions import shape_transforms as _shapes
from tracejit.distributions import tails as _tails
from tracejit.distributions.continuous import (
    Exponential,
    Gumbel,
    Laplace,
    MultivariateNormal,
    Normal,
    Uniform,
)
from tracejit.distributions.counts import (
    Binomial,
    Multinomial,
    NegativeBinomial,
    OneHotCategoricalStraightThrough,
    Poisson,
)
from tracejit.distributions.discrete import (
    Bernoulli,
    Categorical,
    Geometric,
    OneHotCategorical,
)
from tracejit.distributions.distribution import (
    Distribution,
    Independent,
)
from tracejit.distributions.gamma import (
    Beta,
    Chi2,
    Dirichlet,
    ExponentialFamily,
    FisherSnedecor,
    Gamma,
    InverseGamma,
    StudentT,
)
from tracejit.distributions.kl import (
    kl_divergence,
    register_kl,
)
from tracejit.distributions.matrices import (
    LKJCholesky,
    LowRankMultivariateNormal,
    Wishart,
)
from tracejit.distributions.registry import (
    biject_to,
    transform_to,
)
from tracejit.distributions.relaxed import (
    LogisticNormal,
    MixtureSameFamily,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from tracejit.distributions.shape_transforms import (
    CatTransform,
    CorrCholeskyTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    ReshapeTransform,
    SoftmaxTransform,
    StackTransform,
    StickBreakingTransform,
)
from tracejit.distributions.tails import (
    Cauchy,
    ContinuousBernoulli,
    GeneralizedPareto,
    HalfCauchy,
    HalfNormal,
    Kumaraswamy,
    Pareto,
    VonMises,
    Weibull,
)
from tracejit.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LogNormal,
    PowerTransform,
    SigmoidTransform,
    SoftplusTransform,
    TanhTransform,
    Transform,
    TransformedDistribution,
    identity_transform,
)

__all__ = [
    "AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "CatTransform",
    "Categorical", "Cauchy", "Chi2", "ComposeTransform", "ContinuousBernoulli",
    "CorrCholeskyTransform", "CumulativeDistributionTransform", "Dirichlet", "Distribution",
    "ExpTransform", "Exponential", "ExponentialFamily", "FisherSnedecor", "Gamma",
    "GeneralizedPareto", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent",
    "IndependentTransform", "InverseGamma", "Kumaraswamy", "LKJCholesky", "Laplace",
    "LogNormal", "LogisticNormal", "LowRankMultivariateNormal", "LowerCholeskyTransform",
    "MixtureSameFamily", "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal",
    "OneHotCategorical", "OneHotCategoricalStraightThrough", "Pareto", "Poisson",
    "PositiveDefiniteTransform", "PowerTransform", "RelaxedBernoulli",
    "RelaxedOneHotCategorical", "ReshapeTransform", "SigmoidTransform", "SoftmaxTransform",
    "SoftplusTransform", "StackTransform", "StickBreakingTransform", "StudentT",
    "TanhTransform", "Transform", "TransformedDistribution", "Uniform", "VonMises", "Weibull",
    "Wishart", "biject_to", "constraint_registry", "constraints", "identity_transform", "kl",
    "kl_divergence", "register_kl", "transform_to", "transforms",
]  # fmt: skip

_BY_TORCH_NAME = {
    "bernoulli": _discrete, "beta": _gamma, "binomial": _counts, "categorical": _discrete,
    "cauchy": _tails, "chi2": _gamma, "continuous_bernoulli": _tails, "dirichlet": _gamma,
    "exp_family": _gamma, "exponential": _continuous, "fishersnedecor": _gamma,
    "generalized_pareto": _tails, "geometric": _discrete, "gumbel": _continuous,
    "half_cauchy": _tails, "half_normal": _tails, "independent": _distribution,
    "inverse_gamma": _gamma, "kumaraswamy": _tails, "laplace": _continuous,
    "lkj_cholesky": _matrices, "log_normal": transforms, "logistic_normal": _relaxed,
    "lowrank_multivariate_normal": _matrices, "mixture_same_family": _relaxed,
    "multinomial": _counts, "multivariate_normal": _continuous, "negative_binomial": _counts,
    "normal": _continuous, "one_hot_categorical": _discrete, "pareto": _tails, "poisson": _counts,
    "relaxed_bernoulli": _relaxed, "relaxed_categorical": _relaxed, "studentT": _gamma,
    "transformed_distribution": transforms, "uniform": _continuous, "von_mises": _tails,
    "weibull": _tails, "wishart": _matrices,
}  # fmt: skip
for _name, _module in _BY_TORCH_NAME.items():  # torch has a file for each class
    _sys.modules[f"{__name__}.{_name}"] = _module
    globals()[_name] = _module
for _name in _shapes.__all__:  # torch has all transforms in one file
    setattr(transforms, _name, getattr(_shapes, _name))
