# A tensor with a history that is overwritten without one is no leaf; its gradient is zero.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    y = x ** 2
    y.fill_(1.5)
    first = y.reshape(-1)[:2].tolist()[0]
    z = first - y
    y.copy_(z)
    y.zero_()
    return y, z


def run(f):
    for seed in range(3):
        x = make("float64", (2, 3), seed, grad=True)
        y = attempt(f, x)
        yield y, attempt(pull, y), x
