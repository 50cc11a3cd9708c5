# Eager code raised NumPy's own TypeError, and wrote through a mask with more dimensions.
import tracejit as torch
from tracejit.testing.programs import attempt, make


def f(x, mask):
    if mask.ndim == 0:
        return ~x
    x.masked_fill_(mask, 0.5)
    return x * 2


def run(f):
    for mask in (True, [True, False, True], [[True, False, True]]):
        x = make("float32", (3,), 0)
        yield attempt(f, x, torch.tensor(mask)), x
        yield attempt(f, x, torch.tensor(mask)), x
