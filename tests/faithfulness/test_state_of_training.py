"""Training with everything edited between the steps: gradients, optimizers, their state, the loss.

Invariant: a step is compiled whole; what is edited between two steps is an ordinary edit.
"""

from __future__ import annotations

import copy

from scenario import arange, error, scenario

import tracejit as torch
from tracejit import nn, optim


def trained(title, gives, does, traces, *edits, make=None, **options):
    """A scenario: two compiled steps after each edit of (net, optimizer)."""

    def program(compile):
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        optimizer = (make or _momentum)(net.parameters())

        def step(x):
            loss = (net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        f = compile(step)
        x = arange(2, 3)
        yield f(x), f(x), f(x)
        for edit in edits:
            edit(net, optimizer)
            yield error(f, x), error(f, x), [p.grad for p in net.parameters()]
        yield list(net.parameters()), [sorted(g) for g in optimizer.param_groups]

    return scenario(title, gives, does, traces, **options)(program)


def _momentum(parameters):
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


def _adam(parameters):
    return optim.AdamW(parameters, lr=0.01)


def group(**changes):
    return lambda net, optimizer: optimizer.param_groups[0].update(changes)


test_hyperparameters = trained(
    "lr, momentum, weight_decay set, nesterov and maximize flipped",
    "the new ones",
    "guard",
    (6, 1),
    group(lr=0.05),
    group(lr=0.02),
    group(momentum=0.5),
    group(nesterov=True),
    group(weight_decay=0.1),
    group(weight_decay=0.0),
    group(maximize=True),
    group(momentum=0),
)
test_adam_groups = trained(
    "AdamW: lr, betas, eps and weight_decay set",
    "the new ones",
    "guard",
    (4, 1),
    group(lr=0.05),
    group(betas=(0.8, 0.9)),
    group(betas=(0.7, 0.95)),
    group(eps=1e-3),
    group(weight_decay=0.5),
    group(lr=1),
    make=_adam,
)
test_group_added = trained(
    "a parameter group is added, and one is dropped",
    "all groups are stepped",
    "guard",
    (5, 2),
    lambda net, o: o.add_param_group({"params": [_extra(net)], "lr": 0.5}),
    lambda net, o: o.param_groups.pop(),
)
test_state_cleared = trained(
    "the state of an optimizer is cleared, and one entry edited",
    "as begun anew",
    "guard",
    (4, 3),
    lambda net, o: o.state.clear(),
    lambda net, o: o.state[net.weight].clear(),
    lambda net, o: o.state[net.bias]["momentum_buffer"].zero_(),
    lambda net, o: o.state[net.bias].update(momentum_buffer=torch.ones(2)),
)
test_state_loaded = trained(
    "an optimizer's state_dict is loaded again",
    "the loaded state",
    "guard",
    (2, 1),
    lambda net, o: o.load_state_dict(copy.deepcopy(o.state_dict())),
    lambda net, o: o.load_state_dict(_momentum(net.parameters()).state_dict()),
    make=_adam,
)
test_grad_left = trained(
    "a gradient is set before a step, replaced by None, zeroed",
    "it is added to",
    "guard",
    (4, 1),
    lambda net, o: setattr(net.weight, "grad", torch.ones(2, 3)),
    lambda net, o: setattr(net.weight, "grad", None),
    lambda net, o: [setattr(p, "grad", torch.zeros_like(p)) for p in net.parameters()],
    lambda net, o: o.zero_grad(set_to_none=False),
)
test_frozen = trained(
    "a parameter is frozen, and thawed",
    "only the others move",
    "guard",
    (3, 1),
    lambda net, o: net.weight.requires_grad_(False),
    lambda net, o: net.bias.requires_grad_(False),
    lambda net, o: net.requires_grad_(True),
)
test_parameter_swapped = trained(
    "a parameter of the net is replaced, the optimizer keeps the old",
    "the old stays",
    "guard",
    (6, 2),
    lambda net, o: setattr(net, "weight", nn.Parameter(torch.ones(2, 3))),
    lambda net, o: o.param_groups[0]["params"].__setitem__(0, net.weight),
)
test_data_moved = trained(
    "p.data replaced, copied into, and given another memory",
    "the new values",
    "guard",
    (2, 1),
    lambda net, o: setattr(net.weight, "data", torch.ones(2, 3)),
    lambda net, o: net.bias.data.copy_(torch.tensor([3.0, 4.0])),
    lambda net, o: setattr(net.weight, "data", torch.ones(3, 2).t()),
)
test_step_replaced = trained(
    "optimizer.step and zero_grad replaced on the instance",
    "what was set",
    "guard",
    (6, 1),
    lambda net, o: setattr(o, "step", lambda: None),
    lambda net, o: (delattr(o, "step"), setattr(o, "zero_grad", lambda: None)),
    lambda net, o: delattr(o, "zero_grad"),
)


def _extra(net):
    if not hasattr(net, "extra"):
        net.extra = nn.Parameter(torch.ones(2))
        net.extra.grad = torch.ones(2)
    return net.extra


@scenario("gradients pile up over four calls, then a step outside", "their sum", "input", 2)
def test_accumulation(compile):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    f = compile(lambda x, scale: ((net(x) ** 2).mean() * scale).backward())
    for k in range(8):
        f(arange(2, 3, start=k), 0.25)
        yield net.weight.grad
        if k % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=k == 3)
            yield net.weight, net.weight.grad


@scenario(
    "a loss function chosen by name from a dict that is edited", "the present one", "guard", 4
)
def test_loss_by_name(compile):
    losses = {"a": nn.functional.mse_loss, "b": nn.functional.l1_loss}
    x = arange(2, 3).requires_grad_()

    def run(name):
        loss = losses[name](x * x, torch.ones(2, 3))
        (grad,) = torch.autograd.grad(loss, x)
        return loss, grad

    f = compile(run)
    yield f("a"), f("b"), f("a")
    losses["a"] = nn.functional.smooth_l1_loss
    yield f("a"), f("b")


@scenario(
    "early stopping: the best loss and the patience kept outside", "Python's count", "eager", 3
)
def test_early_stopping(compile):
    state = {"best": 100.0, "bad": 0}

    def run(x):
        loss = (x * x).sum()
        if loss < state["best"]:
            state["best"], state["bad"] = loss.item(), 0
        else:
            state["bad"] += 1
        return loss * 2

    f = compile(run)
    for k in (5.0, 4.0, 4.5, 4.4, 3.0, 3.5, 3.6, 3.7, 1.0):
        yield f(torch.full((3,), k)), dict(state)


@scenario("two optimizers by turns over one net", "each its own state", "guard", 4, lost=2)
def test_two_optimizers(compile):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    pair = [_momentum([net.weight]), _adam([net.bias])]

    def step(x, turn):
        for p in net.parameters():
            p.grad = None
        loss = (net(x) ** 2).mean()
        loss.backward()
        pair[turn].step()
        return loss

    f = compile(step)
    for k in range(8):
        yield f(arange(2, 3), k % 2), net.weight, net.bias


@scenario("the optimizer is made anew in mid training", "the new one's state", "guard", 4, lost=2)
def test_optimizer_remade(compile):
    torch.manual_seed(0)
    net, held = nn.Linear(3, 2), {}
    held["o"] = _momentum(net.parameters())

    def step(x):
        held["o"].zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        held["o"].step()
        return loss

    f = compile(step)
    yield [f(arange(2, 3)) for _ in range(3)]
    held["o"] = _adam(net.parameters())
    yield [f(arange(2, 3)) for _ in range(3)], net.weight


@scenario(
    "a gradient scaler's scale grows and shrinks", "the scale at each step", "input", 2, lost=1
)
def test_scaled_loss(compile):
    torch.manual_seed(0)
    net, scale = nn.Linear(3, 2), {"now": 1024.0}
    optimizer = _momentum(net.parameters())

    def step(x):
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        (loss * scale["now"]).backward()
        for p in net.parameters():
            p.grad.div_(scale["now"])
        optimizer.step()
        return loss

    f = compile(step)
    for k in range(6):
        scale["now"] = 1024.0 * (2.0 if k % 3 else 0.5) ** k
        yield f(arange(2, 3)), net.bias


@scenario(
    "an error in the middle of a step, then the step again",
    "what was done before it",
    "guard",
    3,
    lost=1,
)
def test_step_fails_half_way(compile):
    torch.manual_seed(0)
    net, fails = nn.Linear(3, 2), [False]
    optimizer = _momentum(net.parameters())

    def step(x):
        loss = (net(x) ** 2).mean()
        loss.backward()
        if fails[0]:
            raise ValueError("no step")
        optimizer.step()
        optimizer.zero_grad()
        return loss

    f = compile(step)
    for k in range(7):
        fails[0] = k in (2, 3, 5)
        yield error(f, arange(2, 3)), net.weight, net.weight.grad
