"""The native runtime: thread pool, program runner and the entries that Python calls, in words.

This module is translated by `codegen.words` and compiled once per machine; see there for what a
word is. Addresses are byte addresses; `load(p, NAME)` reads field NAME of the struct at p. No
function here knows a dtype or a shape. Invariant: the units of a step are each done exactly once,
and a run returns only when all of them are done.
"""

from __future__ import annotations

from tracejit.codegen.words import (
    atomic_add,
    atomic_load,
    atomic_store,
    atomic_swap,
    call_as,
    call_word,
    float_bits,
    load,
    pause,
    stack,
    store,
)
from tracejit.runtime.externals import (
    Py_IncRef,
    PyErr_SetString,
    PyEval_RestoreThread,
    PyEval_SaveThread,
    PyLong_AsUnsignedLongLongMask,
    PyLong_FromLongLong,
    clock_gettime,
    pthread_cond_broadcast,
    pthread_cond_wait,
    pthread_create,
    pthread_detach,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    pthread_sigmask,
    sched_yield,
    syscall,
)

# Fields of the state, one per process. Errors are pairs of exception type and text.
STATE_BUSY = 0  # a run owns the pool
STATE_POOL = 8
STATE_ARRAY_TYPE = 9
STATE_INT_TYPE = 10
STATE_FLOAT_TYPE = 11
STATE_NONE = 12
STATE_CLOCK = 13  # 0, or one more than the number of the clock that times the steps of programs
STATE_ERRORS = 16
STATE_WORDS = 64
ERROR_COUNT, ERROR_RUNNING, ERROR_ARGUMENT, ERROR_WORDS = 0, 1, 2, 3

# Fields of a pool. Words that different threads write lie on cache lines of their own.
POOL_INDEX = 0  # of the worker that starts last
POOL_DONE = 8  # chunks finished
POOL_SLEEPERS = 16
POOL_EPOCH = 24  # counts wakes; its lower half is the futex
POOL_STOP = 25
POOL_KERNEL = 32
POOL_TABLE = 33
POOL_UNITS = 34
POOL_CHUNK = 35
POOL_THREADS = 40  # the caller's thread counted
POOL_STARTED = 41
POOL_SPINS = 42  # how long an idle worker spins before it sleeps
POOL_SETMASK = 43
POOL_FUTEX = 44  # the number of Linux's futex call, or 0: then a condition variable serves
FUTEX_WAIT, FUTEX_WAKE, MANY = 128, 129, 1 << 30  # private to the process
POOL_MUTEX = 48
POOL_CONDITION = 64
# A share of the present step's chunks for each thread (for 64 of them): where it ends in the upper
# half, the next chunk of it in the lower.
POOL_SHARES, SHARE_WORDS, MOST_SHARES = 80, 8, 64
POOL_WORDS = 592
CHUNKS_PER_THREAD = 4  # so that a late or slowed thread does not hold up the others
LOWER_HALF = 0xFFFFFFFF

# Fields of a program frame, of its steps and of its patches.
FRAME_RUNNING = 0
FRAME_STATUS = 1  # non-zero: a kernel reported a fault, and the run stopped after its step
FRAME_FAILED = 2  # which step
FRAME_STATE = 3
FRAME_ARGUMENTS = 4
FRAME_STEPS = 5
FRAME_STEP_COUNT = 6
FRAME_PATCHES = 7
FRAME_PATCH_COUNT = 8
FRAME_PARALLEL = 9
FRAME_GUARD = 10  # 0, or a guard that is held during every run
FRAME_LAYOUTS = 11  # rows that say which layouts some arguments must have
FRAME_LAYOUT_COUNT = 12
FRAME_RUNS = 13  # how many runs were timed since somebody read the times
FRAME_WORDS = 16
STEP_KERNEL, STEP_TABLE, STEP_UNITS, STEP_GRAIN = 0, 1, 2, 3
STEP_TIME, STEP_WORDS = 4, 5  # nanoseconds of the timed runs
PATCH_WORD, PATCH_ARGUMENT, PATCH_OFFSET, PATCH_KIND, PATCH_WORDS = 0, 1, 2, 3, 4
# A row of a frame's layouts: its fixed words, then a size for each axis, then a stride for each.
LAYOUT_ARGUMENT, LAYOUT_DTYPE, LAYOUT_NDIM, LAYOUT_SIZES = 0, 1, 2, 3
WRONG_LAYOUT = -1  # the status of a run that was refused because an argument lies otherwise
# Fields of a guard: `enter(guard)` and `leave(guard)` are called around a run. `kernel` is for
# `guarded_entry` alone.
GUARD_ENTER, GUARD_LEAVE, GUARD_STATE, GUARD_KERNEL, GUARD_WORDS = 0, 1, 2, 3, 8
KIND_POINTER, KIND_INT, KIND_FLOAT64, KIND_FLOAT32 = 0, 1, 2, 3

# Where CPython and NumPy keep an object's type, an array's data pointer and a float's value.
_HEADER_WORDS = object.__basicsize__ // 8
OBJECT_TYPE = _HEADER_WORDS - 1
ARRAY_DATA = _HEADER_WORDS
ARRAY_NDIM = _HEADER_WORDS + 1  # in the lower half
ARRAY_SIZES, ARRAY_STRIDES, ARRAY_DTYPE = _HEADER_WORDS + 2, _HEADER_WORDS + 3, _HEADER_WORDS + 5
FLOAT_VALUE = _HEADER_WORDS
MAX_WORDS = 64  # of a table that `launch` fills

# The pool


def _share_of(pool: int, index: int) -> int:
    return pool + 8 * (POOL_SHARES + SHARE_WORDS * index)


def _has_work(pool: int) -> int:
    for i in range(min(load(pool, POOL_THREADS), MOST_SHARES)):
        share = atomic_load(_share_of(pool, i), 0)
        if (share & LOWER_HALF) < (share >> 32):
            return 1
    return 0


def _claim(pool: int, own: int) -> int:
    """The number of a chunk that is now the caller's to do, or -1: of its own share, else of
    another's.

    One word says which chunks of a share are free and where it ends, so a thread that comes late
    cannot claim a chunk of a step that is over; and the step's description stays as it is until
    every claimed chunk is done. That threads begin with their own share keeps what they wrote in
    one step in their own cache for the next.
    """
    shares = min(load(pool, POOL_THREADS), MOST_SHARES)
    for i in range(shares):
        place = _share_of(pool, (own + i) % shares)
        share = atomic_load(place, 0)
        if (share & LOWER_HALF) < (share >> 32):
            share = atomic_add(place, 0, 1)
            if (share & LOWER_HALF) < (share >> 32):
                return share & LOWER_HALF
    return -1


def _work(pool: int, own: int) -> None:
    """Do chunks until none is free."""
    chunk = _claim(pool, own)
    while chunk >= 0:
        size = load(pool, POOL_CHUNK)
        low = chunk * size
        high = min(low + size, load(pool, POOL_UNITS))
        call_as("lll", load(pool, POOL_KERNEL), load(pool, POOL_TABLE), low, high)
        atomic_add(pool, POOL_DONE, 1)
        chunk = _claim(pool, own)


def _sleep(pool: int) -> None:
    """Sleep until there may be work.

    The waker writes the shares, then reads the number of sleepers; a sleeper counts itself, then
    reads the shares. One of the two always sees the other, so no wake is lost.
    """
    atomic_add(pool, POOL_SLEEPERS, 1)
    if load(pool, POOL_FUTEX):
        _sleep_on_futex(pool)
    else:
        pthread_mutex_lock(pool + 8 * POOL_MUTEX)
        while not _has_work(pool) and not atomic_load(pool, POOL_STOP):
            pthread_cond_wait(pool + 8 * POOL_CONDITION, pool + 8 * POOL_MUTEX)
        pthread_mutex_unlock(pool + 8 * POOL_MUTEX)
    atomic_add(pool, POOL_SLEEPERS, -1)


def _sleep_on_futex(pool: int) -> None:
    """On Linux: half the cost of a condition variable for the one who wakes."""
    while not atomic_load(pool, POOL_STOP):
        epoch = atomic_load(pool, POOL_EPOCH)
        if _has_work(pool):
            return
        syscall(load(pool, POOL_FUTEX), pool + 8 * POOL_EPOCH, FUTEX_WAIT, epoch & LOWER_HALF, 0)


def worker(pool: int) -> int:
    """What a thread of the pool does all its life: work, spin, sleep."""
    own = atomic_add(pool, POOL_INDEX, 1) + 1
    while not atomic_load(pool, POOL_STOP):
        _work(pool, own)
        spins = load(pool, POOL_SPINS)
        while spins > 0 and not _has_work(pool):
            pause()
            spins -= 1
        if spins == 0:
            _sleep(pool)
    return 0


def _start_workers(pool: int) -> None:
    """Start the threads of a pool. They take no signals: those are for Python's main thread."""
    store(pool, POOL_STARTED, 1)
    every_signal = stack(16)
    before = stack(16)
    thread = stack(1)
    for i in range(16):
        store(every_signal, i, -1)
    pthread_sigmask(load(pool, POOL_SETMASK), every_signal, before)
    started = 1
    for _ in range(load(pool, POOL_THREADS) - 1):
        if pthread_create(thread, 0, worker, pool) & LOWER_HALF:
            break
        pthread_detach(load(thread, 0))
        started += 1
    store(pool, POOL_THREADS, started)
    pthread_sigmask(load(pool, POOL_SETMASK), before, 0)


def wake(pool: int) -> int:
    """Wake the sleeping workers of a pool, if there are any."""
    if atomic_load(pool, POOL_SLEEPERS):
        if load(pool, POOL_FUTEX):
            atomic_add(pool, POOL_EPOCH, 1)
            syscall(load(pool, POOL_FUTEX), pool + 8 * POOL_EPOCH, FUTEX_WAKE, MANY, 0)
        else:
            pthread_mutex_lock(pool + 8 * POOL_MUTEX)
            pthread_cond_broadcast(pool + 8 * POOL_CONDITION)
            pthread_mutex_unlock(pool + 8 * POOL_MUTEX)
    return 0


def _share(pool: int, kernel: int, table: int, units: int, grain: int) -> None:
    """Do the units of a step on all threads of a pool that the caller owns."""
    if not load(pool, POOL_STARTED):
        _start_workers(pool)
    chunks = min(load(pool, POOL_THREADS) * CHUNKS_PER_THREAD, (units + grain - 1) // grain)
    size = (units + chunks - 1) // chunks
    if size > 64:
        size = (size + 63) // 64 * 64  # whole cache lines of any dtype
    chunks = (units + size - 1) // size
    store(pool, POOL_KERNEL, kernel)
    store(pool, POOL_TABLE, table)
    store(pool, POOL_UNITS, units)
    store(pool, POOL_CHUNK, size)
    atomic_store(pool, POOL_DONE, 0)
    shares = min(load(pool, POOL_THREADS), MOST_SHARES)
    for i in range(shares):
        share = (i + 1) * chunks // shares << 32 | i * chunks // shares
        atomic_store(_share_of(pool, i), 0, share)
    wake(pool)
    _work(pool, 0)
    spins = 0
    while atomic_load(pool, POOL_DONE) < chunks:
        pause()
        spins += 1
        if spins > 1000:  # the thread we wait for may need this very core
            sched_yield()


def _step(pool: int, kernel: int, table: int, units: int, grain: int) -> None:
    """Do a step: on all threads if there is a pool and enough work, else here."""
    if units > grain and pool:
        if load(pool, POOL_THREADS) > 1:
            _share(pool, kernel, table, units, max(grain, 1))
            return
    if units > 0:
        call_as("lll", kernel, table, 0, units)


def take_pool(state: int) -> int:
    """The pool, now owned by the caller, or 0 if another run has it: then this one is serial."""
    if atomic_swap(state, STATE_BUSY, 1):
        return 0
    return load(state, STATE_POOL)


def give_pool(state: int, pool: int) -> int:
    """End the ownership that `take_pool` gave."""
    if pool:
        atomic_store(state, STATE_BUSY, 0)
    return 0


def spin(count: int) -> int:
    """Spin `count` times; timed once to learn how long a spin is."""
    for _ in range(count):
        pause()
    return 0


# Programs


def _now(state: int) -> int:
    """Nanoseconds of the clock that times steps; 0 if nobody asks for times."""
    clock = load(state, STATE_CLOCK)
    if clock == 0:
        return 0
    read = stack(2)
    clock_gettime(clock - 1, read)
    return load(read, 0) * 1000000000 + load(read, 1)


def run_frame(frame: int, pool: int) -> int:
    """Run the steps of a frame in order; stop after one whose kernel reported a fault. The
    status.
    """
    step = load(frame, FRAME_STEPS)
    before = _now(load(frame, FRAME_STATE))
    if before:
        store(frame, FRAME_RUNS, load(frame, FRAME_RUNS) + 1)
    for i in range(load(frame, FRAME_STEP_COUNT)):
        _step(
            pool,
            load(step, STEP_KERNEL),
            load(step, STEP_TABLE),
            load(step, STEP_UNITS),
            load(step, STEP_GRAIN),
        )
        if before:
            now = _now(load(frame, FRAME_STATE))
            store(step, STEP_TIME, load(step, STEP_TIME) + now - before)
            before = now
        if load(frame, FRAME_STATUS):
            store(frame, FRAME_FAILED, i)
            return load(frame, FRAME_STATUS)
        step += 8 * STEP_WORDS
    return 0


def _error(state: int, which: int) -> int:
    """Set a Python exception; the null result that says so."""
    PyErr_SetString(
        load(state, STATE_ERRORS + 2 * which), load(state, STATE_ERRORS + 2 * which + 1)
    )
    return 0


def _patch(state: int, frame: int, arguments: int) -> int:
    """Write the call's arguments into the tables; 1, or 0 with an exception set."""
    patch = load(frame, FRAME_PATCHES)
    for _ in range(load(frame, FRAME_PATCH_COUNT)):
        argument = load(arguments, load(patch, PATCH_ARGUMENT))
        kind = load(patch, PATCH_KIND)
        type_ = load(argument, OBJECT_TYPE)
        if kind == KIND_POINTER and type_ == load(state, STATE_ARRAY_TYPE):
            value = load(argument, ARRAY_DATA) + load(patch, PATCH_OFFSET)
        elif kind <= KIND_INT and type_ == load(state, STATE_INT_TYPE):
            value = PyLong_AsUnsignedLongLongMask(argument) + load(patch, PATCH_OFFSET)
        elif kind >= KIND_FLOAT64 and type_ == load(state, STATE_FLOAT_TYPE):
            value = load(argument, FLOAT_VALUE)
            if kind == KIND_FLOAT32:
                value = float_bits(value)
        else:
            _error(state, ERROR_ARGUMENT)
            return 0
        store(load(patch, PATCH_WORD), 0, value)
        patch += 8 * PATCH_WORDS
    return 1


def _has_layouts(state: int, frame: int, arguments: int) -> int:
    """Whether the arguments that the frame names are arrays of its dtypes, sizes and strides."""
    row = load(frame, FRAME_LAYOUTS)
    for _ in range(load(frame, FRAME_LAYOUT_COUNT)):
        array = load(arguments, load(row, LAYOUT_ARGUMENT))
        if load(array, OBJECT_TYPE) != load(state, STATE_ARRAY_TYPE):
            return 0
        if load(array, ARRAY_DTYPE) != load(row, LAYOUT_DTYPE):
            return 0
        ndim = load(row, LAYOUT_NDIM)
        if load(array, ARRAY_NDIM) & LOWER_HALF != ndim:
            return 0
        row += 8 * LAYOUT_SIZES
        for axis in range(ndim):
            if load(load(array, ARRAY_SIZES), axis) != load(row, axis):
                return 0
            if load(load(array, ARRAY_STRIDES), axis) != load(row, ndim + axis):
                return 0
        row += 16 * ndim
    return 1


def _run_parallel(state: int, frame: int) -> int:
    """Run a frame that has work for several threads, without the interpreter's lock."""
    thread_state = PyEval_SaveThread()
    pool = take_pool(state)
    status = run_frame(frame, pool)
    give_pool(state, pool)
    PyEval_RestoreThread(thread_state)
    return status


def program_entry(this: int, arguments: int, count: int) -> int:
    """CPython entry of a program (METH_FASTCALL; `this` is the array that holds the frame)."""
    frame = load(this, ARRAY_DATA)
    state = load(frame, FRAME_STATE)
    if count != load(frame, FRAME_ARGUMENTS):
        return _error(state, ERROR_COUNT)
    if atomic_swap(frame, FRAME_RUNNING, 1):
        return _error(state, ERROR_RUNNING)
    if not _has_layouts(state, frame, arguments):
        atomic_store(frame, FRAME_RUNNING, 0)
        return PyLong_FromLongLong(WRONG_LAYOUT)
    if not _patch(state, frame, arguments):
        atomic_store(frame, FRAME_RUNNING, 0)
        return 0
    store(frame, FRAME_STATUS, 0)
    guard = load(frame, FRAME_GUARD)
    if guard:
        call_word(load(guard, GUARD_ENTER), guard)
    if load(frame, FRAME_PARALLEL):
        status = _run_parallel(state, frame)
    else:
        status = run_frame(frame, 0)
    if guard:
        call_word(load(guard, GUARD_LEAVE), guard)
    atomic_store(frame, FRAME_RUNNING, 0)
    return PyLong_FromLongLong(status)


# One kernel, as eager mode runs it


def _fill(state: int, table: int, arguments: int, count: int) -> int:
    """Write Python arguments as table words: arrays by address, ints, floats by their double's
    bits.
    """
    for i in range(count):
        argument = load(arguments, i)
        type_ = load(argument, OBJECT_TYPE)
        if type_ == load(state, STATE_ARRAY_TYPE):
            store(table, i, load(argument, ARRAY_DATA))
        elif type_ == load(state, STATE_INT_TYPE):
            store(table, i, PyLong_AsUnsignedLongLongMask(argument))
        elif type_ == load(state, STATE_FLOAT_TYPE):
            store(table, i, load(argument, FLOAT_VALUE))
        else:
            _error(state, ERROR_WORDS)
            return 0
    return 1


def launch_entry(this: int, arguments: int, count: int) -> int:
    """CPython entry `launch(kernel, units, grain, *words)`; `this` is the array that holds the
    state.
    """
    state = load(this, ARRAY_DATA)
    words = stack(67)
    if count < 3 or count > MAX_WORDS + 3:
        return _error(state, ERROR_COUNT)
    if not _fill(state, words, arguments, count):
        return 0
    _launch(state, load(words, 0), words + 24, load(words, 1), load(words, 2))
    return _none(state)


def _launch(state: int, kernel: int, table: int, units: int, grain: int) -> None:
    """Run one kernel; without the interpreter's lock if there is work for several threads."""
    if units <= grain:
        _step(0, kernel, table, units, grain)
        return
    thread_state = PyEval_SaveThread()
    pool = take_pool(state)
    _step(pool, kernel, table, units, grain)
    give_pool(state, pool)
    PyEval_RestoreThread(thread_state)


def _none(state: int) -> int:
    none = load(state, STATE_NONE)
    Py_IncRef(none)
    return none


def guarded_entry(this: int, arguments: int, count: int) -> int:
    """CPython entry `run(units, grain, *words)` of the kernel of a guard; `this` is the array
    that holds the guard.
    """
    guard = load(this, ARRAY_DATA)
    state = load(guard, GUARD_STATE)
    words = stack(66)
    if count < 2 or count > MAX_WORDS + 2:
        return _error(state, ERROR_COUNT)
    if not _fill(state, words, arguments, count):
        return 0
    call_word(load(guard, GUARD_ENTER), guard)
    _launch(state, load(guard, GUARD_KERNEL), words + 16, load(words, 0), load(words, 1))
    call_word(load(guard, GUARD_LEAVE), guard)
    return _none(state)
