"""Attributes, methods, classes and properties of objects, changed between calls.

Invariant: what changes is put back at the end of each program, so that both runs start alike.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import types

from scenario import arange, scenario

import tracejit as torch


class Plain:
    gain = 2.0

    def __init__(self, bias):
        self.bias = bias

    def shift(self, x):
        return x * self.gain + self.bias


@scenario("an attribute of a plain object is changed", "the new value", "guard", 2)
def test_plain_attribute(compile):
    thing = Plain(1.0)

    def run(x):
        return x + thing.bias

    f = compile(run)
    for thing.bias in (1.0, 2.0, 4.0, 1.0):
        yield f(arange(3))


@scenario("an attribute written inside the function", "visible after each call", "input", 2, lost=1)
def test_attribute_written(compile):
    thing = Plain(1.0)

    def run(x):
        thing.last = x * 2
        return x + 1

    thing.last = None
    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k))
        yield thing.last


@scenario("a new attribute is created inside the function", "visible after each call", "eager", 3)
def test_attribute_created(compile):
    thing = Plain(1.0)

    def run(x):
        thing.fresh = x * 2
        return x + 1

    f = compile(run)
    for k in range(4):
        yield f(arange(3, start=k))
        yield thing.fresh
        del thing.fresh


@scenario(
    "an instance attribute shadows a class attribute, then goes", "Python's lookup", "guard", 2
)
def test_instance_shadows_class(compile):
    thing = Plain(0.0)

    def run(x):
        return x * thing.gain

    f = compile(run)
    yield f(arange(3))
    thing.gain = 5.0
    yield f(arange(3))
    del thing.gain
    yield f(arange(3))


@scenario("a class attribute is changed", "the new value", "guard", 2)
def test_class_attribute(compile):
    thing = Plain(0.0)
    f = compile(thing.shift)
    yield f(arange(3))
    Plain.gain = 7.0
    yield f(arange(3))
    Plain.gain = 2.0
    yield f(arange(3))


@scenario("a method of the class is replaced", "the new method", "guard", 2)
def test_method_replaced(compile):
    class Local:
        def act(self, x):
            return x * 2

    thing = Local()

    def run(x):
        return thing.act(x)

    f = compile(run)
    yield f(arange(3))
    Local.act = lambda self, x: x - 1
    yield f(arange(3))


@scenario("a method is shadowed by an instance attribute", "the instance's function", "guard", 2)
def test_method_shadowed(compile):
    class Local:
        def act(self, x):
            return x * 2

    thing = Local()

    def run(x):
        return thing.act(x)

    f = compile(run)
    yield f(arange(3))
    thing.act = lambda x: x - 1
    yield f(arange(3))
    del thing.act
    yield f(arange(3))


@scenario("a base class gets an attribute that was found further up", "Python's lookup", "guard", 2)
def test_mro_change(compile):
    class A:
        k = 1.0

    class B(A):
        pass

    thing = B()

    def run(x):
        return x * thing.k

    f = compile(run)
    yield f(arange(3))
    B.k = 3.0
    yield f(arange(3))


@scenario("an object's __class__ is reassigned", "the new class", "guard", 2)
def test_class_reassigned(compile):
    class A:
        def act(self, x):
            return x + 1

    class B:
        def act(self, x):
            return x * 3

    thing = A()

    def run(x):
        return thing.act(x)

    f = compile(run)
    yield f(arange(3))
    thing.__class__ = B
    yield f(arange(3))


@scenario("two bound methods of one class", "each its own instance", "guard", 2)
def test_bound_methods(compile):
    a, b = Plain(1.0), Plain(100.0)
    f, g = compile(a.shift), compile(b.shift)
    for k in range(3):
        yield f(arange(3, start=k))
        yield g(arange(3, start=k))


@scenario("one decorated method called on two instances", "each its own instance", "guard", 2)
def test_method_shared(compile):
    class Local:
        def __init__(self, k):
            self.k = k

        def act(self, x):
            return x * self.k

    Local.act = compile(Local.act)
    a, b = Local(2.0), Local(3.0)
    for k in range(3):
        yield a.act(arange(3, start=k))
        yield b.act(arange(3, start=k))


@dataclasses.dataclass
class Settings:
    gain: float
    names: list = dataclasses.field(default_factory=list)


class Slotted:
    __slots__ = ("gain", "weight")


@scenario("a field of a dataclass argument changes", "the new value", "guard", 4)
def test_dataclass(compile):
    def run(x, s):
        return x * s.gain + len(s.names)

    f, s = compile(run), Settings(1.0)
    yield f(arange(3), s)
    s.gain = 3.0
    yield f(arange(3), s)
    s.names.append("a")
    yield f(arange(3), s)
    yield f(arange(3), Settings(3.0, ["b"]))


@scenario("an attribute in __slots__ changes", "the new value", "guard", 2)
def test_slots(compile):
    def run(x):
        return x * s.gain + s.weight

    s = Slotted()
    s.gain, s.weight = 1.0, arange(3)
    f = compile(run)
    yield f(arange(3))
    s.gain = 2.0
    yield f(arange(3))
    s.weight = arange(3, start=9)
    yield f(arange(3))


@scenario("a property computes from a hidden attribute", "the computed value", "guard", 2)
def test_property(compile):
    class Local:
        _k = 1.0

        @property
        def k(self):
            return self._k * 2

    thing = Local()

    def run(x):
        return x * thing.k

    f = compile(run)
    yield f(arange(3))
    thing._k = 5.0
    yield f(arange(3))


@scenario("__getattr__ computes an attribute from a dict", "the computed value", "guard", 2)
def test_getattr_hook(compile):
    class Local:
        def __init__(self):
            self.store = {"k": 2.0}

        def __getattr__(self, name):
            return self.__dict__["store"][name]

    thing = Local()

    def run(x):
        return x * thing.k

    f = compile(run)
    yield f(arange(3))
    thing.store["k"] = 5.0
    yield f(arange(3))


@scenario("getattr with a name made at run time", "the attribute of that name", "guard", 3)
def test_dynamic_getattr(compile):
    class Local:
        k1, k2 = 2.0, 3.0

    space = types.SimpleNamespace(which="1")

    def run(x):
        return x * getattr(Local, "k" + space.which)

    f = compile(run)
    yield f(arange(3))
    Local.k1 = 9.0
    yield f(arange(3))
    space.which = "2"
    yield f(arange(3))


@scenario("a global dict read through vars() and __dict__", "the present value", "guard", 2)
def test_vars(compile):
    thing = Plain(1.0)

    def run(x):
        return x * vars(thing)["bias"] + thing.__dict__["bias"]

    f = compile(run)
    yield f(arange(3))
    thing.bias = 3.0
    yield f(arange(3))


_PER_THREAD = threading.local()


@scenario("attributes of a threading.local, which differ between threads", "each thread's own",
          "guard", 3)  # fmt: skip
def test_thread_local(compile):
    def run(x):
        return x * _PER_THREAD.scale if hasattr(_PER_THREAD, "scale") else x + 1

    f = compile(run)
    for scale in (2.0, 2.0, 3.0):
        _PER_THREAD.scale = scale
        yield f(arange(3))
    found = []
    thread = threading.Thread(target=lambda: found.append(f(arange(3))))
    thread.start()
    thread.join()
    yield found[0]
    yield f(arange(3))


class Agent(torch.nn.Module):
    """As programs of reinforcement learning write it: a network and what it has seen."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.rewards = []
        self.memory = collections.deque(maxlen=4)

    def forward(self, x):
        return x * self.scale

    def counted(self, x):
        return x * self.scale * len(self.rewards)

    def emptied(self, x):
        self.rewards = []
        return x * self.scale


@scenario("lists that __init__ makes and the code never looks into grow", "the same", "input", 1)
def test_lists_beside_the_network(compile):
    agent = Agent()
    f = compile(agent)
    for i in range(6):
        yield f(arange(3))
        agent.rewards.append(float(i))
        agent.memory.append(object())


@scenario("a list that the code asks the length of grows", "the new length", "guard", 4)
def test_list_that_is_counted(compile):
    agent = Agent()
    f = compile(agent.counted)
    for i in range(4):
        agent.rewards.append(float(i))
        yield f(arange(3))


@scenario("a list that the code only replaces", "the new list after each call", "eager", 3, lost=3)
def test_list_that_is_replaced(compile):
    agent = Agent()
    f = compile(agent.emptied)
    for i in range(3):
        agent.rewards.append(float(i))
        yield f(arange(3)), list(agent.rewards)
