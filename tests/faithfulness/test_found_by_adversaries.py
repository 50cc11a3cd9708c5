"""Programs that once showed a difference: metaclasses, modules with `__getattr__`, tuples of state.

Invariant: none; each scenario stands for itself.
"""

from __future__ import annotations

import abc
import functools
import math
import types

from scenario import arange, error, scenario

import tracejit as torch


@scenario("a tuple of a number and a tensor is replaced, its number varies", "the new tuple",
          "guard", 4)  # fmt: skip
def test_tuple_of_number_and_tensor(compile):
    pair = (1.0, torch.ones(2))

    def run(x):
        return x * pair[0] + pair[1]

    f = compile(run)
    yield f(arange(2))
    for value in (2.0, 3.0, 4.5):
        pair = (value, torch.zeros(2))
        yield f(arange(2))
    pair = (2.0, torch.zeros(2), "more")
    yield f(arange(2))
    pair = (torch.ones(2), 2.0)
    yield f(arange(2))


@scenario("a property of a metaclass, which is replaced", "what it gives now", "guard", 3)
def test_metaclass(compile):
    class Meta(type):
        @property
        def k(cls):
            return cls._k

    class Holder(metaclass=Meta):
        _k = 2.0

    f = compile(lambda x: x * Holder.k)
    yield f(arange(2))
    Holder._k = 3.0
    yield f(arange(2))
    Meta.k = property(lambda cls: 9.0)
    yield f(arange(2))


@scenario("a module's __getattr__ answers, then the name is set", "the name, once it is there",
          "guard", 3, lost=1)  # fmt: skip
def test_module_getattr(compile):
    made = types.ModuleType("made_by_a_test")
    text = "k = 2.0\ndef __getattr__(name):\n    return 5.0 if name == 'dyn' else 1 / 0"
    exec(text, made.__dict__)
    f = compile(lambda x: x * made.k * made.dyn)
    yield f(arange(2))
    made.k = 3.0
    yield f(arange(2))
    made.dyn = 1.0
    yield f(arange(2))
    del made.dyn
    yield f(arange(2))


@scenario("getattr(module, 'option', 1.0) of a name that appears", "the name, once it is there",
          "guard", 2)  # fmt: skip
def test_module_default(compile):
    made = types.ModuleType("made_by_a_test")
    f = compile(lambda x: x * getattr(made, "option", 1.0))
    yield f(arange(2))
    made.option = 4.0
    yield f(arange(2))
    del made.option
    yield f(arange(2))


@scenario("results that read one tensor without gradient: backward of each, in every order",
          "each has its own saved values", "input", 7)  # fmt: skip
def test_backward_of_each(compile):
    def run(w, x):
        return (w * x).exp().sum(), (w * x).tanh().sum()

    orders = (((0, 0), (1, 0)), ((0, 1), (0, 0), (1, 0)), ((0, 1), (1, 0), (0, 0)),
              ((0, 1), (1, 1), (0, 0), (1, 0)), ((0, 0), (0, 0), (1, 0)), ((1, 0), (0, 0), (1, 0)),
              ((1, 1), (0, 0), (1, 0), (1, 0)))  # fmt: skip
    for order in orders:
        f = compile(run)
        for _ in range(3):
            w = torch.ones(3, requires_grad=True)
            results = f(w, arange(3))
            for i, keep in order:
                yield error(results[i].backward, retain_graph=bool(keep))[:2], w.grad


@scenario("a NaN, then the same NaN, as an argument that steers", "NaN equals nothing", "guard", 4)
def test_nan_steers(compile):
    @compile
    def f(x, v):
        return x + 1 if v != v else (x * v if v > 0 else x - v)

    for v in (math.nan, 1.0, math.nan, -0.0, 0.0, math.inf, -math.inf, math.nan, 2.5, -0.0):
        yield f(arange(3), v), torch.copysign(torch.ones(1), f(torch.zeros(1), v))


@scenario("ABC.register between calls", "isinstance's answer now", "guard", 2)
def test_registered_class(compile):
    class Base(abc.ABC):  # noqa: B024
        pass

    class Other:
        pass

    other = Other()
    f = compile(lambda x: x * 2 if isinstance(other, Base) else x)
    yield f(arange(2))
    Base.register(Other)
    yield f(arange(2))


@scenario("functools.singledispatch gets another function", "the one for the type", "guard", 2)
def test_singledispatch_registered(compile):
    @functools.singledispatch
    def choose(value, x):
        return x

    class Own:
        pass

    own = Own()
    f = compile(lambda x: choose(own, x))
    yield f(arange(2))
    choose.register(Own, lambda value, x: x * 5)
    yield f(arange(2))


@scenario("x.T + 1 kept from call to call in an attribute", "in the order it was computed",
          "input", 2, lost=1, strides=True)  # fmt: skip
def test_kept_in_order(compile):
    held = types.SimpleNamespace(last=None)

    def run(x):
        held.last = x.T + 1
        return held.last.sum()

    f = compile(run)
    for k in range(3):
        yield f(arange(2, 3, start=k)), held.last, held.last.stride()


@scenario("x ** n, n from 1 upwards", "each power", "guard", 5)
def test_whole_powers(compile):
    f = compile(lambda x, n: x**n)
    for n in (1, 2, 3, 2, 4, 5, 6, 1, 3, 7, 8, -1, 0, 9, 2):
        yield f(arange(3, start=0.5), n)
