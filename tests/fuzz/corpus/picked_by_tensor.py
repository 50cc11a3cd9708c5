# x[i] with a 0-d tensor i is a view in eager code.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, i):
    return x[i]


def g(x, i):
    y = x[i]
    y.add_(1)
    return x * 2


def h(x, i):
    return x[i, :, torch.tensor([0, 1])] * 2, x[1:, i] + 1


def run(f):
    others = [torch.compile(o) if type(f).__name__ == "CompiledFunction" else o for o in (g, h)]
    for i in (0, 1, 0, -1):
        x, i = make("float32", (3, 3, 3), 0), torch.tensor(i)
        yield attempt(f, x, i), x
        yield [attempt(other, x, i) for other in others], x
