# A result whose graph was freed in the call could be differentiated again after a replay.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice

PARAM = make("float32", (2,), 5, grad=True)
OPT = torch.optim.SGD([PARAM], lr=0.1, momentum=0.9)


def f(x):
    OPT.zero_grad()
    loss = ((PARAM * x.detach().mean() - 1) ** 2).sum()
    loss.backward()
    OPT.step()
    return loss, (x * 2).exp()


def run(f):
    for seed in range(3):
        x = make("float32", (3,), seed, "c", True)
        loss, usable = f(x)
        yield attempt(pull_twice, loss), attempt(pull, loss * 2), PARAM
        yield attempt((loss + 1).backward, inputs=[PARAM]), attempt((loss + 1).backward, inputs=[x])
        yield attempt(pull_twice, [usable]), x
        yield attempt(pull, [loss, f(x)[1]]), attempt(pull, f(x)[1]), x
