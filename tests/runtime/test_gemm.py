"""Matrix products: values, bits, bounds, epilogues, providers."""

import ctypes
import itertools
import mmap
import os
import threading

import numpy as np
import pytest
from products import F4, F8, close, padded, random, transposed
from random_graphs import input_node

from tracejit import config
from tracejit.codegen.compiler import compile_kernel
from tracejit.dtypes import float64
from tracejit.ir.graph import Graph
from tracejit.ir.op import OPS
from tracejit.runtime import gemm, gemm_libraries
from tracejit.runtime import native_gemm as layout
from tracejit.runtime.driver import aligned_words
from tracejit.runtime.executable import build
from tracejit.runtime.gemm import (
    Epilogue,
    Layout,
    matmul,
    product,
    provider,
)
from tracejit.runtime.gemm_cut import builtin_tile_shape, cut_along_k, tile_shape
from tracejit.runtime.program import Patch, Program, address_of
from tracejit.runtime.threads import get_num_threads, ready_driver, set_num_threads

# Python warns of every fork of a process with threads; that it works is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

LIBRARIES = [
    pytest.param(
        name, marks=pytest.mark.skipif(gemm_libraries.find(name, F4) is None, reason=f"no {name}")
    )
    for name in ("openblas", "onednn")
]
PROVIDERS = ["builtin", *LIBRARIES]
SIZES = [1, 2, 5, 12, 13, 31, 32, 33, 70]


@pytest.fixture(params=PROVIDERS)
def any_provider(request):
    with config.override(gemm=request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("k", [1, 3, 64, 200, 401])
def test_values_for_every_layout(any_provider, k, dtype):
    for m, n in itertools.product(SIZES, SIZES):
        a, b = random((m, k), dtype), random((k, n), dtype, 1)
        for read_a, read_b in itertools.product((np.array, transposed, padded), repeat=2):
            result = matmul(read_a(a), read_b(b))
            assert result.dtype == dtype and close(result, a, b), (m, n, read_a, read_b)


@pytest.mark.parametrize("dtype", [F4, F8])
def test_large_products(any_provider, dtype):
    for m, n, k in ((300, 520, 300), (1, 1000, 700), (1000, 1, 700), (129, 257, 193), (2000, 3, 5)):
        a, b = random((m, k), dtype), random((k, n), dtype, 1)
        for read_a, read_b in itertools.product((np.array, transposed), repeat=2):
            assert close(matmul(read_a(a), read_b(b)), a, b), (m, n, k)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5,), (5,)),
        ((4, 5), (5,)),
        ((5,), (5, 3)),
        ((7, 4, 5), (5,)),
        ((5,), (7, 5, 3)),
        ((7, 4, 5), (5, 3)),
        ((4, 5), (7, 5, 3)),
        ((7, 4, 5), (7, 5, 3)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((2, 3, 4, 5), (2, 1, 5, 6)),
        ((1, 4, 5), (6, 5, 2)),
        ((33, 20, 30), (33, 30, 40)),
        ((2, 0, 4, 5), (5, 6)),
        ((4, 0), (0, 3)),
        ((3, 4, 0), (3, 0, 3)),
        ((0, 4), (4, 3)),
        ((0, 4), (4, 0)),
        ((3, 4), (4, 0)),
        ((0,), (0,)),
    ],
)
def test_ranks_and_broadcasting(any_provider, left, right):
    a, b = random(left), random(right, seed=1)
    assert close(matmul(a, b), a, b)
    if a.ndim > 2:
        assert close(matmul(a[::-1], b), a[::-1], b)
        assert close(matmul(a[..., ::-1, :], b), a[..., ::-1, :], b)
    if a.ndim == 4:
        moved = np.ascontiguousarray(a.transpose(2, 1, 0, 3)).transpose(2, 1, 0, 3)
        assert close(matmul(moved, b), a, b)
    if b.ndim > 1:
        assert close(matmul(a, transposed(b)), a, b)


def test_expanded_operands():
    a = np.broadcast_to(random((4, 5)), (6, 4, 5))
    b = np.broadcast_to(random((5, 1), seed=1), (5, 7))
    assert close(matmul(a, b), a, b)
    row = np.broadcast_to(random(5), (4, 5))
    assert close(matmul(row, random((5, 7), seed=2)), row, random((5, 7), seed=2))


def test_other_dtypes():
    a, b = random((9, 33), np.float16), random((33, 7), np.float16, 1)
    expected = matmul(a.astype(F4), b.astype(F4)).astype(np.float16)
    assert matmul(a, b).dtype == np.float16 and (matmul(a, b) == expected).all()
    for dtype in (np.int64, np.int32, np.int16, np.int8, np.uint8):
        x = np.arange(12, dtype=dtype).reshape(3, 4) * 25
        assert (matmul(x, x.T) == np.matmul(x, x.T)).all() and matmul(x, x.T).dtype == dtype


def test_out():
    a, b = random((6, 5)), random((5, 4), seed=1)
    out = np.full((6, 4), np.nan, F4)
    assert matmul(a, b, out) is out and (out == matmul(a, b)).all()
    half = np.empty((6, 4), np.float16)
    assert matmul(a.astype(np.float16), b.astype(np.float16), half) is half
    for wrong in (np.empty((4, 6), F4), np.empty((6, 4), F8), np.empty((4, 6), F4).T):
        with pytest.raises(ValueError, match="out must be"):
            matmul(a, b, wrong)


def test_errors():
    a = random((3, 4))
    for wrong in (random((3, 4)), random(3), random((2, 3, 4))):
        with pytest.raises(ValueError, match="do not fit"):
            matmul(a, wrong)
    with pytest.raises(ValueError, match="do not fit"):
        matmul(random((2, 3, 4)), random((3, 4, 5)))
    with pytest.raises(ValueError, match="0-d"):
        matmul(a, np.array(1, F4))
    with pytest.raises(TypeError, match="differ"):
        matmul(a, random((4, 3), F8))
    with config.override(gemm="nonsense"), pytest.raises(ValueError, match="nonsense"):
        matmul(a, a.T)
    with pytest.raises(ValueError, match="no native matrix product"):
        provider(np.dtype(np.int32))


def test_special_values(any_provider):
    a, b = random((20, 40)), random((40, 50), seed=1)
    a[3, 7], a[5, 0], b[9, 11] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = np.matmul(a.astype(F8), b.astype(F8))
    result = matmul(a, b)
    assert (np.isnan(result) == np.isnan(expected)).all()
    assert (np.isposinf(result) == np.isposinf(expected)).all()
    assert (np.isneginf(result) == np.isneginf(expected)).all()
    zero = matmul(np.zeros((3, 4), F4), random((4, 5)))
    assert (zero == 0).all()


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 0), (1, 1), (0.5, -2), (0, 1), (1, -0.0)])
def test_factors_as_steps(any_provider, dtype, alpha, beta):
    for m, n, k in ((5, 7, 3), (70, 45, 301), (40, 33, 200)):
        a, b, start = random((m, k), dtype), random((k, n), dtype, 1), random((m, n + 4), dtype, 2)
        c = start.copy()
        if beta == 0:
            c[:, :n] = np.nan
        sizes, layouts = (m, n, k), (Layout(k), Layout(n), Layout(n + 4))
        step = product(dtype, sizes, *layouts, alpha=alpha, beta=beta)
        patches = [Patch(step.a, 0), Patch(step.b, 1), Patch(step.c, 2)]
        assert Program([step.step], patches, 3, [step]).run(a, b, c) == 0
        old = start[:, :n] if beta else np.zeros((m, n))
        expected = alpha * np.matmul(a.astype(F8), b.astype(F8)) + beta * old
        assert np.allclose(c[:, :n], expected, rtol=1e-4, atol=1e-4)
        assert (c[:, n:] == start[:, n:]).all()  # not a byte beside the matrix


def test_a_product_over_nothing(any_provider):
    for beta, expected in ((0.0, 0.0), (1.0, 3.0)):
        c = np.full((4, 5), 3, F4)
        step = product(F4, (4, 5, 0), Layout(1), Layout(5), Layout(5), beta=beta)
        Program([step.step], [Patch(step.c, 0)], 1, [step]).run(c)
        assert (c == expected).all()
    with pytest.raises(ValueError, match="k = 0"):
        product(F4, (4, 5, 0), Layout(1), Layout(5), Layout(5), beta=2.0)


@pytest.mark.parametrize("shape", [(300, 520, 300), (32, 256, 784), (40, 10, 256), (512, 128, 64)])
def test_bits_do_not_depend_on_threads_or_on_who_asks(any_provider, shape):
    m, n, k = shape
    a, b = random((m, k)), random((k, n), seed=1)
    before = get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            results.append(matmul(a, b))
            c = np.empty((m, n), F4)
            step = product(F4, (m, n, k), Layout(k), Layout(n), Layout(n))
            patches = [Patch(step.a, 0), Patch(step.b, 1), Patch(step.c, 2)]
            Program([step.step], patches, 3, [step]).run(a, b, c)
            results.append(c)
    finally:
        set_num_threads(before)
    assert all((result == results[0]).all() for result in results)


@pytest.mark.parametrize("dtype", [F4, F8])
def test_bits_of_the_builtin_do_not_depend_on_shape_or_layout(dtype):
    """A row of the result is the same whatever is multiplied along with it, and however operands
    lie.
    """
    with config.override(gemm="builtin"):
        a, b = random((150, 333), dtype), random((333, 290), dtype, 1)
        whole = matmul(a, b)
        for rows, columns in ((slice(0, 1), slice(0, 290)), (slice(7, 40), slice(5, 38))):
            for read in (np.array, transposed, padded):
                part = matmul(read(a[rows]), read(b[:, columns]))
                assert (part == whole[rows, columns]).all()
        stack = matmul(np.stack([a[:20], a[20:40]]), np.stack([b[:, :50], b[:, 50:100]]))
        assert (stack[1] == whole[20:40, 50:100]).all()


def guarded(shape, dtype):
    """An array whose last byte is the last one that may be read: the page behind it is
    forbidden.
    """
    count = int(np.prod(shape)) * dtype.itemsize
    page = mmap.PAGESIZE
    pages = -(-count // page)
    memory = mmap.mmap(-1, (pages + 1) * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(address + pages * page, page, 0) == 0
    offset = pages * page - count
    return np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)


@pytest.mark.parametrize("dtype", [F4, F8])
def test_nothing_behind_the_operands_is_touched(dtype):
    with config.override(gemm="builtin"):
        for m, n, k in itertools.product((1, 3, 12, 14), (1, 7, 33, 257), (1, 5, 17)):
            for flip_a, flip_b in itertools.product((False, True), repeat=2):
                a = guarded((k, m) if flip_a else (m, k), dtype)
                b = guarded((n, k) if flip_b else (k, n), dtype)
                c = guarded((m, n), dtype)
                a[...], b[...] = random(a.shape, dtype), random(b.shape, dtype, 1)
                left, right = a.T if flip_a else a, b.T if flip_b else b
                assert close(matmul(left, right, c), np.array(left), np.array(right))


RELU = """def kernel(t, lo, hi):
    c, bias, n = ptr_f32(word(t, 0)), ptr_f32(word(t, 1)), word(t, 2)
    for i in range(lo, hi):
        v = load_f32(c, i) + load_f32(bias, i % n)
        store_f32(c, i, select(v > to_f32(0), v, to_f32(0)))
"""
ROW_SUM = """def kernel(t, lo, hi):
    c, sums, n = ptr_f32(word(t, 0)), ptr_f32(word(t, 1)), word(t, 2)
    for r in range(lo, hi):
        total = to_f32(0)
        for j in range(n):
            total = total + load_f32(c, r * n + j)
        store_f32(sums, r, load_f32(sums, r) + total)
"""


@pytest.mark.parametrize("shape", [(5, 7, 3), (300, 70, 90), (32, 700, 300), (40, 10, 20)])
@pytest.mark.parametrize("batch", [None, 3])
def test_epilogues_run_once_on_every_finished_row(any_provider, shape, batch):
    m, n, k = shape
    count = batch or 1
    a, b, bias = random((count, m, k)), random((count, k, n), seed=1), random(n, seed=2)
    plain = matmul(a, b)
    c, sums = np.empty((count, m, n), F4), np.zeros((count, m), F4)
    places = [(i * m * k * 4, i * k * n * 4, i * m * n * 4) for i in range(count)]
    offsets = np.array(places, np.int64) if batch else None
    for source, other, units in ((RELU, bias, n), (ROW_SUM, sums, 1)):
        kernel, table = compile_kernel("epilogue", source), aligned_words(3)
        table[:] = address_of(c), address_of(other), n
        end = Epilogue(kernel.address, address_of(table), units)
        layouts = (Layout(k), Layout(n), Layout(n))
        step = product(F4, shape, *layouts, matrices=count, offsets=offsets, epilogue=end)
        patches = [Patch(step.a, 0), Patch(step.b, 1), Patch(step.c, 2)]
        program = Program([step.step], patches, 3, [step, kernel, table])
        program.run(a, b, c)
        program.run(a, b, c)  # the counters of panels are ready again
        if units == n:
            assert (c == np.maximum(plain + bias, 0)).all()
        else:
            assert (c == plain).all() and np.allclose(sums, 2 * plain.sum(-1), rtol=1e-3, atol=1e-3)


def test_tiles_follow_from_the_shape():
    for m, n, k in itertools.product(
        (0, 1, 32, 100, 512, 5000), (0, 1, 10, 256, 3000), (0, 1, 64, 2048)
    ):
        rows, columns = tile_shape(m, n, k)
        assert 1 <= rows <= max(m, 1) and 1 <= columns <= max(n, 1)
        if m * n * k > 1 << 24 and m > 64:
            assert -(-m // rows) * -(-n // columns) >= 4


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_own_products_do_not_depend_on_their_tiles(threads):
    a, b = random((300, 200)), random((200, 290), seed=1)
    plain = matmul(a, b)
    before = get_num_threads()
    try:
        set_num_threads(threads)
        gemm._plans.clear()
        assert (matmul(a, b) == plain).all()
        assert (matmul(np.asfortranarray(a), b) == plain).all()
    finally:
        set_num_threads(before)
        gemm._plans.clear()


def test_more_threads_get_more_tiles_of_their_own_products():
    counts = []
    for threads in (1, 2, 8, 64):
        rows, columns = builtin_tile_shape(2048, 2048, 512, 12, threads)
        counts.append(-(-2048 // rows) * -(-2048 // columns))
    assert counts == sorted(counts) and counts[0] >= 8
    assert builtin_tile_shape(3, 5, 7, 12, 2) == (3, 5)


def openblas_threads():
    library = gemm_libraries.find("openblas", F4)
    return ctypes.CFUNCTYPE(ctypes.c_int)(library.get_threads)()


@pytest.mark.skipif(gemm_libraries.find("openblas", F4) is None, reason="no openblas")
def test_openblas_gets_its_threads_back():
    set_threads = ctypes.CFUNCTYPE(None, ctypes.c_int)(
        gemm_libraries.find("openblas", F4).set_threads
    )
    before = openblas_threads()
    try:
        set_threads(2)
        a, b = random((200, 200)), random((200, 200), seed=1)
        with config.override(gemm="openblas"):
            expected = matmul(a, b)
            wrong = []

            def work():
                for _ in range(100):
                    if not (matmul(a, b) == expected).all():
                        wrong.append(1)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == [] and openblas_threads() == 2
    finally:
        set_threads(before)


@pytest.mark.parametrize("wish", PROVIDERS)
def test_one_program_multiplies_both_widths(wish):
    with config.override(gemm=wish):
        x, y = input_node("x", (3, 4)), input_node("y", (4, 5))
        u, v = input_node("u", (2, 3), float64), input_node("v", (3, 2), float64)
        arrays = [random((3, 4)), random((4, 5)), *(random(s).astype(F8) for s in ((2, 3), (3, 2)))]
        results = (OPS["matmul"](x, y), OPS["matmul"](u, v))
        narrow, wide = build(Graph("both", (x, y, u, v), results)).run(arrays)
    np.testing.assert_allclose(narrow, arrays[0] @ arrays[1], rtol=1e-5)
    np.testing.assert_allclose(wide, arrays[2] @ arrays[3], rtol=1e-12)


@pytest.mark.skipif(gemm_libraries.find("openblas", F4) is None, reason="no openblas")
def test_a_forked_child_multiplies_while_another_thread_did():
    a, b = random((100, 100)), random((100, 100), seed=1)
    with config.override(gemm="openblas"):
        expected = matmul(a, b)
        guard = provider(F4).guard
        threads = openblas_threads()
        ready_driver().call_at(provider(F4).addresses["enter"], address_of(guard))
        child = os.fork()
        if child == 0:
            good = openblas_threads() == threads and (matmul(a, b) == expected).all()
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        ready_driver().call_at(provider(F4).addresses["leave"], address_of(guard))
        assert openblas_threads() == threads


@pytest.mark.parametrize("dtype", [F4, F8])
def test_a_single_column_has_the_bits_of_any_column(dtype):
    with config.override(gemm="builtin"):
        for m, k in ((1, 5), (2, 1), (17, 300), (1000, 64), (200, 1000)):
            a, b = random((m, k), dtype), random((k, 40), dtype, 1)
            whole = matmul(a, b)
            for column in (0, 7, 39):
                for read_a in (np.array, transposed, padded):
                    for vector in (b[:, column].copy(), b[:, column : column + 1], b[:, column]):
                        result = matmul(read_a(a), vector).reshape(-1)
                        assert (result == whole[:, column]).all()


def test_few_results_over_a_long_inner_dimension_are_cut_along_it():
    assert cut_along_k(16, 9, 25088) == 16 and cut_along_k(32, 144, 6272) == 8
    assert cut_along_k(256, 256, 6272) == cut_along_k(4, 4, 1000) == cut_along_k(4, 4, 1031) == 1
    bits = set()
    before = get_num_threads()
    for threads in (1, 2, before):
        set_num_threads(threads)
        for read in (np.array, transposed, padded):
            a, b = random((5, 2048)), random((2048, 7), seed=1)
            result = matmul(read(a), read(b))
            assert close(result, a, b)
            bits.add(result.tobytes())
            with config.override(gemm="builtin"):
                graph_a, graph_b = (input_node(n, x.shape) for n, x in (("a", a), ("b", b)))
                built = build(Graph("g", (graph_a, graph_b), (OPS["matmul"](graph_a, graph_b),)))
                bits.add(built.run([read(a), read(b)])[0].tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_have_the_same_bits_before_their_code_is_linked(dtype):
    guard = gemm.provider(np.dtype(dtype)).guard
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((5, 300), (300, 200)))
    for left, right in ((a, b), (a.T.copy().T, b), (a, b.T.copy().T), (a[:1], b)):
        linked = gemm.matmul(left, right)
        entry = guard[layout.CONTEXT_FEW_ROWS]
        assert gemm.provider(np.dtype(dtype)).name != "builtin" or entry
        guard[layout.CONTEXT_FEW_ROWS] = 0
        without = gemm.matmul(left, right)
        guard[layout.CONTEXT_FEW_ROWS] = entry
        assert linked.tobytes() == without.tobytes()
