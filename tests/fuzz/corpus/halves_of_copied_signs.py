# LLVM moved casts past the copying of signs and then called a function that the process lacked.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y):
    return torch.copysign(y, x.double()).float().half(), (x / 3).atan().atan(), x.asin().asin()


def run(f):
    for i in range(3):
        yield attempt(f, make("float16", (5,), i), make("float64", (5,), i))
