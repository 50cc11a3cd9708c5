"""Modules and modes: train and eval, parameters, hooks, gradient mode, default dtype.

Invariant: what changes is put back at the end of each program, so that both runs start alike.
"""

from __future__ import annotations

import contextlib

from scenario import arange, scenario

import tracejit as torch
from tracejit import nn


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


@scenario(
    "a Module's parameter is replaced, frozen, and changed in place", "the new state", "guard", 2
)
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
