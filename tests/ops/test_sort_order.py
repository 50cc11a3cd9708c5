"""The order that sorting gives: stable, zeros of both signs alike, NaN last.

Invariant: packing rank and position into one number gives the order of a stable sort.
"""

import numpy as np
import pytest

from tracejit.ops.scan import _numpy_sort

ODD = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40])
DTYPES = ["f4", "f2", "f8", "i4", "i2", "i1", "u1", "?", "i8"]


def stable(x, axis, descending):
    if descending:
        last = x.shape[axis] - 1
        return last - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return np.argsort(x, axis, kind="stable")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_order_is_that_of_a_stable_sort(dtype, descending):
    rng = np.random.default_rng(0)
    for shape in [(9,), (5, 33), (3, 4, 70), (0, 3), (2, 0)]:
        x = (rng.standard_normal(shape) * 5).astype(np.int64).astype(dtype)
        if x.dtype.kind == "f":
            some = x.reshape(-1)[::3]
            some[...] = rng.choice(ODD, some.size).astype(dtype)
        for axis in range(-1, len(shape)):
            values, order = _numpy_sort(x, axis, descending)
            assert (order == stable(x, axis, descending)).all()
            assert values.tobytes() == np.take_along_axis(x, order, axis).tobytes()
