# The path of a written view joins the tree of a written tensor that is no view.
import tracejit as torch
from tracejit.testing.programs import attempt, make


def f(x):
    top = x.max()
    picked = x[x > 0]
    x[:-1, :] = top
    return top * picked.reshape(-1)[:2].tolist()[0]


def run(f):
    for seed, layout in enumerate("cscsto"):
        x = make("int64", (5, 1), 100 * seed, layout)
        yield attempt(f, x), x
