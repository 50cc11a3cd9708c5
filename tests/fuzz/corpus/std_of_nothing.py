# n - 1 is not below 0, also if n varies.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    return x.std(), x.var(0)


def run(f):
    for n in (3, 4, 0, 1, 5):
        yield attempt(f, make("float32", (n, 2), 0))
