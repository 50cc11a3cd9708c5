# A result that is a slice with gaps, or expanded, was a block of its own: `view` of it went through.
import tracejit as torch
from tracejit.testing.programs import attempt, flat, make


def f(x, k):
    odd = x ^ x
    wide = torch.vmap(lambda a: a * 2 + 1)(x)
    return odd[1:, 1:], wide.expand(2, -1, -1), (x + k)[:, -1], (x * k)[:, :3], x.exp().diagonal()


def run(f):
    for n in (3, 3, 4, 5, 3):
        results = attempt(f, make("int32", (n, n), n), 2)
        yield results, [attempt(flat, r) for r in results]
    yield None
