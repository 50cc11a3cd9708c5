"""Which object it is: `is`, `id()`, tensors as keys, tied parameters, version counters.

Invariant: no answer is taken from another call in which other objects were the same.
"""

from __future__ import annotations

from scenario import arange, scenario

import tracejit as torch
from tracejit import nn

PAIRS = ((0, 1), (0, 0), (1, 0), (1, 1))


def by_pairs(compile, function):
    """The function of two tensors that are the same, or are not."""
    f = compile(function)
    held = torch.ones(2), torch.ones(2)
    for i, j in PAIRS:
        yield f(held[i], held[j])


@scenario("x is y, of arguments", "whether they are one", "guard", 2)
def test_is(compile):
    yield from by_pairs(compile, lambda x, y: x + y if x is y else x - y)


@scenario("id(x) == id(y)", "whether they are one", "guard", 2)
def test_id(compile):
    yield from by_pairs(compile, lambda x, y: x + y if id(x) == id(y) else x - y)


@scenario("any(z is y for z in [x])", "whether they are one", "guard", 2)
def test_is_in_a_generator(compile):
    yield from by_pairs(compile, lambda x, y: x + 1 if any(z is y for z in [x]) else x - 1)


@scenario("arguments in a set", "one key for one tensor", "eager", 3)
def test_set(compile):
    yield from by_pairs(compile, lambda x, y: x * len({x, y}))


@scenario("an argument looked up in a dict of tensors", "what is kept for that tensor", "eager", 3)
def test_dict(compile):
    a, b = torch.ones(2), torch.ones(2)
    kept = {a: 2.0}
    f = compile(lambda x: x * kept.get(x, 5.0))
    for x in (a, b, a, b):
        yield f(x)
    kept[b] = 7.0
    for x in (a, b, a, b):
        yield f(x)


@scenario("id(x) looked up among ids that are kept", "what is kept for that tensor", "eager", 3)
def test_id_kept(compile):
    a, b = torch.ones(2), torch.ones(2)
    kept = {id(a): 2.0}
    f = compile(lambda x: x * kept.get(id(x), 5.0))
    for x in (a, b, a, b):
        yield f(x)


@scenario("state kept for parameters by a hand-written optimizer", "each its own", "input", 1)
def test_state_of_parameters(compile):
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    state = {w: torch.zeros(2) for w in weights}

    @compile
    def step(x):
        for k, w in enumerate(weights):
            (w * x * (k + 1)).sum().backward()
            with torch.no_grad():
                state[w].mul_(0.9).add_(w.grad)
                w.sub_(0.1 * state[w])
            w.grad = None

    for k in range(5):
        step(arange(2, start=k))
        yield [w.detach() for w in weights], list(state.values())
        if k == 2:
            state[weights[0]] = torch.ones(2)


@scenario("an argument compared with a global tensor by is", "whether it is that one", "guard", 2)
def test_is_global(compile):
    a, b = torch.ones(2), torch.ones(2)
    now = [a]
    f = compile(lambda x: x * 2 if x is now[0] else x * 3)
    for x in (a, b, a, b):
        yield f(x)
    now[0] = b
    for x in (a, b, a, b):
        yield f(x)


@scenario("net.a.weight is net.b.weight, tied and untied", "whether they are one", "guard", 2)
def test_is_of_parameters(compile):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    f = compile(lambda x: x * 2 if a.weight is b.weight else x * 3)
    yield f(torch.ones(2))
    b.weight = a.weight
    yield f(torch.ones(2))
    b.weight = nn.Parameter(torch.ones(2, 2))
    yield f(torch.ones(2))


@scenario("weights tied between calls, gradients inside", "their sum, then each its own",
          "guard", 4)  # fmt: skip
def test_tied_later(compile):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)

    @compile
    def f(x):
        for p in (a.weight, b.weight):
            p.grad = None
        (a(x) + b(x) * 2).sum().backward()

    for k in range(6):
        f(torch.ones(1, 2))
        yield a.weight.grad, b.weight.grad
        if k == 1:
            b.weight = a.weight
        if k == 3:
            b.weight = nn.Parameter(torch.ones(2, 2))


@scenario("an embedding and a head untied between steps", "each its own gradient", "guard", 4)
def test_untied_head(compile):
    table, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = table.weight
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)

    @compile
    def step(index):
        optimizer.zero_grad()
        loss = (head(table(index)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for k in range(6):
        yield step(torch.tensor([0, 1, 4])), head.weight.grad
        if k == 2:
            head.weight = nn.Parameter(table.weight.detach().clone())


@scenario("x._version read inside", "the count now", "eager", 1)
def test_version(compile):
    @compile
    def f(x):
        before = x._version
        x.add_(1)
        return x * before

    x = arange(2)
    for _ in range(3):
        yield f(x), x._version
