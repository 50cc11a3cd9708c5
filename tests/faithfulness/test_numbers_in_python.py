"""What Python code makes of a number or a size that varies: it is told the plain number, always.

Invariant: whatever cannot be an input of a trace is a guard on the number itself.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import fractions
import functools
import json
import math
import operator
import pickle
import statistics
import struct

import numpy as np
from scenario import arange, error, scenario

import tracejit as torch

NUMBERS = (0.5, 1.5, 2.5, 0.5, 1, 2, 3, 1, True)


def number(title, gives, does, traces, function, values=NUMBERS, **options):
    """A scenario: a function of a tensor and of a number that varies."""

    def program(compile):
        f = compile(function)
        for value in values:
            yield error(f, arange(3), value)

    return scenario(title, gives, does, traces, **options)(program)


def size(title, gives, does, traces, function, **options):
    """A scenario: a function of a tensor whose first size varies."""

    def program(compile):
        f = compile(function)
        for rows in (4, 2, 7, 3, 4):
            yield error(f, arange(rows, 2))

    return scenario(title, gives, does, traces, **options)(program)


test_type = number(
    "type(n), n.__class__, isinstance(n, float), a dict of types",
    "its type",
    "guard",
    7,
    lambda x, n: (
        x * n,
        type(n).__name__,
        n.__class__ is int,
        isinstance(n, (float, bool)),
        {int: 1, float: 2, bool: 3}[type(n)],
        type(n)(2.7),
    ),
)
test_isinstance = number(
    "isinstance(n, int), isinstance(n, float) without type()",
    "the way of the type",
    "guard",
    5,
    lambda x, n: (x * n if isinstance(n, int) else x + n, isinstance(n, float), hasattr(n, "hex")),
)
test_dispatch = number(
    "functools.singledispatch on a number",
    "the function of its type",
    "guard",
    4,
    lambda x, n: _kind_of(n) * x + n,
)
test_text = number(
    "repr(n), f'{n:.3f}', '%d' % n, str([n])",
    "its text",
    "guard",
    7,
    lambda x, n: (x * n, repr(n), f"{n:.3f}", "%d" % n, str([n, (n,)]), "{:>5}".format(n)),  # noqa: UP031, UP032
)
test_hash = number(
    "hash(n), d[n], {n}, n in (1, 1.5)",
    "those of the number",
    "guard",
    7,
    lambda x, n: (x * n, hash(n), {0.5: 1, 1: 2}.get(n, 9), len({n, 1, 2.0}), n in (1, 1.5)),
)
test_json = number(
    "json.dumps(n), Decimal(n), Fraction(n), statistics",
    "the text of the number",
    "guard",
    7,
    lambda x, n: (
        x * n,
        json.dumps([n, {"a": n}]),
        str(decimal.Decimal(n)),
        str(fractions.Fraction(n)),
        statistics.mean([n, 2.0]),
    ),
)
test_imported = number(
    "a library imported by a name in a string",
    "what it makes of it",
    "guard",
    7,
    lambda x, n: (x * n, __import__("json").dumps(n)),
)
test_timedelta = number(
    "datetime.timedelta(seconds=n)",
    "the time",
    "guard",
    7,
    lambda x, n: (x * n, str(datetime.timedelta(seconds=n))),
)
test_math = number(
    "math.exp, sqrt, log, pow, floor, ceil, trunc, fmod, isclose",
    "Python's values",
    "guard",
    7,
    lambda x, n: (
        x * math.exp(n),
        math.sqrt(n),
        math.log(n),
        math.pow(n, 2),
        math.floor(n),
        math.ceil(n),
        math.trunc(n),
        math.fmod(n, 2),
        math.isclose(n, 2.0),
        math.copysign(1, n),
        math.modf(n),
        math.fsum([n, n]),
        math.isnan(n),
    ),
)
test_whole_math = number(
    "math.gcd, comb, isqrt, factorial of an int; a float is refused",
    "as plain",
    "guard",
    4,
    lambda x, n: (x * n, math.gcd(n, 6), math.comb(5, n), math.isqrt(n), math.factorial(n)),
)
test_round = number(
    "round(n), round(n, 1), int(n), float(n), bool(n), complex(n)",
    "as plain",
    "guard",
    7,
    lambda x, n: (
        x * n,
        round(n),
        round(n, 1),
        round(n * 1.26, 1),
        int(n * 3),
        float(n),
        bool(n),
        complex(n),
    ),
)
test_divmod = number(
    "divmod, //, % with a number",
    "Python's",
    "guard",
    4,
    lambda x, n: (x * (n % 3), divmod(n, 2), divmod(7, n), x * (n // 2)),
)
test_parts = number(
    "n.real, n.hex(), n.as_integer_ratio(), float.is_integer(n)",
    "as plain",
    "guard",
    7,
    lambda x, n: (
        x * n,
        n.real,
        n.imag,
        n.conjugate(),
        n.as_integer_ratio(),
        float.is_integer(float(n)),
        n.hex() if isinstance(n, float) else n.bit_length(),
    ),
)
test_unbound = number(
    "int.bit_length(n), int.__add__(n, 1): methods of the class",
    "as plain",
    "guard",
    4,
    lambda x, n: (x * n, int.bit_length(n), int.__add__(n, 1)),
)
test_index = number(
    "x[:n], range(n), [1, 2, 3][n], 'ab' * n, operator.index(n)",
    "as plain",
    "guard",
    4,
    lambda x, n: (x[:n] * n, list(range(n)), [7, 8, 9, 10][n], "ab" * n, operator.index(n)),
)
test_bits = number(
    "n & 3, n | 4, n ^ 1, n << 2, ~n, 5 & n, hex(n), pow(n, 2, 5)",
    "as plain",
    "guard",
    4,
    lambda x, n: (x * n, n & 3, n | 4, n ^ 1, n << 2, n >> 1, ~n, 5 & n, hex(n), pow(n, 2, 5)),
)
test_order = number(
    "min, max, sorted, sum, any, chains of comparisons",
    "as plain",
    "guard",
    7,
    lambda x, n: (
        x * min(n, 2),
        max(n, 1.5),
        sorted([3, n, 1]),
        sum([n, 1]),
        any([n, 0]),
        0 < n < 2,
        n == "a",
        n is None,
    ),
)
test_copies = number(
    "copy, deepcopy and pickle of a number",
    "the number",
    "eager",
    1,
    lambda x, n: (x * n, copy.copy(n), copy.deepcopy([n]), pickle.loads(pickle.dumps([n]))),
)
test_numpy = number(
    "np.sqrt(n), np.array([n]), np.float32(n), np.arange(3) * n",
    "as plain",
    "guard",
    7,
    lambda x, n: (
        x * n,
        float(np.sqrt(n)),
        np.array([n]).tolist(),
        np.float32(n).item(),
        (np.arange(3) * n).tolist(),
        (np.float64(2) * n).item(),
        struct.pack("d", n),
    ),
)
test_reduced = number(
    "functools.reduce, partial, default arguments, operator.mul",
    "as plain",
    "guard",
    4,
    lambda x, n: (
        functools.partial(torch.mul, x)(n),
        (lambda y, k=n: y * k)(x),
        functools.reduce(lambda a, b: a * b, [n, n, 2]) * x,
        operator.mul(n, 2),
    ),
)
test_matched = number(
    "match on a number, by value and by class",
    "the case",
    "guard",
    5,
    lambda x, n: _matched(x, n),
)

test_size_type = size(
    "type(x.shape[0]), its __class__, isinstance",
    "int",
    "guard",
    4,
    lambda x: (x * 2, type(x.shape[0]) is int, type(len(x)).__name__, x.size(0).__class__ is int),
)
test_size_json = size(
    "json.dumps(x.shape), Decimal, Fraction of a size",
    "its text",
    "guard",
    4,
    lambda x: (
        x * 2,
        json.dumps(list(x.shape)),
        str(decimal.Decimal(x.size(0))),
        str(fractions.Fraction(x.size(0), 3)),
    ),
)
test_size_bits = size(
    "size & 3, 1 << size, ~size, round(size), divmod(7, size)",
    "as plain",
    "guard",
    4,
    lambda x: (
        x * (x.size(0) & 3),
        x.size(0) | 4,
        1 << x.size(0),
        ~x.size(0),
        round(x.size(0)),
        round(x.size(0), -1),
        divmod(7, x.size(0)),
        math.floor(x.size(0) / 3),
    ),
)
test_size_numpy = size(
    "np.sqrt(size), np.prod(x.shape), int.bit_length(size)",
    "as plain",
    "guard",
    4,
    lambda x: (
        x * 2,
        float(np.sqrt(x.size(0))),
        int(np.prod(x.shape)),
        int.bit_length(x.size(0)),
        (np.arange(3) * x.size(0)).tolist(),
    ),
)
test_size_tensor = size(
    "tensor(x.shape), tensor(x.size(0)), x.t().contiguous().stride()",
    "as plain",
    "guard",
    4,
    lambda x: (
        torch.tensor(x.shape),
        torch.tensor(x.size(0)),
        x.t().contiguous().stride(),
        x.stride(),
        x.t().stride(),
    ),
)
test_size_key = size(
    "a size as a key, in a set, in a text, a length of lists",
    "as plain",
    "guard",
    4,
    lambda x: (
        x * {4: 1, 2: 3}.get(x.size(0), 7),
        {x.shape: 1},
        f"{x.size(0):03d}",
        [0] * x.size(0),
        math.prod(x.shape),
        sorted(x.shape),
    ),
)


@functools.singledispatch
def _kind_of(n):
    return 0


@_kind_of.register
def _(n: int):
    return 1


@_kind_of.register
def _(n: float):
    return 2


def _matched(x, n):
    match n:
        case 0.5 | 1:
            return x * 10
        case float():
            return x * n
        case int(v):
            return x + v


@scenario("a is b, of numbers that are arguments", "whether they are one object", "guard", 6)
def test_identity(compile):
    f = compile(lambda x, a, b: (x * a + b, a is b))
    for a, b in ((0.5, 0.25), (1.5, 0.75), (2.5, 3.5)):
        yield f(arange(3), a, b)
        yield f(arange(3), a, a)
        yield f(arange(3), float(str(a)), a)


@scenario("an argument that is the default by identity", "whether it is that object", "guard", 4)
def test_identity_of_default(compile):
    default = 0.125

    def run(x, a=default):
        return x * a if a is default else x * a + 100

    f = compile(run)
    for a in (0.5, 0.25, default, float("0.125"), 0.75, default):
        yield f(arange(3), a), f(arange(3))


@scenario("json, round and type of x.item()", "those of the number", "branch", 4)
def test_item_in_python(compile):
    f = compile(
        lambda x: (
            x * 2,
            json.dumps(x.sum().item()),
            round(x.sum().item(), 1),
            type(x.mean().item()) is float,
        )
    )
    for k in range(4):
        yield f(arange(3) + k)
