"""The thread pool's Python side: how many threads, a fresh pool after fork, its size changed.

The pool itself is native (`native.py`). Threads start on the first parallel step and never touch
Python. Invariant: a pool's memory is never freed, since a thread on its way out may still read it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from tracejit import config
from tracejit.runtime import externals, native
from tracejit.runtime.driver import Driver, aligned_words, driver, keep_for_good

# Linux's number of the futex call, by processor.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
_SPIN_SECONDS = (
    100e-6  # idle workers stay awake this long: the gap between two kernels of one model
)
_lock = threading.Lock()
_pools: list[np.ndarray[Any, Any]] = []
_spins = 0


def get_num_threads() -> int:
    """Threads that a parallel kernel may use, the caller's included."""
    return int(config.threads)


def set_num_threads(count: int) -> None:
    """Set the number of threads, at least 1. Waits for a run in flight. Results never depend on it.

    Example: ``set_num_threads(1)`` makes everything run in the caller's thread.
    """
    if count < 1:
        raise ValueError(f"set_num_threads: expected at least 1, got {count}")
    config.threads = count
    with _lock:
        if _pools:
            _replace_pool(driver(), count)


def ready_driver() -> Driver:
    """The native runtime with its pool in place."""
    native_driver = driver()
    if not _pools:
        with _lock:
            if not _pools:
                _install_pool(native_driver, get_num_threads())
    return native_driver


def _install_pool(native_driver: Driver, count: int) -> None:
    pool = aligned_words(native.POOL_WORDS)
    keep_for_good(pool)
    pool[native.POOL_THREADS] = count
    pool[native.POOL_SPINS] = _count_spins(native_driver)
    pool[native.POOL_SETMASK] = int(signal.SIG_SETMASK)
    if sys.platform == "linux":
        pool[native.POOL_FUTEX] = _FUTEX.get(os.uname().machine, 0)
    externals.pthread_mutex_init(pool.ctypes.data + 8 * native.POOL_MUTEX, 0)
    externals.pthread_cond_init(pool.ctypes.data + 8 * native.POOL_CONDITION, 0)
    _pools.append(pool)
    native_driver.state[native.STATE_POOL] = pool.ctypes.data


def _replace_pool(native_driver: Driver, count: int) -> None:
    """Put a pool of another size in place once no run uses the old one, and send the old threads
    home.
    """
    state = native_driver.state.ctypes.data
    while not native_driver.call("take_pool", state):
        time.sleep(1e-5)
    old = _pools[-1].ctypes.data
    _pools[-1][native.POOL_STOP] = 1
    native_driver.call("wake", old)
    _install_pool(native_driver, count)
    native_driver.call("give_pool", state, old)


def _count_spins(native_driver: Driver) -> int:
    """How many turns of the spin loop make `_SPIN_SECONDS`."""
    global _spins
    if not _spins:
        best = min(_seconds_of(native_driver, 200) for _ in range(3))
        _spins = max(1, int(_SPIN_SECONDS / (best / 200)))
    return _spins


def _seconds_of(native_driver: Driver, spins: int) -> float:
    started = time.perf_counter()
    native_driver.call("spin", spins)
    return time.perf_counter() - started


def _after_fork() -> None:
    """In a forked child the pool's threads are gone: give it a pool whose threads start when
    needed.
    """
    global _lock
    _lock = threading.Lock()
    if _pools:
        native_driver = driver()
        native_driver.state[native.STATE_BUSY] = 0
        _install_pool(native_driver, get_num_threads())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
