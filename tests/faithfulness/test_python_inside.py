"""Python's own machinery at work inside a compiled function, or changed around it.

Invariant: what the language makes of a program is what its compiled form does.
"""

from __future__ import annotations

import builtins
import collections
import decimal
import enum
import fractions
import functools
import operator
import types

import numpy as np
from scenario import arange, error, module, scenario

import tracejit as torch
from tracejit.nn import functional as F


def each(title, gives, does, traces, states, function, **options):
    """A scenario: a function of a tensor and `s`, a namespace, twice after each change of `s`."""

    def program(compile):
        s = types.SimpleNamespace()
        f = compile(lambda x: function(x, s))
        for state in states:
            s.__dict__.update(state)
            yield error(f, arange(3)), error(f, arange(3))

    return scenario(title, gives, does, traces, **options)(program)


class Mode(enum.Enum):
    DOUBLE = 2
    TRIPLE = 3

    def apply(self, x):
        return x * self.value


class Bits(enum.IntFlag):
    A = 1
    B = 2


test_enum = each(
    "an Enum with methods, and an IntFlag",
    "the member's",
    "guard",
    (4, 1),
    [{"m": Mode.DOUBLE, "b": Bits.A}, {"m": Mode.TRIPLE}, {"b": Bits.A | Bits.B}],
    lambda x, s: s.m.apply(x) + (1 if Bits.B in s.b else 0),
)
test_decimal = each(
    "Decimal and Fraction as numbers",
    "their values",
    "guard",
    4,
    [
        {"d": decimal.Decimal("0.1"), "q": fractions.Fraction(1, 3)},
        {"d": decimal.Decimal("0.25")},
        {"q": fractions.Fraction(2, 3)},
        {"q": 3},
    ],
    lambda x, s: x * float(s.d) + float(s.q * 2),
)
test_sets = each(
    "sets and frozensets edited, iterated in order",
    "what is in them",
    "guard",
    3,
    [{"k": {1, 2}}, {"k": {2, 3}}, {"k": frozenset((5,))}],
    lambda x, s: x * sum(sorted(s.k)) + len(s.k),
)
test_dict_order = each(
    "dicts of another order, with other keys, views, OrderedDict",
    "their order",
    "guard",
    4,
    [
        {"d": {"a": 2, "b": 3}},
        {"d": {"b": 3, "a": 2}},
        {"d": {"b": 3, "a": 2, "c": 1}},
        {"d": collections.OrderedDict(a=2, b=3)},
    ],
    lambda x, s: functools.reduce(lambda y, kv: y * kv[1] + len(kv[0]), s.d.items(), x),
)
test_callables = each(
    "a function, a builtin, a method, a partial, a class, an object by turns",
    "what each does",
    "guard",
    8,
    [
        {"f": torch.sin},
        {"f": F.relu},
        {"f": operator.neg},
        {"f": arange(3).add},
        {"f": functools.partial(torch.mul, arange(3))},
        {"f": lambda x: x - 1},
        {"f": types.MethodType(lambda self, x: x * self, 3.0)},
        {"f": operator.methodcaller("sum")},
    ],
    lambda x, s: s.f(x),
)
test_slices = each(
    "slices, ranges, Ellipsis, None and tuples as indices",
    "what they select",
    "guard",
    8,
    [
        {"i": slice(1, 3)},
        {"i": slice(None, None, 2)},
        {"i": ...},
        {"i": None},
        {"i": (0,)},
        {"i": [0, 2]},
        {"i": -1},
        {"i": range(2)},
    ],
    lambda x, s: x[s.i] * 2,
)
test_strings = each(
    "text that selects: an einsum, a mode, an attribute, a format",
    "what it says",
    "guard",
    4,
    [{"e": "i,i->i", "m": "sum"}, {"e": "i,i->"}, {"e": "i,j->ij"}, {"m": "mean"}],
    lambda x, s: (torch.einsum(s.e, x, x), getattr(x, s.m)(), f"{s.m:>6}"),
)
test_numpy_numbers = each(
    "NumPy's scalars as numbers",
    "their promotion",
    "guard",
    5,
    [
        {"n": np.float64(1.5)},
        {"n": np.float64(2.5)},
        {"n": np.float32(2.5)},
        {"n": np.int64(2)},
        {"n": np.bool_(True)},
    ],
    lambda x, s: x * s.n,
)
test_comparison_of_types = each(
    "isinstance against a tuple of classes, issubclass, callable",
    "their answers",
    "guard",
    5,
    [{"v": 1}, {"v": "a"}, {"v": [1]}, {"v": torch.ones(1)}, {"v": len}],
    lambda x, s: x * (2 if isinstance(s.v, (int, str)) else 3) + (5 if callable(s.v) else 0),
)
test_star = each(
    "*args, **kwargs made from state",
    "those now",
    "guard",
    3,
    [
        {"a": (1, 2), "k": {}},
        {"a": (3,), "k": {"b": 4}},
        {"a": (), "k": {"b": 1, "c": 7}},
        {"k": {"d": 1}},
    ],
    lambda x, s: _taking(x, *s.a, **s.k),
)


def _taking(x, a=1, b=2, c=3):
    return x * a + b - c


@scenario("nonlocal and global names written inside", "kept from call to call", "input", 2, lost=1)
def test_written_names(compile):
    count, total = 0, torch.zeros(3)

    def run(x):
        nonlocal count, total
        global _WRITTEN
        count += 1
        _WRITTEN = _WRITTEN + 2
        total = total + x * count
        return total * _WRITTEN

    globals()["_WRITTEN"] = 0
    f = compile(run)
    for _ in range(5):
        yield f(arange(3)), count, total, _WRITTEN


_WRITTEN = 0


@scenario(
    "a closure is changed by another function that closes over it", "the new value", "guard", 4
)
def test_closure_changed_by_sibling(compile):
    def make():
        scale, names = 2.0, ["a"]

        def run(x):
            return x * scale + len(names)

        def change(value):
            nonlocal scale
            scale = value
            names.append("b")

        return run, change

    run, change = make()
    f = compile(run)
    for value in (3.0, 3.0, 4.0, 5.0):
        yield f(arange(3)), f(arange(3))
        change(value)


@scenario("lists appended to, sorted, popped inside; a local list only", "as plain", "eager", 3)
def test_lists_inside(compile):
    shared = [3, 1, 2]

    def run(x):
        local = [x, x * 2]
        local.append(x * 3)
        local.reverse()
        shared.append(shared[0] + 1)
        shared.sort(reverse=True)
        return local.pop() + sum(local) + shared[0]

    f = compile(run)
    for _ in range(4):
        yield f(arange(3)), list(shared)


@scenario(
    "a dict's order is changed inside (move_to_end, pop and set)", "the new order", "eager", 3
)
def test_dict_order_inside(compile):
    table = collections.OrderedDict(a=1.0, b=2.0, c=3.0)

    def run(x):
        table.move_to_end(next(iter(table)))
        for k, v in table.items():
            x = x * v + len(k)
        return x

    f = compile(run)
    for _ in range(4):
        yield f(arange(3)), list(table)


@scenario("a helper of a module is patched, and a builtin", "the patch", "guard", 1)
def test_patched_helpers(compile):
    m = module(
        "def helper(x): return x * 2\ndef run(x): return helper(x) + abs(-1) + len(ascii(1))\n"
    )
    f = compile(m.run)
    yield f(arange(3)), f(arange(3))
    m.helper = lambda x: x * 50
    yield f(arange(3)), f(arange(3))
    m.abs = lambda v: 10
    yield f(arange(3)), f(arange(3))
    del m.abs
    before, builtins.ascii = builtins.ascii, lambda v: "seven77"
    try:
        result = f(arange(3))
    finally:
        builtins.ascii = before
    yield result, f(arange(3))


@scenario("a module is executed again (importlib.reload)", "the new code", "guard", 3)
def test_reloaded(
    compile,
):
    made = module("scale = 2.0\ndef helper(x): return x * scale\n", "reloaded_module")
    f = compile(lambda x: made.helper(x) + made.scale)
    yield f(arange(3)), f(arange(3))
    exec("scale = 3.0\ndef helper(x): return x - scale\n", made.__dict__)
    yield f(arange(3)), f(arange(3))
    exec("def helper(x, k=5.0): return x * k\n", made.__dict__)
    yield f(arange(3)), f(arange(3))


@scenario(
    "a function's __code__, __defaults__, __globals__ names, __wrapped__",
    "the new ones",
    "guard",
    4,
)
def test_function_edited(compile):
    def helper(x, k=2.0):
        return x * k

    def other(x, k=2.0):
        return x + k

    f = compile(lambda x: helper(x))
    yield f(arange(3)), f(arange(3))
    helper.__defaults__ = (3.0,)
    yield f(arange(3)), f(arange(3))
    helper.__code__ = other.__code__
    yield f(arange(3)), f(arange(3))
    helper.__defaults__ = (torch.ones(3),)
    yield f(arange(3)), f(arange(3))
