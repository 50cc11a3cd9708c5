"""Results that must stay: not overwritten by later calls, aliasing what eager would alias.

Invariant: every program yields earlier results again after later calls.
"""

from __future__ import annotations

import numpy as np
from scenario import arange, near, scenario

import tracejit as torch


@scenario("the output of call 1 after call 2", "unchanged", "input", 1)
def test_outputs_stay(compile):
    f = compile(lambda x: x * 2 + 1)
    first = f(arange(3))
    yield first
    second = f(arange(3, start=10))
    yield first, second
    yield f(f(arange(3)))
    yield first, second


@scenario("z = f(f(x)), the result fed back many times", "as unrolled", "input", 1)
def test_fed_back(compile):
    f = compile(lambda x: x * 0.5 + 1)
    x = arange(5)
    for _ in range(6):
        x = f(x)
        yield x


@scenario("the output is changed in place by the caller", "later calls do not see it", "input", 1)
def test_output_changed(compile):
    f, x = compile(lambda x: x * 2), arange(3)
    for _ in range(3):
        y = f(x)
        y += 100
        yield y, x


@scenario(
    "a constant result is changed in place by the caller", "later calls do not see it", "input", 1
)
def test_constant_output(compile):
    f = compile(lambda x: (torch.zeros(3), torch.arange(3), torch.tensor([1.0, 2.0])))
    for _ in range(3):
        ys = f(arange(3))
        yield ys
        for y in ys:
            y += 1
        yield ys


@scenario("a result returned twice, and a view of it", "one object, shared memory", "input", 1)
def test_same_output_twice(compile):
    def run(x):
        y = x * 2
        return y, y, y[1:], y.reshape(3, 1), [y]

    f = compile(run)
    for k in range(3):
        ys = f(arange(3, start=k))
        yield ys
        ys[0].add_(1)
        yield ys


@scenario("an argument returned as it is, and views of it", "the argument itself", "input", 1)
def test_output_is_argument(compile):
    f = compile(lambda x: (x, x.t(), x[0], x.reshape(-1), x.detach()))
    for k in range(3):
        x = arange(2, 3, start=k)
        ys = f(x)
        yield x, ys
        ys[1][0, 0] = 99
        yield x, ys


@scenario("a global or an attribute returned", "that very object", "input", 1)
def test_output_is_global(compile):
    w = arange(3)
    f = compile(lambda x: (w, w + x, w[1:]))
    for k in range(3):
        ys = f(arange(3, start=k))
        ys[2].mul_(2)
        yield w, ys


@scenario("results are kept for 100 calls", "all distinct memory", "input", 1)
def test_results_kept(compile):
    f = compile(lambda x: (x + 1, x * 2))
    kept = [f(arange(16, start=k)) for k in range(20)]
    yield kept
    total = np.zeros(16)
    for k in range(20):
        total += np.arange(16) * 0.25 + k + 1
    yield near(sum(a for a, _ in kept), total)


@scenario("flip, roll, cat, stack then written to", "copies, the source stays", "input", 1)
def test_copies_are_copies(compile):
    def run(x):
        parts = [x.flip(0), x.roll(1), torch.cat([x, x]), torch.stack([x, x]), x.clone(), x[[0, 1]]]
        for p in parts:
            p.add_(100)
        return x, parts

    f = compile(run)
    for k in range(2):
        x = arange(3, start=k)
        yield f(x), x


@scenario("contiguous() and to() that need not copy", "the very same tensor", "input", 1)
def test_no_copy(compile):
    f = compile(lambda x: (x.contiguous(), x.to(torch.float32), x.float(), x.reshape(3), x.view(3)))
    for k in range(2):
        x = arange(3, start=k)
        ys = f(x)
        yield x, ys
        ys[0].add_(1)
        yield x, ys
