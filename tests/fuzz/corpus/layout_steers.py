# Whether contiguous() copies and reshape() shares memory depends on the strides of the argument.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x):
    y = x.contiguous()
    x.reshape(-1)[::2] = 7
    return y, x.is_contiguous(), x.stride(), (x * 1).contiguous()


def run(f):
    for layout in "ctcsct":
        x = make("float64", (4, 3), 1, layout)
        yield attempt(f, x), x
