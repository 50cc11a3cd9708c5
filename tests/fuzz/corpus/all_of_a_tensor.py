# A slice that takes everything gave the tensor itself, and a view where its bounds vary.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    return x[-2:], x[...], x[:], x * 2


def run(f):
    for rows in (4, 2, 3, 2):
        x = make("float32", (rows, 4), 2, "c", True)
        y = attempt(f, x)
        yield y, x, [v is x for v in y], [v.is_leaf for v in y], attempt(pull, y), x
