"""The caching allocator: ordinary arrays, blocks reused only when dead, bounded, safe among
threads and forks.
"""

import gc
import os
import pickle
import threading

import numpy as np
import pytest

from tracejit.runtime import buffers, native_memory
from tracejit.runtime.arena import LARGE, Arena
from tracejit.runtime.buffers import (
    empty,
    empty_cache,
    empty_maker,
    memory_stats,
    reset_peak,
    set_cache_limit,
)

# Python warns of every fork of a process with threads; that it works is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

F4 = np.dtype(np.float32)
BIG = (1000, 3)


@pytest.fixture(autouse=True)
def clean():
    gc.collect()
    empty_cache()
    before = memory_stats()["limit"]
    yield
    set_cache_limit(before)


def in_use():
    return memory_stats()["in_use"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.bool_, np.float16, np.int64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 4), (1,), (33, 5), (5000,), (2, 3, 4, 5, 600)])
def test_arrays_are_ordinary(shape, dtype):
    x = empty(shape, np.dtype(dtype))
    assert type(x) is np.ndarray and x.shape == shape and x.dtype == dtype
    assert x.flags.c_contiguous and x.flags.owndata and x.flags.writeable and x.base is None
    if x.nbytes >= native_memory.SMALL_BYTES:
        assert x.ctypes.data % 64 == 0
    x[...] = 1
    assert (x == 1).all()


def test_a_block_returns_when_the_last_view_dies():
    before = in_use()
    x = empty(BIG, F4)
    address = x.ctypes.data
    assert in_use() > before
    view = x[3:, ::2].T
    del x
    assert in_use() > before and empty(BIG, F4).ctypes.data != address
    del view
    assert in_use() == before
    again = empty((3000,), F4)  # another shape of the same size
    assert again.ctypes.data == address


def test_living_arrays_never_share():
    arrays = [empty(BIG, F4) for _ in range(50)]
    for i, array in enumerate(arrays):
        array.fill(i)
    del arrays[10:20]
    more = [empty(BIG, F4) for _ in range(20)]
    for array in more:
        array.fill(-1)
    kept = list(range(10)) + list(range(20, 50))
    assert all((array == i).all() for i, array in zip(kept, arrays, strict=True))


def test_statistics():
    reset_peak()
    start = memory_stats()
    arrays = [empty((1 << 18,), F4) for _ in range(3)]
    during = memory_stats()
    assert during["in_use"] - start["in_use"] == 3 << 20
    assert during["peak"] == during["in_use"] and during["misses"] - start["misses"] == 3
    del arrays
    after = memory_stats()
    assert after["in_use"] == start["in_use"] and after["peak"] == during["peak"]
    assert after["cached"] - start["cached"] == 3 << 20
    empty((1 << 18,), F4)
    assert memory_stats()["hits"] == after["hits"] + 1
    empty_cache()
    assert memory_stats()["cached"] == 0


def test_what_is_kept_is_bounded():
    set_cache_limit(10_000_000)
    for size in range(1, 400):
        empty((size * 10_000,), F4)
        assert memory_stats()["cached"] <= 10_000_000
    arrays = [empty((100_000,), F4) for _ in range(100)]
    arrays.clear()
    assert 9_000_000 < memory_stats()["cached"] <= 10_000_000
    set_cache_limit(0)
    empty((100_000,), F4)
    assert memory_stats()["cached"] == 0
    with pytest.raises(ValueError, match="0 or more"):
        set_cache_limit(-1)


def test_size_classes():
    previous = 0
    for number in range(120):
        most = native_memory.class_bytes(number)
        assert most > previous
        assert native_memory.size_class(previous + 1) == number
        assert native_memory.size_class(most) == number
        assert most <= 1.25 * (previous + 64)
        previous = most
    assert native_memory.size_class(0) == 0
    assert native_memory.size_class((1 << 63) - 64) < native_memory.CLASSES


@pytest.mark.parametrize("shape", [(3, -1), [3], 3, None, (1,) * 65])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"empty|maximum"):
        empty(shape, F4)


def test_impossible_sizes():
    with pytest.raises(ValueError, match="too big"):
        empty((1 << 40, 1 << 40), F4)
    with pytest.raises(MemoryError):
        empty((1 << 45,), F4)
    for wrong in (("a",), (1.5,)):
        with pytest.raises(TypeError):
            empty(wrong, F4)
    with pytest.raises(TypeError, match="objects"):
        empty((3,), np.dtype(object))
    with pytest.raises(ValueError):
        empty_maker(F4)((1,), (2,))
    assert np.empty(3).shape == (3,)  # NumPy's own allocator is in place again


def test_other_arrays_do_not_use_the_pool():
    before = in_use()
    kept = [empty(BIG, F4) + 1, np.empty(BIG), np.zeros(BIG), empty(BIG, F4).copy()]
    assert in_use() == before and len(kept) == 4


def test_resize_and_pickle():
    x = empty((2000,), F4)
    x[:] = np.arange(2000)
    x.resize((3000,), refcheck=False)
    assert (x[:2000] == np.arange(2000)).all() and (x[2000:] == 0).all()
    x.resize((1500,), refcheck=False)
    assert (x == np.arange(1500)).all()
    assert (pickle.loads(pickle.dumps(x)) == x).all()
    before = in_use()
    del x
    assert in_use() < before


def test_many_threads():
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        held = []
        for i in range(1000):
            array = empty((int(rng.integers(1000, 5000)),), F4)
            array.fill(seed * 1000 + i % 1000)
            held.append((array, seed * 1000 + i % 1000))
            if len(held) > 10:
                array, value = held.pop(int(rng.integers(len(held))))
                if not (array == value).all():
                    wrong.append(seed)

    before = in_use()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and in_use() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_allocates():
    x = empty(BIG, F4)
    x.fill(7)
    buffers._pool().words[native_memory.MEMORY_LOCK] = 1  # as if another thread were in it
    child = os.fork()
    if child == 0:
        y = empty(BIG, F4)
        y.fill(1)
        os._exit(0 if (x == 7).all() and (y == 1).all() else 1)
    buffers._pool().words[native_memory.MEMORY_LOCK] = 0
    assert os.waitpid(child, 0)[1] == 0


def test_memory_stays_flat():
    buffers.empty_cache()
    before = memory_stats()["in_use"]
    for _ in range(3):
        for _ in range(1000):
            a = empty((50_000,), F4)
            b = empty((50_000,), F4)
            a = b  # noqa: F841
    stats = memory_stats()
    assert stats["cached"] + stats["in_use"] < before + 2_000_000


def test_a_large_arena_takes_the_place_of_what_the_pool_kept():
    buffers.empty_cache()
    kept = [buffers.empty((1 << 20,), np.dtype(np.float32)) for _ in range(3)]
    del kept
    assert buffers.memory_stats()["cached"] >= 3 << 22
    small, large = Arena(), Arena()
    small.new(1000)
    small.plan()
    small.reserve()
    assert buffers.memory_stats()["cached"] >= 3 << 22
    large.new(LARGE + 12345)
    large.plan()
    large.reserve()
    assert buffers.memory_stats()["cached"] == 0
