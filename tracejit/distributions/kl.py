"""``kl_divergence(p, q)``: formulas by pair of classes.

Invariant: the pair nearest to the classes of `p` and `q` is taken, in the order of their bases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.distributions.continuous import Exponential, MultivariateNormal, Normal, Uniform
from tracejit.distributions.discrete import Bernoulli, Categorical, OneHotCategorical
from tracejit.distributions.distribution import Distribution, Independent, sum_last
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
    raise NotImplementedError(f"no KL divergence of {type(p).__name__} and {type(q).__name__}")


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
        raise NotImplementedError("kl_divergence: different reinterpreted_batch_ndims")
    return sum_last(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
