"""Arguments, shapes and numbers: what changes from call to call, and what may not be confused.

Invariant: kernel and trace counts are asserted exactly; they are what a user pays.
"""

from __future__ import annotations

import collections
import random

import numpy as np
from scenario import arange, error, near, scenario

import tracejit as torch
from tracejit import nn
from tracejit.codegen.compiler import kernel_history
from tracejit.nn import functional as F

Pair = collections.namedtuple("Pair", "left right")


@scenario("the same tensor passed twice, then two", "both read as they are", "input", 2)
def test_same_tensor_twice(compile):
    f = compile(lambda x, y: x * 2 + y)
    a, b = arange(3), arange(3, start=5)
    for args in ((a, a), (a, b), (b, a), (b, b)):
        yield f(*args)


@scenario("the same tensor passed twice, one of them written to", "the other sees the write",
          "guard", 2)  # fmt: skip
def test_same_tensor_written(compile):
    def run(x, y):
        x += 1
        return x * y

    f = compile(run)
    for same in (False, True, False, True):
        a = arange(3)
        b = a if same else arange(3)
        yield f(a, b), a, b


@scenario("two tensors, then one and a view of it, one of them written to",
"the view sees the write",
          "guard", 2)  # fmt: skip
def test_view_argument_written(compile):
    def run(x, y):
        x += 1
        return x * y

    f = compile(run)
    for view in (False, True, False, True):
        a = arange(3, 2)
        b = a.reshape(2, 3).reshape(3, 2) if view else arange(3, 2)
        yield f(a, b), a, b


@scenario("two overlapping views of one buffer, one written to", "the overlap changes", "guard", 3)
def test_overlapping_views(compile):
    def run(x, y):
        x.mul_(2)
        return y + 1

    f = compile(run)
    for first, second in ((slice(0, 3), slice(3, 6)), (slice(0, 3), slice(2, 5)),
                          (slice(2, 5), slice(0, 3)), (slice(0, 3), slice(3, 6))):  # fmt: skip
        base = arange(8)
        yield f(base[first], base[second]), base


@scenario("a view and its base as arguments, both written to", "one memory", "input", 1)
def test_view_and_base(compile):
    def run(base, row):
        row += 10
        base *= 2
        return row.sum()

    f = compile(run)
    for k in range(3):
        base = arange(3, 4, start=k)
        yield f(base, base[1]), base


@scenario("positional and keyword arguments mixed", "the same parameter", "input", 4)
def test_keywords(compile):
    def run(x, y=None, *, scale=2.0):
        return x * scale if y is None else x * scale - y

    f, a, b = compile(run), arange(3), arange(3, start=4)
    for _ in range(2):
        yield f(a, b), f(a, y=b), f(x=a, y=b), f(y=b, x=a)


@scenario("keywords given in another order", "the same result", "input", 2)
def test_keyword_order(compile):
    f = compile(lambda **kw: kw["a"] - kw["b"] * 2)
    a, b = arange(3), arange(3, start=4)
    for _ in range(2):
        yield f(a=a, b=b)
        yield f(b=b, a=a)
        yield f(a=b, b=a)


@scenario("*args and **kwargs of varying number", "all of them", "guard", 4)
def test_varargs(compile):
    f = compile(lambda *xs, **kw: sum(xs) + sum(kw.values()))
    a = arange(3)
    for _ in range(2):
        yield f(a), f(a, a), f(a, a, k=2.0), f(a, k=3.0)


@scenario("wrong arguments", "Python's TypeError", "input", 1)
def test_wrong_arguments(compile):
    def run(x, y):
        return x + y

    f = compile(run)
    yield f(arange(3), arange(3))
    yield error(f, arange(3))[:2]
    yield error(f, arange(3), arange(3), arange(3))[:2]
    yield error(f, arange(3), z=1)[:2]


@scenario("nested lists, tuples, dicts, namedtuples of tensors", "their structure", "guard", 3)
def test_nested_arguments(compile):
    def run(tree):
        return {"sum": sum(tree["xs"]), "pair": Pair(tree["p"].right, tree["p"].left * 2)}

    f = compile(run)
    for n in (2, 2, 3, 1, 2):
        yield f({"xs": [arange(3, start=i) for i in range(n)], "p": Pair(arange(2), 3.0)})


@scenario("batch sizes 0, 1, 2, 7, 64 in random order", "each its own result", "guard", 2)
def test_batch_sizes(compile):
    rng = random.Random(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))
    f = compile(lambda x: F.softmax(model(x), dim=-1))
    sizes = [7, 64, 2, 1, 0] + [rng.choice([0, 1, 2, 7, 64]) for _ in range(20)]
    for n in sizes:
        yield f(arange(n, 4, start=-1.0))


@scenario("two dimensions vary on their own", "each its own result", "guard", 3)
def test_two_dimensions(compile):
    f = compile(lambda x, y: (x @ y).relu().sum(0))
    for n, m in ((3, 4), (5, 4), (5, 6), (7, 9), (2, 3), (11, 13)):
        yield near(f(arange(n, m), arange(m, 2)),
                   np.maximum((np.arange(n * m) / 4).reshape(n, m)
                              @ (np.arange(m * 2) / 4).reshape(m, 2), 0).sum(0))  # fmt: skip


@scenario("the rank and the dtype of an argument change", "promotion and broadcasting", "guard", 7)
def test_ranks_and_dtypes(compile):
    f = compile(lambda x: x * 2 + 1)
    for shape in ((), (3,), (2, 3), (2, 1, 3)):
        yield f(torch.ones(shape))
    for dtype in (torch.float64, torch.int64, torch.float16):
        yield f(torch.ones(3, dtype=dtype))


@scenario("a size steers Python: if, range, indexing", "the branch of that size", "guard", 3)
def test_size_steers(compile):
    def run(x):
        if x.shape[0] > 3:
            x = x[:3]
        for i in range(x.size(0)):
            x = x + i
        return x * len(x)

    f = compile(run)
    for n in (2, 5, 2, 3, 9, 3, 5):
        yield f(arange(n, 2))


@scenario("sizes used as numbers: x / n, n ** 0.5, arange(n)", "this call's sizes", "guard", 2)
def test_sizes_as_numbers(compile):
    def run(x):
        n = x.shape[0]
        return x / n + torch.arange(n, dtype=x.dtype).unsqueeze(1) * n, n, n * 2 + 1

    f = compile(run)
    for n in (3, 4, 7, 12, 4):
        yield f(arange(n, 2))


@scenario("a float of sizes (n ** -0.5)", "this call's sizes", "guard", 2)
def test_float_of_sizes(compile):
    f = compile(lambda x: x * x.shape[-1] ** -0.5)
    for n in (4, 9, 4, 16, 9, 25):
        yield f(arange(2, n))


@scenario("sizes that are equal, then differ (broadcasting)", "broadcast or ShapeError", "guard", 4)
def test_equal_sizes(compile):
    f = compile(lambda x, y: x + y)
    for n, m in ((3, 3), (4, 4), (5, 5), (5, 1), (1, 5), (6, 6), (3, 1)):
        yield f(arange(n, 2), arange(m, 2))
    yield error(f, arange(3, 2), arange(4, 2))[:2]


@scenario("a Python float argument of 20 values", "each value", "input", 2)
def test_float_argument(compile):
    f = compile(lambda x, k: x * k)
    for i in range(20):
        yield near(f(arange(3), 0.1 * i), np.arange(3) * 0.25 * 0.1 * i)


@scenario("a Python int argument that only multiplies", "each value", "input", 2)
def test_int_argument(compile):
    f = compile(lambda x, k: x * k + k)
    for i in range(10):
        yield f(arange(3), i)


@scenario("a Python int argument that steers a loop", "each count", "guard", 4)
def test_int_steers(compile):
    def run(x, n):
        for _ in range(n):
            x = x * 2
        return x

    f = compile(run)
    for n in (1, 2, 3, 0, 2, 1, 0):
        yield f(arange(3), n)


@scenario("bool, int and float of equal value as one argument", "promotion by type", "guard", 3)
def test_equal_numbers(compile):
    f = compile(lambda x, k: x * k)
    for k in (1, True, 1.0, 1, True, 1.0):
        yield f(torch.tensor([1, 2, 3]), k)


@scenario("integers beyond 2**31 and float64 numbers", "eager's promotion and rounding", "guard", 4)
def test_large_numbers(compile):
    f = compile(lambda x, k: x + k)
    for x in (torch.tensor([1, 2]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]).double()):
        for k in (2**31 + 1, 2**53 + 1):
            yield f(x, k)


@scenario(
    "1/3 meets float16, float32 and float64", "one rounding, to the tensor's dtype", "guard", 3
)
def test_python_float_precision(compile):
    f = compile(lambda x: x * (1 / 3) + 1e-8)
    for kind in (torch.float16, torch.float32, torch.float64):
        yield f(torch.tensor([1.0, 3.0, 1e4], dtype=kind))


@scenario("a learning rate of 1,000 values through an optimizer", "each rate", "input", 2, lost=1)
def test_lr_schedule(compile):
    w = torch.ones(4, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)

    def run(x):
        optimizer.zero_grad()
        loss = ((w - x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    step, x = compile(run), arange(4)
    for i in range(1000):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + i * 0.01)
        loss = step(x)
        if i % 100 == 0:
            yield loss, w
    yield w


@scenario("a nested compiled function, three calls each", "as if not compiled", "input", 2)
def test_nested_compiled(compile):
    inner = compile(lambda x: x * 2 + 1)
    outer = compile(lambda x: inner(x).exp() + inner(x + 1))
    for k in range(3):
        yield inner(arange(3, start=k))
        yield outer(arange(3, start=k))


@scenario("a non-contiguous, transposed, flipped, expanded argument", "the same values", "guard", 3)
def test_layouts(compile):
    f = compile(lambda x: x * 2 + x.sum())
    x = arange(4, 4)
    for view in (x, x.t(), x.flip(0), x[:1].expand(4, 4), arange(8, 8)[::2, 1::2]):
        yield f(view)
        yield f(view)


def test_thousand_batch_sizes() -> None:
    """1,000 random batch sizes compile no more kernels than three per fusion group."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8))
    plain, f = model, torch.compile(lambda x: F.log_softmax(model(x), dim=-1))
    rng = random.Random(5)
    before = len(kernel_history())
    for i in range(1000):
        x = arange(rng.randint(1, 300), 4)
        got = f(x)
        if i % 50 == 0:
            assert torch.equal(got, F.log_softmax(plain(x), dim=-1))
    made = [event for event in kernel_history()[before:] if event.kind == "compile"]
    groups = 2
    assert len(made) <= 3 * groups, made
    assert f.captures <= 3
    assert f.eager_reason is None


_EINOPS = """
import functools

def uncached(shape):
    return [shape[0] * shape[1], *shape[2:]]

cached = functools.lru_cache(16)(uncached)

def _apply_recipe(x):
    try:
        return x.reshape(cached(tuple(x.shape)))
    except TypeError:
        return x.reshape(uncached(tuple(x.shape)))
"""


def test_sizes_do_not_enter_the_cache_of_einops() -> None:
    names = {"__name__": "einops.einops", "__builtins__": {"tuple": tuple, "TypeError": TypeError,
                                                          "__import__": __import__}}  # fmt: skip
    exec(_EINOPS, names)
    recipe = names["_apply_recipe"]
    f = torch.compile(lambda x: recipe(x) * 2)
    for rows in (2, 3, 4, 5, 6):
        assert f(torch.ones(rows, 2, 3)).shape == (rows * 2, 3)
    assert f.cache_info().traces == 2
