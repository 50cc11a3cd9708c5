# Eager code raised NumPy's own TypeError, and wrote through a mask with more dimensions.
import tracejit as torch
from tracejit.testing.programs import attempt, make


def f(x, mask):
    if mask.ndim == 0:
        return ~x
    x.masked_fill_(mask, 0.5)
    return x * 2


def g(x):
    x.t()[0] = 1.5
    return torch.nn.functional.dropout(x.int(), 0.5) if x.shape[1] > 1 else x


def run(f):
    compiled = torch.compile(g) if type(f).__name__ == "CompiledFunction" else g
    for width in (1, 3):
        yield attempt(compiled, make("float32", (0, width), 0))
    for mask in (True, [True, False, True], [[True, False, True]]):
        x = make("float32", (3,), 0)
        yield attempt(f, x, torch.tensor(mask)), x
        yield attempt(f, x, torch.tensor(mask)), x
