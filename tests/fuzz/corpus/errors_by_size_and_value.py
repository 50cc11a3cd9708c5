# Errors that a function catches: a trace took them for granted whatever the sizes and elements.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

STATE = torch.zeros(2)
ROW = torch.arange(5.0)


def of_sizes(x):
    return [
        attempt(lambda: x + torch.ones(3)), attempt(lambda: torch.stack([x, torch.ones(3)])),
        attempt(lambda: x.reshape(3, 1)), attempt(lambda: x.expand(2, 3)),
        attempt(lambda: x[4:].amax()), attempt(lambda: x[2:].item()), attempt(lambda: bool(x[2:])),
        attempt(lambda: (x.detach().requires_grad_() * 2)[2:].backward()),
        attempt(lambda: x.unfold(0, 4, 1)), attempt(lambda: x.as_strided((4,), (1,))),
    ]  # fmt: skip


def f(which, x):
    if which == "alone":
        return attempt(lambda: x + torch.ones(3))
    if which == "item":
        return x[2:].item()
    if which == "sizes":
        return of_sizes(x)
    STATE.add_(1)
    if which == "singular":
        return torch.linalg.cholesky(x) + STATE
    if which == "caught":
        return attempt(torch.linalg.cholesky, x)
    if which == "index":
        return attempt(lambda: ROW[x]), attempt(lambda: x % x)
    return attempt(torch.bernoulli, x)


def run(f):
    good, bad = torch.eye(2) * 4, torch.zeros(2, 2)
    for n in (2, 5, 3, 1, 6, 3, 5):
        yield f("sizes", torch.arange(1.0, n + 1))
        yield f("alone", torch.arange(1.0, n + 1))
        yield attempt(f, "item", torch.arange(1.0, n + 1))
    for x in (good, good, bad, good, bad, good):
        yield attempt(f, "singular", x), STATE.tolist(), f("caught", x), STATE.tolist()
    for i in (7, 2, 0, 7, 2):
        yield f("index", torch.tensor([i])), STATE.tolist()
    for p in (0.5, 0.25, 2.0, 0.5, -1.0):
        yield f("chance", torch.full((3,), p)), STATE.tolist()
