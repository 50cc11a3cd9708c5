# A number that varies is assigned to an element, and made a tensor.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

TABLE = [1.0]


def f(x):
    x.t()[0] = TABLE[0]
    x.fill_(TABLE[0])
    return x + torch.tensor(TABLE[0]), x.int().fill_(TABLE[0])


def run(f):
    for number in (1.0, 0.0, 2.5, -3.75):
        TABLE[0] = number
        yield attempt(f, make("float32", (4, 3), 0))
