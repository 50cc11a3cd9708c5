"""Native convolutions and sums of windows: sizes at which packing, tiles and direct loops end.

Oracle: the ops' NumPy meanings in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as torch
from tracejit import config
from tracejit.ir.op import OPS
from tracejit.runtime.single import run_op

F = torch.nn.functional
# batch, channels, filters, rows, columns; taps; step, dilation, zeros around; groups
GEOMETRIES = [
    ((2, 3, 5, 9, 11), (3, 3), 1, 1, 1, 1),
    ((2, 3, 5, 9, 11), (5, 2), 2, 1, 4, 1),
    ((3, 70, 40, 7, 7), (3, 3), 1, 1, 1, 1),  # windows of several images share slivers
    ((1, 300, 270, 5, 6), (3, 3), 1, 1, 1, 1),  # several depths of k, several tiles of rows
    ((1, 3, 33, 40, 70), (7, 7), 2, 1, 3, 1),
    ((2, 5, 6, 13, 12), (3, 3), 3, 2, 2, 1),
    ((4, 6, 64, 24, 24), (1, 1), 1, 1, 0, 1),
    ((2, 6, 8, 9, 9), (1, 1), 2, 1, 0, 1),
    ((2, 8, 12, 9, 14), (3, 3), 1, 1, 1, 4),
    ((2, 6, 6, 9, 70), (3, 3), 1, 1, 1, 6),
    ((2, 6, 12, 9, 11), (3, 3), 2, 1, 1, 6),
    ((2, 5, 5, 9, 15), (5, 3), 1, 2, 2, 5),
    ((1, 4, 4, 20, 20), (9, 9), 1, 1, 4, 4),  # too many taps to unroll
    ((6, 1, 1, 8, 8), (3, 3), 1, 1, 1, 1),
    ((0, 3, 4, 8, 8), (3, 3), 1, 1, 1, 1),
]


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    limit = 3e-6 if got.dtype == np.float32 else 1e-13
    assert not got.size or np.abs(got - want).max() <= limit * (np.abs(want).max() + 1e-30)


def operands(geometry: Any, dtype: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    (batch, channels, filters, *plane), taps, step, gap, border, groups = geometry
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, channels, *plane)).astype(dtype)
    w = rng.standard_normal((filters, channels // groups, *taps)).astype(dtype)
    how = {"sizes": taps, "steps": (step,) * 2, "dilations": (gap,) * 2, "low": (border,) * 2,
           "high": (border,) * 2, "groups": groups}  # fmt: skip
    return x, w, how


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_convolutions_and_their_gradients(geometry: Any, dtype: str) -> None:
    x, w, how = operands(geometry, dtype)
    wide = [a.astype("f8") for a in (x, w)]
    want = OPS["convolve"].numpy(*wide, **how)
    close(run_op(OPS["convolve"], [x, w], how), want)
    g = np.random.default_rng(2).standard_normal(want.shape)
    small = g.astype(dtype)
    extra = {"shape": x.shape[2:], **how}
    want = OPS["convolve_input"].numpy(g, wide[1], **extra)
    close(run_op(OPS["convolve_input"], [small, w], extra), want)
    extra = {"channels": w.shape[1], **how}
    want = OPS["convolve_weight"].numpy(wide[0], g, **extra)
    close(run_op(OPS["convolve_weight"], [x, small], extra), want)


@pytest.mark.parametrize("groups", [1, 6])
def test_operands_that_are_views(groups: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 9, 11, 6)).astype("f4").transpose(0, 3, 1, 2)
    w = rng.standard_normal((3, 3, 6 // groups, 6)).astype("f4").transpose(3, 2, 0, 1)
    how = {"sizes": (3, 3), "steps": (2, 1), "dilations": (1, 1), "low": (0, 0), "high": (0, 0),
           "groups": groups}  # fmt: skip
    want = OPS["convolve"].numpy(x.astype("f8"), w.astype("f8"), **how)
    close(run_op(OPS["convolve"], [x, w], how), want)
    g = rng.standard_normal(want.shape[::-1]).astype("f4").T
    more = {"channels": w.shape[1], **how}
    close(run_op(OPS["convolve_weight"], [x[:, :, ::1], g], more),
          OPS["convolve_weight"].numpy(x.astype("f8"), g.astype("f8"), **more))  # fmt: skip


@pytest.mark.parametrize("groups", [1, 64])
def test_bits_do_not_depend_on_threads_or_compilation(groups: int) -> None:
    rng = np.random.default_rng(4)
    x = torch.tensor(rng.standard_normal((8, 64, 20, 21)).astype("f4"), requires_grad=True)
    w = torch.tensor(rng.standard_normal((64, 64 // groups, 3, 3)).astype("f4"), requires_grad=True)

    def step(x: Any, w: Any) -> Any:
        y = F.relu(F.conv2d(x, w, None, 2, 1, 1, groups))
        return y, *torch.autograd.grad((y * y).sum(), (x, w))

    found = []
    for threads in (1, 2):
        with config.override(threads=threads):
            compiled = torch.compile(step)
            compiled(x, w)
            found += [[t.detach().numpy() for t in f(x, w)] for f in (step, compiled)]
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a.view("i4"), b.view("i4"))


def test_one_compiled_convolution_serves_other_sizes() -> None:
    w = torch.randn(6, 4, 3, 3, requires_grad=True)

    @torch.compile
    def step(x: Any) -> Any:
        y = F.avg_pool2d(F.conv2d(x, w, None, 2, 1), 3, 2, 1)
        return torch.autograd.grad(y.square().sum(), (x, w))

    for batch, n in ((4, 12), (5, 12), (5, 17), (0, 17), (1, 30)):
        x = torch.randn(batch, 4, n, n + 1, requires_grad=True)
        y = F.avg_pool2d(F.conv2d(x, w, None, 2, 1), 3, 2, 1)
        want = torch.autograd.grad(y.square().sum(), (x, w))
        for a, b in zip(step(x), want, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-4, 1e-4)
    assert "runs eagerly" not in str(step.explain())


@pytest.mark.parametrize("groups", [1, 2])
def test_sizes_of_small_images_are_recorded(groups: int) -> None:
    w = torch.randn(8, 6 // groups, 3, 3, requires_grad=True)
    v = torch.randn(8, 1, 3, 3, requires_grad=True)

    def step(x: Any) -> Any:
        y = F.conv2d(F.conv2d(x, w, None, 1, 1, 1, groups), v, None, 2, 1, 1, 8)
        return torch.autograd.grad(y.square().sum(), (x, w, v))

    compiled = torch.compile(step, fullgraph=True)
    for batch, n in ((3, 7), (4, 7), (5, 6), (6, 9), (7, 5)):
        x = torch.randn(batch, 6, n, n, requires_grad=True)
        for a, b in zip(compiled(x), step(x), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-4, 1e-4)


def test_a_program_names_convolutions() -> None:
    compiled = torch.compile(lambda x, w: F.conv2d(x, w, None, 1, 1))
    compiled(torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3))
    text = str(compiled.ir())
    assert "convolve(" in text and "windows(" not in text


@pytest.mark.parametrize("how", [
    {"sizes": (3, 3), "steps": (2, 2), "dilations": (1, 1)},
    {"sizes": (2, 4), "steps": (5, 1), "dilations": (3, 2)},
    {"sizes": (9, 8), "steps": (1, 1), "dilations": (1, 1)},
])  # fmt: skip
def test_sums_of_windows_have_numpys_bits(how: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    whole = rng.standard_normal((2, 3, 4, 13, 40)).astype("f4")
    for x in (whole, whole[:, :, ::2], whole.swapaxes(-1, -2), whole[:0]):
        made = run_op(OPS["window_sum"], [x], {"axes": (3, 4), **how})
        want = OPS["window_sum"].numpy(x, axes=(3, 4), **how)
        np.testing.assert_array_equal(made.view("i4"), np.ascontiguousarray(want).view("i4"))


@pytest.mark.parametrize("padding, output_padding, dilation", [(0, 0, 1), (1, 1, 1), (0, 2, 3),
                                                                (2, 2, 3)])  # fmt: skip
def test_transposed_convolution_adds_up_windows(
    padding: int, output_padding: int, dilation: int
) -> None:
    rng = np.random.default_rng(6)
    x, w = rng.standard_normal((2, 4, 5, 6)), rng.standard_normal((4, 3, 3, 2))
    got = F.conv_transpose2d(torch.tensor(x), torch.tensor(w), None, 2, padding, output_padding, 1,
                             dilation).numpy()  # fmt: skip
    size = [(n - 1) * 2 + dilation * (k - 1) + 1 + output_padding + 9 for n, k in ((5, 3), (6, 2))]
    whole = np.zeros((2, 3, *size))
    for i in range(3):
        for j in range(2):
            part = np.einsum("ncyx,co->noyx", x, w[:, :, i, j])
            whole[:, :, i * dilation : i * dilation + 9 : 2,
                  j * dilation : j * dilation + 11 : 2] += part  # fmt: skip
    rows, columns = (n - 9 - padding for n in size)
    close(got, whole[:, :, padding:rows, padding:columns])


@pytest.mark.parametrize("perm", [(0, 1, 2, 3), (1, 0, 3, 2), (0, 3, 1, 2)])
@pytest.mark.parametrize("dtype", ["f4", "i8", "u1"])
def test_borders_of_planes(perm: tuple[int, ...], dtype: str) -> None:
    x = np.arange(4 * 5 * 6 * 7).reshape(4, 5, 6, 7).astype(dtype).transpose(perm)
    for low, high in (((1, 2), (0, 3)), ((0, 0), (1, 0))):
        how = {"low": (0, 0, *low), "high": (0, 0, *high), "value": 9}
        np.testing.assert_array_equal(run_op(OPS["pad"], [x], how), OPS["pad"].numpy(x, **how))
