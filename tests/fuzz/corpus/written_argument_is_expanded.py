# A later argument shares memory between its elements: eager refuses to write to it.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    y = x.square()
    x.masked_fill_(x > 0, 3)
    return y


def run(f):
    for layout in "ccectc":
        x = make("float64", (6, 2), 1, layout)
        yield attempt(f, x), x
