"""Values that steer Python: the trace tree.

Invariant: every program takes each way at least twice, in mixed order.
"""

from __future__ import annotations

import math

import numpy as np
from scenario import arange, error, near, scenario

import tracejit as torch


@scenario("if on a tensor value", "the branch of the value", "branch", 2)
def test_if(compile):
    def run(x):
        if x.sum() > 2:
            return x * 10
        return x - 1

    f = compile(run)
    for k in (0, 3, 0, 5, -1, 3):
        yield f(arange(3, start=k))


@scenario("if / elif / else with and, or, not", "Python's short circuits", "branch", 4)
def test_elif(compile):
    def run(x):
        if x[0] > 0 and x[1] > 0:
            return x * 2
        elif x[0] > 0 or not x[2] > 0:
            return x * 3
        return x * 4

    f = compile(run)
    values = [(1, 1, 0), (1, -1, 0), (-1, 0, -1), (-1, 0, 1)]
    for v in values + values[::-1]:
        yield f(torch.tensor([float(n) for n in v]))


@scenario("while on a tensor value", "as many rounds as eager", "branch", 3)
def test_while(compile):
    def run(x):
        rounds = 0
        while x.abs().max() > 1:
            x = x / 2
            rounds += 1
        return x, rounds

    f = compile(run)
    for k in (0.2, 3.0, 7.0, 0.3, 6.0, 3.5):
        yield f(torch.tensor([k, -k / 2]))


@scenario("for with break, continue and else", "Python's control flow", "branch", 4)
def test_for_break(compile):
    def run(x):
        for i in range(3):
            if x[i] < 0:
                break
            if x[i] == 0:
                continue
            x = x * 2
        else:
            x = x + 100
        return x

    f = compile(run)
    for v in ((1, 1, 1), (1, -1, 1), (0, 1, 1), (-1, 1, 1), (1, 1, 1), (0, 1, 1)):
        yield f(torch.tensor([float(n) for n in v]))


@scenario("early return", "only what ran", "branch", 2)
def test_early_return(compile):
    seen = torch.zeros(1)

    def run(x):
        if (x < 0).any():
            return None
        seen.add_(1)
        return x.sqrt()

    f = compile(run)
    for k in (1, -1, 2, -2):
        yield f(arange(3, start=k)), seen


@scenario("x.item() flows back into tensors", "the number of this call", "input", 2)
def test_item_back(compile):
    def run(x):
        scale = x.max().item()
        return x / scale

    f = compile(run)
    for k in (1, 2, 3, 4.5, 1e30):
        yield near(f(arange(3, start=k)), (np.arange(3) * 0.25 + k) / (0.5 + k))


@scenario("item() of an int64 and a bool", "the number of this call", "branch", 4)
def test_item_int(compile):
    def run(x):
        n = x.argmax().item()
        flag = (x[0] > 1).item()
        return x * n, n, flag

    f = compile(run)
    for v in ((0, 1, 2), (5, 1, 2), (0, 9, 2), (1.5, 1, 2), (0, 1, 2)):
        yield f(torch.tensor([float(n) for n in v]))


@scenario("int(t), float(t), bool(t), complex chains", "the value", "branch", 3)
def test_conversions(compile):
    def run(x):
        n = int(x[0])
        y = x
        for _ in range(n):
            y = y + 1
        return y, n, bool(x[1])

    f = compile(run)
    for v in ((1.5, 0), (2.5, 1), (1.9, 0), (0.0, 5), (2.1, 3)):
        yield f(torch.tensor(v))


@scenario("tolist() used as numbers and as a loop", "the list", "branch", 3)
def test_tolist(compile):
    def run(x):
        total = 0.0
        for v in x.int().tolist():
            total += v
        return x + total, total

    f = compile(run)
    for v in ((1.0, 2.0), (3.0, 4.0), (1.2, 2.3), (9.0, -9.0), (3.0, 4.0)):
        yield f(torch.tensor(v))


@scenario("the result is item() itself", "the number", "input", 4)
def test_item_result(compile):
    f = compile(lambda x: (x.sum().item(), x[0].item() * 2 + 1, [x.mean().item()]))
    for k in range(5):
        yield f(arange(4, start=k))


@scenario("float(t), which Python wants as a real float", "the number", "branch", 3)
def test_float_result(compile):
    f = compile(lambda x: (float(x[0]) * 2, x + float(x[1])))
    for k in (0, 1, 0, 2, 1):
        yield f(arange(4, start=k))


@scenario("math functions of item()", "the number", "branch", 6)
def test_item_math(compile):
    f = compile(lambda x: x * math.sqrt(x.sum().item()))
    for k in (1, 2, 3, 1, 2, 4):
        yield f(arange(4, start=k))


@scenario("a format string of item()", "the text", "branch", 4)
def test_item_format(compile):
    f = compile(lambda x: (x * 2, f"{x.sum().item():.2f}"))
    for k in (1, 2, 1, 3, 2):
        yield f(arange(2, start=k))


@scenario("comparison chains and max() of tensors", "Python's comparisons", "branch", 4)
def test_chains(compile):
    def run(x):
        y = max(x[0], x[1])
        return y * 2 if 0 < y < 5 else y - 1

    f = compile(run)
    for v in ((1.0, 2.0), (3.0, 2.0), (9.0, 2.0), (1.0, 2.0), (-1.0, -2.0), (3.5, 2.0)):
        yield f(torch.tensor(v))


@scenario("any() and all() over a generator of tensors", "Python's short circuits", "branch", 4)
def test_any_all(compile):
    f = compile(lambda x: x * 2 if any(v > 2 for v in x) else x - 1 if all(v < 1 for v in x) else x)
    for v in ((3.0, 0.0), (0.0, 3.0), (0.5, 0.1), (1.5, 0.0), (0.1, 3.0)):
        yield f(torch.tensor(v))


@scenario("assert on a tensor", "AssertionError or not", "input", 1)
def test_assert(compile):
    def run(x):
        assert (x > 0).all(), "not positive"
        return x.log()

    f = compile(run)
    for k in (1, -1, 2, 0):
        yield error(f, arange(3, start=k))


@scenario("match on a number from a tensor", "the case of the value", "branch", 3)
def test_match(compile):
    def run(x):
        match int(x[0]):
            case 0:
                return x + 1
            case 1 | 2:
                return x * 5
            case _:
                return -x

    f = compile(run)
    for v in (0.0, 1.0, 7.0, 0.5, 1.5, 7.5):
        yield f(torch.tensor([v, v]))


@scenario("len(), truth of an empty tensor, iteration", "Python's answers", "guard", 3)
def test_len(compile):
    def run(x):
        total = 0
        for row in x:
            total = total + row
        return total, len(x)

    f = compile(run)
    for n in (3, 2, 3, 1):
        yield f(arange(n, 2))


@scenario(
    "nonzero() and boolean masks (shapes that depend on data)", "the selected elements", "branch", 3
)
def test_nonzero(compile):
    f = compile(lambda x: (x[x > 1] * 2, (x > 1).nonzero()))
    for k in (0, 0.7, 1, 0, 0.8):
        yield f(arange(4, start=k))


@scenario("a branch taken, then an in-place write", "no write happens twice", "branch", 2)
def test_side_exit_effects(compile):
    def run(x):
        x.add_(1)
        if x.sum() > 5:
            x.mul_(10)
            return x * 1
        return x - 1

    f = compile(run)
    for k in (0, 5, 0, 6, 1):
        x = arange(3, start=k)
        yield f(x), x


@scenario("random numbers drawn before a branch", "drawn once, the stream as eager's", "branch", 2)
def test_side_exit_random(compile):
    def run(x):
        noise = torch.rand(3)
        if x.sum() > 3:
            return x + noise, torch.rand(2)
        return x - noise

    f = compile(run)
    for k in (0, 2, 0, 2, 3, -1):
        yield f(arange(3, start=k))


@scenario("gradients through a branch", "those of the branch taken", "branch", 2)
def test_branch_gradients(compile):
    def run(x):
        y = x.sin()
        if y.sum() > 1:
            return (y * y).sum()
        return y.exp().sum()

    f = compile(run)
    for k in (0, 0.4, 0, 0.5):
        x = arange(3, start=k).requires_grad_()
        y = f(x)
        y.backward()
        yield y, x


@scenario("NaN in a condition", "False, as Python says", "branch", 2)
def test_nan_condition(compile):
    f = compile(lambda x: x * 2 if x[0] == x[0] else x + 5)
    for v in (1.0, math.nan, 2.0, math.nan):
        yield f(torch.tensor([v, 1.0]))


@scenario("item() that is NaN, inf or -0.0, used in Python", "the number", "branch", 5)
def test_item_special(compile):
    f = compile(lambda x: (x + 1, math.copysign(1.0, x[0].item())))
    for v in (0.0, -0.0, math.nan, math.inf, -0.0, math.nan):
        yield f(torch.tensor([v, 1.0]))


@scenario("a branch with more outcomes than are kept", "eager, with one warning", "eager", 17)
def test_outcome_explosion(compile):
    def run(x):
        n = int(x[0])
        return x * 2 if n % 2 else x + n

    f = compile(run)
    for k in range(25):
        yield f(torch.tensor([float(k), 1.0]))


@scenario("a loop whose number of rounds varies widely", "as many rounds as eager", "branch", 10)
def test_many_rounds(compile):
    def run(x):
        while x[0] > 0:
            x = x - 1
        return x

    f = compile(run)
    for k in (3, 9, 0, 5, 9, 3, 8, 1, 2, 4, 6, 7, 9, 5):
        yield f(torch.tensor([float(k), 100.0]))


@scenario("a branch inside a called helper and inside a loop", "the way of each round", "branch", 4)
def test_nested_branches(compile):
    def step(x, i):
        return x * 2 if x[i] > 0 else x + 1

    def run(x):
        for i in range(2):
            x = step(x, i)
        return x

    f = compile(run)
    for v in ((1, 1), (-5, 1), (1, -5), (-5, -5), (1, -5), (-5, 1)):
        yield f(torch.tensor([float(n) for n in v]))


@scenario("an exception raised on one branch only", "raised when eager raises", "input", 1)
def test_raise_on_branch(compile):
    def run(x):
        if x.sum() < 0:
            raise ValueError("negative")
        return x.sqrt()

    f = compile(run)
    for k in (1, -9, 2, -8):
        yield error(f, arange(3, start=k))


@scenario("try / except around a tensor condition", "the handler runs", "branch", 2)
def test_try(compile):
    def run(x):
        try:
            if x.sum() < 0:
                raise ValueError
            return x * 2
        except ValueError:
            return x * 0
        finally:
            x.add_(1)

    f = compile(run)
    for k in (1, -9, 2, -8):
        x = arange(3, start=k)
        yield f(x), x


@scenario("x.item() == y.item() and in", "Python's comparisons", "branch", 6)
def test_item_compare(compile):
    f = compile(lambda x: x * 2 if x[0].item() == x[1].item() else
                x + 1 if x[0].item() in (1.0, 2.0) else x)  # fmt: skip
    for v in ((1.0, 1.0), (1.0, 2.0), (2.0, 3.0), (5.0, 6.0), (3.0, 3.0), (5.5, 6.0), (1.0, 7.0)):
        yield f(torch.tensor(v))


@scenario("slicing by item()", "the slice of this call", "branch", 3)
def test_slice_by_item(compile):
    f = compile(lambda x, n: x[: n.item()] * 2)
    for n in (1, 3, 2, 1, 3):
        yield f(arange(4), torch.tensor(n))


@scenario("torch.equal, allclose, is_nonzero", "the answer", "branch", 2)
def test_equal(compile):
    f = compile(lambda x, y: x * 2 if torch.equal(x, y) else x - y)
    for k in (0, 1, 0, 2):
        yield f(arange(3), arange(3, start=k))


@scenario("one of two results before a branch, the other after it", "both of one sort", "branch", 4)
def test_pairs_across_branches(compile):
    def run(x):
        values, order = x.sort()
        y = values * 2 if values[0] > 0 else order + 1
        top, at = x.max(0)
        return (y + at, order) if top > 3 else (y, top, at)

    f = compile(run)
    for numbers in ([3, 1, 2], [-3, 1, 2], [3, 1, 4], [3, 2, 1], [-2, 5, 1], [1, 2, 9]):
        yield f(torch.tensor(numbers, dtype=torch.float32))
