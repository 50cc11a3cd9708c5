"""The wider families of distributions against torch 2.13's figures; checks, maps, draws.

Invariant: the figures of the tables were computed by torch in float64, events summed up.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import tracejit as torch
from tracejit import distributions as D
from tracejit.distributions import constraints
from tracejit.ops.sampling import gamma_slope

INF, NAN = math.inf, math.nan

# name, arguments, named arguments, a value; log_prob and entropy, mean, variance, cdf (None: none)
FIGURES = [
    ("Gamma", [0.7, 2.0], {}, 0.4,
     [-0.3007770006, -0.0982870001, 0.35, 0.175, 0.6963008135]),
    ("Chi2", [3.5], {}, 0.4,
     [-2.0158244939, 2.1731417194, 3.5, 7.0, 0.0327857819]),
    ("InverseGamma", [3.5, 2.0], {}, 0.4,
     [0.348349823, 0.4299159, 0.8, 0.4266666667, 0.1885734675]),
    ("Beta", [0.7, 2.0], {}, 0.4,
     [-0.0619850971, -0.40499649, 0.2592592593, 0.0519037556, None]),
    ("Dirichlet", [[0.5, 2.0, 3.0]], {}, [0.2, 0.5, 0.3],
     [0.3959280111, -1.914676991, 1.0, 0.0864589955, None]),
    ("FisherSnedecor", [3.0, 7.0], {}, 0.4,
     [-0.422349717, None, 1.4, 3.4844444444, None]),
    ("StudentT", [3.5, 0.5, 2.0], {}, 0.4,
     [-1.684227341, 2.4140373012, 0.5, 9.3333333333, None]),
    ("Cauchy", [0.5, 2.0], {}, 0.4,
     [-1.8403739466, 3.2241714275, NAN, INF, 0.4840977487]),
    ("HalfNormal", [2.0], {}, 0.4,
     [-0.9389385332, 1.4189385332, 1.5957691216, 1.4535209105, 0.1585194189]),
    ("HalfCauchy", [2.0], {}, 0.4,
     [-1.183950599, 2.531024247, INF, INF, 0.1256659164]),
    ("Pareto", [0.05, 3.0], {}, 0.4,
     [-4.2234216045, -2.7610112289, 0.075, 0.001875, 0.998046875]),
    ("Weibull", [2.0, 1.7], {}, 0.4,
     [-1.3539517321, 1.400195968, 1.784489005, 1.167419309, 0.06276972]),
    ("Kumaraswamy", [2.0, 3.0], {}, 0.4,
     [0.5267619631, -0.2084261359, 0.4571428571, 0.0410204082, 0.407296]),
    ("ContinuousBernoulli", [], {"probs": 0.3}, 0.4,
     [0.0549936628, -0.0293862022, 0.4302225011, 0.0804251522, 0.5030548954]),
    ("VonMises", [0.5, 2.0], {}, 0.4,
     [-0.6718622795, None, 0.5, 0.3022253424, None]),
    ("Poisson", [3.5], {}, 2.0,
     [-1.6876212436, None, 3.5, 3.5, None]),
    ("Binomial", [5.0], {"probs": 0.3}, 2.0,
     [-1.1753853475, 1.4136148553, 1.5, 1.05, None]),
    ("NegativeBinomial", [3.0], {"logits": 0.4}, 2.0,
     [-1.9733167928, None, 4.4754740929, 11.1520968784, None]),
    ("RelaxedBernoulli", [0.7], {"probs": 0.3}, 0.4,
     [-0.3941998359, None, None, None, None]),
    ("RelaxedOneHotCategorical", [0.7], {"probs": [0.2, 0.5, 0.3]}, [0.2, 0.5, 0.3],
     [0.171475341, None, None, None, None]),
    ("LogisticNormal", [[0.1, 0.2], [1.0, 0.5]], {}, [0.2, 0.5, 0.3],
     [1.8540616497, None, None, None, None]),
    ("LowRankMultivariateNormal", [[0.1, 0.2], [[1.0], [0.5]], [0.3, 0.4]], {}, [0.3, 0.4],
     [-1.6102129028, 2.5782801297, 0.3, 1.95, None]),
    ("Wishart", [3.5, [[1.5, 0.3], [0.3, 0.8]]], {}, [[1.0, 0.2], [0.2, 0.5]],
     [-3.8366134858, 6.1206688201, 10.15, 29.26, None]),
]  # fmt: skip


def t(values):
    return torch.tensor(values, dtype=torch.float64)


def made(name, args, kwargs=()):
    return getattr(D, name)(*map(t, args), **{k: t(v) for k, v in dict(kwargs).items()})


@pytest.mark.parametrize("row", FIGURES, ids=lambda r: r[0])
def test_figures_of_torch(row):
    name, args, kwargs, value, expected = row
    d, value = made(name, args, kwargs), t(value)
    found = (lambda: d.log_prob(value), d.entropy, lambda: d.mean, lambda: d.variance,
             lambda: d.cdf(value))  # fmt: skip
    for ask, wanted in zip(found, expected, strict=True):
        if wanted is not None:
            assert ask().sum().item() == pytest.approx(wanted, rel=1e-8, abs=1e-9, nan_ok=True)
    wide = d.expand((2, *d.batch_shape))
    assert wide.batch_shape == (2, *d.batch_shape) and wide.event_shape == d.event_shape


DRAWN = [
    r for r in FIGURES if r[4][3] not in (None, NAN, INF) and r[0] not in ("Pareto", "VonMises")
]


@pytest.mark.parametrize("row", DRAWN, ids=lambda r: r[0])
def test_draws_have_the_moments(row):
    torch.manual_seed(3)
    d = made(*row[:3])
    drawn = d.sample((4000,))
    assert drawn.shape == (4000, *d.batch_shape, *d.event_shape) and drawn.dtype is torch.float64
    spread = d.variance.sqrt().numpy()
    assert (abs(drawn.mean(0).numpy() - d.mean.numpy()) < 5 * spread / math.sqrt(4000)).all()
    assert bool(d.support.check(drawn).all())


@pytest.mark.parametrize("name", ["Weibull", "Cauchy", "Pareto"])
def test_quantiles_invert_the_distribution_function(name):
    (row,) = (r for r in FIGURES if r[0] == name)
    d, u = made(*row[:3]), t([0.05, 0.5, 0.9])
    np.testing.assert_allclose(d.cdf(d.icdf(u)).numpy(), u.numpy(), rtol=1e-9)


# By mpmath: -(d/da P(a, x)) / p(x; a).
SLOPES = [(0.3, 0.8, 2.4838453278587074), (2.5, 1.3, 0.7556605628280004),
          (10.0, 14.0, 1.1974228977739505), (300.0, 299.0, 0.9988862909958927)]  # fmt: skip


def test_gradients_of_gamma_draws():
    a, x, slope = map(np.array, zip(*SLOPES, strict=True))
    np.testing.assert_allclose(gamma_slope(a, x), slope, rtol=1e-10)
    at = torch.full((4000,), 2.0, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    D.Gamma(at, t(1.0)).rsample().sum().backward()  # d/da E[x] = 1
    assert at.grad.mean().item() == pytest.approx(1.0, abs=0.05)
    at.grad = None
    (g,) = torch.autograd.grad(D.Gamma(at, t(1.0)).rsample().sum(), at, create_graph=True)
    with pytest.raises(NotImplementedError, match="derivative of random_gamma_slope"):
        g.sum().backward()


def test_draws_and_gradients_are_the_same_compiled():
    def step(a, b):
        drawn = D.Beta(a, b).rsample((5,))
        loss = (drawn * D.Poisson(a).sample()).sum()
        loss.backward()
        return drawn

    def run(call):
        torch.manual_seed(1)
        a, b = t([0.5, 2.0]).requires_grad_(), t([1.0, 3.0]).requires_grad_()
        return [call(a, b).tolist() for _ in range(3)] + [a.grad.tolist(), b.grad.tolist()]

    compiled = torch.compile(step, fullgraph=True)
    assert run(compiled) == run(step)
    assert compiled.cache_info().hits  # once `.grad` is there
    with pytest.raises(ValueError, match="Expected parameter concentration1 of distribution Beta"):
        compiled(t([0.5, -2.0]).requires_grad_(), t([1.0, 3.0]).requires_grad_())


DIVERGENCES = [
    ("Gamma", [0.7, 2.0], [1.5, 0.5], 2.1488109005),
    ("Beta", [0.7, 2.0], [2.0, 3.0], 0.6848942307),
    ("Laplace", [0.5, 2.0], [0.0, 1.0], 0.3644543856),
    ("Gumbel", [0.5, 2.0], [0.0, 1.0], 0.5971298038),
    ("Cauchy", [0.5, 2.0], [0.0, 1.0], 0.1451820098),
    ("Poisson", [3.5], [2.0], 0.4586552578),
    ("HalfNormal", [2.0], [1.0], 0.8068528194),
    ("Pareto", [2.0, 3.0], [1.0, 1.0], 1.1250928026),
    ("LogNormal", [0.5, 2.0], [0.0, 1.0], 0.9318528194),
]  # fmt: skip


@pytest.mark.parametrize("row", DIVERGENCES, ids=lambda r: r[0])
def test_divergences_of_torch(row):
    name, first, second, expected = row
    found = D.kl_divergence(made(name, first), made(name, second)).item()
    assert found == pytest.approx(expected, rel=1e-8)


def test_divergences_of_different_families():
    inside, outside = D.Normal(t(0.0), t(1.0)), D.Beta(t(1.0), t(1.0))
    assert D.kl_divergence(inside, outside).item() == INF
    flat = D.Uniform(t(0.0), t(1.0))
    assert D.kl_divergence(outside, flat).item() == pytest.approx(0.0, abs=1e-12)
    low = D.LowRankMultivariateNormal(t([0.1, 0.2]), t([[1.0], [0.5]]), t([0.3, 0.4]))
    full = D.MultivariateNormal(t([0.1, 0.2]), low.covariance_matrix)
    for p, q in ((low, full), (full, low), (low, low)):
        assert D.kl_divergence(p, q).item() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(low.precision_matrix.numpy(), full.precision_matrix.numpy())


WRONG = [
    lambda: D.Normal(0.0, -1.0), lambda: D.Normal(NAN, 1.0), lambda: D.Uniform(1.0, 0.0),
    lambda: D.Categorical(t([-0.2, 0.5])), lambda: D.Bernoulli(1.5),
    lambda: D.Exponential(1.0).log_prob(t(-1.0)), lambda: D.Bernoulli(0.5).log_prob(t(0.5)),
    lambda: D.Dirichlet(t([1.0, 1.0])).log_prob(t([0.5, 0.6])),
    lambda: D.Normal(0.0, 1.0).log_prob(0.5),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_parameters_and_values_are_checked(wrong):
    with pytest.raises(ValueError, match=r"(?s)(Expected|must be|not defined).*test_families"):
        wrong()


def test_checks_can_be_switched_off():
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1.0


# --- maps ----------------------------------------------------------------------------------------

MAPS = [
    D.ExpTransform(), D.SigmoidTransform(), D.SoftplusTransform(), D.TanhTransform(),
    D.AffineTransform(1.0, -2.0), D.CumulativeDistributionTransform(D.Normal(t(0.0), t(1.0))),
    D.ComposeTransform([D.AffineTransform(0.5, 2.0), D.ExpTransform(), D.PowerTransform(t(2.0))]),
    D.StackTransform([D.ExpTransform(), D.TanhTransform(), D.ExpTransform()]),
    D.CatTransform([D.ExpTransform(), D.TanhTransform()], lengths=[2, 1]),
]  # fmt: skip


@pytest.mark.parametrize("change", MAPS, ids=lambda m: type(m).__name__)
def test_pointwise_maps(change):
    x = t([0.3, -0.7, 0.9]).requires_grad_()
    y = change(x)
    np.testing.assert_allclose(change.inv(y).detach().numpy(), x.detach().numpy(), rtol=1e-9)
    (slope,) = torch.autograd.grad(y.sum(), x)
    log = change.log_abs_det_jacobian(x, y).detach()
    np.testing.assert_allclose(log.numpy(), slope.abs().log().numpy(), rtol=1e-9, atol=1e-12)
    back = change.inv.log_abs_det_jacobian(y, x).detach()
    np.testing.assert_allclose(back.numpy(), -log.numpy(), rtol=1e-12)


REACHED = [
    (constraints.simplex, (3,)), (constraints.corr_cholesky, (3,)), (constraints.positive, (3,)),
    (constraints.lower_cholesky, (2, 2)), (constraints.positive_definite, (2, 2)),
    (constraints.interval(-1.0, 3.0), (3,)), (constraints.less_than(2.0), (3,)),
    (constraints.independent(constraints.unit_interval, 1), (3,)),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "shape"), REACHED, ids=str)
def test_maps_to_constraints(constraint, shape):
    torch.manual_seed(2)
    x = torch.randn(shape, dtype=torch.float64)
    x = x.tril() if len(shape) == 2 else x
    for make in (D.biject_to, D.transform_to):
        change = make(constraint)
        y = change(x)
        assert bool(constraint.check(y).all()) and change.codomain.event_dim == constraint.event_dim
    np.testing.assert_allclose(D.biject_to(constraint).inv(D.biject_to(constraint)(x)), x)


@pytest.mark.parametrize("change", [D.StickBreakingTransform(), D.CorrCholeskyTransform()])
def test_volume_of_vector_maps(change):
    x = t([0.3, -0.7, 0.9])
    matrix = torch.func.jacrev(lambda v: change(v).tril(-1).flatten() if change.event_dim == 2
                               else change(v)[:-1])(x).numpy()  # fmt: skip
    rows = matrix[np.abs(matrix).sum(1) > 0]
    expected = np.linalg.slogdet(rows)[1]
    assert change.log_abs_det_jacobian(x, change(x)).item() == pytest.approx(expected)


def test_mixtures():
    means, stds = t([-2.0, 0.0, 3.0]), t([0.5, 1.0, 2.0])
    mixture = D.MixtureSameFamily(D.Categorical(t([0.2, 0.5, 0.3])), D.Normal(means, stds))
    x = np.array([-1.0, 0.5])
    each = np.exp(-0.5 * ((x[:, None] - means.numpy()) / stds.numpy()) ** 2) / stds.numpy()
    expected = np.log((each * [0.2, 0.5, 0.3]).sum(1) / math.sqrt(2 * math.pi))
    np.testing.assert_allclose(mixture.log_prob(t(x)).numpy(), expected)
    assert mixture.mean.item() == pytest.approx(0.5)
    drawn = mixture.sample((4000,))
    assert drawn.var().item() == pytest.approx(mixture.variance.item(), rel=0.1)
    vectors = D.Independent(D.Normal(torch.ones(3, 2), torch.ones(3, 2)), 1)
    wide = D.MixtureSameFamily(D.Categorical(torch.ones(3)), vectors)
    assert wide.sample((5,)).shape == (5, 2) and wide.log_prob(torch.ones(4, 2)).shape == (4,)


def test_straight_through_and_enumeration():
    p = t([0.2, 0.5, 0.3]).requires_grad_()
    drawn = D.OneHotCategoricalStraightThrough(p).rsample((3,))
    (drawn * t([1.0, 2.0, 3.0])).sum().backward()
    assert p.grad.abs().sum().item() > 0 and drawn.sum().item() == pytest.approx(3)
    assert D.Binomial(3, t(0.5)).enumerate_support().tolist() == [0, 1, 2, 3]
    assert D.Multinomial(4, p.detach()).sample((6,)).sum(-1).tolist() == [4.0] * 6
    factor = D.LKJCholesky(3, t(1.5)).sample((10,))
    assert bool(constraints.corr_cholesky.check(factor).all())
