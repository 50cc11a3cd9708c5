"""The flow of Python: generators, iterators, recursion, inner functions, context managers.

Invariant: programs use nothing that plain Python functions would not offer.
"""

from __future__ import annotations

import functools

from scenario import arange, module, scenario

import tracejit as torch


@scenario("a generator used inside", "consumed in the function", "input", 1)
def test_generator_inside(compile):
    def parts(x):
        for i in range(3):
            yield x[i] * i

    f = compile(lambda x: sum(parts(x)))
    for k in range(3):
        yield f(arange(3, start=k))


@scenario("a generator function compiled", "yields as plain", "eager", 3)
def test_generator_function(compile):
    def run(x):
        for i in range(3):
            yield x * i

    f = compile(run)
    for k in range(4):
        yield list(f(arange(3, start=k)))


@scenario("a generator passed as an argument", "consumed once", "eager", 0)
def test_generator_argument(compile):
    f = compile(lambda xs: sum(xs))
    for k in range(3):
        yield f(arange(3, start=i + k) for i in range(3))


@scenario("an iterator kept between calls (next() inside)", "moves on at every call", "eager", 0)
def test_iterator_state(compile):
    counter = iter(range(100))

    def run(x):
        return x * next(counter)

    f = compile(run)
    for _ in range(4):
        yield f(arange(3))


@scenario("itertools.count kept between calls", "moves on at every call", "eager", 0)
def test_itertools_count(compile):
    import itertools

    counter = itertools.count(1)

    def run(x):
        return x * next(counter)

    f = compile(run)
    for _ in range(4):
        yield f(arange(3))


@scenario("recursion of the compiled function", "as plain", "guard", 3)
def test_recursion(compile):
    space = module("def f(x, n): return x if n == 0 else f(x * 2, n - 1) + 1")
    space.f = compile(space.f)
    for n in (2, 1, 0, 2, 1, 3)[:5]:
        yield space.f(arange(3), n)


@scenario("recursion steered by a tensor value", "as plain", "branch", 3)
def test_tensor_recursion(compile):
    space = module("def f(x): return x if x.sum() > 10 else f(x + 1)")
    space.f = compile(space.f)
    for k in (5, 2, 3, 5, 2):
        yield space.f(arange(3, start=k))


@scenario("a compiled function calls one that calls it back", "as plain", "guard", 4)
def test_mutual_recursion(compile):
    space = module("def even(x, n): return x if n == 0 else odd(x + 1, n - 1)\n"
                   "def odd(x, n): return -x if n == 0 else even(x * 2, n - 1)")  # fmt: skip
    space.even, space.odd = compile(space.even), compile(space.odd)
    for n in (3, 2, 3):
        yield space.even(arange(3), n), space.odd(arange(3), n)


@scenario("closures made and called inside", "as plain", "input", 1)
def test_inner_functions(compile):
    def run(x):
        def inner(y, k=2):
            return y * k + x

        fs = [lambda v, i=i: v + i for i in range(3)]
        return inner(x) + sum(f(x) for f in fs), [f(x) for f in fs]

    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k))


@scenario("a function returned by the compiled function", "a closure over this call", "eager", 3)
def test_returns_function(compile):
    def run(x):
        y = x * 2
        return lambda z: y + z

    f = compile(run)
    for k in range(4):
        yield f(arange(3, start=k))(arange(3))


@scenario("an instance of a user class is returned", "a new object per call", "eager", 3)
def test_returns_object(compile):
    class Out:
        def __init__(self, x):
            self.x = x

    f = compile(lambda x: Out(x * 2))
    for k in range(4):
        yield f(arange(3, start=k)).x


@scenario("comprehensions, unpacking, walrus, zip, enumerate, sorted", "as plain", "input", 1)
def test_syntax(compile):
    def run(x, y):
        a, *rest = [x + i for i in range(4)]
        table = {k: v + 0 for k, v in zip("ab", (x, y), strict=True)}
        if (n := len(rest)) > 2:
            a = a + n
        order = sorted(range(3), key=lambda i: -i)
        return a, rest[::-1], table, [(i, x * i) for i in order], {*range(3)}, f"{n}"

    f = compile(run)
    for k in range(2):
        yield f(arange(3, start=k), arange(3))


@scenario("context managers and try/finally inside", "as plain", "input", 1)
def test_context_managers(compile):
    import contextlib

    @contextlib.contextmanager
    def scaled(k):
        yield k * 2

    def run(x):
        with scaled(3.0) as k, torch.no_grad():
            y = x * k
        try:
            return y + 1
        finally:
            y.add_(100)

    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k))


@scenario("functools.cache inside", "cached as plain", "input", 2, lost=1)
def test_functools_cache(compile):
    @functools.cache
    def table(n):
        return n * 2.0

    f = compile(lambda x: x * table(3))
    for k in range(3):
        yield f(arange(3, start=k))
