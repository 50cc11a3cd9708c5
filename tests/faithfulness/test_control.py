"""Structured control flow: cond, while_loop, scan.

Invariant: the plain run is Python's own ``if``, ``while`` and ``for``.
"""

from __future__ import annotations

import pytest
from scenario import arange, error, near, scenario

import tracejit as torch
from tracejit.ir.parse import parse


def halving(x):
    """How often x.sum() can be halved before it is below 1, and what x is then."""
    return torch.while_loop(
        lambda n, y: y.sum() >= 1,
        lambda n, y: (n + 1, y / 2),
        (torch.zeros((), dtype=torch.int64), x),
    )


@scenario("cond on a tensor", "the function of the outcome, and its gradient", "branch", 2)
def test_cond(compile):
    f = compile(lambda x: torch.cond(x.sum() > 0, torch.sqrt, lambda x: (-x).exp(), x).sum())
    for k in (1.0, -1.0, 2.0, 0.0, -3.0):
        x = torch.full((2,), k, requires_grad=True)
        f(x).backward()
        yield x.grad  # that of sqrt at 0 is not in the sum when the other way is taken


@scenario("cond on a Python bool, operands in a tuple", "the function chosen", "guard", 2)
def test_cond_flag(compile):
    f = compile(lambda x, flag: torch.cond(flag, torch.add, torch.sub, (x, x * 3)))
    for flag in (True, False, True):
        yield f(arange(3), flag)


@scenario("while_loop of any number of rounds", "as many rounds as eager", "branch", 2)
def test_while_loop(compile):
    f = compile(lambda x: halving(x * 2))
    for k in (0.0, 1.0, 5.0, 100.0, 1e6, 3.0, 1e-3):
        count, y = f(torch.full((3,), k))
        yield count, near(y, y.double().numpy())


@scenario("while_loop over closures, numbers and no_grad parameters", "their values now",
          "input", 2)  # fmt: skip
def test_while_loop_closure(compile):
    w = torch.linspace(-1, 1, 9).reshape(3, 3).requires_grad_()

    def run(x, rate):
        with torch.no_grad():
            return torch.while_loop(
                lambda y, e: e > 1e-2,
                lambda y, e: (y * rate + 0.1 * torch.sin(w @ y), e * rate),
                (x, x.abs().sum()),
            )

    f = compile(run)
    for k in range(1, 6):
        yield f(arange(3, start=k), 0.4 + k / 20)
        with torch.no_grad():
            w.mul_(1.1)


@scenario("while_loop that swaps and keeps what it carries", "the same tensor where kept",
          "branch", 2)  # fmt: skip
def test_while_loop_swaps(compile):
    def run(x, y):
        n, a, b, kept = torch.while_loop(
            lambda n, a, b, c: n > 0,
            lambda n, a, b, c: (n - 1, b + 1, a * 2, c),
            (x.sum().long(), x, y * 1, y),
        )
        return n, a, b, kept is y

    f = compile(run)
    for k in range(5):
        yield f(torch.full((2,), float(k)), arange(2, start=0.5))


@scenario("while_loop with gradients", "those of the rounds made", "branch", 3)
def test_while_loop_gradients(compile):
    def run(x):
        return torch.while_loop(
            lambda y: y.sum() < 10, lambda y: (y * x,), (x,)
        )[0].sum()  # fmt: skip

    f = compile(run)
    for k in (2.0, 3.0, 2.5, 6.0, 20.0):
        x = torch.full((2,), k, requires_grad=True)
        f(x).backward()
        yield x.grad


@scenario("while_loop whose body draws random numbers", "this call's numbers", "eager", 1)
def test_while_loop_random(compile):
    def run(x):
        return torch.while_loop(
            lambda n, y: n > 0, lambda n, y: (n - 1, y + torch.rand(2)), (torch.tensor(3), x)
        )

    f = compile(run)
    for _ in range(3):
        yield f(arange(2))


@scenario("while_loop whose body appends to a list", "appended at every round", "eager", 3)
def test_while_loop_effects(compile):
    seen = []

    def body(n):
        seen.append(len(seen))
        return (n - 1,)

    f = compile(lambda x: torch.while_loop(lambda n: n > 0, body, (x,)))
    for k in (2, 3, 1, 2):
        yield f(torch.tensor(k)), seen


@scenario("while_loop whose body changes a shape or a dtype", "TypeError", "input", 0)
def test_while_loop_wrong_body(compile):
    f = compile(lambda x: torch.while_loop(lambda y: y.sum() < 9, lambda y: (y[:1],), (x,)))
    g = compile(lambda x: torch.while_loop(lambda y: y.sum() < 9, lambda y: (y.double(),), (x,)))
    yield error(f, arange(3)), error(g, arange(3))


@scenario("scan with a carry, forward and reversed", "all slices, and gradients", "guard", 3,
          ulps=8, atol=1e-6)  # fmt: skip
def test_scan(compile):
    def run(x, w, reverse):
        carry, ys = torch.scan(
            lambda c, x: (torch.tanh(c * w + x), (c * x, c)), torch.zeros(3), x, reverse=reverse
        )
        return carry.sum() + ys[0].sum(), ys[1]

    f = compile(run)
    for n, reverse in ((4, False), (4, True), (4, False), (2, True)):
        w = torch.ones(3, requires_grad=True)
        loss, ys = f(arange(n, 3), w, reverse)
        loss.backward()
        yield loss, ys, w.grad


def test_while_loop_is_one_node_whatever_the_rounds():
    """One trace for all numbers of rounds; its parts are IR text that parses back."""
    f = torch.compile(halving)
    for k in (4.0, 40.0, 4000.0):
        f(torch.full((3,), k))
    assert f.cache_info().misses == 1
    (group,) = next(iter(f.signatures.values())).groups
    (after,) = group.tree.root.children.values()
    (loop,) = [n for n in after.graph.nodes() if n.op.name == "while_loop"]
    for part in ("condition", "body"):
        assert str(parse(loop.params[part])) == loop.params[part]
    assert str(parse(str(after.graph))).count("while_loop") == 1


def test_eager_meaning():
    """Without compile they are if, while and for, with Python's own numbers too."""
    assert torch.cond(False, lambda x: x, lambda x: -x, 3) == -3
    assert torch.while_loop(lambda n: n < 10, lambda n: (n * 2,), (1,)) == (16,)
    carry, ys = torch.scan(lambda c, x: (c + x, c * x), torch.zeros(()), torch.arange(4.0))
    assert carry == 6 and ys.tolist() == [0, 0, 2, 9]
    with pytest.raises(TypeError, match="gave 2 values for 1 carried"):
        torch.while_loop(lambda n: n < 10, lambda n: (n, n), (1,))
    with pytest.raises(ValueError, match="no slices"):
        torch.scan(lambda c, x: (c, x), torch.zeros(()), torch.zeros(0))
