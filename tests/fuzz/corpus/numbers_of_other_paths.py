# Paths of one tree have different numbers among their inputs; gradients of gradients.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    y = torch.atan2(x, x).floor() + x
    if (x > 0).all():
        y = y * torch.rand(5)
    if (x > -9).any():
        y = y + torch.rand(5)
    return y * y


def run(f):
    for seed in range(6):
        x = make("float32", (5,), seed, grad=seed > 0)
        if seed % 2:
            x = x.detach().abs().requires_grad_()
        y = attempt(f, x)
        yield attempt(pull_twice, y), x
