"""Python around a compiled function: decorators, methods, copies, protocols, exceptions.

Invariant: programs use nothing that plain Python functions would not offer.
"""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import weakref

import pytest
from scenario import arange, error, module, scenario

import tracejit as torch
from tracejit import nn


@scenario("methods, staticmethods, classmethods decorated", "bound as in Python", "input", 3)
def test_method_kinds(compile):
    class Thing:
        k = 3.0

        def __init__(self):
            self.gain = 2.0

        @compile
        def plain(self, x):
            return x * self.gain

        @staticmethod
        @compile
        def static(x):
            return x - 1

        @classmethod
        @compile
        def klass(cls, x):
            return x * cls.k

    thing = Thing()
    for k in range(2):
        x = arange(3, start=k)
        yield thing.plain(x), Thing.plain(thing, x), thing.static(x), Thing.static(x)
        yield thing.klass(x), Thing.klass(x)


@scenario("compile above staticmethod and classmethod", "bound as in Python", "input", 2)
def test_compile_on_top(compile):
    class Thing:
        k = 3.0
        static = compile(staticmethod(lambda x: x - 1))
        klass = compile(classmethod(lambda cls, x: x * cls.k))

    for k in range(2):
        x = arange(3, start=k)
        yield Thing().static(x), Thing.static(x), Thing().klass(x), Thing.klass(x)


@scenario("a subclass overrides what a compiled method calls", "the override", "guard", 2)
def test_override(compile):
    class A:
        def part(self, x):
            return x + 1

        def run(self, x):
            return self.part(x) * 2

    class B(A):
        def part(self, x):
            return x - 10

    A.run = compile(A.run)
    for thing in (A(), B(), A(), B()):
        yield thing.run(arange(3))


@scenario("super() and a compiled override", "Python's lookup", "input", 1)
def test_super(compile):
    class A:
        def run(self, x):
            return x + 1

    class B(A):
        def run(self, x):
            return super().run(x) * 2

    B.run = compile(B.run)
    for k in range(2):
        yield B().run(arange(3, start=k))


@scenario("lambdas, partials, callables", "as called plainly", "input", 3)
def test_callables(compile):
    class Add:
        def __init__(self, k):
            self.k = k

        def __call__(self, x):
            return x + self.k

    def scaled(x, k, bias=0.0):
        return x * k + bias

    for f in (compile(lambda x: x * 2), compile(functools.partial(scaled, k=3.0, bias=1.0)),
              compile(Add(5))):  # fmt: skip
        for k in range(2):
            yield f(arange(3, start=k))


@scenario("functions decorated with functools.wraps", "the wrapper runs", "input", 1)
def test_decorated(compile):
    def double(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs) * 2

        return wrapper

    @compile
    @double
    def run(x):
        return x + 1

    for k in range(3):
        yield run(arange(3, start=k))


@scenario(
    "name, doc, signature, module of a compiled function", "those of the function", "input", 0
)
def test_metadata(compile):
    def run(x, *, scale: float = 2.0):
        """Scale it."""
        return x * scale

    run.note = "kept"
    f = compile(run)
    yield f.__name__, f.__doc__, f.__module__, f.__qualname__, f.note, str(inspect.signature(f))
    yield callable(f), f.__wrapped__ is run if f is not run else True


@scenario("a decorator that logs the arguments' shapes", "each call's", "eager", 3)
def test_logging_decorator(compile):
    shapes = []

    def noted(function):
        @functools.wraps(function)
        def wrapper(x):
            shapes.append(tuple(x.shape))
            return function(x)

        return wrapper

    f = compile(noted(lambda x: x * 2))
    for n in (1, 2, 2, 3, 2):
        yield f(arange(n)), shapes


@scenario("a Module compiled, its attributes used", "those of the Module", "input", 1)
def test_module_attributes(compile):
    model = nn.Linear(3, 2)
    f = compile(model)
    yield f(arange(1, 3)), [n for n, _ in f.named_parameters()], f.training, list(f.state_dict())
    f.eval()
    yield model.training


@scenario(
    "copy.deepcopy of a model used by a compiled function", "independent of the copy", "input", 2
)
def test_deepcopy_model(compile):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    f = compile(model)
    yield f(arange(2, 3))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(2)
    g = compile(other)
    yield f(arange(2, 3)), g(arange(2, 3)), model[0].weight, other[0].weight


@scenario("an object whose __call__, __len__, __getitem__, __iter__ are the user's", "as plain",
          "guard", 2)  # fmt: skip
def test_user_protocols(compile):
    class Bag:
        def __init__(self, items):
            self.items = items

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            return self.items[i]

        def __iter__(self):
            return iter(self.items)

        def __call__(self, x):
            return x + self.items[0]

        def __bool__(self):
            return bool(self.items[0])

    bag = Bag([1.0, 2.0])

    def run(x):
        return bag(x) * len(bag) + bag[1] + sum(bag) + (1 if bag else 5)

    f = compile(run)
    yield f(arange(3))
    bag.items[0] = 0.0
    yield f(arange(3))


@scenario("an operator overloaded by the user's class", "the user's method", "guard", 2)
def test_user_operators(compile):
    class Scaled:
        def __init__(self, k):
            self.k = k

        def __rmul__(self, x):
            return x * self.k

        def __radd__(self, x):
            return x + self.k

    s = Scaled(2.0)
    f = compile(lambda x: s.__rmul__(x) + s.k)
    yield f(arange(3))
    s.k = 3.0
    yield f(arange(3))


@scenario("exceptions raised by user code", "type, message and line", "input", 1)
def test_exception(compile):
    def run(x, n):
        if n > 2:
            raise KeyError("n is too big")
        return x * n

    f = compile(run)
    for n in (1, 3, 1, 3):
        yield error(f, arange(3), n)


@scenario("StopIteration, KeyboardInterrupt pass through", "the same exception", "input", 0)
def test_base_exceptions(compile):
    def run(x):
        raise KeyboardInterrupt

    f = compile(run)
    for _ in range(3):
        try:
            f(arange(3))
        except KeyboardInterrupt:
            yield "interrupted"
    g = lambda x: x * 2  # noqa: E731
    yield g(arange(2))


@scenario("a weak reference's target dies", "None afterwards", "guard", 2)
def test_weakref(compile):
    class Holder:
        k = 2.0

    held = Holder()
    ref = weakref.ref(held)

    def run(x):
        target = ref()
        return x * (target.k if target is not None else -1)

    f = compile(run)
    yield f(arange(3))
    del held
    gc.collect()
    yield f(arange(3))


@scenario("os.environ read inside", "the present value", "guard", 2)
def test_environ(compile):
    import os

    os.environ["TRACEJIT_TEST_GAIN"] = "2"
    f = compile(lambda x: x * float(os.environ["TRACEJIT_TEST_GAIN"]))
    yield f(arange(3))
    os.environ["TRACEJIT_TEST_GAIN"] = "5"
    yield f(arange(3))
    del os.environ["TRACEJIT_TEST_GAIN"]


@scenario("a file read inside", "its present contents", "eager", 1)
def test_file(compile):
    import tempfile

    with tempfile.NamedTemporaryFile("w+") as file:

        def run(x):
            with open(file.name) as handle:
                return x * float(handle.read())

        f = compile(run)
        for text in ("2", "3", "2"):
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            yield f(arange(3))


@scenario("id(), hash(), is on tensors and objects inside", "as plain", "input", 1)
def test_identity(compile):
    seen = {}

    def run(x, y):
        return x * 2 if x is y else x + y

    f = compile(run)
    a, b = arange(3), arange(3, start=1)
    yield f(a, b), len(seen)
    yield f(b, a)


@scenario("isinstance, type(), hasattr on arguments", "as plain", "guard", 3)
def test_isinstance(compile):
    def run(x, k):
        if isinstance(k, torch.Tensor):
            return x + k
        if isinstance(k, (list, tuple)):
            return x + k[0]
        return x * k if hasattr(k, "real") else x

    f = compile(run)
    for k in (2.0, [1.0, 2.0], arange(3), 2.0, [1.0, 2.0], arange(3)):
        yield f(arange(3), k)


@scenario("sys.setprofile or settrace active (debugger, coverage)", "results as plain", "input", 1)
def test_profiler(compile):
    import sys

    events = []
    f = compile(lambda x: x * 2 + 1)
    sys.setprofile(lambda frame, event, arg: events.append(event))
    try:
        a = f(arange(3))
        b = f(arange(3, start=1))
    finally:
        sys.setprofile(None)
    yield a, b, len(events) > 0


@scenario("nn.Module methods other than forward compiled", "as plain", "input", 1)
def test_other_methods(compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def encode(self, x):
            return self.fc(x).relu()

    net = Net()
    net.encode_fast = compile(net.encode)
    for k in range(2):
        yield net.encode_fast(arange(2, 3, start=k))


@scenario("global statement that creates a new global", "created", "eager", 3)
def test_new_global(compile):
    space = module("def f(x):\n    global made\n    made = x * 2\n    return x + 1")
    f = compile(space.f)
    for k in range(4):
        space.__dict__.pop("made", None)
        yield f(arange(3, start=k)), space.made


@scenario("a deep copy and a shallow copy inside", "new objects, same numbers", "input", 1)
def test_copy_inside(compile):
    f = compile(lambda x: (copy.deepcopy(x) + 1, copy.copy([x, x])[0] * 2))
    for k in range(2):
        yield f(arange(3, start=k))


def decorated(x):
    """At module level, so that pickle finds it by name."""
    return x * 2


plain_decorated = decorated
decorated = torch.compile(decorated)


def test_pickle_by_reference():
    """A decorated function pickles by reference, as functions do."""
    again = pickle.loads(pickle.dumps(decorated))
    assert again is decorated


def test_deepcopy_of_compiled():
    """deepcopy of an object that holds a compiled function or Module works."""
    model = torch.compile(nn.Linear(3, 2))
    x = arange(2, 3)
    wanted = model(x)
    again = copy.deepcopy(model)
    assert torch.equal(again(x), wanted)
    with torch.no_grad():
        for p in again.parameters():
            p.zero_()
    assert torch.equal(model(x), wanted)
    assert not bool(again(x).any())


def test_fullgraph_raises():
    """fullgraph=True raises CaptureError naming the line instead of running eagerly."""
    from tracejit.errors import CaptureError

    f = torch.compile(lambda x: torch.tensor(x.numpy() * 2), fullgraph=True)
    with pytest.raises(CaptureError, match="numpy"):
        f(arange(3))


def test_reset():
    """reset() forgets the traces; results stay right."""
    f = torch.compile(lambda x: x * 2)
    f(arange(3))
    f.reset()
    assert f.captures == 0
    assert f(arange(3)).tolist() == [0.0, 0.5, 1.0]
    assert f.captures == 1
