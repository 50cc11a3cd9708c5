# A size that varies was 0 when the trace was made: softmax gave its input from then on, any failed.
import tracejit as torch
from tracejit.testing.programs import Box, attempt, make, pull, pull_twice


def f(x, way):
    if way == 0:
        return x.softmax(0), x.log_softmax(0), x.logsumexp(0)
    if way == 1:
        return x.any(dim=0), x.bool().all(0), (x > 0).sum(0), x.sort(0)
    return x.max(dim=0) if way == 2 else x.amin(0)


def run(f):
    for way in range(4):
        for n in (4, 0, 5, 0, 1, 3):
            x = make("float32", (n, 3), n, "c", True)
            y = attempt(f, x, way)
            yield y, attempt(pull, y), x
