"""Running extremes and the first of a sort: native steps give what NumPy gives.

Invariant: NaN counts as the largest, equal elements keep their order.
"""

import numpy as np
import pytest

import tracejit as torch
from tracejit.ir.op import OPS
from tracejit.runtime.single import run_op


def sample(dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, shape).astype(dtype) if dtype != "u1" else rng.integers(0, 5, shape)
    x = x.astype(dtype)
    if np.dtype(dtype).kind == "f" and x.size > 20:
        x.flat[[3, 11, 12, 17]] = np.nan, np.inf, -0.0, -np.inf
    return x


SHAPES = [((1, 1), 1), ((5, 33), 1), ((33, 5), 0), ((4, 17, 6), 1), ((0, 3), 1), ((70, 130), 0)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i2", "u1"])
def test_topk_is_the_first_part_of_sort(dtype):
    for shape, axis in SHAPES:
        x = sample(dtype, shape)
        for largest in (True, False):
            whole = OPS["sort"].numpy(x, axis=axis, descending=largest)
            for k in {0, 1, min(4, shape[axis]), shape[axis]}:
                params = {"axis": axis, "k": k, "largest": largest}
                wanted = [np.take(part, np.arange(k), axis) for part in whole]
                for found in (run_op(OPS["topk"], [x], params), OPS["topk"].numpy(x, **params)):
                    for a, b in zip(found, wanted, strict=True):
                        assert a.tobytes() == np.ascontiguousarray(b).tobytes(), (shape, k)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i2", "u1"])
def test_running_extremes_along_every_axis(dtype):
    for shape, axis in SHAPES:
        if shape[axis] == 0:
            continue
        for largest in (True, False):
            params = {"axis": axis, "largest": largest}
            x = sample(dtype, shape)
            wanted = OPS["cumextreme"].numpy(x, **params)
            found = run_op(OPS["cumextreme"], [x], params)
            for a, b in zip(found, wanted, strict=True):
                assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (shape, axis)


@pytest.mark.parametrize("largest", [True, False])
def test_of_zeros_of_both_signs_the_last_one_counts(largest):
    x = np.array([[0.0, -0.0, -0.0], [-0.0, 0.0, 0.0]])
    values, places = run_op(OPS["cumextreme"], [x], {"axis": 1, "largest": largest})
    assert values.tobytes() == x.tobytes() and places.tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i2", "u1"])
def test_running_sums_along_rows_have_numpys_bits(name, dtype):
    """Rounded at every element: a sum carried in another dtype would differ."""
    for shape, axis in SHAPES:
        x = sample(dtype, shape)
        if x.dtype.kind == "f":
            x[~np.isfinite(x)] = -0.0
            x += np.random.default_rng(1).standard_normal(shape).astype(dtype)
        found = run_op(OPS[name], [x], {"axis": axis})
        assert found.tobytes() == OPS[name].numpy(x, axis=axis).tobytes(), shape


def test_gradient_of_topk_goes_to_the_places_it_took():
    x = torch.randn(6, 40, requires_grad=True)

    def function(x):
        values, places = x.topk(3, -1)
        return torch.autograd.grad((values * values).sum(), x)[0], places

    for run in (function, torch.compile(function)):
        for _ in range(2):
            gradient, places = run(x)
        wanted = torch.zeros(6, 40).scatter(1, places, 2 * x.detach().gather(1, places))
        assert torch.equal(gradient, wanted)


def test_large_operands_run_as_threaded_kernels_with_the_same_values():
    rng = np.random.default_rng(1)
    x, index = rng.standard_normal((400, 512)).astype("f4"), rng.integers(0, 400, (400, 512))
    t, at = torch.tensor(x), torch.tensor(index)
    assert np.array_equal(t.gather(0, at).numpy(), np.take_along_axis(x, index, 0))
    wanted = np.zeros_like(x)
    np.add.at(wanted, (index, np.arange(512)[None]), x)
    assert np.array_equal(torch.zeros(400, 512).scatter_add(0, at, t).numpy(), wanted)
    assert torch.count_nonzero(t).item() == np.count_nonzero(x)


def test_products_of_vectors_are_sums_of_products():
    a, b = torch.randn(3001), torch.randn(3001)
    for function in (torch.dot, torch.matmul, lambda a, b: torch.einsum("i,i->", a, b)):
        assert torch.equal(function(a, b), (a * b).sum())
        assert torch.equal(torch.compile(function)(a, b), (a * b).sum())
    rows = torch.randn(5, 40), torch.randn(5, 40)
    assert torch.equal(torch.einsum("bi,bi->b", *rows), (rows[0] * rows[1]).sum(1))
