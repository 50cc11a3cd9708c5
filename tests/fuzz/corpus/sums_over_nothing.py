# Sums over the leading axes of an empty tensor were not written.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y):
    return (x * y).sum((0, 1)), x.sum((0, 1)), (x * y).amax(2)


def run(f):
    for n in range(3):
        [torch.full((4,), 3e38) for _ in range(50)]  # what the results' memory held before
        yield attempt(f, make("float32", (4, 0, 4), n), make("float32", (4, 0, 1), n))
