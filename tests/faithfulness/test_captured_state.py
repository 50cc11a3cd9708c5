"""Python state that a trace has read, changed between calls: globals, cells, attributes, modes.

Invariant: what changes is put back at the end of each program, so that both runs start alike.
"""

from __future__ import annotations

import collections
import math
import sys
import types

import numpy as np
from scenario import arange, error, module, near, scenario

import tracejit as torch

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
    for SCALE in (1, 1.0, True, torch.tensor([5, 6, 7])):  # noqa: B007  (the function reads it)
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


@scenario(
    "an item of a global dict is changed, added, removed", "KeyError or the new item", "guard", 3
)
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
        "d = {'a': 2.0, 'b': 3.0}\ndef f(x):\n    for k in d.values(): x = x * k + 1\n    return x"
    )
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


@scenario(
    "a helper's __code__, defaults and attributes are replaced", "the new behaviour", "guard", 4
)
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


@scenario("a global looked up by a name made at run time", "the present value", "guard", 2)
def test_dynamic_global(compile):
    space = module("k1 = 2.0\ndef f(x): return x * globals()['k' + '1']")
    f = compile(space.f)
    yield f(arange(3))
    space.k1 = 9.0
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
    for FLAG in (True, False, True, False):  # noqa: B007  (the function reads it)
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


@scenario("a defaultdict's key is gone, and the function fails before that", "no key appears",
          "guard", 1)  # fmt: skip
def test_defaultdict_is_left_alone(compile):
    table = collections.defaultdict(lambda: torch.ones(3), a=arange(3))

    def run(x):
        return x.reshape(3) * table["a"]

    f = compile(run)
    yield f(arange(3)), list(table)
    table.clear()
    yield error(f, arange(2)), list(table)


@scenario("arguments named inf, nan, t0, self, K0, state, MISS", "nothing special", "input", 1)
def test_odd_names(compile):
    space = module("def f(inf, nan, t0, K0, state, MISS, d, v, a0): "
                   "return inf + nan * t0 - K0 + state + MISS * d + v - a0")  # fmt: skip
    f = compile(space.f)
    for k in range(2):
        yield f(*[arange(3, start=i + k) for i in range(9)])


@scenario("names and keys that look like code", "strings, nothing more", "guard", 2)
def test_strings_that_look_like_code(compile):
    name = 'x"]\nraise SystemExit(1)  #'
    table = {name: 2.0, "'": 3.0, "{0}": 4.0, "\\": 5.0}
    thing = types.SimpleNamespace()
    setattr(thing, name, 6.0)
    f = compile(
        lambda x, **given: x * table[name] + getattr(thing, name) + given[name] + table["'"]
    )
    for k in (2.0, 7.0, 2.0):
        table["\\"] = k
        yield f(arange(3), **{name: arange(3), "__import__('os')": arange(3)})


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
