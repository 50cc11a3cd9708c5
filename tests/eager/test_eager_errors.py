"""What goes wrong names the op, the types and the user's file:line; nothing is changed by it.

Invariant: every message here ends with a line of this file.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import tracejit as torch

X = torch.zeros(2, 3)

WRONG: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "broadcast": (lambda: X + torch.zeros(4), RuntimeError, r"add\(f32\[2,3\], f32\[4\]\)"),
    "matmul": (lambda: X @ X, RuntimeError, r"matmul: f32\[2,3\] and f32\[2,3\].*3 against 2"),
    "matmul dtypes": (lambda: X @ torch.zeros(3, 2, dtype=torch.int64), RuntimeError, "i64"),
    "reshape": (lambda: X.reshape(4, 2), RuntimeError, r"reshape: .*\[4, 2\].*f32\[2,3\]"),
    "cat": (lambda: torch.cat([X, torch.zeros(2, 2)]), RuntimeError, "cat"),
    "stack": (lambda: torch.stack([X, torch.zeros(2, 2)]), RuntimeError, "stack"),
    "axis": (lambda: X.sum(2), IndexError, r"-2 to 1, got 2"),
    "transpose axis": (lambda: X.transpose(0, 5), IndexError, "5"),
    "index": (lambda: X[5], IndexError, r"index 5.*size 2"),
    "gather": (lambda: X.gather(1, torch.full((2, 1), 3)), IndexError, "3"),
    "index_select": (lambda: X.index_select(0, torch.tensor([2])), IndexError, "2"),
    "embedding": (lambda: torch.nn.functional.embedding(torch.tensor([2]), X), IndexError, "2"),
    "squeeze nothing": (lambda: X.view(5), RuntimeError, "view"),
    "split": (lambda: X.split([1, 3]), RuntimeError, "split"),
    "max of nothing": (lambda: torch.zeros(0).max(), (RuntimeError, IndexError), "max"),
    "argmax of nothing": (lambda: torch.zeros(0, 3).argmax(0), IndexError, "arg"),
    "truth": (lambda: bool(X), RuntimeError, "6 elements"),
    "item": (lambda: X.item(), RuntimeError, "6 elements"),
    "integer division": (lambda: torch.tensor([1]) // 0, (RuntimeError, ZeroDivisionError), "zero"),
    "remainder": (lambda: torch.tensor([1]) % torch.tensor([0]), RuntimeError, "zero"),
    "bool minus": (lambda: (X > 0) - (X > 0), RuntimeError, "sub: bool tensors"),
    "float bits": (lambda: X & 1, RuntimeError, "bitwise_and"),
    "singular": (lambda: torch.linalg.inv(torch.zeros(2, 2)), RuntimeError, "ingular"),
    "not square": (lambda: torch.linalg.det(X), RuntimeError, "square"),
    "cholesky": (lambda: torch.linalg.cholesky(-torch.eye(2)), RuntimeError, "positive"),
    "conv": (
        lambda: torch.nn.functional.conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)),
        RuntimeError, "channels",
    ),
    "linear": (lambda: torch.nn.Linear(4, 2)(X), RuntimeError, r"f32\[2,3\]"),
    "cross entropy": (
        lambda: torch.nn.functional.cross_entropy(X, torch.tensor([0, 3])), IndexError, "3",
    ),
    "device": (lambda: X.to("cuda"), RuntimeError, "cuda"),
    "unknown device": (lambda: X.to("toaster"), (RuntimeError, ValueError), "toaster"),
    "dtype of mean": (lambda: torch.arange(3).mean(), RuntimeError, "float"),
    "dot": (lambda: torch.dot(torch.ones(2), torch.ones(3)), RuntimeError, "dot|shape"),
    "einsum": (lambda: torch.einsum("ij,jk->ik", X, X), RuntimeError, "einsum|size"),
    "expand": (lambda: X.expand(3, 3), RuntimeError, r"f32\[2,3\].*3, 3"),
    "where": (lambda: torch.where(X, X, X), RuntimeError, "bool"),
    "masked_fill": (lambda: X.masked_fill(X, 0), RuntimeError, "bool"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_op_and_the_line(name: str) -> None:
    attempt, kind, text = WRONG[name]
    with pytest.raises(kind, match=text) as caught:
        attempt()
    place = re.search(r"\n  at .*test_eager_errors\.py:(\d+)  ", str(caught.value))
    assert place, caught.value
    first = attempt.__code__.co_firstlineno
    assert first <= int(place[1]) < first + len(inspect.getsource(attempt).splitlines())
    assert X.tolist() == [[0.0] * 3] * 2


def test_the_line_is_that_of_the_caller_not_of_the_library() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(5, 2))
    with pytest.raises(RuntimeError, match=r"test_eager_errors\.py:\d+  model\(X\)"):
        model(X)


def test_operands_that_are_no_numbers_are_left_to_python() -> None:
    with pytest.raises(TypeError, match="'Tensor' and 'str'"):
        X + "a"


def test_public_names_say_what_is_missing() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        torch.no_such_thing  # noqa: B018
    with pytest.raises(AttributeError, match="no_such_thing"):
        X.no_such_thing  # noqa: B018


def test_out_of_another_dtype_is_refused_where_torch_does_not_convert():
    x, wide = torch.ones(2, 2), torch.empty(2, 2, dtype=torch.float64)
    index = torch.empty(2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="Expected out tensor to have dtype float32"):
        torch.mm(x, x, out=wide)
    with pytest.raises(RuntimeError, match="max: Expected out"):
        torch.max(x, 0, out=(torch.empty(2, dtype=torch.float64), index))
    with pytest.raises(RuntimeError, match="argmax: Expected out tensor to have dtype int64"):
        torch.argmax(x, 0, out=index.int())
    assert torch.max(x, x, out=wide) is wide and torch.add(x, 1, out=wide)[0, 0] == 2
