# x[i] with a 0-d tensor i is a view: gradients of the captured run missed writes through it and x.
import tracejit as torch
from tracejit.testing.programs import attempt, make, pull


def base_written(x, i):
    y = x * 3
    picked = y[i]
    first = y.select(0, 0)
    first *= 2
    return picked.exp()


def pick_written(x, i):
    y = x * 3
    y[i].mul_(2)
    return y


def part_of_pick_written(x, i):
    y = x * 3
    part = y[i][i][1:]
    part *= x[0, 0, 1:]
    y += 1
    return part * 2, y.sin()


def becomes_tracked(x, i):
    y = torch.zeros(3, 3, 3)
    picked = y[i]
    y.copy_(x * 2)
    return picked


def argument_written(x, i):
    y = x.detach()
    picked = y[:, i]
    y.mul_(2)
    return picked * x[0]


def f(x, i):
    return x[i] * 2


def run(f):
    others = [base_written, pick_written, part_of_pick_written, becomes_tracked, argument_written]
    if type(f).__name__ == "CompiledFunction":
        others = [torch.compile(o) for o in others]
    for at in (0, 1, 0, -1, 0):
        for function in (f, *others):
            x = make("float32", (3, 3, 3), 0, "c", True)
            y = attempt(function, x, torch.tensor(at))
            yield y, attempt(pull, y), x
