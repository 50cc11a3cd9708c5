"""The blocks of tracejit's own products: for every processor, whole or masked, turned, packed.

Invariant: the bits do not depend on the block.
"""

import itertools

import numpy as np
import pytest
from products import F4, F8, close, padded, random, transposed

from tracejit import config
from tracejit.codegen import gemm_kernel
from tracejit.runtime import gemm
from tracejit.runtime.gemm import matmul


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("features", ["+avx512f", "+avx2", "+sse2", "+neon"])
def test_micro_kernels_are_valid_ir_for_every_processor(monkeypatch, dtype, features):
    from tracejit.codegen.objects import parse

    monkeypatch.setattr(gemm_kernel, "cpu", lambda: ("any", features))
    block = gemm_kernel.block(dtype)
    assert block.few * 2 <= block.rows and block.columns % block.lanes == 0
    module = parse(gemm_kernel.text(dtype))
    assert {f.name for f in module.functions if not f.is_declaration} == set(
        gemm_kernel.names(dtype)
    )


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("features", ["+avx2", "+sse2"])
def test_blocks_of_other_processors_give_right_values(monkeypatch, dtype, features):
    monkeypatch.setattr(gemm_kernel, "cpu", lambda: ("any", features))
    monkeypatch.setattr(gemm, "_providers", {})
    monkeypatch.setattr(gemm, "_plans", {})
    with config.override(gemm="builtin"):
        for m, n, k in ((1, 1, 1), (5, 9, 33), (70, 45, 130), (300, 70, 801)):
            a, b = random((m, k), dtype), random((k, n), dtype, 1)
            for read_a, read_b in itertools.product((np.array, transposed), repeat=2):
                assert close(matmul(read_a(a), read_b(b)), a, b)


def test_whole_blocks_have_the_bits_of_masked_ones():
    """Blocks of C that are all there take a faster kernel; odd depths end between its steps."""
    for k in (1, 3, 4, 7, 191, 193, 387):
        a, b = random((25, k)), random((k, 65), seed=1)
        wide = matmul(a, b)
        narrow = np.concatenate([matmul(a, b[:, j : j + 13].copy()) for j in range(0, 65, 13)], 1)
        assert wide.tobytes() == np.ascontiguousarray(narrow).tobytes()


@pytest.mark.parametrize("dtype", [F4, F8])
def test_products_of_few_columns_are_turned(dtype):
    """Tall and narrow ones are worked out transposed: same bits, nothing written beside them."""
    for m, n, k, flip in [(33, 1, 5, 0), (130, 10, 200, 1), (300, 8, 3, 0), (40, 7, 390, 1)]:
        a, b = random((m, k), dtype), random((k, n), dtype, seed=1)
        b = transposed(b) if flip else b
        held = np.full(m * n + 64, 7, dtype)
        result = matmul(a, b, held[: m * n].reshape(m, n))
        wide = matmul(a, np.concatenate([b, random((k, 40), dtype)], axis=1))
        assert wide[:, :n].tobytes() == result.tobytes()
        assert (held[m * n :] == 7).all()


@pytest.mark.parametrize("dtype", [F4, F8])
def test_rows_of_a_that_lie_far_apart_are_packed(dtype):
    k = 4096 // dtype.itemsize + 3
    a, b = random((127, k), dtype), random((k, 133), dtype, seed=1)
    result = matmul(a, b)
    near = np.concatenate([matmul(a[i : i + 43], b) for i in range(0, 127, 43)])
    assert result.tobytes() == near.tobytes()
    assert np.allclose(result, a.astype(F8) @ b.astype(F8), atol=1e-3)


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("k", [1, 3, 15, 17, 192, 193, 400, 1031])
def test_few_rows_have_the_bits_of_many(dtype, k):
    """One to eight rows take kernels of their own, from B as it lies and transposed; nothing is
    written beside the result.
    """
    for m, n in ((1, 1), (1, 67), (2, 16), (3, 2050), (5, 33), (8, 300)):
        a, b = random((13, k), dtype), random((k, n), dtype, seed=1)
        wide = np.concatenate([b, random((k, 2100 - n), dtype)], axis=1)
        for read_a, read_b in itertools.product((np.array, transposed, padded), repeat=2):
            held = np.full(m * n + 64, 7, dtype)
            left, right = read_a(a[:m]), read_b(b)
            result = matmul(left[None], right[None], held[: m * n].reshape(1, m, n))[0]
            many = matmul(a[None], wide[None])[0]
            assert many[:m, :n].tobytes() == result.tobytes(), (m, n, read_a, read_b)
            assert (held[m * n :] == 7).all()


def test_few_rows_keep_what_is_not_finite():
    """Past a row's end nothing is multiplied: no NaN comes out of zeros times infinity."""
    a, b = np.ones((1, 21), F4), random((21, 19))
    a[0, 20] = np.inf
    result = matmul(a, transposed(b))
    assert np.isinf(result).all() and (np.sign(result) == np.sign(b[20])).all()
    b[3, 7] = np.nan
    assert np.isnan(matmul(np.ones((2, 21), F4), b)).sum() == 2


def test_long_products_of_few_rows_are_cut_into_long_runs():
    """Memory limits them: tiles go along the large operand, and k is cut only where results are
    too few.
    """
    from tracejit.runtime.gemm_cut import builtin_tile_shape, cut_along_k

    assert builtin_tile_shape(1, 4096, 4096, 12, 2) == (1, 1024)
    assert builtin_tile_shape(4096, 1, 4096, 12, 2) == (1024, 1)
    assert builtin_tile_shape(1, 64, 64, 12, 2) == (1, 64)
    assert cut_along_k(1, 4096, 4096) == 1 and cut_along_k(1, 10, 4096) == 8
