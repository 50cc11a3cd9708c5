"""More containers, classes and contexts that change between calls, and arguments that share memory.

Invariant: programs use nothing that plain Python functions would not offer.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import types

from scenario import arange, scenario

import tracejit as torch
from tracejit import nn


@scenario("hasattr(Class, 'flag'), set and deleted", "whether it has one", "guard", 2)
def test_class_flag(compile):
    class Options:
        pass

    f = compile(lambda x: x * 2 if hasattr(Options, "flag") else x)
    yield f(arange(2))
    Options.flag = 1
    yield f(arange(2))
    del Options.flag
    yield f(arange(2))


@scenario("d.get(k, 1.0) and k in d of a dict that changes", "what it holds now", "guard", 3)
def test_dict_default(compile):
    d = {}
    f = compile(lambda x: x * d.get("k", 1.0) + ("z" in d))
    yield f(arange(2))
    d["k"] = 3.0
    yield f(arange(2))
    d["z"] = 0
    yield f(arange(2))
    d.clear()
    yield f(arange(2))


@scenario("__instancecheck__ that answers from state", "its answer now", "guard", 2)
def test_instance_check(compile):
    class Meta(type):
        on = False

        def __instancecheck__(cls, value):
            return Meta.on

    class Anything(metaclass=Meta):
        pass

    f = compile(lambda x: x * 2 if isinstance(3, Anything) else x)
    yield f(arange(2))
    Meta.on = True
    yield f(arange(2))


@scenario("Class.__bases__ is assigned", "the new base's method", "guard", 2)
def test_bases(compile):
    class First:
        def m(self, x):
            return x + 1

    class Second:
        def m(self, x):
            return x * 10

    class Own(First):
        pass

    own = Own()
    f = compile(lambda x: own.m(x))
    yield f(arange(2))
    Own.__bases__ = (Second,)
    yield f(arange(2))


@scenario("a frozen dataclass changed by object.__setattr__", "the new field", "guard", 4)
def test_frozen(compile):
    @dataclasses.dataclass(frozen=True)
    class Options:
        k: float = 1.0
        t: object = None

    f = compile(lambda x, o: x * o.k + (0 if o.t is None else o.t))
    options = Options()
    yield f(arange(2), options)
    yield f(arange(2), dataclasses.replace(options, k=3.0))
    options = dataclasses.replace(options, t=torch.ones(2))
    yield f(arange(2), options)
    object.__setattr__(options, "k", 9.0)
    yield f(arange(2), options)


@scenario("a ring of the last three numbers (deque)", "those in it", "guard", 6)
def test_ring(compile):
    ring = collections.deque(maxlen=3)
    f = compile(lambda x: x + sum(ring))
    for k in range(5):
        yield f(arange(2))
        ring.append(float(k))
    ring.rotate(1)
    yield f(arange(2))


@scenario("ChainMap, UserDict and MappingProxyType edited below", "what they hold now", "guard", 5)
def test_maps(compile):
    first, second = {"k": 1.0}, {"k": 2.0, "j": 3.0}
    chain, user = collections.ChainMap(first, second), collections.UserDict(u=2.0)
    proxy = types.MappingProxyType(second)
    f = compile(lambda x: x * chain["k"] + chain["j"] * user["u"] + proxy["j"])
    yield f(arange(2))
    first["j"] = 9.0
    yield f(arange(2))
    del first["k"]
    yield f(arange(2))
    user["u"] = 5.0
    yield f(arange(2))
    second["j"] = 7.0
    yield f(arange(2))


@scenario("context managers that scale and put back", "the scale within", "guard", 2)
def test_scaled(compile):
    state = {"scale": 1.0}

    @contextlib.contextmanager
    def scaled(k):
        before = state["scale"]
        state["scale"] = before * k
        try:
            yield
        finally:
            state["scale"] = before

    def inner(x):
        return x * state["scale"]

    @compile
    def f(x):
        with scaled(2.0), scaled(3.0):
            y = inner(x)
        return y + inner(x)

    for k in (1.0, 5.0, 1.0):
        state["scale"] = k
        yield f(arange(2)), state


@scenario("__exit__ that swallows an error and counts", "the count put back", "guard", 2)
def test_swallowed(compile):
    state = {"depth": 0}

    class Guarded:
        def __enter__(self):
            state["depth"] += 1

        def __exit__(self, kind, value, trace):
            state["depth"] -= 1
            return kind is ValueError

    @compile
    def f(x, bad):
        with Guarded():
            if bad:
                raise ValueError
            x = x * 2
        return x + state["depth"]

    for bad in (False, True, False, True):
        yield f(arange(2), bad), dict(state)


@scenario("parts of one flat parameter as weights", "one gradient, one step", "input", 1)
def test_flat_parameter(compile):
    flat = nn.Parameter(torch.ones(6))
    optimizer = torch.optim.SGD([flat], lr=0.1)
    f = compile(lambda x: (x @ flat[:4].view(2, 2) + flat[4:]).sum())
    for k in range(3):
        optimizer.zero_grad()
        f(arange(1, 2, start=k)).backward()
        optimizer.step()
        yield flat.detach().clone(), flat.grad


@scenario("a tensor and another one, or a view of it, by turns", "the view sees the write",
          "guard", 2)  # fmt: skip
def test_view_by_turns(compile):
    f = compile(lambda a, b: (a.add_(1), b * 2)[1])
    for k in range(6):
        t = arange(4)
        yield f(t, arange(4) if k % 2 else t[:]), t


@scenario("the rank of an argument changes", "by its sizes", "guard", 5)
def test_ranks(compile):
    f = compile(lambda x: x.reshape(x.shape[0], -1).sum(-1) * x.ndim)
    for shape in ((2, 3), (2, 3, 1), (4,), (3, 2), (5, 1, 1, 2)):
        yield f(torch.ones(shape))


@scenario("an argument that is, or is not, a parameter of the net (is)", "whether it is", "guard",
          2)  # fmt: skip
def test_argument_is_parameter(compile):
    net = nn.Linear(2, 2, bias=False)
    f = compile(lambda x: net(x) * 2 if x is net.weight else net(x) * 3)
    with torch.no_grad():
        for x in (torch.ones(2, 2), net.weight, torch.ones(2, 2), net.weight):
            yield f(x)
