# What one backward pass frees of a call depends on its result; a compiled call freed all or nothing.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, w):
    s = x.sin()
    return x.exp(), w * w, s.exp(), s * 2, (x + 1) * w, x * 3, x.argsort(0), x.relu()


def run(f):
    for i in range(3):
        x, w = make("float32", (3,), i, "c", True), make("float32", (3,), 9 + i, "c", True)
        for first in range(8):
            y = f(x, w)
            yield attempt(pull, [y[first]]), attempt(pull, [y[2], y[5]]), x, w
            yield [attempt(pull, [r]) for r in y], x, w
            y = f(x, w)
            yield attempt(pull_twice, [y[first]]), x, w
            yield [attempt(pull, [r]) for r in y], x, w
        y = f(x, w)
        (g,) = torch.autograd.grad((y[0] * y[2]).sum(), [x], create_graph=True)
        yield attempt(pull, [y[0]]), attempt(pull, [g]), x
        y = f(x * 2, w)
        yield attempt(pull, [y[4] * y[4]]), attempt(pull, [y[1]]), attempt(pull, [y[4]]), x
        for first in range(8):
            h = w * 2
            y = f(x, h)
            yield attempt(pull, [y[first]]), [attempt(pull, [r]) for r in y], x, w
            h = w.exp()
            y = f(x, h)
            yield attempt(pull, [h]), [attempt(pull, [r]) for r in y], x, w
