# A choice by a comparison with 0, narrowed by LLVM: -0.0 became 0.0.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, wide, narrow):
    y = x.to(wide)
    low = torch.where(y > -0.25, y, -0.25)
    cut = low.masked_fill(low > 0, 0) * 2
    slope = torch.where(y > -0.25, torch.where(low > 0, 0.0, 1.0), 0.0)
    return cut.to(narrow), slope.to(narrow)


def run(f):
    pairs = [(torch.float16, torch.float16), (torch.float32, torch.float64)]
    for narrow, wide in [*pairs, (torch.float16, torch.float32)]:
        x = torch.tensor([-0.0, 0.0, -0.125, 1.0, -5.0] * 4).to(narrow)
        for i in range(2):
            yield f(x, wide, narrow)
