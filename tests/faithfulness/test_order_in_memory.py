"""How results lie in memory: strides, `view`, `is_contiguous`, inside and outside of the function.

Invariant: the axes of a compiled result have plain code's order; a slice with gaps, or what was
expanded, is a view of what it is a view of in plain code.
"""

from __future__ import annotations

from scenario import arange, error, scenario

import tracejit as torch
import tracejit.nn.functional as F


def shown(result):
    """A result, its strides, and what becomes of it as a view."""
    return result, result.stride(), result.is_contiguous(), error(result.view, -1)[:2]


def layouts(*shape):
    """Tensors of one shape: row-major, transposed, with gaps, expanded, transposed again."""
    yield arange(*shape)
    yield arange(*shape[::-1]).permute(*range(len(shape) - 1, -1, -1))
    yield arange(*shape[:-1], 2 * shape[-1])[..., ::2]
    yield arange(1, *shape[1:]).expand(*shape)
    yield arange(*shape[::-1], start=3).permute(*range(len(shape) - 1, -1, -1))


@scenario("x + 1 of transposed, strided, expanded x", "the order of x", "guard", 3, strides=True)
def test_pointwise(compile):
    f = compile(lambda x: x + 1)
    for x in layouts(2, 3):
        yield shown(f(x))


@scenario("f(x.T).T.view(-1)", "works where plain code does", "guard", 3, strides=True)
def test_back_and_forth(compile):
    f = compile(lambda x: (x * 2).exp())
    for x in (arange(2, 3), arange(3, 2).T, arange(5, 2).T):
        yield error(lambda x=x: f(x.T).T.view(-1)), error(lambda x=x: f(x).view(-1))


@scenario("x.T + 1, a kernel's op and a transpose", "the order it was computed in", "guard", 3,
          strides=True)  # fmt: skip
def test_transposed_inside(compile):
    f = compile(lambda x: (x.T + 1, x.T.exp().T, x.permute(1, 0).clamp(0, 2)))
    for x in layouts(2, 3):
        yield [shown(r) for r in f(x)]


@scenario("sizes vary, the order stays", "the order of x", "guard", 3, strides=True)
def test_sizes(compile):
    f = compile(lambda x: x.tanh() * 2)
    for n in (2, 3, 4, 5, 7):
        yield shown(f(arange(3, n).T))
    for n in (2, 3, 4):
        yield shown(f(arange(n, 3)))


@scenario("channels last through a chain", "channels last", "guard", 2, strides=True)
def test_channels_last(compile):
    f = compile(lambda x: (F.relu(x) * 2 + x.sigmoid(), x.mean((2, 3)), F.layer_norm(x, (3,))))
    for x in (arange(2, 4, 2, 3), arange(2, 2, 3, 4).permute(0, 3, 1, 2)):
        yield [shown(r) for r in f(x)]


@scenario("zeros_like, full_like, clone, flip, masked_fill", "torch's order", "guard", 2,
          strides=True)  # fmt: skip
def test_like(compile):
    f = compile(lambda x: (torch.zeros_like(x), torch.full_like(x, 2.0), x.clone(), x.flip(0),
                           x.masked_fill(x > 1, 0.0)))  # fmt: skip
    for x in (arange(2, 3), arange(3, 2).T, arange(2, 3, start=5)):
        yield [shown(r) for r in f(x)]


@scenario("a fresh transposed result written to in place", "it stays as it lies", "guard", 2,
          strides=True)  # fmt: skip
def test_written(compile):
    def run(x):
        y = x.T * 2
        y[0] = 7.0
        y.add_(torch.ones(3, 2))
        y.copy_(torch.ones(3, 2) * y.sum())
        return y, y[1:], y.T

    f = compile(run)
    for x in (arange(2, 3), arange(3, 2).T, arange(2, 3)):
        yield [shown(r) for r in f(x)]


@scenario("gradients through results that are not row-major", "as plain", "guard", 2)
def test_gradients(compile):
    w = torch.ones(3, requires_grad=True)
    f = compile(lambda x: (x.T * w[:, None]).exp())
    for x in (arange(2, 3), arange(3, 2).T, arange(2, 3)):
        y = f(x)
        (y * y.T.contiguous().T).sum().backward()
        yield shown(y.detach()), w.grad


@scenario("both orders of operands by turns", "the order plain code gives", "guard", 4,
          strides=True)  # fmt: skip
def test_two_operands(compile):
    f = compile(lambda x, y: x * y)
    for x in (arange(2, 3), arange(3, 2).T):
        for y in (arange(2, 3), arange(3, 2).T):
            yield shown(f(x, y))


@scenario("a copy that is overwritten as a whole, of x in another order", "the order of x", "guard",
          2, strides=True)  # fmt: skip
def test_overwritten(compile):
    def run(x):
        y = x.to(torch.float64)
        y.fill_(3.0)
        return y, y.select(0, 0)

    f = compile(run)
    for x in (arange(2, 3), arange(3, 2).T, arange(2, 3)):
        yield [shown(r) for r in f(x)]


@scenario("results that are slices with gaps, diagonals, expanded", "strides and views as plain",
          "guard", 4, strides=True)  # fmt: skip
def test_gaps(compile):
    def run(x):
        y = x * 2
        wide = (x + 1).expand(2, -1, -1)
        return y[:, 1:], wide, x.exp()[:, -1], x.sin().diagonal(), x.cos().sum(1, True).expand_as(x)

    f = compile(run)
    for x in (arange(3, 3), arange(4, 3), arange(5, 4), arange(3, 3).T):
        yield [shown(r) for r in f(x)]
