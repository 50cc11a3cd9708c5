# An index that was empty when the trace was made was never checked: a replay read outside.
import tracejit as torch
from tracejit.nn import functional as F
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def pick(x, i):
    return torch.take(x, i), x[i], x.index_select(0, i), F.embedding(i.abs(), x)


def place(x, i):
    wide = i.unsqueeze(-1).expand(-1, 2)
    return x.gather(0, wide), x.scatter(0, wide, 1.0), x.scatter_reduce(0, wide, x[:1].expand(
        i.shape[0], 3), "amax", include_self=False), x.index_add(0, i, x[i])


def one(x, i):
    if x[3:, 0]:
        return x[3:, 0].item() + i.sum()
    return x[3:, 0].is_nonzero()


def f(x, i, way):
    return (pick, place, one)[way](x, i)


def run(f):
    for way in range(3):
        for n, m in ((4, 4), (5, 5), (3, 0), (1, 1), (4, 2), (2, 7), (7, 3), (0, 0), (4, 3)):
            i = torch.arange(m) - 1 if way == 0 else torch.arange(m)
            yield attempt(f, make("float32", (n, 3), n), i, way)
