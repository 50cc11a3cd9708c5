"""Classes, contexts, the world outside, exceptions and imports: changed around a compiled function.

Invariant: what the language makes of a program is what its compiled form does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import importlib
import itertools
import os
import random
import sys
import threading
import time
import warnings
import weakref

import numpy as np
from scenario import arange, error, module, printed, scenario

import tracejit as torch


@scenario(
    "a class gets __getattr__, __call__, a property, a slot's descriptor",
    "Python's look-up",
    "guard",
    5,
)
def test_class_edited(compile):
    class Box:
        def __init__(self):
            self.a = 2.0

        def __call__(self, x):
            return x * self.a

    box = Box()
    f = compile(lambda x: box(x) + box.a)
    yield f(arange(3)), f(arange(3))
    Box.__call__ = lambda self, x: x - self.a
    yield f(arange(3)), f(arange(3))
    Box.a = property(lambda self: 7.0)
    yield f(arange(3)), f(arange(3))
    del Box.a
    Box.__getattribute__ = lambda self, name: (
        9.0 if name == "a" else object.__getattribute__(self, name)
    )
    yield f(arange(3)), f(arange(3))
    del Box.__getattribute__
    del box.a
    Box.__getattr__ = lambda self, name: 11.0
    yield f(arange(3)), f(arange(3))


@scenario("a subclass's methods and bases change", "the method resolution now", "guard", 4)
def test_bases_changed(compile):
    class A:
        def go(self, x):
            return x * 2

    class B:
        def go(self, x):
            return x * 3

    class C(A):
        pass

    c = C()
    f = compile(lambda x: c.go(x))
    yield f(arange(3)), f(arange(3))
    C.__bases__ = (B,)
    yield f(arange(3)), f(arange(3))
    C.go = lambda self, x: super(C, self).go(x) + 1
    yield f(arange(3)), f(arange(3))
    C.__bases__ = (A,)
    yield f(arange(3)), f(arange(3))


@scenario(
    "dataclasses: replaced, frozen, with default_factory, ordered", "their fields", "guard", 4
)
def test_dataclasses(compile):
    @dataclasses.dataclass
    class Config:
        scale: float = 2.0
        names: list = dataclasses.field(default_factory=list)

        def apply(self, x):
            return x * self.scale + len(self.names)

    c = Config()
    f = compile(lambda x, config: config.apply(x))
    yield f(arange(3), c), f(arange(3), c)
    c.names.append("a")
    yield f(arange(3), c), f(arange(3), dataclasses.replace(c, scale=3.0))
    yield f(arange(3), Config(4.0, ["x", "y"])), f(arange(3), Config())


@scenario("context variables and thread-locals set around calls", "those of the caller", "guard", 4)
def test_contexts(compile):
    variable, local = contextvars.ContextVar("v", default=1.0), threading.local()
    local.v = 1.0
    f = compile(lambda x: x * variable.get() + getattr(local, "v", 5.0))
    yield f(arange(3)), f(arange(3))
    token = variable.set(2.0)
    yield f(arange(3)), contextvars.Context().run(f, arange(3))
    variable.reset(token)
    local.v = 3.0
    yield f(arange(3))
    seen = []
    worker = threading.Thread(target=lambda: seen.append(f(arange(3))))
    worker.start()
    worker.join()
    yield seen


@scenario(
    "time, random, os.urandom, os.getcwd, os.listdir called inside", "this call's", "eager", 3
)
def test_outside_world(compile):
    f = compile(lambda x: x * 0 + (time.perf_counter() > 0))
    g = compile(lambda x: x * random.Random(3).random() + random.random())
    h = compile(lambda x: x * len(os.urandom(4)) + len(os.getcwd()))
    for k in range(3):
        random.seed(k)
        yield f(arange(3)), g(arange(3)), h(arange(3))


@scenario("an environment variable set, read by get, in and getenv", "its value now", "guard", 3)
def test_environment(compile):
    name = "TRACEJIT_TEST_WORD"
    f = compile(
        lambda x: (
            x * len(os.environ.get(name, ""))
            + (1 if name in os.environ else 0)
            + len(os.getenv(name, "none"))
        )
    )
    yield f(arange(3)), f(arange(3))
    for word in ("a", "bb", "bb"):
        os.environ[name] = word
        yield f(arange(3)), f(arange(3))
    del os.environ[name]
    yield f(arange(3)), f(arange(3))


@scenario(
    "sys.setrecursionlimit, sys.path, sys.flags, sys.argv read inside", "their values", "eager", 1
)
def test_sys_read(compile):
    f = compile(lambda x: x * sys.getrecursionlimit() + len(sys.argv))
    before, argv = sys.getrecursionlimit(), sys.argv
    for limit in (before, before + 100, before + 200, before):
        sys.setrecursionlimit(limit)
        yield f(arange(3))
    sys.argv = [*argv, "more"]
    yield f(arange(3))
    sys.argv = argv


@scenario("NumPy arrays as arguments, changed between calls", "their contents", "eager", 4)
def test_array_arguments(compile):
    a = np.ones(3, np.float32)
    f = compile(lambda x, a: x * torch.from_numpy(a))
    g = compile(lambda x, a: x * float(a.sum()) + a.shape[0])
    for k in range(4):
        a[k % 3] = k
        yield f(arange(3), a), g(arange(3), a)


@scenario(
    "a tensor that shares memory with an array, which is written to", "the new contents", "input", 2
)
def test_shared_array(compile):
    a = np.ones(3, np.float32)
    x = torch.from_numpy(a)
    f = compile(lambda x: x * 2)
    for k in range(4):
        a[:] = k
        yield f(x), f(x)
    y = torch.ones(3)
    held = y.numpy()
    g = compile(lambda: y * 3)
    for k in range(3):
        held += k
        yield g()


@scenario("iterators and generators as arguments, consumed", "what is left of them", "eager", 0)
def test_iterator_arguments(compile):
    f = compile(lambda x, items: x * sum(itertools.islice(items, 2)))
    numbers = iter(range(10))
    for _ in range(3):
        yield f(arange(3), numbers)
    made = (k * k for k in range(10))
    yield f(arange(3), made), f(arange(3), made), next(made)
    yield f(arange(3), map(float, [1, 2])), f(arange(3), zip([1])) if False else 0


@scenario(
    "a weak reference, a WeakValueDictionary and a finalizer", "whether it is alive", "guard", 3
)
def test_weak(compile):
    class Thing:
        scale = 3.0

    thing = Thing()
    reference = weakref.ref(thing)
    f = compile(lambda x: x * reference().scale if reference() is not None else x - 1)
    yield f(arange(3)), f(arange(3))
    thing.scale = 4.0
    yield f(arange(3)), f(arange(3))
    del thing
    yield f(arange(3)), f(arange(3))


@scenario(
    "retries after exceptions, with state counted in finally",
    "every try counts",
    "guard",
    (2, 1),
)
def test_retries(compile):
    state = {"fails": 2, "tries": 0}

    def attempt(x):
        state["tries"] += 1
        if state["tries"] % 3:
            raise OSError("again")
        return x * state["tries"]

    def run(x):
        for _ in range(5):
            try:
                return attempt(x)
            except OSError:
                x = x + 1
            finally:
                x = x * 2
        return x

    f = compile(run)
    for _ in range(4):
        yield f(arange(3)), dict(state)


@scenario(
    "exceptions with notes, causes, groups; raised from a compiled call", "the same", "input", 1
)
def test_exceptions(compile):
    def run(x, kind):
        try:
            if kind:
                raise KeyError("inner")
            return x * 2
        except KeyError as inner:
            raise ValueError("outer") from inner

    f = compile(run)
    for kind in (False, True, True, False):
        try:
            yield f(arange(3), kind)
        except ValueError as caught:
            yield str(caught), repr(caught.__cause__), caught.__suppress_context__


@scenario(
    "warnings raised inside: shown, ignored, turned into errors", "as the filters say", "eager", 1
)
def test_warned(compile):
    def run(x):
        warnings.warn("careful", UserWarning, stacklevel=1)
        return x * 2

    f = compile(run)
    for action in ("ignore", "error", "ignore", "always"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action, UserWarning)
            warnings.simplefilter("always", torch.errors.TraceWarning)
            value = error(f, arange(3))
        for w in caught:
            if w.category is torch.errors.TraceWarning:
                warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
        yield value, [str(w.message) for w in caught if w.category is UserWarning]


@scenario("async functions that await compiled ones; one that is compiled", "as plain", "input", 2)
def test_async(compile):
    f = compile(lambda x, k: x * k)

    async def main(k):
        async def one(n):
            await asyncio.sleep(0)
            return f(arange(3), n)

        return await asyncio.gather(*[one(k + n) for n in range(3)])

    for k in range(3):
        yield asyncio.run(main(k))


@scenario("contextlib: suppress, ExitStack, closing, contextmanager inside", "as plain", "guard", 3)
def test_context_managers(compile):
    log = {"depth": 0}

    @contextlib.contextmanager
    def deeper(by):
        log["depth"] += by
        try:
            yield log["depth"]
        finally:
            log["depth"] -= by

    def run(x, k):
        with contextlib.ExitStack() as stack:
            total = sum(stack.enter_context(deeper(n)) for n in range(1, k))
            with contextlib.suppress(ValueError):
                if k > 2:
                    raise ValueError
                x = x + 1
            return x * total

    f = compile(run)
    for k in (2, 3, 2, 4, 3):
        yield f(arange(3), k), log["depth"]


@scenario(
    "print, input to str methods, % and format of a tensor's shape", "this call's", "guard", 3
)
def test_shape_texts(compile):
    def run(x):
        print("shape is %s, rank %d" % (tuple(x.shape), x.ndim))  # noqa: UP031
        return x * len(f"{x.shape[0]}")

    f = compile(run)
    for n in (3, 3, 12, 5, 12):
        yield printed(f, arange(n))


@scenario(
    "sum, zip, enumerate, reversed, map, filter, sorted over tensors", "as plain", "branch", 3
)
def test_builtins_over_tensors(compile):
    def run(x):
        rows = sorted(x, key=lambda r: float(r.sum()))
        kept = list(filter(lambda r: bool(r[0] > 0.5), rows))
        return sum(map(torch.neg, kept), torch.zeros(2)), [
            i * r for i, r in enumerate(reversed(rows))
        ]

    f = compile(run)
    for k in (0.0, 1.0, -1.0, 0.0, 1.0):
        yield f(arange(3, 2) * (k or 1) + k)


@scenario(
    "importlib.import_module and __import__ of the user's module", "its present names", "guard", 3
)
def test_imported_by_name(compile):
    made = module("scale = 2.0\n", "tracejit_test_imported")
    sys.modules[made.__name__] = made
    try:
        f = compile(lambda x: x * importlib.import_module("tracejit_test_imported").scale)
        yield f(arange(3)), f(arange(3))
        made.scale = 3.0
        yield f(arange(3)), f(arange(3))
        sys.modules[made.__name__] = module("scale = 5.0\n", "tracejit_test_imported")
        yield f(arange(3)), f(arange(3))
    finally:
        del sys.modules[made.__name__]
