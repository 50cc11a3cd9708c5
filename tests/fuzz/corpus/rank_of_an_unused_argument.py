# value: value 2[0][1][0][1][0]: element 0 of <i8(3, 1): np.int64(8) against np.int64(4)
import copy
import math

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F
from tracejit.testing.programs import Box, attempt, flat, make, pull, pull_twice, spoil



def f(x0, x1, k):
    if x1.ndim > 1:
        v1 = x0 + x1
    else:
        v1 = x0.clone()
    return v1,


def run(f):
    x0 = make("int64", (3, 1), 0)
    x1 = make("float32", (), 1)
    y = attempt(f, x0, x1, 2.0)
    y = attempt(f, x0, x0[:], 2.0)
    yield y
    yield None
