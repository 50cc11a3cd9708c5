"""Hooks of tensors and optimizers, and methods set on an optimizer, between calls.

Invariant: every program gives its tensors the same start in both runs.
"""

from __future__ import annotations

from scenario import arange, scenario

import tracejit as torch


def leaf() -> torch.Tensor:
    return torch.ones(3, requires_grad=True)


@scenario("a backward hook is put on a parameter and taken off", "it runs", "guard", 4)
def test_leaf_hook(compile):
    w, factor = leaf(), [10.0]

    def run(x):
        w.grad = None
        (w * x).sum().backward()
        return w.grad.clone()

    f = compile(run)
    yield f(arange(3))
    yield f(arange(3))
    handle = w.register_hook(lambda g: g * factor[0])
    yield f(arange(3))
    factor[0] = 5.0
    yield f(arange(3))
    handle.remove()
    yield f(arange(3))


@scenario("a backward hook on an argument", "it runs", "guard", 2)
def test_argument_hook(compile):
    f = compile(lambda v: torch.autograd.grad((v * v).sum(), v)[0])
    v = leaf()
    yield f(v)
    v.register_hook(lambda g: g * 2)
    yield f(v)
    yield f(v)


@scenario("a hook after the gradient is accumulated", "it runs", "guard", 3)
def test_post_accumulate_hook(compile):
    model = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.ones_(model.weight)

    def run(x):
        model.zero_grad()
        model(x).sum().backward()
        return model.weight.grad.clone()

    f = compile(run)
    yield f(arange(3))
    handle = model.weight.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(3))
    yield f(arange(3))
    yield f(arange(3))
    handle.remove()
    yield f(arange(3))


@scenario("a method is set on an optimizer", "it is called", "guard", 3)
def test_optimizer_method(compile):
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1)

    def run(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        return w.grad.clone()

    f = compile(run)
    yield f(arange(3))
    yield f(arange(3))
    optimizer.zero_grad = lambda: None
    yield f(arange(3))
    yield f(arange(3))
    del optimizer.zero_grad
    yield f(arange(3))


@scenario("a step hook is put on an optimizer", "it runs at every step", "guard", 4, lost=2)
def test_optimizer_hook(compile):
    w, log = leaf(), []
    optimizer = torch.optim.SGD([w], lr=0.1)

    def run(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        return w.detach().clone()

    f = compile(run)
    yield f(arange(3))
    yield f(arange(3))
    handle = optimizer.register_step_post_hook(lambda *a: log.append(len(log)))
    yield f(arange(3))
    yield f(arange(3))
    yield list(log)
    handle.remove()
    yield f(arange(3))
    yield list(log)


@scenario("gradients of several calls, then an update", "the sum is used", "input", 2, lost=1)
def test_update_that_drops_the_gradients(compile):
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    f = compile(update)
    for k in range(8):
        (w * arange(3, start=k)).sum().backward()
        if k % 2:
            f()
            yield w.detach().clone()
            yield w.grad is None


@scenario("a hook put on a value inside, for a gradient taken outside", "it runs", "eager", 3)
def test_hook_of_a_value(compile):
    def run(x):
        y = x * 2
        y.register_hook(lambda g: g * 3)
        return (y * y).sum()

    f = compile(run)
    for k in range(3):
        x = arange(3, start=k).requires_grad_()
        f(x).backward()
        yield x
