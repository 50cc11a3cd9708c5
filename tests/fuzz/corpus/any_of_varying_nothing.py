# `any` over a dimension that varies and is empty in the traced call: no kernel could be made.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    if (x > 0).any():
        return x * 2, (x > 0).all(0), (x != 0).all()
    return -x, (x > 0).any(), (x > 0).any(1), attempt(x.amax, 1)


def run(f):
    for n in (5, 0, 3, 0):
        yield attempt(f, make("int64", (n, 2, 3), n))
        yield attempt(f, -make("uint8", (2, n, 3), n).to(torch.int64))
