"""Distributions: densities against formulas in NumPy, draws against their moments, compiled use.

Invariant: nothing but NumPy and the standard library says what is right.
"""

import math

import numpy as np
import pytest

import tracejit as torch
from tracejit import distributions as D

X = np.linspace(0.1, 0.9, 5)


def t(values):
    return torch.tensor(np.asarray(values, np.float64))


def normal(x, m=0.0, s=1.0):
    return -0.5 * ((x - m) / s) ** 2 - np.log(s) - 0.5 * math.log(2 * math.pi)


DENSITIES = [
    (D.Normal(t(0.5), t(2.0)), normal(X, 0.5, 2.0)),
    (D.Laplace(t(0.5), t(2.0)), -np.log(4.0) - abs(X - 0.5) / 2),
    (D.Gumbel(t(0.5), t(2.0)), (0.5 - X) / 2 - np.exp((0.5 - X) / 2) - np.log(2.0)),
    (D.Uniform(t(0.0), t(4.0)), np.full(5, -np.log(4.0))),
    (D.Exponential(t(3.0)), np.log(3.0) - 3 * X),
    (D.LogNormal(t(0.5), t(2.0)), normal(np.log(X), 0.5, 2.0) - np.log(X)),
    (
        D.TransformedDistribution(D.Normal(t(0.0), t(1.0)), D.TanhTransform()),
        normal(np.arctanh(X)) - np.log(1 - X**2),
    ),
    (
        D.TransformedDistribution(
            D.Normal(t(0.0), t(1.0)), [D.AffineTransform(1.0, 2.0), D.SigmoidTransform()]
        ),
        normal((np.log(X / (1 - X)) - 1) / 2) - np.log(2 * X * (1 - X)),
    ),
]


@pytest.mark.parametrize(("made", "expected"), DENSITIES, ids=lambda v: type(v).__name__)
def test_densities(made, expected):
    np.testing.assert_allclose(made.log_prob(t(X)).numpy(), expected, rtol=1e-12)


def test_vectors():
    factor = np.array([[2.0, 0.0], [0.5, 1.0]])
    made = D.MultivariateNormal(t([1.0, 2.0]), covariance_matrix=t(factor @ factor.T))
    z = np.linalg.solve(factor, np.array([0.3, -0.4]))
    expected = normal(z).sum() - np.log(2.0)
    assert made.log_prob(t([1.3, 1.6])).item() == pytest.approx(expected, rel=1e-12)
    rows = D.Independent(D.Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
    assert rows.batch_shape == (3,) and rows.event_shape == (2,)
    assert rows.log_prob(torch.zeros(3, 2)).shape == (3,)


def test_discrete():
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    made = D.Categorical(t(2 * p))
    np.testing.assert_allclose(made.log_prob(t([2, 0])).numpy(), np.log([0.5, 0.6]))
    np.testing.assert_allclose(made.entropy().numpy(), -(p * np.log(p)).sum(1))
    assert made.sample((7,)).shape == (7, 2) and made.sample().dtype is torch.int64
    hot = D.OneHotCategorical(t(p))
    assert hot.sample((4,)).sum(-1).tolist() == [[1.0, 1.0]] * 4
    coin = D.Bernoulli(logits=t(math.log(0.25 / 0.75)))
    np.testing.assert_allclose(coin.log_prob(t([1.0, 0.0])).numpy(), np.log([0.25, 0.75]))
    tries = D.Geometric(t(0.25)).log_prob(t(2.0)).item()
    assert tries == pytest.approx(math.log(0.75**2 * 0.25))
    with pytest.raises(ValueError, match="not both"):
        D.Categorical(t(p), t(p))


SAMPLED = [
    D.Normal(1.0, 2.0), D.Laplace(1.0, 2.0), D.Gumbel(0.0, 1.0), D.Uniform(1.0, 3.0),
    D.Exponential(2.0), D.LogNormal(0.0, 0.25), D.Bernoulli(0.3), D.Geometric(0.25),
    D.MultivariateNormal(torch.ones(2), torch.eye(2)),
]  # fmt: skip


@pytest.mark.parametrize("made", SAMPLED, ids=lambda d: type(d).__name__)
def test_draws_have_the_moments(made):
    drawn = made.sample((20000,)).double()
    assert not drawn.requires_grad
    np.testing.assert_allclose(drawn.mean(0).numpy(), made.mean.numpy(), atol=0.08)
    np.testing.assert_allclose(drawn.var(0).numpy(), made.variance.numpy(), rtol=0.12)


def test_divergences_are_expectations():
    p, q = D.Normal(t(0.0), t(1.0)), D.Normal(t(1.0), t(2.0))
    assert D.kl_divergence(p, q).item() == pytest.approx(math.log(2) + 2 / 8 - 0.5)
    a, b = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    found = D.kl_divergence(D.Categorical(t(a)), D.Categorical(t(b))).item()
    assert found == pytest.approx((a * np.log(a / b)).sum())
    same = D.MultivariateNormal(t([1.0, 2.0]), t(np.eye(2)))
    assert D.kl_divergence(same, same).item() == pytest.approx(0)
    with pytest.raises(NotImplementedError, match="Normal and Gumbel"):
        D.kl_divergence(p, D.Gumbel(0.0, 1.0))


def test_a_policy_gradient_step_compiles():
    def train(compiled):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

        def step(states):
            policy = D.Categorical(logits=net(states))
            actions = policy.sample()
            reward = (actions == 1).float()
            optimizer.zero_grad()
            loss = -(policy.log_prob(actions) * reward).mean() - 0.01 * policy.entropy().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(step, fullgraph=True) if compiled else step
        return [run(torch.randn(n, 4)).item() for n in (8, 8, 6, 9)]

    np.testing.assert_allclose(train(True), train(False), rtol=1e-6)
