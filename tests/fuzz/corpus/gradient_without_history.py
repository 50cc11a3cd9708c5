# A gradient that depends on no leaf does not require grad; one that does so by a condition does.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    y = x * 2
    (g,) = torch.autograd.grad(y.sum(), [y], create_graph=True)
    (h,) = torch.autograd.grad(x.relu().sum(), [x], create_graph=True)
    return g.sigmoid(), h * 3


def run(f):
    for seed in range(3):
        x = make("float32", (4, 3), seed, grad=True)
        yield attempt(f, x), x
