# A leaf made in the call lost its .grad, and was none, when the call was replayed.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    leaf = x.detach().clone().requires_grad_()
    (leaf * leaf).sum().backward()
    return leaf


def run(f):
    for seed in range(3):
        yield attempt(f, make("float32", (3,), seed))
