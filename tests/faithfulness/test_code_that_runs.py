"""State that cannot be guarded, named by code that is within reach but does not run.

Invariant: every program reaches an iterator, so that only the code that runs is followed.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

from scenario import arange, scenario

import tracejit as torch

counter = iter(range(1000))
settings = {"scale": 2.0, "word": "a"}


def count(x):
    """Names an iterator, as a library's code for other cases may do."""
    return x + next(counter)


def scaled(x):
    return x * settings["scale"]


@scenario("unused code in reach names an iterator", "the same every time", "guard", 1, lost=1)
def test_unused_iterator(compile):
    def run(x, way="plain"):
        return count(x) if way == "count" else scaled(x)

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k))


@scenario("other code runs, which reads other state", "the value now", "guard", 4, lost=2)
def test_other_code_runs(compile):
    state = {"way": "scaled", "shift": 1.0}

    def shifted(x):
        return x + state["shift"]

    def run(x):
        if state["way"] == "count":
            return count(x)
        return scaled(x) if state["way"] == "scaled" else shifted(x)

    f = compile(run)
    for way in ("scaled", "scaled", "scaled", "shifted", "shifted", "shifted", "scaled"):
        state["way"] = way
        yield f(arange(3))
    state.update(way="shifted", shift=5.0)
    yield f(arange(3))
    state["shift"] = 7.0
    yield f(arange(3))


@scenario("an iterator's code runs at last", "it moves on", "eager", 2)
def test_iterator_runs_at_last(compile):
    numbers = iter(range(100))

    def draw(x):
        return x + next(numbers)

    def run(x, way="plain"):
        return draw(x) if way == "draw" else x * 2

    f = compile(run)
    for _ in range(3):
        yield f(arange(3))
    for _ in range(6):
        yield f(arange(3), way="draw")


@scenario("a setup at the first call runs other code", "the same afterwards", "guard", 1, lost=2)
def test_setup_at_the_first_call(compile):
    held = []
    numbers = iter(range(100))

    def setup():
        held.append(next(numbers) + 3)

    def run(x):
        if not held:
            setup()
        return x * held[0]

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k))


@scenario("the closure of a function not called yet", "its value now", "guard", 3, lost=2)
def test_closure_not_called(compile):
    def make(value):
        return lambda x: x * value

    state = {"call": False}
    inner = make(3.0)

    def run(x):
        if state["call"] is None:
            return count(x)
        return (inner(x) if state["call"] else x), inner.__closure__[0].cell_contents

    f = compile(run)
    for k in range(6):
        state["call"] = k > 2
        if k == 4:
            inner.__closure__[0].cell_contents = 4.0
        yield f(arange(3))


def cached_scale(compile, warm):
    state = {"scale": 2.0}

    @functools.lru_cache
    def cached():
        return state["scale"]

    def run(x, way="plain"):
        return count(x) if way == "count" else x * cached()

    f = compile(run)
    if warm:
        cached()
    for k in range(8):
        yield f(arange(3, start=k))
        if k == 4:
            state["scale"] = 5.0  # not seen: the cache has its value
        if k == 5:
            cached.cache_clear()


@scenario("functools.cache answers, and is cleared", "the new value", "guard", 3, lost=2)
def test_cache_cleared(compile):
    yield from cached_scale(compile, warm=True)


@scenario("functools.cache is filled, and cleared", "the new value", "guard", 4, lost=3)
def test_cache_filled_and_cleared(compile):
    yield from cached_scale(compile, warm=False)


@scenario("a thread is started that counts", "it counts at every call", "eager", 1)
def test_thread_started(compile):
    seen = []

    def note():
        seen.append(len(seen))

    def run(x):
        worker = threading.Thread(target=note)
        worker.start()
        worker.join()
        return x * 2

    f = compile(run)
    for k in range(4):
        yield f(arange(3, start=k))
        yield list(seen)


@scenario("a dict that makes an object at look-up", "what it makes", "guard", 2)
def test_dict_that_makes_objects(compile):
    class Makers(OrderedDict):
        def __getitem__(self, key):
            kind, value = super().__getitem__(key)
            return kind(value)

    class Scale:
        def __init__(self, value):
            self.value = value

        def __call__(self, x):
            return x * self.value

    makers = Makers(double=(Scale, 2.0), triple=(Scale, 3.0))

    def run(x, name):
        return makers[name](x)

    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k), "double")
    makers["double"] = (Scale, 7.0)
    for k in range(3):
        yield f(arange(3, start=k), "double")


@scenario("an object of Python's library with slots changes", "the new value", "guard", 2)
def test_library_object_with_slots(compile):
    import dataclasses

    @dataclasses.dataclass
    class Options:
        scale: float = 2.0

    (field,) = dataclasses.fields(Options)

    def run(x):
        return x * 2 if field.default == 2.0 else x * torch.tensor(5.0)

    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k))
    field.default = 3.0
    yield f(arange(3))


def cached_table(compile, cache):
    @cache
    def table(n):
        return torch.arange(n, dtype=torch.float32)

    def run(x):
        kept = table(3)
        return x + kept, kept

    f = compile(run)
    yield f(arange(3)), f(arange(3)), table(3)
    table(3).mul_(10)
    yield f(arange(3)), f(arange(3)), table(3) is f(arange(3))[1]
    table.cache_clear()
    yield f(arange(3)), f(arange(3))
    table(3).add_(1)
    yield f(arange(3)), f(arange(3)), table(3)


@scenario("functools.cache keeps a tensor, which is written to", "the kept one", "guard", 4, lost=2)
def test_cached_tensor(compile):
    yield from cached_table(compile, functools.cache)


@scenario("functools.lru_cache keeps a tensor, which is written to", "the kept one", "guard", 4,
          lost=2)  # fmt: skip
def test_lru_cached_tensor(compile):
    yield from cached_table(compile, functools.lru_cache)


@scenario("a cached tensor is written to inside", "each call sees the last", "input", 2, lost=1)
def test_cached_tensor_written_inside(compile):
    @functools.cache
    def total():
        return torch.zeros(3)

    def run(x):
        return total().add_(x) * 2

    f = compile(run)
    for _ in range(4):
        yield f(arange(3)), total()


@scenario("functools.cache by size and by number: the body runs once for each", "one run each",
          "guard", 18, lost=6)  # fmt: skip
def test_cached_by_number(compile):
    calls = []

    @functools.lru_cache
    def table(n):
        calls.append(n)
        return torch.ones(3) * n

    f = compile(lambda x, n: x * table(n) + table(x.size(1)))
    for n in (3, 2, 4, 3, 5, 5, 2, 0.5, 1.5, 0.5):
        yield f(arange(n if type(n) is int else 1, 3), n), f(arange(3, 3), n), list(calls)


@scenario("lru_cache called with keywords, and typed", "what each call kept", "eager", 7)
def test_cached_by_keyword(compile):
    @functools.lru_cache
    def table(a, b=1, *, c=2):
        return [a, b, c]

    @functools.lru_cache(typed=True)
    def typed(a):
        return [a]

    f = compile(lambda x: x * sum(table(1, c=3)) + sum(table(2, b=5)))
    g = compile(lambda x: x * typed(1)[0])
    for k in range(5):
        if k == 3:
            table(1, c=3).append(5)
            typed(1)[0] = 9
        yield f(arange(3)), g(arange(3))


@scenario("a cached list is appended to between calls", "its items", "guard", 3, lost=1)
def test_cached_list(compile):
    @functools.lru_cache
    def scales():
        return [1.0, 2.0]

    f = compile(lambda x: x * sum(scales()))
    for k in range(5):
        if k == 3:
            scales().append(5.0)
        yield f(arange(3))


@scenario("an lru_cache that is full", "what it keeps", "eager", 5)
def test_full_cache(compile):
    calls = []

    @functools.lru_cache(maxsize=2)
    def table(n):
        calls.append(n)
        return torch.full((3,), float(n))

    f = compile(lambda x, k: x + table(k))
    for k in (1, 2, 1, 2, 1, 3, 1, 2, 3, 1, 1, 2):
        yield f(arange(3), k), list(calls)


@scenario("cached_property keeps a tensor, which is written to, and deleted", "the kept one",
          "guard", 4, lost=2)  # fmt: skip
def test_cached_property(compile):
    class Model:
        scale = 2.0

        @functools.cached_property
        def table(self):
            return torch.ones(3) * self.scale

    m = Model()
    f = compile(lambda x: x + m.table)
    yield f(arange(3)), f(arange(3))
    m.table.mul_(7)
    yield f(arange(3)), f(arange(3))
    Model.scale = 3.0
    yield f(arange(3)), f(arange(3))
    del m.table
    yield f(arange(3)), f(arange(3))
