# A view of an expanded argument was made anew from what the argument views, at the old size.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    return x.expand(2, -1, -1), x[1:]


def run(f):
    for n, layout in ((2, "c"), (7, "e"), (6, "e"), (5, "e"), (5, "o"), (4, "c")):
        x = make("int8", (n, 4), n, layout)
        yield attempt(f, x), x
