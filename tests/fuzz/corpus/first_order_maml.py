# A gradient taken without create_graph carried its history into the captured computation.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)


def f(x):
    (g,) = torch.autograd.grad(((w * x) ** 3).sum(), [w])
    w.grad = None
    (((w - 0.1 * g) * x) ** 2).sum().backward()
    return (w - g) * x


def run(f):
    for n in range(3):
        y = attempt(f, make("float32", (3,), n))
        yield y, w.grad
        yield attempt(pull_twice, y), w.grad
