"""Functions with gradients of their own inside compiled training steps.

Invariant: the step compiles, and gives eager's losses and weights bit for bit.
"""

import warnings

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit.errors import TraceWarning


class SignThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype) * 2 - 1

    @staticmethod
    def backward(ctx, g):
        return g.clamp(-1, 1)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g * ctx.scale, None


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x * torch.sigmoid(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (y + s * (1 - y))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x, scale):
        h = Swish.apply(self.a(x))
        return self.b(SignThrough.apply(h) * h), self.c(Reversed.apply(h, scale))


def train(compiled):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(x, scale):
        optimizer.zero_grad()
        y, d = net(x, scale)
        loss = y.pow(2).mean() + d.exp().mean()
        loss.backward()
        optimizer.step()
        return loss

    run = torch.compile(step) if compiled else step
    sizes = ((3, 0.1), (3, 0.2), (5, 0.3), (7, 0.4), (4, 0.5))
    losses = [run(torch.randn(n, 4), scale).item() for n, scale in sizes]
    if compiled:
        assert run.cache_info().traces <= 3
    return losses, [p.detach().numpy().copy() for p in net.parameters()]


def test_a_step_with_custom_gradients_compiles():
    expected = train(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TraceWarning)
        found = train(True)
    assert found[0] == expected[0]
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_custom_gradient_that_is_needed_after_the_call_keeps_the_call_eager():
    f = torch.compile(lambda x: SignThrough.apply(x * 3))
    for n in (2, 3, 4):
        x = torch.full((n,), 0.5, requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TraceWarning)
            f(x).sum().backward()
        assert x.grad.tolist() == [3.0] * n
    with torch.no_grad():
        assert f(torch.ones(2)).tolist() == [1.0, 1.0]


def test_a_result_written_in_place_keeps_the_call_eager():
    def run(x):
        y = Reversed.apply(x, 2.0) * 1
        z = Reversed.apply(y, 3.0)
        with torch.no_grad():
            z.add_(1)
        loss = (z * z).sum()
        loss.backward()
        return y

    results = []
    for function in (run, torch.compile(run)):
        x = torch.ones(3, requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TraceWarning)
            y = function(x)
        results.append((y.tolist(), x.grad.tolist()))
    assert results[0] == results[1] == ([2.0] * 3, [24.0] * 3)


def test_a_second_derivative_inside_a_step():
    def run(x):
        (g,) = torch.autograd.grad(Swish.apply(x).sum(), x, create_graph=True)
        (g * g).sum().backward()
        return g

    expected = torch.ones(2, dtype=torch.float64, requires_grad=True)
    run(expected)
    for _ in range(2):
        x = torch.ones(2, dtype=torch.float64, requires_grad=True)
        compiled = torch.compile(run)
        compiled(x)
        assert x.grad.tolist() == pytest.approx(expected.grad.tolist(), rel=1e-12)
