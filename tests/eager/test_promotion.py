"""Dtype promotion: tensors, 0-d tensors and Python numbers, as torch's rules say.

Invariant: the expected table is written out; torch 2.13 gave it.
"""

from __future__ import annotations

import operator
from typing import Any

import pytest

import tracejit as torch

SHORT = {"u8": torch.uint8, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32,
         "i64": torch.int64, "f16": torch.float16, "f32": torch.float32, "f64": torch.float64,
         "b": torch.bool}  # fmt: skip

# Row: left operand, columns: right operand in the order of the header; of dimension 1 both.
TENSORS = """
      b   u8  i8  i16 i32 i64 f16 f32 f64
b     b   u8  i8  i16 i32 i64 f16 f32 f64
u8    u8  u8  i16 i16 i32 i64 f16 f32 f64
i8    i8  i16 i8  i16 i32 i64 f16 f32 f64
i16   i16 i16 i16 i16 i32 i64 f16 f32 f64
i32   i32 i32 i32 i32 i32 i64 f16 f32 f64
i64   i64 i64 i64 i64 i64 i64 f16 f32 f64
f16   f16 f16 f16 f16 f16 f16 f16 f32 f64
f32   f32 f32 f32 f32 f32 f32 f32 f32 f64
f64   f64 f64 f64 f64 f64 f64 f64 f64 f64
"""


def table() -> list[tuple[str, str, str]]:
    header, *rows = (line.split() for line in TENSORS.strip().splitlines())
    return [(row[0], right, row[1 + i]) for row in rows for i, right in enumerate(header)]


def test_tensors_of_one_dimension() -> None:
    for left, right, result in table():
        x, y = torch.ones(2, dtype=SHORT[left]), torch.ones(2, dtype=SHORT[right])
        assert (x + y).dtype is SHORT[result], (left, right)
        assert torch.promote_types(x.dtype, y.dtype) is SHORT[result]
        assert torch.result_type(x, y) is SHORT[result]


@pytest.mark.parametrize(
    ("left", "number", "result"),
    [
        ("u8", 3, "u8"), ("i8", True, "i8"), ("i64", 2.0, "f32"), ("b", 1, "i64"),
        ("b", 1.5, "f32"), ("b", True, "b"), ("f16", 3, "f16"), ("f16", 3.5, "f16"),
        ("f64", 1, "f64"), ("u8", 0.5, "f32"), ("i16", False, "i16"),
    ],
)  # fmt: skip
def test_python_numbers_change_only_the_kind(left: str, number: Any, result: str) -> None:
    x = torch.ones(2, dtype=SHORT[left])
    assert (x + number).dtype is SHORT[result]
    assert (number + x).dtype is SHORT[result]
    assert torch.where(x > 0, x, number).dtype is SHORT[result]


@pytest.mark.parametrize(
    ("vector", "scalar", "result"),
    [
        ("f32", "f64", "f32"), ("f16", "f32", "f16"), ("i8", "i64", "i8"), ("i64", "f64", "f64"),
        ("i64", "f16", "f16"), ("b", "u8", "u8"), ("u8", "i8", "u8"), ("i32", "b", "i32"),
    ],
)  # fmt: skip
def test_0d_tensors_give_way_within_their_kind(vector: str, scalar: str, result: str) -> None:
    x, y = torch.ones(2, dtype=SHORT[vector]), torch.ones((), dtype=SHORT[scalar])
    assert (x * y).dtype is SHORT[result]
    assert (y * x).dtype is SHORT[result]


def test_two_0d_tensors_promote_as_vectors_do() -> None:
    x, y = torch.ones((), dtype=torch.float32), torch.ones((), dtype=torch.float64)
    assert (x + y).dtype is torch.float64
    assert (torch.tensor(1, dtype=torch.int8) + torch.tensor(1)).dtype is torch.int64


def test_true_division_floats_and_comparison_is_bool() -> None:
    i = torch.tensor([7, -7])
    assert (i / 2).tolist() == [3.5, -3.5]
    assert (i / 2).dtype is torch.float32
    assert (i // 2).tolist() == [3, -4]
    assert (i % 4).tolist() == [3, 1]
    assert (i > torch.tensor([0.5, 0.5])).tolist() == [True, False]


@pytest.mark.parametrize("name", ["exp", "sqrt", "sigmoid", "sin", "log1p", "mean_of"])
def test_floating_functions_of_integers_give_the_default_dtype(name: str) -> None:
    x = torch.tensor([1, 4])
    if name == "mean_of":
        assert torch.mean(x, dtype=torch.float64).item() == 2.5
        with pytest.raises(RuntimeError, match="float"):
            x.mean()
        return
    assert getattr(torch, name)(x).dtype is torch.float32


def test_sums_of_small_integers_are_int64() -> None:
    for kind in (torch.bool, torch.uint8, torch.int16):
        assert torch.ones(3, dtype=kind).sum().dtype is torch.int64
        assert torch.ones(3, dtype=kind).cumsum(0).dtype is torch.int64
    assert torch.full((300,), 200, dtype=torch.uint8).sum().item() == 60_000


def test_integers_wrap_and_bools_do_not() -> None:
    x = torch.tensor([250, 5], dtype=torch.uint8)
    assert (x + 10).tolist() == [4, 15]
    assert (torch.tensor([127], dtype=torch.int8) + 1).tolist() == [-128]
    assert (torch.tensor([True]) + torch.tensor([True])).tolist() == [True]
    with pytest.raises(RuntimeError):
        torch.tensor([True]) - torch.tensor([True])
    with pytest.raises(RuntimeError):
        -torch.tensor([True])


def test_the_default_dtype_is_what_floats_become() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.tensor(1.0).dtype is torch.float64
        assert (torch.tensor([1]) / 2).dtype is torch.float64
        assert torch.zeros(1).dtype is torch.float64
        assert (torch.ones(1, dtype=torch.float32) + 1.0).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor])
def test_bitwise_operators_refuse_floats(op: Any) -> None:
    assert op(torch.tensor([6]), 3).dtype is torch.int64
    with pytest.raises(RuntimeError):
        op(torch.tensor([1.0]), 1)
