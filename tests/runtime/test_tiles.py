"""Maps whose operands disagree about the dense axis run in tiles, with the values of plain maps."""

from __future__ import annotations

import numpy as np
import pytest

import tracejit as torch
from tracejit import config


@pytest.mark.parametrize("shape", [(32, 32), (33, 70), (3, 65, 40), (2, 3, 31, 90), (100, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16])
def test_a_transposed_operand_gives_what_numpy_gives(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape) % 251
    x = torch.tensor(values).to(dtype)
    y = torch.tensor(np.ascontiguousarray(np.swapaxes(values, -1, -2))).to(dtype)
    f = torch.compile(lambda x, y: x + 2 * y.transpose(-1, -2))
    for _ in range(2):
        np.testing.assert_array_equal(f(x, y).numpy(), (x.numpy() * 3).astype(x.numpy().dtype))
    expected = "tile" if min(shape[-2:]) >= 32 else "map"
    assert [kernel.shape for kernel in f.kernels] == [expected]


def test_a_random_mask_does_not_depend_on_tiles() -> None:
    x, y = torch.ones(64, 64), torch.ones(64, 64)

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x.t() * y, 0.5)

    compiled = torch.compile(f)
    compiled(x, y)
    for _ in range(2):
        torch.manual_seed(3)
        expected = f(x, y)
        torch.manual_seed(3)
        np.testing.assert_array_equal(compiled(x, y).numpy(), expected.numpy())


def test_a_large_transpose_is_copied_by_threads_in_tiles() -> None:
    x = torch.arange(512 * 300).reshape(512, 300).to(torch.float32)
    with config.override(threads=2):
        copy = x.t().contiguous()
        flipped = torch.flip(x, (0,)).t().clone()
    np.testing.assert_array_equal(copy.numpy(), x.numpy().T)
    np.testing.assert_array_equal(flipped.numpy(), x.numpy()[::-1].T)
    assert copy.is_contiguous()
