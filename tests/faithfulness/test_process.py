"""Threads, forks, processes, memory: a compiled function works wherever a plain one does.

Invariant: what could hang or abort runs in a process of its own, under a time limit.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest
from scenario import arange

import tracejit as torch
from tracejit import nn
from tracejit.utils.data import DataLoader, TensorDataset

HERE = os.path.dirname(os.path.abspath(__file__))


def run_python(source, timeout=120, **environment):
    """Run source in a process of its own; its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True,
        timeout=timeout, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_32_first_callers():
    """32 threads call one compiled function for the first time at once."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    f = torch.compile(lambda x, k: model(x) * k)
    start = threading.Barrier(32)
    results, errors = {}, []

    def work(i):
        try:
            start.wait()
            with torch.no_grad():
                results[i] = [f(arange(3, 4, start=i), 2.0) for _ in range(3)]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors and len(results) == 32
    with torch.no_grad():
        for i, got in results.items():
            wanted = model(arange(3, 4, start=i)) * 2.0
            assert all(torch.equal(y, wanted) for y in got)


def test_threads_with_other_grad_modes():
    """Grad mode belongs to the thread: each thread's results follow its own."""
    w = arange(3).requires_grad_()
    f = torch.compile(lambda x: x * w)
    wrong = []

    def work(grad):
        with torch.set_grad_enabled(grad):
            for _ in range(50):
                if f(arange(3)).requires_grad is not grad:
                    wrong.append(grad)

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_capture_in_one_thread_while_others_run():
    """A thread that re-traces does not disturb threads that run plain or compiled code."""
    space = {"gain": 1.0}

    def run(x):
        return (x * space["gain"]).sin()

    f = torch.compile(run)
    g = torch.compile(lambda x: x.exp() * 2)
    x = arange(16)
    wanted = g(x)
    stop, wrong = threading.Event(), []

    def work():
        while not stop.is_set():
            if not torch.equal(g(x), wanted) or not torch.equal(x.exp() * 2, wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for k in range(6):
            space["gain"] = k  # an int: a new trace each time
            assert torch.equal(f(x), (x * k).sin())
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not wrong


def test_fork_after_compile():
    """A child of fork calls what the parent compiled, and compiles more."""
    out = run_python("""
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import tracejit as torch
        f = torch.compile(lambda x: (x.exp() * 2).sum(0))
        x = torch.ones(300, 400)
        wanted = f(x); f(x)
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    g = torch.compile(lambda x: (x * 3 + 1).tanh())
                    good = torch.equal(f(x), wanted) and torch.equal(g(x), (x * 3 + 1).tanh())
                    good = good and torch.equal(g(x), (x * 3 + 1).tanh())
                    os._exit(0 if good else 3)
                except BaseException:
                    os._exit(4)
            assert os.waitpid(pid, 0)[1] == 0
        assert torch.equal(f(x), wanted)
        print("fine")
    """)
    assert "fine" in out


@torch.compile
def _doubled(x):
    return x * 2 + 1


def _collate(rows):
    return _doubled(torch.stack([x for x, _ in rows])), torch.stack([y for _, y in rows])


@pytest.mark.parametrize("context", [None, "fork", "forkserver"])
def test_data_loader_workers(context):
    """A compiled transform runs inside DataLoader workers, however they are started."""
    data = TensorDataset(arange(12, 3), torch.arange(12))
    _doubled(arange(4, 3))
    workers = {"num_workers": 2, "multiprocessing_context": context} if context else {}
    seen = []
    for x, y in DataLoader(data, batch_size=4, collate_fn=_collate, **workers):
        seen.append(y)
        assert torch.equal(x, arange(12, 3)[y] * 2 + 1)
    assert torch.cat(seen).tolist() == list(range(12))


def test_memory_stays_flat():
    """100,000 calls of x + 1 leave the resident memory and the count of tensors as they were."""
    out = run_python("""
        import gc, resource
        import tracejit as torch
        from tracejit.tensor import Tensor
        def rss():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        f = torch.compile(lambda x: x + 1)
        x = torch.ones(1000)
        for _ in range(5000):
            f(x)
        gc.collect()
        before, tensors = rss(), sum(isinstance(o, Tensor) for o in gc.get_objects())
        for _ in range(100_000):
            f(x)
        gc.collect()
        after = sum(isinstance(o, Tensor) for o in gc.get_objects())
        print(rss() - before, after - tensors)
    """)
    grown, tensors = map(int, out.split())
    assert grown < 2 << 20
    assert tensors <= 0


def test_memory_of_training_stays_flat():
    """2,000 forward and backward passes through a compiled function leave memory flat."""
    out = run_python("""
        import gc, resource
        import tracejit as torch
        def rss():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        w = torch.ones(2000, requires_grad=True)
        f = torch.compile(lambda x: (x * w).sin().sum())
        x = torch.ones(2000)
        def step():
            w.grad = None
            f(x).backward()
        for _ in range(500):
            step()
        gc.collect()
        before = rss()
        for _ in range(2000):
            step()
        gc.collect()
        print(rss() - before)
    """)
    assert int(out) < 2 << 20


def test_dropped_function_is_freed():
    """A compiled function that is dropped frees its traces, and what they hold."""
    big = torch.ones(1000)

    def make():
        kept = torch.ones(10) * 3
        return torch.compile(lambda x: x * kept), weakref.ref(kept)

    f, kept = make()
    f(torch.ones(10))
    f(torch.ones(10))
    ref = weakref.ref(f)
    del f
    gc.collect()
    assert ref() is None
    assert kept() is None
    assert big.sum().item() == 1000


def test_thousand_functions_compiled_and_dropped():
    """1,000 functions compiled and dropped: kernels are shared, memory is bounded."""
    out = run_python("""
        import gc, linecache, resource
        import tracejit as torch
        from tracejit.codegen.compiler import kernel_history
        def rss():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        def one(i):
            k = torch.full((8,), float(i))
            f = torch.compile(lambda x: (x * 2 + k).tanh())
            x = torch.ones(8)
            f(x)
            assert torch.equal(f(x), (x * 2 + k).tanh())
        for i in range(100):
            one(i)
        gc.collect()
        before, lines = rss(), len(linecache.cache)
        for i in range(1000):
            one(i)
        gc.collect()
        made = sum(e.kind == "compile" for e in kernel_history())
        print((rss() - before) >> 10, len(linecache.cache) - lines, made)
    """)
    kilobytes, lines, kernels = map(int, out.split())
    assert kilobytes < 20_000, f"{kilobytes} KB for 1,000 functions"
    assert lines < 500, f"{lines} sources kept"
    assert kernels <= 4


def test_16_processes_fill_one_cache_and_one_is_killed(tmp_path):
    """Processes that race for one empty kernel cache, one killed with -9: right answers."""
    source = textwrap.dedent("""
        import sys
        import tracejit as torch
        f = torch.compile(lambda x: (x.exp() * 1.5).tanh() + 0.25)
        x = torch.arange(64) * 0.01
        a, b = f(x.float()), f(x.float())
        assert torch.equal(a, (x.float().exp() * 1.5).tanh() + 0.25) and torch.equal(a, b)
    """)
    environment = {**os.environ, "TRACEJIT_CACHE_DIR": str(tmp_path / "cache"),
                   "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
    children = [
        subprocess.Popen([sys.executable, "-c", source], env=environment, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    try:
        children[0].wait(0.7)
    except subprocess.TimeoutExpired:
        children[0].kill()
    for child in children[1:]:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors.decode()[-2000:]
    children[0].communicate(timeout=60)
    again = subprocess.run([sys.executable, "-c", source], env=environment, timeout=120)
    assert again.returncode == 0


def test_exit_while_threads_run():
    """The interpreter exits while a daemon thread is inside compiled code."""
    out = run_python("""
        import threading
        import tracejit as torch
        f = torch.compile(lambda x: (x.exp() * 2).sum())
        x = torch.ones(1 << 16)
        f(x)
        def work():
            while True:
                f(x)
        threading.Thread(target=work, daemon=True).start()
        for _ in range(10):
            f(x)
        print("fine")
    """, timeout=60)  # fmt: skip
    assert "fine" in out


def test_interrupt_is_honoured():
    """KeyboardInterrupt reaches a loop of compiled calls, and the function works afterwards."""
    out = run_python("""
        import os, signal, threading
        import tracejit as torch
        f = torch.compile(lambda x: (x * 2).exp())
        x = torch.zeros(1000)
        f(x)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                f(x)
        except KeyboardInterrupt:
            print("interrupted", f(x).sum().item())
    """, timeout=60)  # fmt: skip
    assert "interrupted 1000.0" in out


def test_recursion_limit_and_deep_programs():
    """A function of 1,200 ops compiles and runs without reaching the recursion limit."""

    def run(x):
        for i in range(600):
            x = x * 1.0001 + (i % 3)
        return x

    f, x = torch.compile(run), arange(3)
    for _ in range(2):
        assert torch.equal(f(x), run(x))


def test_arrays_that_outlive_the_modules_are_freed_in_peace():
    """The interpreter clears modules, the pool's too, before what `sys` holds."""
    out = run_python("""
        import sys
        import tracejit as torch
        sys.kept = [torch.ones(300, 400).exp() for _ in range(8)]
        print("fine")
    """)
    assert "fine" in out
