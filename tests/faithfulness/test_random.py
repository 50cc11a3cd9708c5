"""Random numbers: one stream, whatever runs it.

Invariant: programs start from the same seed; the generator's state is compared at the end.
"""

from __future__ import annotations

import numpy as np
from scenario import arange, scenario

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F


@scenario("dropout, same seed", "the same mask", "input", 1)
def test_dropout_mask(compile):
    f = compile(lambda x: F.dropout(x, 0.4, training=True))
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        yield f(torch.ones(40))


@scenario("ten calls", "ten different masks", "input", 1)
def test_ten_masks(compile):
    f = compile(lambda x: F.dropout(x, 0.5, training=True))
    masks = [f(torch.ones(64)) for _ in range(10)]
    yield masks, len({m.numpy().tobytes() for m in masks})


@scenario("an unrelated op is inserted", "the mask does not change", "input", 2)
def test_unrelated_op(compile):
    f = compile(lambda x: F.dropout(x, 0.5, training=True))
    g = compile(lambda x: F.dropout((x.exp() * 0).sum() * 0 + x, 0.5, training=True))
    for k in range(3):
        torch.manual_seed(k)
        a = f(torch.ones(64))
        torch.manual_seed(k)
        b = g(torch.ones(64))
        yield a, b, torch.equal(a, b)


@scenario(
    "rand, randn, randint, randperm, bernoulli, normal_ in one function", "one stream", "input", 1
)
def test_all_draws(compile):
    def run(x):
        y = torch.empty(5).normal_()
        return (torch.rand(3, 2), torch.randn(4), torch.randint(0, 10, (5,)), torch.randperm(6),
                torch.bernoulli(x), torch.rand_like(x), y, torch.randn_like(x) * x)  # fmt: skip

    f = compile(run)
    for _ in range(3):
        yield f(torch.full((4,), 0.5))


@scenario("draws outside between compiled calls", "one stream", "input", 1)
def test_outside_draws(compile):
    f = compile(lambda x: x + torch.rand(3))
    for _ in range(3):
        yield f(arange(3)), torch.rand(2)


@scenario("state saved and restored", "the same numbers again", "input", 1)
def test_state_restored(compile):
    f = compile(lambda x: x + torch.randn(5))
    f(arange(5))
    kept = torch.get_rng_state()
    first = f(arange(5)), f(arange(5))
    torch.set_rng_state(kept)
    yield first, (f(arange(5)), f(arange(5)))


@scenario("an own Generator, passed as an argument", "its stream, not the default one", "input", 1)
def test_own_generator(compile):
    f = compile(lambda x, g: x + torch.rand(4, generator=g))
    g = torch.Generator().manual_seed(7)
    for _ in range(3):
        yield f(arange(4), g), g.offset


@scenario("another Generator object", "each its own stream", "guard", 2)
def test_two_generators(compile):
    f = compile(lambda x, g: x + torch.rand(4, generator=g))
    a, b = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    for g in (a, b, a, b):
        yield f(arange(4), g), g.offset


@scenario("the batch size of a dropout varies", "as eager", "guard", 2)
def test_varying_draws(compile):
    model = nn.Dropout(0.5)
    f = compile(model)
    for n in (3, 5, 8, 3, 1, 5):
        yield f(torch.ones(n, 4)), torch.rand(1)


@scenario("manual_seed inside the function", "the stream starts there", "eager", 1)
def test_seed_inside(compile):
    def run(x):
        torch.manual_seed(3)
        return x + torch.rand(3)

    f = compile(run)
    for _ in range(3):
        yield f(arange(3))


@scenario("dropout in a training step with gradients", "one mask forward and backward", "input", 1)
def test_dropout_gradients(compile):
    f = compile(lambda x: (F.dropout(x, 0.5, training=True) * 3).sum())
    for _ in range(3):
        x = torch.ones(32, requires_grad=True)
        f(x).backward()
        yield x


@scenario("Python's and NumPy's random numbers inside", "new ones at each call", "eager", 1)
def test_foreign_random(compile):
    import random

    def run(x):
        return x * random.random()

    random.seed(0)
    f = compile(run)
    for _ in range(4):
        yield f(arange(3))


@scenario("NumPy's random numbers inside", "new ones at each call", "eager", 0)
def test_numpy_random(compile):
    rng = np.random.default_rng(0)

    def run(x):
        return x * float(rng.random())

    f = compile(run)
    for _ in range(4):
        yield f(arange(3))


@scenario("time inside the function", "each call's clock", "eager", 1)
def test_time(compile):
    import time

    def run(x):
        return x * 2, time.perf_counter() > 0, type(time.time())

    f = compile(run)
    for _ in range(3):
        yield f(arange(3))
