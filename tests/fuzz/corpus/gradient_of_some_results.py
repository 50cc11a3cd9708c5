# A result that got no gradient took part with zeros, and zero times infinity is NaN.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, w):
    return x.log(), x * w, (x / w).reshape(-1)[:2], w.sqrt().sum()


def run(f):
    for i in range(6):
        x, w = torch.zeros(3, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        parts = f(x, w)
        yield attempt([pull, pull_twice][i // 4], parts[i % 4]), x, w
    for n in (4, 5, 6):
        x, w = torch.zeros(n, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        yield attempt(pull_twice, f(x, w)[1:4:2]), x, w
