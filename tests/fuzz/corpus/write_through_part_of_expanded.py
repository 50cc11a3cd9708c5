# A capture raised where eager writes into one element of an expanded tensor.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y):
    y.clamp_(-2, 2)
    x[-1, :].mul_(2)
    return (y,)


def run(f):
    for n in (0, 100, 200):
        x, y = make("float64", (4, 1), n, "e"), make("float64", (3, 3), n + 1)
        yield attempt(f, x, y), x, y
