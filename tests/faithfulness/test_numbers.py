"""Python numbers that change from call to call: inputs of the trace where they only compute.

Invariant: a number that steers shapes or control flow is a guard; one that meets tensors is not.
"""

from __future__ import annotations

import json

from scenario import arange, error, scenario

import tracejit as torch
from tracejit import nn


@scenario("1,000 values of an int and of a float argument", "each value", "input", 2)
def test_thousand_numbers(compile):
    f = compile(lambda x, n, r: x * n - r)
    for i in range(1000):
        yield f(arange(3), i, i / 7)


@scenario("a step counter: a global int that the caller counts up", "the count", "input", 2)
def test_step_counter(compile):
    f = compile(lambda x: x / (_STEP["n"] + 1))
    for i in range(40):
        _STEP["n"] = i
        yield f(arange(3))


_STEP = {"n": 0}


@scenario("arithmetic of ints before they meet a tensor", "Python's whole numbers", "input", 2)
def test_int_arithmetic(compile):
    f = compile(lambda x, n: x * (n + 1) - n // 2 + n % 3 + (n << 2) + (-n) + 2**n + abs(n) + ~n)
    for n in (1, 2, 3, 5, 8, 13, 21):
        yield f(arange(3, dtype=torch.float64), n)


@scenario("floats made of ints: n / 7, 0.9 ** n, n * 0.5", "Python's rounding", "input", 2)
def test_int_to_float(compile):
    f = compile(lambda x, n: x * (n / 7) + 0.9**n + n * 0.5 + n**-1 - 10 % (n / 3))
    for n in (1, 2, 3, 5, 8, 13, 21):
        yield f(arange(3, dtype=torch.float64), n)


@scenario("an int of int32, bool and float16 tensors", "promotion of a weak number", "guard", 8)
def test_int_promotion(compile):
    f = compile(lambda x, n: x * n)
    for n in (1, 2, 3, 2049):
        for x in (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([True, False]),
                  torch.tensor([0.1, 30.0], dtype=torch.float16), arange(2)):  # fmt: skip
            yield f(x, n)


@scenario("ints around 2**53 and 2**63", "one rounding; past int64 an error or a float",
          "guard", 4)  # fmt: skip
def test_int_limits(compile):
    f = compile(lambda x, n: x * n)
    for n in (3, 2**53 + 1, 2**53 + 3, 16777217, 2**62 + 1, -(2**63), 2**63, 2**70, 7):
        yield f(arange(3, dtype=torch.float64), n)


@scenario("10 // n where n becomes zero", "ZeroDivisionError", "input", 2)
def test_int_division_by_zero(compile):
    f = compile(lambda x, n: x * (10 // n))
    for n in (1, 2, 0, 5, 0, 4):
        yield error(f, arange(3), n)


@scenario("if n % 3 == 0", "the way of the decision, not of each number", "guard", 3)
def test_int_decides(compile):
    f = compile(lambda x, n: x * n if n % 3 == 0 else x + n)
    for n in range(12):
        yield f(arange(3), n)


@scenario("an int that sizes a tensor, slices it and indexes it", "this call's shape", "guard", 3)
def test_int_shapes(compile):
    f = compile(lambda x, n: (x[:n] * n, x[n], torch.zeros(n, 2), x.reshape(n, -1)))
    for n in (1, 2, 3, 6, 2, 1):
        yield error(f, arange(6), n)


@scenario("an int that is a dim, an axis, an order", "the result for that dim", "guard", 3)
def test_int_dim(compile):
    f = compile(lambda x, n: (x.sum(n), x.transpose(0, n), x.softmax(n), x.unsqueeze(n)))
    for n in (0, 1, -1, 1, 0):
        yield f(arange(2, 3), n)


@scenario("x ** n with whole and broken exponents", "squares where eager squares", "guard", 10)
def test_exponents(compile):
    f = compile(lambda x, n: x**n)
    x = arange(5, dtype=torch.float64, start=0.3)
    for n in (1, 2, 3, 4, 5, -1, 0, 7, 2, 1.5, 2.0, 3.0, 4.0, 0.5, -1.0, 7.3):
        yield f(x, n)


@scenario("tensor(n), full(n), y[i] = n, masked_fill(n)", "a tensor of that number", "guard", 6)
def test_int_becomes_tensor(compile):
    def run(x, n):
        x = x.clone()
        x[0] = n
        return torch.tensor(n) * x, torch.full((2,), n), x.masked_fill(x > 1, n), x.clamp(0, n)

    f = compile(run)
    for n in (1, 2, 3, 4.5, 5.5, 7):
        yield f(arange(4), n)


@scenario("full(x), full_like(x), Normal(0, x) of a float", "that number", "input", 2)
def test_float_becomes_tensor(compile):
    def run(x, r):
        log = torch.distributions.Normal(0.0, r).log_prob(x) if r > 0 else x
        return torch.full((2, 3), r), torch.full_like(x, r), torch.full((), r), log

    f = compile(run)
    for r in (0.5, 0.25, 1.5, 1e-7, 3.75):
        yield f(arange(4), r)


@scenario("a float that becomes -0.0 in tensor(x), fill_(x)", "its sign", "input", 2)
def test_signed_zero_becomes_tensor(compile):
    f = compile(lambda x, r: (torch.tensor(r), x.clone().fill_(r), torch.full((2,), r)))
    for r in (0.5, 0.25, -0.0, 0.0):
        yield [1 / t for t in f(arange(4), r)]


@scenario("f-strings, str, repr, hash of an int", "the text of the number", "guard", 4)
def test_int_as_text(compile):
    f = compile(lambda x, n: (x * n, f"{n:04d}", str(n), {1: "a"}.get(n), repr([n])))
    for n in (1, 2, 3, 4, 1, 2):
        yield f(arange(2), n)


@scenario("type(n) is int", "int, not a stand-in", "guard", 4)
def test_type_of_number(compile):
    f = compile(lambda x, n: x * n if type(n) is int else x - n)
    for n in (1, 2, 3, 2.5, 1):
        yield f(arange(2), n)


@scenario("an int in the result", "the int", "input", 2)
def test_int_returned(compile):
    f = compile(lambda x, n: (x * n, n, n + 1, {"n": n * n}))
    for n in range(6):
        value = f(arange(2), n)
        yield value, json.dumps(value[1:])


@scenario("a number attribute of a plain object set before each call", "its value", "input", 2)
def test_object_numbers(compile):
    class Scale:
        gain, shift = 1, 0.5

    s = Scale()
    s.gain, s.shift = 1, 0.5
    f = compile(lambda x: x * s.gain + s.shift)
    for i in range(20):
        s.gain, s.shift = i, i / 3
        yield f(arange(3)), type(s.gain).__name__


@scenario("a number attribute of a Module set before each call", "its value", "input", 2)
def test_module_numbers(compile):
    m = _Scaled()
    f = compile(m.forward)
    for i in range(20):
        m.gain, m.shift = i, i / 3
        yield f(arange(2, 3)), type(m.gain).__name__


class _Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.gain, self.shift = 1, 0.5
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x) * self.gain + self.shift


@scenario("a number attribute of a Module that steers", "the way of that number", "guard", 4)
def test_module_numbers_steer(compile):
    class Repeats(nn.Module):
        times = 1

        def forward(self, x):
            for _ in range(self.times):
                x = x * 2
            return x

    m = Repeats()
    m.times = 1
    f = compile(m.forward)
    for n in (1, 2, 3, 0, 2, 1):
        m.times = n
        yield f(arange(3))


@scenario("gradients through numbers that vary", "those of this call's number", "input", 2)
def test_number_gradients(compile):
    f = compile(lambda x, n, r: ((x * n) ** 2 / (n + r)).sum())
    for n in (1, 2, 3, 5):
        x = arange(3, start=1).requires_grad_()
        f(x, n, n / 7).backward()
        yield x.grad


@scenario("an int that steers and never comes back", "eager, with one warning", "eager", 9)
def test_numbers_without_end(compile):
    f = compile(lambda x, n: x[: n % 7] * len(range(n)))
    with torch.config.override(max_traces=4):
        for n in range(14):
            yield f(arange(3), n)
