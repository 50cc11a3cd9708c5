# A leaf that the call overwrites under no_grad: its second gradient did not reach it.

import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

GAIN = -0.75
FLAG = True


def f(x0):
    with torch.set_grad_enabled(False):
        x0.mul_(0.5)
    v1 = x0 + 1
    v2 = v1.amin(dim=0, keepdim=True)
    v3 = v2.cumsum(0)
    v12 = (lambda a: a.tanh() + 1)(v3)
    return v12,


def run(f):
    global FLAG, GAIN
    x0 = make("float32", (3, 3, 1), 0, "c", True)
    y = attempt(f, x0)
    y = attempt(f, x0)
    yield attempt(pull_twice, y), x0, attempt(pull, y), x0
    yield None
