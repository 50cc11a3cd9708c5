# Guards read what a dict with `__missing__` no longer had, which made it anew.
import collections

import tracejit as torch
from tracejit.testing.programs import attempt, make

MADE = []


def fresh():
    MADE.append(len(MADE))
    return torch.ones(3)


class Named(dict):
    def __missing__(self, key):
        MADE.append(key)
        self[key] = made = torch.zeros(3)
        return made


KEPT = collections.defaultdict(fresh)
NAMED = Named()
COUNTS = collections.Counter(a=2)


def f(x, on):
    if on:
        KEPT["a"] = KEPT["a"] + x
        return KEPT["a"] * NAMED["b"] * COUNTS["a"]
    return x * 2


def run(f):
    x = make("float32", (3,), 0)
    for on in (True, True, False, False, True, True):
        yield attempt(f, x, on), dict(KEPT), dict(NAMED), list(MADE)
        if not on:
            KEPT.clear()
            NAMED.clear()
            yield attempt(f, x, on), dict(KEPT), dict(NAMED), list(MADE)
    COUNTS["a"] = 3
    yield attempt(f, x, True), dict(KEPT), dict(NAMED), list(MADE)
    COUNTS.clear()
    yield attempt(f, x, True), dict(KEPT), dict(NAMED), dict(COUNTS), list(MADE)
