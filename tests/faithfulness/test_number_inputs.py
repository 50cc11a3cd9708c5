"""Numbers in the parameters of operations: inputs of the trace, where only values depend on them.

Invariant: two traces, whatever the number of values; see the table in docs/when_it_retraces.md.
"""

from __future__ import annotations

from scenario import arange, scenario

import tracejit as torch
from tracejit import nn, optim
from tracejit.nn import functional as F


def numbers(title, function):
    """A scenario: operations with a number, for five values of it."""

    def program(compile):
        f = compile(function)
        for value in (0.25, 0.4, 0.125, 0.45, 0.3):
            yield f(arange(2, 3, start=-0.4), value)

    return scenario(title, "each value", "input", 2)(program)


test_fills = numbers(
    "pad(value), linspace(0, v), tensor([v, 1.0]), full, masked_fill, where",
    lambda x, v: (
        F.pad(x, (1, 1), value=v),
        torch.linspace(-v, 1, 5) + torch.linspace(0.5, v, 5),
        torch.tensor([[v, 1.0], [2, v]]),
        x.masked_fill(x > 0, v) + torch.full((3,), v),
        torch.where(x > 0, x, v),
    ),
)
test_scales = numbers(
    "add(alpha), addcmul(value), lerp, addmm(alpha, beta), xlogy, float_power",
    lambda x, v: (
        torch.add(x, x, alpha=v) + torch.addcmul(x, x, x, value=v) + torch.lerp(x, x * 2, v),
        torch.addmm(x[:, :2], x, x.T, alpha=v, beta=v),
        torch.xlogy(v, x.abs() + 1),
        torch.float_power(x.abs(), v),
    ),
)
test_bounds = numbers(
    "clamp, hardtanh, threshold, leaky_relu, elu, nan_to_num",
    lambda x, v: (
        x.clamp(-v, v) + F.hardtanh(x, -v, v) + F.threshold(x, v, 0.5),
        F.leaky_relu(x, v) + F.elu(x, v) + torch.nan_to_num(x, v, v, -v),
    ),
)
test_draws = numbers(
    "dropout(p), normal(mean, std), uniform_, bernoulli(p)",
    lambda x, v: (
        F.dropout(x, v) + torch.normal(v, v, (2, 3)) + x.clone().uniform_(-v, v),
        torch.bernoulli(x, v),
    ),
)
test_norms = numbers(
    "eps and momentum of norms, label_smoothing, delta of a loss",
    lambda x, v: (
        F.layer_norm(x, (3,), eps=v) + F.batch_norm(x, None, None, training=True, eps=v),
        F.cross_entropy(x, torch.tensor([0, 2]), label_smoothing=v),
        F.huber_loss(x, x * 2, delta=v),
    ),
)


@scenario("OneCycleLR: lr and betas of AdamW at every step", "each value", "input", 2, lost=1)
def test_cycled_betas(compile):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = optim.AdamW(net.parameters(), lr=0.1)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.2, 20)

    def step(x):
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    f = compile(step)
    for _ in range(8):
        betas = optimizer.param_groups[0]["betas"]
        yield f(arange(2, 3)), betas, optimizer.param_groups[0]["betas"] is betas
        schedule.step()
