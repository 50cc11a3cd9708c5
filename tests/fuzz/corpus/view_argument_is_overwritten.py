# A write to what an argument is a view of: replays gave a gradient where plain backward raises.
import tracejit as torch
from tracejit.testing.programs import attempt, make, pull

W = make("float32", (4, 1), 1, grad=True)


def f(x0, x1):
    v1 = x0 @ W
    x1.add_(1.0)
    return v1


def run(f):
    global W
    for layout in "cost":
        x0 = make("float32", (3, 4), 0, layout)
        for other in (x0, x0[1:], x0[:0], make("float32", (3, 4), 1)):
            y = attempt(f, x0, other)
            yield attempt(pull, y), x0, W
            W.grad = None
    yield None
