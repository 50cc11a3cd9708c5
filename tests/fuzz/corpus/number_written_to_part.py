# A number of the call went into a part of a tensor with no kernel before it.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, k):
    x[1:].fill_(k)
    return x * 2


def run(f):
    for k in (1.5, -0.75, -0.0, 3):
        x = make("float64", (4, 2), 2, "o")
        yield attempt(f, x, k), x
    for k in (3, 4, 5, -(2**63), 2**62):
        x = make("int64", (4, 2), 2, "o")
        yield attempt(f, x, k), x
