# A guard that read an empty slot ran the `__getattr__` of its class.
import tracejit as torch
from tracejit.testing.programs import attempt, make

ASKED = []


class Slotted:
    __slots__ = ("t",)

    def __getattr__(self, name):
        ASKED.append(name)
        return torch.ones(3)


HELD = Slotted()


def f(x, on):
    if on:
        return x * HELD.t
    return x * 2


def run(f):
    x = make("float32", (3,), 0)
    HELD.t = torch.zeros(3)
    for on in (True, True):
        yield attempt(f, x, on), list(ASKED)
    del HELD.t
    for on in (False, True, False, True, True):
        yield attempt(f, x, on), list(ASKED)
    HELD.t = torch.zeros(3)
    for on in (False, True, True):
        yield attempt(f, x, on), list(ASKED)
