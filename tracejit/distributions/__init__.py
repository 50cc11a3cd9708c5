"""``tracejit.distributions``: sampling and densities, with torch's names and meanings."""

from tracejit.distributions import constraints, kl, transforms
from tracejit.distributions import registry as constraint_registry
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
