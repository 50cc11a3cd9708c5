"""Attributes that users give tensors: set, changed, deleted between calls, or looked for in vain.

Invariant: that an attribute is missing steers the run as its value would.
"""

from __future__ import annotations

from scenario import arange, scenario

import tracejit as torch
from tracejit import nn


@scenario("getattr(x, 'tag', 2) of an argument", "the tag, or 2", "guard", 3)
def test_getattr_with_default(compile):
    f = compile(lambda x: x * getattr(x, "tag", 2))
    for k in range(6):
        x = arange(3)
        if k in (1, 3, 4):
            x.tag = k
        yield f(x)


@scenario("hasattr(w, 'tag') of a global, set and deleted", "whether it has one", "guard", 2)
def test_hasattr(compile):
    w = arange(3)
    f = compile(lambda x: x * w + (1 if hasattr(w, "tag") else 0))
    yield f(arange(3)), f(arange(3))
    w.tag = 1
    yield f(arange(3)), f(arange(3))
    del w.tag
    yield f(arange(3)), f(arange(3))


@scenario("try: x.scale, except AttributeError", "the way of what it has", "guard", 3)
def test_attribute_tried(compile):
    def run(x):
        try:
            return x * x.scale
        except AttributeError:
            return x - 1

    f = compile(run)
    for k in range(5):
        x = arange(3)
        if k % 2:
            x.scale = k
        yield f(x)


@scenario("an attribute of a parameter: set, changed, deleted", "what it is now", "guard", 3)
def test_parameter_attribute(compile):
    torch.manual_seed(0)
    m = nn.Linear(3, 2)
    f = compile(lambda x: m(x) * (2 if getattr(m.weight, "frozen", False) else 1))
    yield f(arange(2, 3)), f(arange(2, 3))
    m.weight.frozen = True
    yield f(arange(2, 3)), f(arange(2, 3))
    m.weight.frozen = False
    yield f(arange(2, 3)), f(arange(2, 3))
    del m.weight.frozen
    yield f(arange(2, 3)), f(arange(2, 3))


@scenario("p.__dict__.get('mult', 1) over parameters()", "what each has", "guard", 3)
def test_parameter_dict(compile):
    torch.manual_seed(0)
    m = nn.Linear(3, 2)

    def run(x):
        y = m(x)
        for p in m.parameters():
            y = y * p.__dict__.get("mult", 1)
        return y

    f = compile(run)
    yield f(arange(2, 3)), f(arange(2, 3))
    m.weight.mult = 3
    yield f(arange(2, 3)), f(arange(2, 3))
    m.bias.mult = 2
    yield f(arange(2, 3)), f(arange(2, 3))


@scenario("vars(x), and names made at run time", "what it has", "guard", 4)
def test_made_names(compile):
    f = compile(
        lambda x, name: x * getattr(x, name, 2) + len([k for k in vars(x) if not k.startswith("_")])
    )
    for k in range(4):
        x = arange(3)
        for j in range(k):
            setattr(x, f"n{j}", j)
        yield f(x, f"n{k - 1}")


@scenario("an attribute that is a tensor appears and is replaced", "the new one", "guard", 2)
def test_tensor_attribute_appears(compile):
    w = arange(3)
    f = compile(lambda x: x + getattr(w, "delta", 0))
    yield f(arange(3)), f(arange(3))
    w.delta = arange(3, start=5)
    yield f(arange(3)), f(arange(3))
    w.delta = arange(3, start=7)
    yield f(arange(3)), f(arange(3))


@scenario(
    "a subclass of Tensor: its class attribute, hidden and changed", "Python's lookup", "guard", 4
)
def test_subclass_attribute(compile):
    class Scaled(torch.Tensor):
        scale = 2

    f = compile(lambda x: x * x.scale)
    for k in range(6):
        x = arange(3).as_subclass(Scaled)
        if k in (2, 3):
            x.scale = k
        if k == 4:
            Scaled.scale = 9
        yield f(x)


_ASKED = [
    ("ndim", lambda t: t.ndim > 1, lambda: torch.ones(3), lambda: torch.ones(3, 1)),
    ("dtype", lambda t: t.dtype is torch.float32, lambda: torch.ones(3),
     lambda: torch.ones(3).double()),
    ("is_floating_point()", lambda t: t.is_floating_point(), lambda: torch.ones(3),
     lambda: torch.ones(3, dtype=torch.int64)),
    ("requires_grad", lambda t: t.requires_grad, lambda: torch.ones(3),
     lambda: torch.ones(3, requires_grad=True)),
    ("is_leaf", lambda t: t.is_leaf, lambda: torch.ones(3, requires_grad=True),
     lambda: torch.ones(3, requires_grad=True) * 2),
]  # fmt: skip


@scenario("y.dtype, ndim, requires_grad, is_leaf of an argument not used else", "as plain",
          "guard", 10)  # fmt: skip
def test_outline_of_an_unused_argument(compile):
    for _, ask, first, second in _ASKED:
        f = compile(lambda x, y, ask=ask: x * 2 if ask(y) else x * 3)
        for make in (first, first, second, second, first):
            yield f(torch.ones(2), make())


@scenario("w.requires_grad of a global tensor not used else", "as plain", "guard", 2)
def test_outline_of_a_global(compile):
    w = torch.ones(3)
    f = compile(lambda x: x * (2 if w.requires_grad else 3))
    yield f(arange(3)), f(arange(3))
    w.requires_grad_()
    yield f(arange(3)), f(arange(3))


@scenario("m.weight.dtype steers, then m.double()", "as plain", "guard", 2)
def test_outline_of_a_parameter(compile):
    m = nn.Linear(2, 2)
    f = compile(lambda x: x * (2 if m.weight.dtype is torch.float32 else 3))
    yield f(arange(3)), f(arange(3))
    m.double()
    yield f(arange(3)), f(arange(3))
