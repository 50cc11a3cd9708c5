# A size occurs in a segment that reads no tensor of that size.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, y):
    if x.sum() > 0:
        return torch.arange(x.shape[0]) + y.sum(), x.shape[0] * y
    return torch.zeros(x.shape[0], 2).std(0, keepdim=True), y[:1]


def run(f):
    for n in (3, 4, 5, 2, 6):
        for sign in (1, -1):
            x = make("float32", (n,), n).abs() * sign
            yield attempt(f, x, make("float32", (3,), n))
