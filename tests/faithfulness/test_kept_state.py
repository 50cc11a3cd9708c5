"""State that a run leaves behind for the next: in modules, tuples, classes and tensors.

Invariant: every program makes its own modules, so both runs start alike.
"""

from __future__ import annotations

from scenario import arange, scenario

import tracejit as torch
import tracejit.nn as nn


class Stateful(nn.Module):
    """Applies `rule(self, x)`."""

    def __init__(self, rule, **attributes):
        super().__init__()
        self.rule = rule
        self.__dict__.update(attributes)

    def forward(self, x):
        return self.rule(self, x)


def calls(compile, module, count=5):
    f = compile(lambda x: module(x))
    for k in range(count):
        yield f(arange(3, start=k))


@scenario("a module keeps a tensor for later", "each call sees the last", "input", 2, lost=1)
def test_module_keeps_a_tensor(compile):
    def rule(self, x):
        y = x if self.last is None else x + self.last
        self.last = y * 2
        return y

    yield from calls(compile, Stateful(rule, last=None))


@scenario("a module keeps a tuple of tensors", "each call sees the last", "input", 2, lost=1)
def test_module_keeps_a_tuple(compile):
    def rule(self, x):
        y = x if self.last is None else x + self.last[0] * self.last[1]
        self.last = (y * 2, x)
        return y

    module = Stateful(rule, last=None)
    yield from calls(compile, module)
    yield module.last


@scenario("a module stores what it computed for others", "the new tensor", "input", 2, lost=1)
def test_module_stores_a_result(compile):
    def rule(self, x):
        self.attention = torch.softmax(x, -1)
        return self.attention * x

    module = Stateful(rule)
    f = compile(lambda x: module(x))
    for k in range(4):
        yield f(arange(3, start=k))
        yield module.attention


@scenario("a module sets a flag at its first call", "the flag stays set", "guard", 2)
def test_module_sets_a_flag(compile):
    def rule(self, x):
        if not self.ready:
            self.ready = True
            return x * 100
        return x + 1

    yield from calls(compile, Stateful(rule, ready=False))


@scenario("a module flips a flag at every call", "the flag as left", "guard", 2)
def test_module_flips_a_flag(compile):
    def rule(self, x):
        self.train(not self.training)
        return x * (2 if self.training else 3)

    yield from calls(compile, Stateful(rule))


@scenario("a state in a dict is a tuple", "each call sees the last", "input", 2, lost=1)
def test_tuple_in_a_dict(compile):
    state = {"h": None}

    def run(x):
        y = x if state["h"] is None else x + state["h"][0]
        state["h"] = (y * 2, y)
        return y

    f = compile(run)
    for k in range(4):
        yield f(arange(3, start=k))
        yield state["h"]


@scenario("a class attribute that is a tensor is replaced", "the sum so far", "eager", 3, lost=3)
def test_class_attribute(compile):
    class Total:
        value = torch.zeros(3)

    def run(x):
        Total.value = Total.value + x
        return Total.value * 1

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k))


@scenario("an attribute of a tensor is set", "it counts", "input", 3, lost=2)
def test_tensor_attribute(compile):
    def run(x):
        x.tag = getattr(x, "tag", 0) + 1
        return x * x.tag

    f = compile(run)
    x = arange(3)
    for _ in range(5):
        yield f(x)
        yield x.tag


@scenario("a leaf is made of a detached value", "second derivatives", "input", 1)
def test_leaf_of_a_detached_value(compile):
    def run(x):
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad((leaf**3).sum(), leaf, create_graph=True)
        yes = slope.requires_grad
        return torch.autograd.grad(slope.sum(), leaf)[0], yes

    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k))


@scenario("train() and eval() inside two compiled functions", "each its own mode", "guard", 3)
def test_train_and_eval_inside(compile):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

    def train(x):
        model.train()
        return model(x)

    def evaluate(x):
        model.eval()
        with torch.no_grad():
            return model(x)

    f, g = compile(train), compile(evaluate)
    for k in range(4):
        yield f(arange(3, start=k))
        yield model.training
        yield g(arange(3, start=k))
        yield model[1].training


@scenario("a word in a dict is replaced", "the new word", "guard", 2)
def test_word_in_a_dict(compile):
    state = {"mode": "first"}

    def run(x):
        y = x * 2 if state["mode"] == "first" else x * 3
        state["mode"] = "later"
        return y

    f = compile(run)
    for k in range(4):
        yield f(arange(3, start=k))
        yield dict(state)


@scenario("a module counts its calls", "the count is used", "input", 2, lost=1)
def test_module_counts(compile):
    def rule(self, x):
        self.count += 1
        return x * self.count

    module = Stateful(rule, count=0)
    f = compile(lambda x: module(x))
    for k in range(6):
        if k == 4:
            module.count = 100
        yield f(arange(3, start=k))
        yield module.count


@scenario("counts in a dict, a cell and an object", "all are kept", "input", 2, lost=1)
def test_counts_elsewhere(compile):
    class Box:
        steps = 0

    box, held, seen = Box(), {"n": 10}, 7
    box.steps = 3

    def run(x):
        nonlocal seen
        box.steps += 2
        held["n"] = held["n"] - box.steps
        seen = seen * 2 - 1
        return x + held["n"] * seen

    f = compile(run)
    for k in range(6):
        yield f(arange(3, start=k))
        yield box.steps, held["n"], seen


@scenario("a count decides every third call", "both ways", "guard", 3, lost=1)
def test_count_decides(compile):
    def rule(self, x):
        self.count += 1
        return x * 2 if self.count % 3 == 0 else x - 1

    module = Stateful(rule, count=0)
    f = compile(lambda x: module(x))
    for k in range(9):
        yield f(arange(3, start=k))
        yield module.count
