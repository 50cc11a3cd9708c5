"""Modules edited between calls: parameters, buffers, children, hooks, forwards, and what ties them.

Invariant: every program is an ordinary edit that eager PyTorch code sees at its next call.
"""

from __future__ import annotations

import copy
import types

from scenario import arange, error, scenario

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F
from tracejit.nn.utils import parametrize, spectral_norm, weight_norm


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.register_buffer("shift", torch.zeros(3))
        self.act = torch.relu

    def forward(self, x):
        y = self.b(self.act(self.a(x)))
        return y + self.shift if getattr(self, "shift", None) is not None else y


def edited(title, gives, does, traces, *edits, fresh=True, **options):
    """A scenario: a compiled Net called twice after each edit; `edits` take the Net."""

    def program(compile):
        net = Net()
        f = compile(net) if fresh else compile(net.forward)
        x = arange(2, 3)
        yield f(x), f(x)
        for edit in edits:
            edit(net)
            yield error(f, x), error(f, x)

    return scenario(title, gives, does, traces, **options)(program)


def setting(name, make):
    return lambda net: setattr(net, name, make())


test_new_parameter = edited(
    "a parameter is set anew, then another one appears",
    "the new one",
    "guard",
    2,
    lambda net: setattr(net.a, "weight", nn.Parameter(torch.ones(3, 3))),
    lambda net: setattr(net, "extra", nn.Parameter(torch.ones(1))),
)
test_deleted_buffer = edited(
    "a buffer is deleted, registered again, set to None",
    "what is there",
    "guard",
    3,
    lambda net: delattr(net, "shift"),
    lambda net: net.register_buffer("shift", torch.ones(3)),
    lambda net: setattr(net, "shift", None),
    lambda net: setattr(net, "shift", torch.full((3,), 2.0)),
)
test_child_replaced = edited(
    "a child is replaced by others, by add_module, setattr and _modules",
    "the new child",
    "guard",
    4,
    lambda net: setattr(net, "a", nn.Identity()),
    lambda net: net.add_module(
        "b", nn.Linear(3, 3, bias=False).requires_grad_(False).double().float()
    ),
    lambda net: net._modules.__setitem__("a", nn.Tanh()),
)
test_function_attribute = edited(
    "a function kept in an attribute is replaced",
    "the new one",
    "guard",
    4,
    setting("act", lambda: torch.tanh),
    setting("act", lambda: F.gelu),
    setting("act", lambda: lambda x: x * 2),
)
test_forward_of_instance = edited(
    "net.forward = f on the instance, then deleted",
    "the function set",
    "guard",
    (5, 2),
    lambda net: setattr(net, "forward", lambda x: x * 100),
    lambda net: setattr(net, "forward", types.MethodType(lambda self, x: self.a(x), net)),
    lambda net: delattr(net, "forward"),
)
test_forward_of_child = edited(
    "net.a.forward = f on a child, then deleted",
    "the function set",
    "guard",
    (4, 1),
    lambda net: setattr(net.a, "forward", lambda x: x * 100),
    lambda net: setattr(net.a, "forward", net.b.forward),
    lambda net: delattr(net.a, "forward"),
)
test_class_of_module = edited(
    "net.__class__ = Other",
    "the other class's forward",
    "guard",
    2,
    lambda net: setattr(net, "__class__", _Doubled),
    lambda net: setattr(net, "__class__", Net),
)
test_hook_order = edited(
    "forward hooks are registered, removed and registered in another order",
    "their order",
    "guard",
    4,
    lambda net: _hooks(net, _plus, _times),
    lambda net: _hooks(net, _times, _plus),
    lambda net: _hooks(net),
)
test_pre_hooks = edited(
    "a forward pre-hook changes the input, with kwargs, prepended",
    "what it gives",
    "guard",
    4,
    lambda net: net.a.register_forward_pre_hook(lambda m, args: (args[0] + 1,)),
    lambda net: net.a.register_forward_pre_hook(lambda m, args: (args[0] * 2,), prepend=True),
    lambda net: net.a._forward_pre_hooks.clear(),
)
test_requires_grad_flips = edited(
    "requires_grad_ of parameters flips",
    "requires_grad of the result",
    "guard",
    4,
    lambda net: net.a.requires_grad_(False),
    lambda net: net.requires_grad_(False),
    lambda net: net.b.bias.requires_grad_(True),
    lambda net: net.requires_grad_(True),
)
test_data_replaced = edited(
    "p.data = other shape, other dtype, then as before",
    "the new data, or an error",
    "guard",
    3,
    lambda net: setattr(net.b.weight, "data", torch.ones(2, 3)),
    lambda net: (setattr(net.b.bias, "data", torch.zeros(2)), setattr(net, "shift", None)),
    lambda net: setattr(net.b.weight, "data", torch.ones(3, 3)),
    lambda net: setattr(net.b.bias, "data", torch.ones(3)),
)
test_whole_dtype = edited(
    "net.double(), net.half() and back",
    "an error, or the other dtype",
    "guard",
    1,
    lambda net: net.double(),
    lambda net: net.float(),
    lambda net: net.to(torch.float16),
    lambda net: net.to(torch.float32),
)
test_state_loaded = edited(
    "load_state_dict, with assign, partly, and of a wrong shape",
    "the loaded values",
    "guard",
    1,
    lambda net: net.load_state_dict(Net(1).state_dict()),
    lambda net: net.load_state_dict(Net(2).state_dict(), assign=True),
    lambda net: net.load_state_dict({"a.weight": torch.ones(3, 3)}, strict=False),
    lambda net: error(net.load_state_dict, {"a.weight": torch.ones(2, 3)}, strict=False)[1],
)
test_tied = edited(
    "weights are tied, written to, and untied",
    "one tensor, then two",
    "guard",
    2,
    lambda net: setattr(net.b, "weight", net.a.weight),
    lambda net: net.a.weight.data.mul_(3),
    lambda net: setattr(net.b, "weight", nn.Parameter(net.a.weight.detach().clone())),
    lambda net: net.a.weight.data.mul_(2),
)
test_normed = edited(
    "weight_norm is put on a child and removed",
    "the normed weight",
    "guard",
    3,
    lambda net: weight_norm(net.a),
    lambda net: net.a.weight_g.data.mul_(2),
    lambda net: nn.utils.remove_weight_norm(net.a),
)
test_parametrized = edited(
    "a parametrization is registered and removed",
    "the parametrized weight",
    "guard",
    3,
    lambda net: parametrize.register_parametrization(net.a, "weight", _Symmetric()),
    lambda net: net.a.parametrizations.weight.original.data.mul_(2),
    lambda net: parametrize.remove_parametrizations(net.a, "weight"),
)
test_spectral = edited(
    "spectral_norm in training and in eval",
    "one power iteration per call in training",
    "guard",
    3,
    lambda net: spectral_norm(net.a),
    lambda net: net.eval(),
    lambda net: net.train(),
)
test_requires_grad_of_buffer = edited(
    "a buffer becomes a parameter of the same name",
    "it requires grad",
    "guard",
    2,
    lambda net: (delattr(net, "shift"), setattr(net, "shift", nn.Parameter(torch.ones(3)))),
)
test_written_in_place = edited(
    "weights written to through .data, no_grad, a view, init",
    "the new values",
    "input",
    1,
    lambda net: net.a.weight.data.fill_(0.5),
    lambda net: _without_grad(net.a.weight),
    lambda net: net.a.weight.data[0].zero_(),
    lambda net: nn.init.ones_(net.b.weight),
    lambda net: torch.nn.utils.vector_to_parameters(torch.arange(24.0), net.parameters()),
)
test_apply_and_train = edited(
    "net.apply, half of it in eval, named_modules edited",
    "the new values",
    "guard",
    2,
    lambda net: net.apply(lambda m: nn.init.ones_(m.weight) if hasattr(m, "weight") else None),
    lambda net: net.a.eval(),
    lambda net: net.train(),
)
test_copied = edited(
    "a child is replaced by its deep copy, which is then written to",
    "the copy's values",
    "guard",
    2,
    lambda net: setattr(net, "a", copy.deepcopy(net.a)),
    lambda net: net.a.weight.data.zero_(),
)
test_dict_edited = edited(
    "net.__dict__ and vars(net) edited past setattr",
    "the new values",
    "guard",
    4,
    lambda net: net.__dict__.__setitem__("act", torch.sigmoid),
    lambda net: vars(net).update(act=torch.cos),
    lambda net: net._parameters.clear() or net.a._parameters.__setitem__("bias", None),
)


class _Doubled(Net):
    def forward(self, x):
        return super().forward(x) * 2


class _Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).T


def _plus(module, args, out):
    return out + 1


def _times(module, args, out):
    return out * 3


def _hooks(net, *hooks):
    net._forward_hooks.clear()
    for hook in hooks:
        net.register_forward_hook(hook)


def _without_grad(weight):
    with torch.no_grad():
        weight.mul_(2).add_(1)


@scenario("a ModuleList is appended to, popped from, reordered", "the modules in it", "guard", 6)
def test_module_list(compile):
    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([_scale(1.0), _scale(2.0)])

        def forward(self, x):
            for layer in self.layers:
                x = layer(x) + 1
            return x

    net = Stack()
    f = compile(net)
    yield f(arange(3)), f(arange(3))
    net.layers.append(_scale(3.0))
    yield f(arange(3)), f(arange(3))
    net.layers[0], net.layers[1] = net.layers[1], net.layers[0]
    yield f(arange(3)), f(arange(3))
    del net.layers[0]
    yield f(arange(3)), f(arange(3))
    net.layers.insert(0, _scale(5.0))
    yield f(arange(3)), f(arange(3))
    net.layers = nn.ModuleList(list(net.layers)[::-1])
    yield f(arange(3)), f(arange(3))


class _Scale(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x):
        return x * self.by


def _scale(by):
    return _Scale(by)


@scenario("Sequential, ModuleDict and ParameterList edited", "what is in them", "guard", 5)
def test_containers(compile):
    net = nn.Sequential(_scale(2.0), nn.Tanh())
    table = nn.ModuleDict({"x": _scale(3.0)})
    weights = nn.ParameterList([nn.Parameter(torch.ones(3))])

    def run(x):
        for w in weights:
            x = x * w
        for key in table:
            x = table[key](x) + len(key)
        return net(x)

    f = compile(run)
    yield f(arange(3)), f(arange(3))
    net[1] = nn.Sigmoid()
    yield f(arange(3)), f(arange(3))
    table["yy"] = _scale(0.5)
    yield f(arange(3)), f(arange(3))
    weights.append(nn.Parameter(torch.full((3,), 2.0)))
    yield f(arange(3)), f(arange(3))
    del table["x"]
    net.append(_scale(4.0))
    yield f(arange(3)), f(arange(3))


@scenario(
    "an exponential average of the weights, by copy and by swap", "the swapped weights", "input", 2
)
def test_averages(compile):
    net, mean = Net(), Net(3)
    f, g = compile(net), compile(mean)
    for k in range(3):
        with torch.no_grad():
            for p, q in zip(net.parameters(), mean.parameters(), strict=True):
                p.add_(0.1 * k)
                q.lerp_(p, 0.1)
        yield f(arange(2, 3)), g(arange(2, 3))
    for p, q in zip(net.parameters(), mean.parameters(), strict=True):
        p.data, q.data = q.data, p.data
    yield f(arange(2, 3)), g(arange(2, 3))


@scenario(
    "eval() in the middle of a call, train() after it", "dropout in the first half", "guard", 2
)
def test_mode_changed_inside(compile):
    drop = nn.Dropout(0.5)

    def run(x):
        drop.train()
        y = drop(x)
        drop.eval()
        z = drop(x)
        return y, z, drop.training

    f = compile(run)
    for _ in range(4):
        yield f(torch.ones(8)), drop.training


@scenario("a Module made inside from global settings", "a new one at each call", "eager", 1)
def test_module_made_inside(compile):
    def run(x):
        torch.manual_seed(4)
        return nn.Linear(3, 2)(x)

    f = compile(run)
    for _ in range(3):
        yield f(arange(3))


@scenario(
    "deepcopy of a compiled Module in mid training", "independent of the original", "guard", 1
)
def test_compiled_module_copied(compile):
    def trained(model, parameters):
        loss = (model(arange(2, 3)) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in parameters:
                p -= 0.1 * p.grad
                p.grad = None
        return loss

    net = compile(Net())
    yield [trained(net, net.parameters()) for _ in range(3)]
    other = copy.deepcopy(net)
    yield trained(other, other.parameters()), trained(net, net.parameters())
    yield [trained(other, other.parameters()) for _ in range(2)], net(arange(2, 3))
