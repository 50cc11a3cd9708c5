"""The caching allocator for results, in words: NumPy's allocation functions over free lists by size
class.

A block that its array gives back is kept for the next array of about its size, so that large
results do not pay for fresh pages again. Sizes are rounded up to four classes per power of two.
Invariant: a block is either in use by one array or in one free list; what free lists hold is
bounded.
"""

from __future__ import annotations

from tracejit.codegen.words import (
    atomic_store,
    atomic_swap,
    bit_length,
    call_word,
    load,
    pause,
    stack,
    store,
)
from tracejit.runtime.externals import (
    Py_DecRef,
    Py_IncRef,
    PyErr_Occurred,
    PyErr_SetString,
    PyLong_AsSsize_t,
    free,
    madvise,
    memcpy,
    memset,
    posix_memalign,
)

# Fields of the memory pool; sizes in bytes.
MEMORY_LOCK = 0
MEMORY_LIMIT = 8  # of what the free lists hold
MEMORY_CACHED = 9
MEMORY_IN_USE = 10
MEMORY_PEAK = 11  # the largest MEMORY_IN_USE so far
MEMORY_HITS, MEMORY_MISSES = 12, 13
MEMORY_HAND = 14  # the class from which the next block goes back to the system
MEMORY_HANDLER = 16  # NumPy's handler object for this pool
MEMORY_SET_HANDLER, MEMORY_EMPTY = 17, 18  # NumPy's functions
MEMORY_TUPLE_TYPE = 19
MEMORY_ERROR, MEMORY_TEXT = 20, 21
MEMORY_LISTS = 32
CLASSES = 224
MEMORY_WORDS = MEMORY_LISTS + CLASSES

# A block: its header, then what the array sees, on a cache line of its own. A free one begins with
# its successor.
BLOCK_CLASS, BLOCK_BYTES = 0, 1
HEADER_BYTES = 64
HUGE_BYTES = 1 << 22  # from here on, ask for huge pages
HUGE_PAGE = 1 << 21
MADV_HUGEPAGE = 14

_HEADER_WORDS = object.__basicsize__ // 8
OBJECT_TYPE = _HEADER_WORDS - 1
ARRAY_DATA = _HEADER_WORDS
TUPLE_SIZE, TUPLE_ITEMS = _HEADER_WORDS, tuple.__basicsize__ // 8
MAX_DIMENSIONS = 64


def _lock(memory: int) -> None:
    while atomic_swap(memory, MEMORY_LOCK, 1):
        pause()


def _unlock(memory: int) -> None:
    atomic_store(memory, MEMORY_LOCK, 0)


def size_class(size: int) -> int:
    """The class of a size in bytes: quarters of powers of two, in units of 64 bytes."""
    units = max((size + 63) // 64, 1) - 1
    if units < 4:
        return units
    shift = bit_length(units) - 3
    return 4 * shift + (units >> shift)


def class_bytes(number: int) -> int:
    """The largest size of a class."""
    if number < 4:
        return 64 * (number + 1)
    shift = number // 4 - 1
    return 64 * ((number - 4 * shift + 1) << shift)


def _take(memory: int, number: int) -> int:
    """A block off the free list of a class, or 0. The caller holds the lock."""
    block = load(memory, MEMORY_LISTS + number)
    if block:
        store(memory, MEMORY_LISTS + number, load(block, 0))
        store(memory, MEMORY_CACHED, load(memory, MEMORY_CACHED) - class_bytes(number))
    return block


def _fresh(size: int) -> int:
    """A block from the system, or 0."""
    place = stack(1)
    alignment = HEADER_BYTES
    if size >= HUGE_BYTES:
        alignment = HUGE_PAGE
    if posix_memalign(place, alignment, size + HEADER_BYTES) & 0xFFFFFFFF:
        return 0
    if size >= HUGE_BYTES:
        madvise(load(place, 0), size + HEADER_BYTES, MADV_HUGEPAGE)
    return load(place, 0) + HEADER_BYTES


def shrink(memory: int, limit: int) -> int:
    """Give blocks back to the system, classes in turn, until the free lists hold at most `limit`
    bytes.
    """
    while load(memory, MEMORY_CACHED) > limit:
        hand = load(memory, MEMORY_HAND)
        block = _take(memory, hand)
        if block:
            free(block - HEADER_BYTES)
        store(memory, MEMORY_HAND, (hand + 1) % CLASSES)
    return 0


def trim(memory: int, limit: int) -> int:
    """As `shrink`, for callers that do not hold the lock."""
    _lock(memory)
    shrink(memory, limit)
    _unlock(memory)
    return 0


def allocate(memory: int, size: int) -> int:
    """NumPy's malloc: at least `size` bytes on a cache line of their own, or 0."""
    number = size_class(size)
    bytes_ = class_bytes(number)
    _lock(memory)
    block = _take(memory, number)
    if block:
        store(memory, MEMORY_HITS, load(memory, MEMORY_HITS) + 1)
    else:
        store(memory, MEMORY_MISSES, load(memory, MEMORY_MISSES) + 1)
    _unlock(memory)
    if not block:
        block = _fresh(bytes_)
        if not block:
            trim(memory, 0)
            block = _fresh(bytes_)
            if not block:
                return 0
        store(block - HEADER_BYTES, BLOCK_CLASS, number)
    _lock(memory)
    in_use = load(memory, MEMORY_IN_USE) + bytes_
    store(memory, MEMORY_IN_USE, in_use)
    store(memory, MEMORY_PEAK, max(in_use, load(memory, MEMORY_PEAK)))
    _unlock(memory)
    return block


def release(memory: int, block: int, size: int) -> None:
    """NumPy's free: keep the block for later, as long as the bound allows."""
    if not block:
        return
    number = load(block - HEADER_BYTES, BLOCK_CLASS)
    bytes_ = class_bytes(number)
    _lock(memory)
    store(memory, MEMORY_IN_USE, load(memory, MEMORY_IN_USE) - bytes_)
    if bytes_ > load(memory, MEMORY_LIMIT):
        _unlock(memory)
        free(block - HEADER_BYTES)
        return
    shrink(memory, load(memory, MEMORY_LIMIT) - bytes_)
    store(block, 0, load(memory, MEMORY_LISTS + number))
    store(memory, MEMORY_LISTS + number, block)
    store(memory, MEMORY_CACHED, load(memory, MEMORY_CACHED) + bytes_)
    _unlock(memory)


def allocate_zeros(memory: int, count: int, item: int) -> int:
    """NumPy's calloc."""
    block = allocate(memory, count * item)
    if block:
        memset(block, 0, count * item)
    return block


def reallocate(memory: int, block: int, size: int) -> int:
    """NumPy's realloc (`ndarray.resize`)."""
    if not block:
        return allocate(memory, size)
    old = class_bytes(load(block - HEADER_BYTES, BLOCK_CLASS))
    if size <= old and size * 2 > old:
        return block
    fresh = allocate(memory, size)
    if fresh:
        memcpy(fresh, block, min(old, size))
        release(memory, block, old)
    return fresh


# Fields of a maker, one per dtype.
MAKER_MEMORY, MAKER_DTYPE, MAKER_ITEM, MAKER_WORDS = 0, 1, 2, 8
SMALL_BYTES = 4096  # below, NumPy's own allocator is as good, and cheaper to reach


def _read_shape(memory: int, shape: int, dimensions: int) -> int:
    """Write a tuple's sizes to `dimensions`; how many, or -1 with an exception set."""
    rank = -1
    if load(shape, OBJECT_TYPE) == load(memory, MEMORY_TUPLE_TYPE):
        rank = load(shape, TUPLE_SIZE)
    if rank < 0 or rank > MAX_DIMENSIONS:
        PyErr_SetString(load(memory, MEMORY_ERROR), load(memory, MEMORY_TEXT))
        return -1
    for i in range(rank):
        size = PyLong_AsSsize_t(load(shape, TUPLE_ITEMS + i))
        if size < 0:
            if not PyErr_Occurred():
                PyErr_SetString(load(memory, MEMORY_ERROR), load(memory, MEMORY_TEXT))
            return -1
        store(dimensions, i, size)
    return rank


def empty_entry(this: int, arguments: int, count: int) -> int:
    """CPython entry `empty(shape)`; `this` is the array that holds a maker.

    NumPy makes the array while this pool is its allocator; the array remembers where its memory
    came from.
    """
    maker = load(this, ARRAY_DATA)
    memory = load(maker, MAKER_MEMORY)
    dimensions = stack(MAX_DIMENSIONS)
    if count != 1:
        PyErr_SetString(load(memory, MEMORY_ERROR), load(memory, MEMORY_TEXT))
        return 0
    rank = _read_shape(memory, load(arguments, 0), dimensions)
    if rank < 0:
        return 0
    bytes_ = load(maker, MAKER_ITEM)
    for i in range(rank):
        bytes_ = min(bytes_ * min(load(dimensions, i), SMALL_BYTES), SMALL_BYTES)
    if bytes_ < SMALL_BYTES:
        return _numpy_empty(memory, maker, rank, dimensions)
    before = call_word(load(memory, MEMORY_SET_HANDLER), load(memory, MEMORY_HANDLER))
    if not before:
        return 0
    array = _numpy_empty(memory, maker, rank, dimensions)
    Py_DecRef(call_word(load(memory, MEMORY_SET_HANDLER), before))
    Py_DecRef(before)
    return array


def _numpy_empty(memory: int, maker: int, rank: int, dimensions: int) -> int:
    dtype = load(maker, MAKER_DTYPE)
    Py_IncRef(dtype)  # NumPy takes over a reference
    return call_word(load(memory, MEMORY_EMPTY), rank, dimensions, dtype, 0)
