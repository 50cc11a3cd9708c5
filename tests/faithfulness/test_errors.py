"""Errors: raised when eager raises, with the user's line.

Invariant: type and message of the plain and the compiled function are the same.
"""

from __future__ import annotations

import pytest
from scenario import arange, error, scenario

import tracejit as torch


@scenario("shapes that do not fit", "ShapeError naming the line", "input", 1)
def test_shape_mismatch(compile):
    f = compile(lambda x, y: x @ y)
    for k in (3, 4, 3, 5):
        yield error(f, arange(2, 3), arange(k, 2))


@scenario("dtypes that do not fit", "an error naming the line", "input", 1)
def test_dtype_mismatch(compile):
    def run(x, y):
        return x.copy_(y) & y

    f = compile(run)
    yield error(f, torch.tensor([1, 2]), torch.tensor([3, 4]))
    for _ in range(2):
        yield error(f, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))


@scenario("an index out of range in a gather", "IndexError, never clamped", "input", 1)
def test_index_out_of_range(compile):
    f = compile(lambda x, i: x[i] * 2)
    for i in ([0, 1], [2, 3], [-1, 0], [-4, 0], [1, 2]):
        yield error(f, arange(3), torch.tensor(i))


@scenario("an index out of range in a write", "IndexError, nothing written", "input", 1)
def test_write_out_of_range(compile):
    def run(x, i):
        x[i] = 7.0
        return x * 2

    f = compile(run)
    for i in ([0, 1], [2, 3], [-1, 0], [-4, 0]):
        x = arange(3)
        yield error(f, x, torch.tensor(i)), x


@scenario(
    "an out-of-range index after an in-place write", "the completed write is visible", "input", 1
)
def test_error_after_write(compile):
    def run(x, i):
        x.add_(1)
        return x[i]

    f = compile(run)
    for i in ([0, 1], [5, 0], [2, 1]):
        x = arange(3)
        yield error(f, x, torch.tensor(i)), x


@scenario("embedding, gather, index_select, scatter out of range", "IndexError", "input", 4)
def test_other_indices(compile):
    table = arange(4, 2)
    fs = [
        compile(lambda i: torch.nn.functional.embedding(i, table)),
        compile(lambda i: table.index_select(0, i)),
        compile(lambda i: table.gather(0, i.unsqueeze(1))),
        compile(lambda i: torch.zeros(4).scatter(0, i, 1.0)),
    ]
    for i in ([0, 1], [3, 4], [2, 2]):
        for f in fs:
            yield error(f, torch.tensor(i))[:2]


@scenario("integer division by zero", "ZeroDivisionError as eager", "input", 1)
def test_division_by_zero(compile):
    f = compile(lambda x, y: x // y)
    for y in ([1, 2], [0, 2], [2, 1]):
        yield error(f, torch.tensor([7, 8]), torch.tensor(y))


@scenario("bool() of a tensor with several elements", "RuntimeError as torch", "input", 0)
def test_ambiguous_bool(compile):
    def run(x):
        if x > 0:
            return x
        return -x

    f = compile(run)
    for _ in range(2):
        yield error(f, arange(3))


@scenario("item() of several elements, int() of a vector", "an error", "input", 0)
def test_item_of_many(compile):
    f, g = compile(lambda x: x.item()), compile(lambda x: int(x))
    for _ in range(2):
        yield error(f, arange(3)), error(g, arange(3))


@scenario("an unknown attribute or op", "AttributeError", "input", 0)
def test_unknown_op(compile):
    f = compile(lambda x: x.no_such_op())
    for _ in range(2):
        yield error(f, arange(3))


@scenario("a reduction of nothing (max of an empty tensor)", "an error", "input", 1)
def test_empty_max(compile):
    f = compile(lambda x: x.max())
    for n in (3, 0, 3):
        yield error(f, arange(n))[:2]


@scenario("backward on a tensor without history", "RuntimeError", "input", 0)
def test_no_history(compile):
    def run(x):
        (x * 2).sum().backward()

    f = compile(run)
    for _ in range(2):
        yield error(f, arange(3))


@scenario("a leaf that requires grad changed in place", "RuntimeError", "input", 0)
def test_leaf_in_place(compile):
    w = arange(3).requires_grad_()

    def run(x):
        w.add_(x)

    f = compile(run)
    for _ in range(2):
        yield error(f, arange(3)), w


@scenario("an error in a branch not taken at capture", "raised when taken", "guard", 1)
def test_error_in_branch(compile):
    def run(x, flag):
        return x @ x if flag else x * 2

    f = compile(run)
    for flag in (False, True, False):
        yield error(f, arange(2, 3), flag)


def test_message_names_line():
    """The message of an error raised from compiled code names this file and line."""
    f = torch.compile(lambda x, i: x[i])
    f(arange(3), torch.tensor([0]))
    f(arange(3), torch.tensor([1]))
    with pytest.raises(IndexError) as caught:
        f(arange(3), torch.tensor([3]))
    assert "test_errors.py" in str(caught.value)


def test_generated_source_in_traceback():
    """Guards' source is known to linecache, so a traceback can show it."""
    import linecache

    f = torch.compile(lambda x: x * 2)
    f(arange(3))
    f(arange(3))
    (signature,) = f.signatures.values()
    code = signature.groups[0].guard.__code__
    assert "def guard" in linecache.getline(code.co_filename, 1)
