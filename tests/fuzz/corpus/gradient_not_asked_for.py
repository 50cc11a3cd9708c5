# A result that is not differentiated gave zeros to what only it depends on (seed 2105136).
import math

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

GAIN = 1.25
FLAG = True
W2_4_float32 = make("float32", (4, 2), 2, grad=True)
KEPT = [torch.zeros(2), torch.ones(2)]

def f(x0, x1):
    v1 = x0 * 1.5
    v3 = torch.cond(v1.sum() > 0, lambda a: a * 2, lambda a: a - 1, (v1,))
    if v3.float().mean().item() > 0.1:
        v4 = v3 * 2
    else:
        v4 = v3.clone()
    v5 = torch.atan2(v3, v4)
    v6 = v5 @ W2_4_float32
    KEPT[0] = v6 * 1
    v9 = v5.unsqueeze(-2)
    return v9,

def run(f):
    global FLAG, GAIN, KEPT, W2_4_float32
    x0 = make("float32", (3, 3, 4), 0, "c", True)
    x1 = make("int64", (5, 1), 1)
    y = attempt(f, x0, x1)
    y = attempt(f, x0, x1)
    yield attempt(pull, y), x0, x1, GAIN, FLAG, W2_4_float32, KEPT
    yield None
