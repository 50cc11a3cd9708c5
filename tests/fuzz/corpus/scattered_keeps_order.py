# Whether reshape gives a view depends on how an operand of a scatter, a choice or a library op lay.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    index = torch.zeros(x.shape, dtype=torch.int64)
    added = x.scatter_add(-1, index, x)
    picked = x.gather(0, index)
    near = torch.nextafter(x, x + 1)
    return added, added.reshape(-1), picked, picked.reshape(-1), near, near.reshape(-1)


def run(f):
    for layout in "tcstc":
        yield attempt(f, make("float32", (3, 4), 1, layout))
