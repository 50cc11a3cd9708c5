"""The thread pool: its size, forks, exits, interrupts; results never depend on any of them."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tracejit import config
from tracejit.codegen.compiler import compile_kernel
from tracejit.runtime import native, threads
from tracejit.runtime.threads import get_num_threads, ready_driver, set_num_threads

# Python warns of every fork of a process with threads; that it works is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

SQUARE = """def kernel(t, lo, hi):
    x, y = ptr_f64(word(t, 0)), ptr_f64(word(t, 1))
    for i in range(lo, hi):
        v = load_f64(x, i)
        store_f64(y, i, v * v + v)
"""


@pytest.fixture(autouse=True)
def same_number_afterwards():
    before = config.threads
    yield
    set_num_threads(before)


def square(n=20_000, grain=64):
    x = np.linspace(-1, 1, n)
    y = np.zeros(n)
    ready_driver().launch(compile_kernel("square", SQUARE).address, n, grain, x, y)
    return y


def test_size_can_change_and_results_do_not():
    expected = square(grain=1 << 60)
    for count in (1, 4, 2, 7, 1, 3):
        set_num_threads(count)
        assert get_num_threads() == count
        for _ in range(20):
            assert (square() == expected).all()
    with pytest.raises(ValueError, match="at least 1"):
        set_num_threads(0)


def test_several_threads_really_work():
    set_num_threads(3)
    square()
    pool = threads._pools[-1]
    assert pool[native.POOL_THREADS] == 3
    before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 3
    assert before >= 3


def test_more_threads_than_shares_of_a_step():
    expected = square(grain=1 << 60)
    set_num_threads(native.MOST_SHARES + 2)
    for _ in range(5):
        assert (square() == expected).all()


@pytest.mark.parametrize("numbers", [threads._FUTEX, {}])  # futex; condition variable
def test_idle_threads_go_to_sleep_and_wake_again(monkeypatch, numbers):
    monkeypatch.setattr(threads, "_FUTEX", numbers)
    set_num_threads(3)
    set_num_threads(2)
    expected = square(grain=1 << 60)
    for _ in range(3):
        assert (square() == expected).all()
        deadline = time.time() + 5
        while threads._pools[-1][native.POOL_SLEEPERS] != 1 and time.time() < deadline:
            time.sleep(0.01)
        assert threads._pools[-1][native.POOL_SLEEPERS] == 1


def test_size_changes_while_others_compute():
    expected = square(grain=1 << 60)
    wrong, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            if not (square() == expected).all():
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for count in (1, 2, 5, 2, 1, 4) * 5:
        set_num_threads(count)
        time.sleep(0.005)
    stop.set()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_too():
    set_num_threads(2)
    expected = square()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            good = all((square() == expected).all() for _ in range(50))
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if (square() == expected).all() else 1)
            good &= os.waitpid(grandchild, 0)[1] == 0
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert (square() == expected).all()


PRELUDE = f"""
import sys, threading, time, os, signal
import numpy as np
from tracejit.codegen.compiler import compile_kernel
from tracejit.runtime.threads import ready_driver, set_num_threads
set_num_threads(2)
kernel = compile_kernel("square", {SQUARE!r})
x = np.linspace(-1, 1, 200_000); y = np.zeros_like(x)
def run():
    ready_driver().launch(kernel.address, len(x), 64, x, y)
run()
"""


def script(body, **options):
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + body],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    "body",
    [
        "",  # workers spin at exit
        "time.sleep(0.05)",  # workers sleep at exit
        "def loop():\n    while True: run()\n"
        "threading.Thread(target=loop, daemon=True).start(); time.sleep(0.05)",
        "os._exit(0)",
        "import multiprocessing as mp\np = mp.get_context('fork').Process(target=run)\n"
        "p.start(); p.join()\n"
        "assert p.exitcode == 0",
    ],
)
def test_the_process_ends_cleanly(body):
    for _ in range(3):
        result = script(body)
        assert result.returncode == 0, result.stderr


def test_keyboard_interrupt_is_honoured_between_calls():
    result = script(
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's "&" ignores it
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    while True: run()\n"
        "except KeyboardInterrupt:\n    run(); print('interrupted')"
    )
    assert result.stdout.strip() == "interrupted", result.stderr
