# A loop's graphs had the sizes of the call that was traced, which no guard asked for.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y):
    return torch.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, a * 0.5 + y.sum()), (torch.tensor(0), x[1:])
    )


def run(f):
    for n in (3, 4, 7, 4, 0, 1):
        for m in (2, n):
            yield attempt(f, make("float64", (n, 2), n), make("float64", (m,), m))
