# Zeros stood for the gradients of results that were not asked for: times infinity they gave NaN.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, w):
    return x * 2, 1 / x, x.sqrt() * w, (x * w).log()


def run(f):
    for size in (2, 2, 3):
        for chosen in ([0], [1], [0, 3], [2]):
            x, w = torch.zeros(size).requires_grad_(), torch.ones(size).requires_grad_()
            y = f(x, w)
            yield attempt(pull, [y[i] for i in chosen]), x, w
            y = f(x, w)
            yield attempt(pull_twice, [y[i] for i in chosen]), x, w
