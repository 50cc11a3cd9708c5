"""Gradients: backward inside, outside, twice, of results that alias, under changing flags.

Invariant: `.grad` of every leaf is compared after every call.
"""

from __future__ import annotations

import numpy as np
from scenario import arange, error, near, scenario

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F


@scenario("backward outside the compiled forward", "the gradients of the forward", "input", 1)
def test_backward_outside(compile):
    f = compile(lambda x, w: (x @ w).tanh().sum())
    for k in range(3):
        x, w = arange(2, 3, start=k * 0.1), arange(3, 2, start=-0.5).requires_grad_()
        y = f(x, w)
        y.backward()
        yield y, w


@scenario("requires_grad of an argument toggled", "gradients for those that ask", "guard", 3)
def test_requires_grad_toggled(compile):
    f = compile(lambda x, w: (x * w).exp())
    for a, b in ((True, False), (False, True), (False, False), (True, False), (False, True)):
        x, w = arange(3).requires_grad_(a), arange(3, start=0.5).requires_grad_(b)
        y = f(x, w)
        if a or b:
            y.sum().backward()
        yield y, x, w


@scenario("gradients accumulate over calls", "grad += each time", "input", 1)
def test_accumulate(compile):
    w = arange(3).requires_grad_()
    f = compile(lambda x: (x * w * w).sum())
    for k in range(4):
        f(arange(3, start=k)).backward()
        yield w


@scenario("backward inside, .grad None then present", "set, then accumulated", "guard", 2)
def test_backward_inside(compile):
    w = arange(3).requires_grad_()

    def run(x):
        loss = ((x - w) ** 2).sum()
        loss.backward()
        return loss

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k)), w
        if k == 2:
            w.grad = None


@scenario("a hand-written SGD step inside", "parameters move", "input", 1)
def test_manual_sgd(compile):
    w = arange(3).requires_grad_()

    def run(x):
        loss = ((x - w) ** 2).sum()
        (g,) = torch.autograd.grad(loss, [w])
        with torch.no_grad():
            w.sub_(0.1 * g)
        return loss

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k)), w


def step_program(make):
    def program(compile):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = make(model.parameters())

        def run(x, t):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
            return loss

        f = compile(run)
        for k in range(5):
            yield f((arange(6, 4) + k).sin(), torch.tensor([0, 1, 1, 0, 1, 0]))
        yield list(model.parameters())

    return program


OPTIMIZERS = {  # all but plain SGD make their state at the first step, which is not kept
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01),
}
for _name, _make in OPTIMIZERS.items():
    _program = step_program(_make)
    _program.__name__ = f"test_step_{_name}"
    globals()[_program.__name__] = scenario(
        f"a whole training step inside ({_name})", "parameters and state move", "guard", 2,
        ulps=16, atol=1e-6, lost=int(_name != "sgd"),
    )(_program)  # fmt: skip


@scenario("forward compiled, step outside", "parameters move", "input", 1, ulps=16, atol=1e-6)
def test_step_outside(compile):
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    f = compile(model)
    for k in range(5):
        optimizer.zero_grad()
        loss = F.mse_loss(f((arange(6, 4) + k).sin()), torch.ones(6, 2))
        loss.backward()
        optimizer.step()
        yield loss
    yield list(model.parameters())


@scenario("the second derivative outside", "double backward", "input", 1)
def test_double_backward(compile):
    f = compile(lambda x: (x**3).sum())
    for k in (1, 2):
        x = arange(3, start=k).requires_grad_()
        (g,) = torch.autograd.grad(f(x), [x], create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), [x])
        a = x.detach().numpy().astype(np.float64)
        yield near(g, 3 * a**2), near(h, 6 * a)


@scenario("a gradient penalty inside", "grad of a norm of a grad", "input", 1, ulps=8, atol=1e-6)
def test_gradient_penalty(compile):
    w = arange(3, start=0.3).requires_grad_()

    def run(x):
        x = x.detach().requires_grad_()
        y = (x * w).tanh().sum()
        (g,) = torch.autograd.grad(y, [x], create_graph=True)
        return ((g.norm() - 1) ** 2) + y

    f = compile(run)
    for k in range(3):
        w.grad = None
        loss = f(arange(3, start=k * 0.1))
        loss.backward()
        yield loss, w


@scenario("backward twice through a compiled call", "RuntimeError, or again with retain_graph",
          "input", 1)  # fmt: skip
def test_backward_twice(compile):
    f = compile(lambda x: (x.exp() * x).sum())
    for retain in (True, False, True):
        x = arange(3).requires_grad_()
        y = f(x)
        y.backward(retain_graph=retain)
        yield error(lambda: y.backward())[:2], x  # noqa: B023


@scenario("two results, gradients of one, of the other, of both", "only what was asked", "input", 1)
def test_two_results(compile):
    f = compile(lambda x, w: (x * w, (x + w).sin()))
    for which in ((True, False), (False, True), (True, True)):
        x, w = arange(3).requires_grad_(), arange(3, start=2).requires_grad_()
        ys = f(x, w)
        sum(y.sum() for y, wanted in zip(ys, which, strict=True) if wanted).backward()
        yield ys, x, w


@scenario("a result and a view of it, gradients through the view", "they arrive", "input", 1)
def test_gradient_through_view(compile):
    def run(x):
        y = x * 2
        return y, y[1:], y.t()

    f = compile(run)
    for k in range(3):
        x = arange(3, 2, start=k).requires_grad_()
        y, part, turned = f(x)
        (part.sum() + (turned * turned).sum()).backward()
        yield y, part, turned, x


@scenario("the result is changed in place, then backward", "the gradient of the change", "input", 1)
def test_result_changed_then_backward(compile):
    f = compile(lambda x: x * 3)
    for _ in range(2):
        x = arange(3).requires_grad_()
        y = f(x)
        y.mul_(y.detach() + 1)
        y.sum().backward()
        yield y, x


@scenario("an argument with a history", "gradients flow on", "input", 1)
def test_history(compile):
    f = compile(lambda x: x.sin() * 2)
    for k in range(3):
        a = arange(3, start=k).requires_grad_()
        b = a * a
        y = f(b).sum()
        y.backward()
        yield y, a


@scenario("a chain of compiled calls", "gradients flow through all", "input", 3)
def test_chain(compile):
    f, g, h = compile(lambda x: x.exp()), compile(lambda x: x.sin()), compile(lambda x: x * 2)
    for k in range(3):
        x = arange(3, start=k * 0.2).requires_grad_()
        h(g(f(x)) + f(x)).sum().backward()
        yield x


@scenario("the same compiled function twice in one graph", "both contribute", "input", 1)
def test_twice_in_graph(compile):
    f = compile(lambda x, k: (x * k).sin())
    for _ in range(3):
        x, k = arange(3).requires_grad_(), arange(3, start=1).requires_grad_()
        (f(x, k) * f(k, x)).sum().backward()
        yield x, k


@scenario("detach() and requires_grad_() inside", "the graph is cut", "input", 1)
def test_detach_inside(compile):
    def run(x):
        y = x.exp()
        return (y.detach() * x).sum() + y.sum() * 0

    f = compile(run)
    for k in range(2):
        x = arange(3, start=k).requires_grad_()
        f(x).backward()
        yield x


@scenario("retain_grad and hooks on a result", "called with the gradient", "input", 1)
def test_result_hooks(compile):
    f = compile(lambda x: x * 2)
    for k in range(3):
        x, log = arange(3, start=k).requires_grad_(), []
        y = f(x)
        y.retain_grad()
        y.register_hook(log.append)
        (y * y).sum().backward()
        yield y, x, log


@scenario("a parameter shared by two modules", "one gradient, both uses", "input", 1)
def test_shared_parameter(compile):
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    model = nn.Sequential(a, nn.Tanh(), b)
    f = compile(model)
    for k in range(3):
        f(arange(2, 3, start=k)).sum().backward()
        yield list(model.parameters())


@scenario("a frozen layer, then thawed", "gradients for what is trained", "guard", 2)
def test_frozen(compile):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    f = compile(model)
    for frozen in (True, False, True, False):
        for p in model[0].parameters():
            p.requires_grad_(not frozen)
        model.zero_grad()
        f(arange(2, 3)).sum().backward()
        yield list(model.parameters())


@scenario("gradients of float16 and float64", "in their dtype", "guard", 3)
def test_gradient_dtypes(compile):
    f = compile(lambda x: (x * x).exp().sum())
    for kind in (torch.float16, torch.float32, torch.float64, torch.float16):
        x = (arange(4) * 0.3).to(kind).requires_grad_()
        f(x).backward()
        yield x


@scenario("gradients at batch sizes 1, 2, 0, 5", "as eager", "guard", 2)
def test_gradient_batches(compile):
    w = arange(3, 2, start=-0.4).requires_grad_()
    f = compile(lambda x: F.softmax(x @ w, -1)[:, 0])
    for n in (2, 5, 1, 3, 0, 1, 5):
        w.grad = None
        f(arange(n, 3)).sum().backward()
        yield w


@scenario("gradient clipping inside", "clipped, then stepped", "guard", 2, ulps=16, atol=1e-6)
def test_clip(compile):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def run(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss, norm

    f = compile(run)
    for k in range(4):
        yield f(arange(2, 3, start=k)), list(model.parameters())


@scenario(
    "gradient accumulation over two micro-batches inside", "summed", "guard", 2, ulps=8, atol=1e-6
)
def test_micro_batches(compile):
    model = nn.Linear(3, 2)

    def run(x):
        for part in (x[:2], x[2:]):
            (model(part) ** 2).mean().backward()

    f = compile(run)
    for k in range(4):
        f(arange(4, 3, start=k))
        yield list(model.parameters())
        if k == 1:
            model.zero_grad(set_to_none=True)
