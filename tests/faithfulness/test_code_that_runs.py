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


@scenario("functools.cache is filled, and cleared", "the new value", "guard", 3, lost=1)
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


@scenario("a dict that makes an object at look-up", "what it makes", "guard", 3, lost=1)
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
