# A capture's record of indices led to leaves: the gradient of a gather had a history of its own.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

BUF = torch.zeros(3)
LAST = torch.zeros(1)


def f(x):
    v = x.gather(0, x.argsort(0))
    BUF.add_(v.sum())
    return (BUF * 2, v, torch.where(x > 0, x, 2 * x), torch.where(LAST.scatter(0, LAST.argsort(0), 1) > x, x, 1))


def run(f):
    for i in range(3):
        x = make("float32", (5, 2), i, "c", True)
        for j in range(4):
            y = f(x)[j]
            (g,) = torch.autograd.grad(y.sum(), [x], create_graph=True)
            yield g, g.requires_grad, attempt(pull_twice, y), attempt(pull, y), x
