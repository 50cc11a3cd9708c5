# A new path of a trace had sizes that vary where the rest of the trace had numbers.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y, z):
    first = x / (abs(float(y.mean())) + 1)
    if z is not None and first.sum() > 0:
        return first * z, z.shape[0]
    return (first + y.sum())[:1], first.topk(1, 0).values


def run(f):
    z = make("float32", (4, 1), 3)
    for i, (n, m) in enumerate([(2, 3), (4, 3), (2, 3), (4, 5), (5, 3), (1, 3), (4, 1), (2, 2)]):
        x, y = make("float32", (4, n), i), make("float32", (m,), i)
        yield attempt(f, x, y, z), attempt(f, -x, y, z), attempt(f, x, y, None)
        yield attempt(pull, attempt(f, x.clone().requires_grad_(), y, z[:, :1]))
