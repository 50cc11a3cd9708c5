# The interpreter took the sizes of the runs in which the nodes of a trace were made.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    soft = x.sigmoid()
    drawn = torch.rand_like(soft)
    if int(soft.sum() * 2) % 2 == 0:
        return drawn, soft * 2
    return drawn, soft.clone()


def run(f):
    for n in (2, 4, 7, 3, 5):
        yield attempt(f, make("float64", (n, 1), n))
