# A leaf that the call writes to had no part in gradients of gradients.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

W = make("float32", (3, 2), 5, grad=True)
b = make("float32", (2,), 6, grad=True)


def f(x):
    before = (x * x).sum()
    with torch.no_grad():
        x.mul_(0.5)
    return ((x + 1) @ W + b).relu(), before, x * x * b[0]


def run(f):
    for seed in range(4):
        x = make("float32", (4, 3), seed, "c", True)
        for part in f(x):
            yield attempt(pull_twice, part), x, W, b
    for n in (2, 5, 6):
        x = make("float32", (n, 3), n, "c", True)
        yield attempt(pull_twice, f(x)[::2]), x, W, b
