# The same product twice in one result: the second part was never written.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

W = make("float32", (2, 4), 4, grad=True)


def f(x):
    y = (x / (x.abs() + 1)) @ W
    return torch.cat([y, y], -1)


def run(f):
    for seed in range(3):
        yield attempt(f, make("float32", (5, 2), seed))
