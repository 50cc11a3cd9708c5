# Under no_grad(), a write of a leaf, or through a view of one, made the captured result require grad.
import tracejit as torch
from tracejit.testing.programs import attempt, make, pull


def copied(x0, x1):
    x0.copy_(x1)
    return x0, x0 * 1.0


def clamped(x0, x1):
    view = x1[..., None]
    view.clamp_(-1, 1)
    return view, x1


def filled(x0, x1):
    view = x1.unbind(-1)[0]
    view[...] = 2.0
    x0[1:] = x1[1:]
    return view, x1, x0


def inside(x0, x1):
    kept = torch.zeros(4)
    with torch.no_grad():
        kept.copy_(x1)
    return kept, kept * 2.0 + x1 * x0


def f(which, x0, x1):
    return (copied, clamped, filled, inside)[which](x0, x1)


def run(f):
    for dtype in ("bool", "float32"):
        for which in range(4):
            x0, x1 = make(dtype, (4,), 1), make("float32", (4,), 2, grad=True)
            with torch.no_grad():
                y = attempt(f, which, x0, x1)
            yield attempt(pull, y), y, x0, x1
            y = attempt(f, which, x0, x1)
            yield attempt(pull, y), y, x0, x1
