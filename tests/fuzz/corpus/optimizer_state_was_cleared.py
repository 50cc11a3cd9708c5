# A guard that read a parameter's state in a cleared `defaultdict` put an empty one there.
import tracejit as torch
from tracejit.testing.programs import attempt, make

PARAM = make("float32", (2,), 5, grad=True)
OPT = torch.optim.RMSprop([PARAM], lr=0.01)


def f(x0, k):
    OPT.zero_grad()
    ((PARAM * x0.mean() - 1) ** 2).sum().backward()
    OPT.step()
    return k


def run(f):
    x0 = make("float32", (3, 3), 0)
    for _ in range(2):
        yield attempt(f, x0, 2.0), PARAM, [*OPT.state.values()]
    OPT.state.clear()
    with torch.no_grad():  # its backward fails, before the step
        yield attempt(f, x0, 2.0), PARAM, [*OPT.state.values()]
    yield attempt(f, x0, 2.0), PARAM, [*OPT.state.values()]
    yield attempt(f, x0, 2.0), PARAM, [*OPT.state.values()]
