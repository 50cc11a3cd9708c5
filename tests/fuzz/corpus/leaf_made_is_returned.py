# What was computed from a leaf made in the call did not lead to it, when the leaf was returned.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

b = make("float32", (3,), 5, grad=True)


def f(x):
    leaf = x.detach().clone().requires_grad_()
    (leaf * leaf).sum().backward()
    return leaf, leaf * leaf * b


def run(f):
    for seed in range(3):
        y = f(make("float32", (3,), seed))
        yield torch.autograd.grad((y[1] * y[1]).sum(), [y[0], b], retain_graph=True)
        yield attempt(pull_twice, y), y, b
