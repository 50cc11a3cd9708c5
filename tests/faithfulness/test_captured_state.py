"""Python state that a trace has read, changed between calls: globals, cells, attributes, modes.

Invariant: what changes is put back at the end of each program, so that both runs start alike.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import sys
import types

import numpy as np
from scenario import arange, error, module, near, scenario

import tracejit as torch
from tracejit import nn

SCALE = 1
FLOATS = [1.0, 2.0]
TABLE = {"gain": 1.0}
WEIGHT = torch.tensor([1.0, 2.0, 3.0])
FLAG = True
COUNTER = 0


def helper(x):
    return x * 2


def other_helper(x):
    return x - 3


def uses_scale(x):
    return x * SCALE + SCALE


@scenario("a global int is rebound between calls", "the new value", "guard", 2)
def test_global_int(compile):
    global SCALE
    f, x = compile(uses_scale), arange(3)
    for SCALE in (1, 2, 3, 1, 2):
        yield near(f(x), (np.arange(3) * 0.25) * SCALE + SCALE)
    SCALE = 1


@scenario("a global int becomes a float, a bool, a tensor", "dtype promotion of the new type",
          "guard", 4)  # fmt: skip
def test_global_type_changes(compile):
    global SCALE
    f, x = compile(uses_scale), torch.tensor([1, 2, 3])
    for SCALE in (1, 1.0, True, torch.tensor([5, 6, 7])):
        yield f(x)
    SCALE = 1


@scenario("a global 0.0 becomes -0.0 and NaN", "the sign of zero and NaN", "guard", 2)
def test_global_negative_zero(compile):
    space = module("k = 0.0\ndef f(x): return x * k, k")
    f, x = compile(space.f), arange(3, start=1.0)
    for space.k in (0.0, -0.0, math.nan, 0.0, -0.0, math.nan):
        yield f(x)


@scenario("a global tensor is rebound to another of the same shape", "the new tensor", "input", 1)
def test_global_tensor_rebound(compile):
    global WEIGHT
    before = WEIGHT

    def run(x):
        return x * WEIGHT

    f, x = compile(run), arange(3)
    for k in (1.0, 2.0, 3.0):
        WEIGHT = torch.tensor([k, k + 1, k * 2])
        yield f(x)
    WEIGHT = before


@scenario("a global tensor is rebound to another shape and dtype", "the new tensor", "guard", 3)
def test_global_tensor_type(compile):
    space = module("w = None\ndef f(x): return x * w")
    f, x = compile(space.f), arange(2, 3)
    for space.w in (arange(3), arange(2, 1, dtype=torch.float64), torch.tensor([1, 2, 3])):
        yield f(x)


@scenario("a global tensor is changed in place", "its new contents", "input", 1)
def test_global_tensor_in_place(compile):
    space = module("w = None\ndef f(x): return x * w")
    space.w = arange(3)
    f, x = compile(space.f), arange(3)
    for _ in range(3):
        yield f(x)
        space.w += 1


@scenario("a global counter is incremented between calls", "the new value", "guard", 2)
def test_global_counter(compile):
    global COUNTER
    COUNTER = 0

    def run(x):
        return x + COUNTER

    f = compile(run)
    for _ in range(4):
        yield f(arange(3))
        COUNTER += 1


@scenario("an item of a global list is changed", "the new item", "guard", 2)
def test_list_item(compile):
    def run(x):
        return x * FLOATS[0] + FLOATS[-1]

    f = compile(run)
    for k in (1.0, 5.0, 7.0, 5.0):
        FLOATS[0] = k
        yield f(arange(3))
    FLOATS[0] = 1.0


@scenario("a global list grows and shrinks; the function sums it", "all items", "guard", 3)
def test_list_length(compile):
    space = module("items = [1.0]\ndef f(x):\n    for k in items: x = x * k\n    return x")
    f = compile(space.f)
    yield f(arange(3, start=1))
    space.items.append(3.0)
    yield f(arange(3, start=1))
    space.items.pop()
    yield f(arange(3, start=1))
    space.items.clear()
    yield f(arange(3, start=1))


@scenario("an item of a global dict is changed, added, removed", "KeyError or the new item", "guard", 3)
def test_dict_item(compile):
    def run(x):
        return x * TABLE["gain"] + TABLE.get("bias", 10.0)

    f = compile(run)
    yield f(arange(3))
    TABLE["gain"] = 2.0
    yield f(arange(3))
    TABLE["bias"] = 0.5
    yield f(arange(3))
    del TABLE["bias"]
    yield f(arange(3))
    del TABLE["gain"]
    yield error(f, arange(3))
    TABLE["gain"] = 1.0
    yield f(arange(3))


@scenario("the order of a dict that is iterated changes", "the new order", "guard", 2)
def test_dict_order(compile):
    space = module(
        "d = {'a': 2.0, 'b': 3.0}\ndef f(x):\n    for k in d.values(): x = x * k + 1\n    return x")
    f = compile(space.f)
    yield f(arange(3))
    space.d = {"b": 3.0, "a": 2.0}
    yield f(arange(3))
    space.d = {"a": 2.0, "b": 3.0}
    yield f(arange(3))


@scenario("nested containers of a global change deep inside", "the new value", "guard", 3)
def test_nested_containers(compile):
    space = module("cfg = {'layers': [{'gain': 1.0}, {'gain': 2.0}]}\n"
                   "def f(x): return sum(x * l['gain'] for l in cfg['layers'])")  # fmt: skip
    f = compile(space.f)
    yield f(arange(3))
    space.cfg["layers"][1]["gain"] = 5.0
    yield f(arange(3))
    space.cfg["layers"].append({"gain": 1.5})
    yield f(arange(3))
    space.cfg["layers"].pop()
    yield f(arange(3))


@scenario("a set and a frozenset of options change", "the new membership", "guard", 2)
def test_sets(compile):
    space = module("opts = {'relu'}\ndef f(x): return x.relu() if 'relu' in opts else x")
    f, x = compile(space.f), arange(3, start=-0.5)
    yield f(x)
    space.opts.discard("relu")
    yield f(x)
    space.opts.add("relu")
    yield f(x)


@scenario("a helper function is rebound", "the new function", "guard", 2)
def test_helper_rebound(compile):
    global helper
    before = helper

    def run(x):
        return helper(x)

    f = compile(run)
    yield f(arange(3))
    helper = other_helper
    yield f(arange(3))
    helper = before
    yield f(arange(3))


@scenario("a helper's __code__, defaults and attributes are replaced", "the new behaviour", "guard", 4)
def test_helper_code(compile):
    space = module("def g(x, k=2.0): return x * k + getattr(g, 'extra', 0)\ndef f(x): return g(x)")
    f = compile(space.f)
    yield f(arange(3))
    space.g.__defaults__ = (5.0,)
    yield f(arange(3))
    space.g.extra = 10
    yield f(arange(3))
    space.g.__code__ = (lambda x, k: x - k).__code__
    yield f(arange(3))


@scenario("the compiled function's own defaults are replaced", "the new defaults", "guard", 3)
def test_own_defaults(compile):
    space = module("def f(x, k=2.0, *, m=1.0): return x * k + m")
    f = compile(space.f)
    yield f(arange(3))
    space.f.__defaults__ = (3.0,)
    yield f(arange(3))
    space.f.__kwdefaults__ = {"m": 7.0}
    yield f(arange(3))


@scenario("a mutable default argument is mutated by the caller", "the new items", "guard", 2)
def test_mutable_default(compile):
    space = module("def f(x, ks=[1.0]): return x * sum(ks)")
    f = compile(space.f)
    yield f(arange(3))
    space.f.__defaults__[0].append(2.0)
    yield f(arange(3))


@scenario("a closure cell is rebound with nonlocal", "the new value", "guard", 2)
def test_closure_cell(compile):
    k = 1.0

    def run(x):
        return x * k

    def change(value):
        nonlocal k
        k = value

    f = compile(run)
    for value in (1.0, 2.0, 3.0, 2.0):
        change(value)
        yield f(arange(3))


@scenario("a closure cell holds a tensor that is rebound", "the new tensor", "input", 1)
def test_closure_tensor(compile):
    w = arange(3)

    def run(x):
        return x * w

    f = compile(run)
    for k in range(3):
        w = arange(3, start=k)
        yield f(arange(3))


@scenario("two closures over different functions share no trace", "each its own", "guard", 2)
def test_two_closures(compile):
    def make(op):
        def run(x):
            return op(x)

        return compile(run)

    f, g = make(torch.exp), make(torch.sin)
    for _ in range(3):
        yield near(f(arange(3)), np.exp(np.arange(3) * 0.25))
        yield near(g(arange(3)), np.sin(np.arange(3) * 0.25))


@scenario("a closure over an operator is rebound to another", "the new operator", "guard", 2)
def test_closure_operator(compile):
    import operator

    op = operator.add

    def run(x, y):
        return op(x, y)

    f = compile(run)
    yield f(arange(3), arange(3, start=2))
    op = operator.mul
    yield f(arange(3), arange(3, start=2))
    op = operator.add
    yield f(arange(3), arange(3, start=2))


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


@scenario("an instance attribute shadows a class attribute, then goes", "Python's lookup", "guard", 2)
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


@scenario("a global looked up by a name made at run time", "the present value", "guard", 2)
def test_dynamic_global(compile):
    space = module("k1 = 2.0\ndef f(x): return x * globals()['k' + '1']")
    f = compile(space.f)
    yield f(arange(3))
    space.k1 = 9.0
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


@scenario("an item of another module's namespace changes", "the present value", "guard", 2)
def test_module_attribute(compile):
    settings = module("gain = 1.0", "settings")
    sys.modules["settings_of_test"] = settings
    space = module("import settings_of_test as s\ndef f(x): return x * s.gain")
    f = compile(space.f)
    yield f(arange(3))
    settings.gain = 4.0
    yield f(arange(3))
    del sys.modules["settings_of_test"]


@scenario("a name imported inside the function", "the present value", "guard", 2)
def test_import_inside(compile):
    settings = module("gain = 1.0", "settings")
    sys.modules["settings_of_test"] = settings
    space = module("def f(x):\n    from settings_of_test import gain\n    return x * gain")
    f = compile(space.f)
    yield f(arange(3))
    settings.gain = 4.0
    yield f(arange(3))
    del sys.modules["settings_of_test"]


@scenario("a builtin is shadowed by a new global", "the new global", "guard", 2)
def test_builtin_shadowed(compile):
    space = module("def f(x): return x * max(1.0, 3.0)")
    f = compile(space.f)
    yield f(arange(3))
    space.max = min
    yield f(arange(3))
    del space.max
    yield f(arange(3))


@scenario("a branch on a Python flag that is flipped", "the branch of the flag", "guard", 2)
def test_flag(compile):
    global FLAG

    def run(x):
        return x.exp() if FLAG else x.sin()

    f = compile(run)
    for FLAG in (True, False, True, False):
        yield f(arange(3))
    FLAG = True


@scenario("a small NumPy array that the function reads is changed", "its contents", "guard", 2)
def test_numpy_global(compile):
    table = np.array([1.0, 2.0])

    def run(x):
        return x * float(table[0])

    f = compile(run)
    yield f(arange(3))
    table[0] = 5.0
    yield f(arange(3))


@scenario("a deque, a Counter and a defaultdict change", "their contents", "guard", 4)
def test_collections(compile):
    queue = collections.deque([1.0], maxlen=2)
    count = collections.Counter(a=1)
    table = collections.defaultdict(float, a=1.0)

    def run(x):
        return x * queue[0] + count["a"] + table["a"]

    f = compile(run)
    yield f(arange(3))
    queue.appendleft(4.0)
    yield f(arange(3))
    count["a"] = 10
    yield f(arange(3))
    table["a"] = 0.5
    yield f(arange(3))


@scenario("train() and eval() toggled after compile", "dropout on and off", "guard", 2)
def test_train_eval(compile):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    f, x = compile(model), arange(5, 3)
    for mode in (True, False, True, False):
        model.train(mode)
        yield f(x)
        yield model[2].running_mean


@scenario("the train flag of one inner module toggled", "only that one changes", "guard", 2)
def test_inner_train(compile):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3))

    def run(x):
        return model(x)

    f, x = compile(run), arange(5, 3)
    yield f(x)
    model[0].eval()
    yield f(x)
    model[0].train()
    yield f(x)


@scenario("no_grad and enable_grad toggled around calls", "requires_grad of the result", "guard", 2)
def test_no_grad(compile):
    w = torch.ones(3, requires_grad=True)
    f = compile(lambda x: x * w)
    for context in (contextlib.nullcontext, torch.no_grad, torch.enable_grad, torch.inference_mode):
        with context():
            yield f(arange(3))


@scenario("no_grad used inside the function", "a detached part", "input", 1)
def test_no_grad_inside(compile):
    w = torch.ones(3, requires_grad=True)

    def run(x):
        with torch.no_grad():
            a = x * w
        return a * w

    f = compile(run)
    for k in range(3):
        y = f(arange(3, start=k))
        y.sum().backward()
        yield y, w


@scenario("the default dtype is changed", "factories follow it", "guard", 2)
def test_default_dtype(compile):
    f = compile(lambda x: x + torch.ones(3))
    try:
        for kind in (torch.float32, torch.float64, torch.float32):
            torch.set_default_dtype(kind)
            yield f(torch.tensor([1, 2, 3]))
    finally:
        torch.set_default_dtype(torch.float32)


@scenario("a Module's parameter is replaced, frozen, and changed in place", "the new state", "guard", 2)
def test_parameter_changes(compile):
    model = nn.Linear(3, 2)
    f, x = compile(model), arange(4, 3)
    yield f(x)
    model.weight = nn.Parameter(torch.ones(2, 3))
    yield f(x)
    model.weight.requires_grad_(False)
    yield f(x)
    with torch.no_grad():
        model.bias.zero_()
    yield f(x)
    model.weight.requires_grad_(True)
    yield f(x)


@scenario("a submodule is replaced", "the new submodule", "guard", 2)
def test_submodule_replaced(compile):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    f, x = compile(model), arange(4, 3, start=-1.0)
    yield f(x)
    model[1] = nn.Tanh()
    yield f(x)


@scenario("a plain attribute of a Module is changed", "the new value", "guard", 2)
def test_module_plain_attribute(compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.k = 1.0

        def forward(self, x):
            return x * self.k

    model = Net()
    f = compile(model)
    yield f(arange(3))
    model.k = 2.0
    yield f(arange(3))
    model.k = 1.0
    yield f(arange(3))


@scenario("a list held by a Module is mutated", "the new items", "guard", 2)
def test_module_list_attribute(compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gains = [1.0, 2.0]

        def forward(self, x):
            return x * sum(self.gains)

    model = Net()
    f = compile(model)
    yield f(arange(3))
    model.gains.append(4.0)
    yield f(arange(3))


@scenario("hooks are registered and removed", "hooks run", "guard", 4)
def test_hooks(compile):
    model = nn.Linear(3, 3)
    f, x = compile(model), arange(2, 3)
    yield f(x)
    handle = model.register_forward_hook(lambda m, a, out: out * 2)
    yield f(x)
    handle.remove()
    yield f(x)
    model.register_forward_pre_hook(lambda m, a: (a[0] + 1,))
    yield f(x)


@scenario("load_state_dict between calls", "the loaded values", "input", 1)
def test_load_state_dict(compile):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    f, x = compile(model), arange(4, 3)
    yield f(x)
    model.load_state_dict(other.state_dict())
    yield f(x)
    yield other(x)


@scenario("arguments named inf, nan, t0, self, K0, state, MISS", "nothing special", "input", 1)
def test_odd_names(compile):
    space = module("def f(inf, nan, t0, K0, state, MISS, d, v, a0): "
                   "return inf + nan * t0 - K0 + state + MISS * d + v - a0")  # fmt: skip
    f = compile(space.f)
    for k in range(2):
        yield f(*[arange(3, start=i + k) for i in range(9)])


@scenario("an enum, a string and None as arguments", "what they select", "guard", 4)
def test_odd_constants(compile):
    import enum

    class Mode(enum.Enum):
        SOFT = 1
        HARD = 2

    def run(x, mode, name=None):
        y = x.tanh() if mode is Mode.SOFT else x.relu()
        return y if name is None else getattr(y, name)()

    f, x = compile(run), arange(3, start=-0.3)
    yield f(x, Mode.SOFT)
    yield f(x, Mode.HARD)
    yield f(x, Mode.HARD, "exp")
    yield f(x, Mode.SOFT, "sin")
    yield f(x, Mode.SOFT)
