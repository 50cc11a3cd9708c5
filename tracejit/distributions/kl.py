"""``kl_divergence(p, q)``: formulas by pair of classes.

Invariant: the pair nearest to the classes of `p` and `q` is taken, in the order of their bases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.distributions.continuous import (
    EULER,
    Exponential,
    Gumbel,
    Laplace,
    MultivariateNormal,
    Normal,
    Uniform,
)
from tracejit.distributions.counts import Binomial, Poisson
from tracejit.distributions.discrete import Bernoulli, Categorical, Geometric, OneHotCategorical
from tracejit.distributions.distribution import Distribution, Independent, sum_last
from tracejit.distributions.gamma import Beta, Dirichlet, Gamma
from tracejit.distributions.matrices import LowRankMultivariateNormal
from tracejit.distributions.tails import Cauchy, ContinuousBernoulli, HalfNormal, Pareto
from tracejit.distributions.transforms import TransformedDistribution
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn import functional as F

__all__ = ["kl_divergence", "register_kl"]

_RULES: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: the function gives ``kl_divergence(p, q)`` for these classes."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _RULES[type_p, type_q] = function
        return function

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """The Kullback-Leibler divergence ``E_p[log p - log q]``, of the batch shape.

    Raises NotImplementedError for a pair of classes without a formula.
    """
    for above_p in type(p).__mro__:
        for above_q in type(q).__mro__:
            rule = _RULES.get((above_p, above_q))
            if rule is not None:
                return rule(p, q)
    raise NotImplementedError(
        at_user_line(f"no KL divergence of {type(p).__name__} and {type(q).__name__}")
    )


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    distance = ((p.loc - q.loc) / q.scale).pow(2)
    return 0.5 * (ratio + distance - 1 - ratio.log())


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Any:
    softplus: Any = F.softplus
    one = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    return one + (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))


@register_kl(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Any:
    return (p.probs * (p.logits - q.logits)).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Any:
    return _categorical(p._categorical, q._categorical)


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Any:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Any:
    result = ((q.high - q.low) / (p.high - p.low)).log()
    outside = (q.low > p.low) | (q.high < p.high)
    return result.masked_fill(outside, float("inf"))


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate(p: MultivariateNormal, q: MultivariateNormal) -> Any:
    inverse = q.scale_tril.inverse()
    trace = (inverse @ p.scale_tril).pow(2).sum((-2, -1))
    distance = (inverse @ (q.loc - p.loc).unsqueeze(-1)).pow(2).sum((-2, -1))
    return q._log_scale() - p._log_scale() + 0.5 * (trace + distance - p.loc.shape[-1])


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError(
            at_user_line("kl_divergence: different reinterpreted_batch_ndims")
        )
    return sum_last(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Any:
    one = p.mean * (p.logits - q.logits) + p._log_norm() + (-p.probs).log1p()
    return one - q._log_norm() - (-q.probs).log1p()


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Any:
    one = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p()
                           - (-q.probs).log1p())  # fmt: skip
    return one.masked_fill(p.total_count > q.total_count, math.inf)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Any:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Any:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    return (b * (p.rate / q.rate).log() + b.lgamma() - a.lgamma() + (a - b) * a.digamma()
            + (q.rate - p.rate) * (a / p.rate))  # fmt: skip


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    change = ((a - b) * (a.digamma() - total.digamma().unsqueeze(-1))).sum(-1)
    return total.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1) + change


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Any:
    return _dirichlet(p._dirichlet, q._dirichlet)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Any:
    ratio, off = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + off / q.scale + ratio * (-off / p.scale).exp() - 1


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Any:
    ratio, here, there = p.scale / q.scale, p.loc / q.scale, q.loc / q.scale
    power = (there - here + (1 + ratio).lgamma()).exp()
    return -ratio.log() - there + here + ratio * EULER + power - (1 + EULER)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Any:
    distance = (p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)
    return distance.log() - (4 * p.scale * q.scale).log()


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Any:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    found = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return found.masked_fill(p.scale < q.scale, math.inf)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Any:
    """The same map on both sides changes nothing."""
    same = [type(t) for t in p.transforms] == [type(t) for t in q.transforms]
    if not same or p.event_shape != q.event_shape:
        raise NotImplementedError(at_user_line("kl_divergence: different transforms"))
    return kl_divergence(p.base_dist, q.base_dist)


def _low_rank_parts(p: Any, q: Any) -> Any:
    """KL where `q` has a covariance of low rank and `p` any Cholesky factor of its own."""
    inverse = q.precision_matrix
    trace = (inverse * p.covariance_matrix).sum((-2, -1))
    log_p = p._log_det() if isinstance(p, LowRankMultivariateNormal) else 2 * p._log_scale()
    size = p.loc.shape[-1]
    return 0.5 * (q._log_det() - log_p + trace + q._distance(q.loc - p.loc) - size)


register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)(_low_rank_parts)
register_kl(MultivariateNormal, LowRankMultivariateNormal)(_low_rank_parts)


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _low_rank_to_full(p: Any, q: Any) -> Any:
    return _multivariate(MultivariateNormal(p.loc, scale_tril=p.scale_tril, validate_args=False), q)


# --- pairs of different families -----------------------------------------------------------------


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    a = q.concentration
    return -a * ratio.log() + ratio + a.lgamma() + a * EULER - (1 + EULER)


@register_kl(Gamma, Exponential)
def _gamma_exponential(p: Any, q: Any) -> Any:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(Uniform, Normal)
def _uniform_normal(p: Any, q: Any) -> Any:
    width = p.high - p.low
    spread = (width / q.scale).pow(2) / 12
    centre = ((p.high + p.low - 2 * q.loc) / q.scale / 2).pow(2)
    return (math.sqrt(math.pi * 2) * q.scale / width).log() + 0.5 * (spread + centre)


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Any:
    off = (p.loc - q.loc) / p.scale
    smooth = math.sqrt(2 / math.pi) * (-0.5 * off.pow(2)).exp() + off * (off / 2**0.5).erf()
    ratio = p.scale / q.scale
    return -ratio.log() + ratio * smooth - 0.5 * (1 + math.log(0.5 * math.pi))


@register_kl(Laplace, Normal)
def _laplace_normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    off = (p.loc - q.loc) / q.scale
    return -0.5 * ratio.log() + ratio + 0.5 * off.pow(2) + 0.5 * math.log(0.5 * math.pi) - 1


@register_kl(Beta, Uniform)
def _beta_uniform(p: Any, q: Any) -> Any:
    found = -p.entropy() + (q.high - q.low).log()
    return found.masked_fill((q.low > 0) | (q.high < 1), math.inf)


def _infinite(p: Any, q: Any) -> Any:
    """The support of `p` is not within that of `q`."""
    shape = FUNCTIONS["broadcast_shapes"](p.batch_shape, q.batch_shape)
    return FUNCTIONS["full"](shape, math.inf)


# Families on the whole line, on the positive numbers, and on a part of them.
_WIDER = ((Normal, Laplace, Gumbel, Cauchy), (Exponential, Gamma, Pareto), (Beta, Uniform))
for _here, _families in enumerate(_WIDER):
    for _narrower in _WIDER[_here + 1 :]:
        for _p in _families:
            for _q in _narrower:
                register_kl(_p, _q)(_infinite)
register_kl(Poisson, Bernoulli)(_infinite)
register_kl(Poisson, Binomial)(_infinite)
