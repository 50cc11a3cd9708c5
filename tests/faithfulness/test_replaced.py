"""Functions replaced between calls: methods of Tensor, of optimizers, functions of other libraries.

Invariant: a replaced function is put back at the end, whatever a test does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
import sys
import types
from unittest import mock

import numpy as np
from scenario import arange, error, scenario

import tracejit as torch
from tracejit import nn, optim


@contextlib.contextmanager
def replaced(owner, name, value):
    """``setattr`` for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def around(owner, name, value, call):
    """What `call` gives before, while and after `owner.name` is another function."""
    yield call()
    with replaced(owner, name, value):
        yield call()
        yield call()
    yield call()


@scenario("a method of Tensor is replaced", "the new one, then the old", "guard", 1)
def test_tensor_method(compile):
    f = compile(lambda x: x.sum() + 1)
    yield from around(torch.Tensor, "sum", lambda old: lambda s: old(s) * 100, lambda: f(arange(3)))


@scenario("an operator of Tensor is replaced", "the new one, then the old", "guard", 1)
def test_tensor_operator(compile):
    f = compile(lambda x: x + 1)
    yield from around(torch.Tensor, "__add__", lambda old: lambda s, o: old(s, o * 10),
                      lambda: f(arange(3)))  # fmt: skip


@scenario("a method is added to Tensor, replaced and deleted", "what is there", "guard", 0)
def test_tensor_method_added(compile):
    f = compile(lambda x: x.triple())
    yield error(f, arange(3))[:2]
    torch.Tensor.triple = lambda self: self * 3
    try:
        yield f(arange(3))
        torch.Tensor.triple = lambda self: self * 30
        yield f(arange(3))
    finally:
        del torch.Tensor.triple
    yield error(f, arange(3))[:2]


@scenario("SGD.step, Optimizer.zero_grad replaced", "the new one, then the old", "guard", 1)
def test_optimizer_class(compile):
    w = torch.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)

    @compile
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        return w.detach().clone(), w.grad.clone()

    yield step(arange(2))
    yield from around(optim.SGD, "step", lambda old: lambda self: None, lambda: step(arange(2)))
    yield from around(optim.Optimizer, "zero_grad", lambda old: lambda self: None,
                      lambda: step(arange(2)))  # fmt: skip


@scenario("a class of the library is replaced in its module", "the new class", "guard", 1)
def test_library_class(compile):
    f = compile(lambda x: nn.init.calculate_gain("relu") * x)
    yield from around(nn.init, "calculate_gain", lambda old: lambda name: 3.0,
                      lambda: f(arange(3)))  # fmt: skip


@scenario("math.sqrt, math.pi replaced", "the new one, then the old", "guard", 1)
def test_math(compile):
    f = compile(lambda x, v: x * math.sqrt(v) * math.pi)
    yield from around(math, "sqrt", lambda old: lambda v: v, lambda: f(arange(3), 4.0))
    yield from around(math, "pi", lambda old: 3, lambda: f(arange(3), 4.0))


@scenario("np.exp, np.linalg.norm replaced", "the new one, then the old", "guard", 1)
def test_numpy(compile):
    f = compile(lambda x, v: x * float(np.exp(v)) * float(np.linalg.norm([3.0, 4.0])))
    yield from around(np, "exp", lambda old: lambda v: v, lambda: f(arange(3), 1.0))
    yield from around(np.linalg, "norm", lambda old: lambda v: 1, lambda: f(arange(3), 1.0))


@scenario("functools.reduce, itertools.product, operator.add replaced", "the new ones", "guard", 1)
def test_standard_library(compile):
    def run(x):
        for a, b in itertools.product([1, 2], [3]):
            x = x * a + b
        return functools.reduce(operator.add, [x, x, x])

    f = compile(run)
    for owner, name, value in (
        (functools, "reduce", lambda old: lambda add, values: values[0] * 50),
        (itertools, "product", lambda old: lambda a, b: [(0, 0)]),
        (operator, "add", lambda old: operator.sub),
    ):
        yield from around(owner, name, value, lambda: f(arange(2)))


@scenario("mock.patch of a function of another library", "the mock, then the old", "guard", 1)
def test_mock(compile):
    f = compile(lambda x: x * math.floor(2.5))
    yield f(arange(3))
    with mock.patch("math.floor", return_value=7):
        yield f(arange(3))
    yield f(arange(3))


@scenario("a module imported by a name made at run time", "the module now", "eager", 0)
def test_import_of_made_name(compile):
    made = types.ModuleType("made_by_a_test")
    made.k = 2.0
    sys.modules["made_by_a_test"] = made
    start = "made_by"

    def run(x):
        return x * __import__(start + "_a_test").k

    f = compile(run)
    try:
        for k in (2.0, 3.0, 3.0):
            made.k = k
            yield f(arange(2))
    finally:
        del sys.modules["made_by_a_test"]
