# A reduction over an axis of size 1, and then one value a row: no kernel could be made.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y, b):
    z = x * y
    total = z.sum(2) + b
    top = (z.amax(2) - b).exp()
    return total, top, z, z.softmax(2) * b[:, None], z.mean(2).sum()


def run(f):
    for seed in range(3):
        x = make("float32", (3, 2, 1), seed, "c", True)
        y = attempt(f, x, make("float32", (3, 1, 1), 1), make("float32", (2,), 2))
        yield y, attempt(pull, y), x
