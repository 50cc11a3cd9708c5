"""Indexing, reading and writing, with expected elements from NumPy where its rules are torch's.

Invariant: an index out of range raises in both; it is never clamped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as torch

CUBE = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
MASK = CUBE[0] % 3 == 1

SAME_AS_NUMPY: dict[str, Any] = {
    "integer": 1,
    "negative": -1,
    "integers": (1, 2, 3),
    "slice": slice(1, 3),
    "open": slice(None),
    "steps": (slice(None), slice(0, 3, 2), slice(1, None, 2)),
    "empty slice": (slice(1, 1),),
    "slice beyond the end": (slice(0, 99), slice(-99, 2)),
    "ellipsis": (..., 0),
    "ellipsis in the middle": (0, ..., 1),
    "none": (None, 1),
    "none at the end": (..., None),
    "nothing": (),
    "list": [0, 1, 0],
    "list of negatives": (slice(None), [-1, 0]),
    "two lists": ([0, 1], [2, 0]),
    "two lists that broadcast": ([[0], [1]], [0, 2]),
    "lists around a slice": ([0, 1], slice(None), [3, 0]),
    "array": np.array([[0, 1], [1, 0]]),
    "array in the last place": (..., np.array([3, 1])),
    "mask": (0, MASK),
    "mask of the first axis": np.array([True, False]),
    "mask and slice": (slice(None), np.array([True, False, True]), slice(0, 2)),
    "whole mask": CUBE > 10,
    "mask of nothing": CUBE > 99,
    "true": True,
    "false": False,
    "none and list": (None, [1, 0]),
}


def ours(index: Any) -> Any:
    """The index with tensors in place of arrays."""
    if isinstance(index, np.ndarray):
        return torch.from_numpy(index)
    return tuple(map(ours, index)) if isinstance(index, tuple) else index


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_reading(name: str) -> None:
    index = SAME_AS_NUMPY[name]
    x, want = torch.from_numpy(CUBE.copy()), CUBE[index]
    got = x[ours(index)]
    assert tuple(got.shape) == want.shape
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_writing_a_number_and_a_tensor(name: str) -> None:
    index = SAME_AS_NUMPY[name]
    for value in (-1.0, np.float32(-5) - np.arange(CUBE[index].size, dtype=np.float32)):
        want, x = CUBE.copy(), torch.from_numpy(CUBE.copy())
        part = value if isinstance(value, float) else value.reshape(CUBE[index].shape)
        want[index] = part
        x[ours(index)] = part if isinstance(part, float) else torch.as_tensor(part)
        assert x.tolist() == want.tolist()


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_gradient_of_reading_counts_how_often_each_element_was_read(name: str) -> None:
    index = SAME_AS_NUMPY[name]
    x = torch.from_numpy(CUBE.copy()).requires_grad_()
    read = x[ours(index)]
    want = np.zeros_like(CUBE)
    np.add.at(want, index, 2.0)
    (read * 2).sum().backward()
    assert x.grad.tolist() == want.tolist()


def test_an_integer_beside_a_list_selects_first_as_in_torch() -> None:
    """NumPy counts the integer among the lists, and would put the lists' axis first."""
    x = torch.from_numpy(CUBE)
    assert x[0, :, [3, 0]].tolist() == CUBE[0][:, [3, 0]].tolist()
    assert x[[1, 0], 1].tolist() == CUBE[[1, 0]][:, 1].tolist()


def test_writes_broadcast_and_cast() -> None:
    x = torch.zeros(2, 3, dtype=torch.int32)
    x[:, 1:] = torch.tensor([[7.9], [-7.9]])
    assert x.tolist() == [[0, 7, 7], [0, -7, -7]]
    x[0] = True
    assert x.tolist() == [[1, 1, 1], [0, -7, -7]]


def test_the_last_of_equal_indices_wins_and_accumulate_adds() -> None:
    x = torch.zeros(3)
    x[torch.tensor([1, 1])] = torch.tensor([5.0, 6.0])
    assert x.tolist() == [0.0, 6.0, 0.0]
    x.index_put_((torch.tensor([1, 1]),), torch.tensor([5.0, 6.0]), accumulate=True)
    assert x.tolist() == [0.0, 17.0, 0.0]


def test_gradient_of_a_written_part() -> None:
    x = torch.ones(3, requires_grad=True)
    v = torch.tensor([4.0, 5.0], requires_grad=True)
    y = x * 2
    y[torch.tensor([2, 0])] = v * 3
    (y * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [0.0, 20.0, 0.0]
    assert v.grad.tolist() == [300.0, 3.0]


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (2, "index 2 .*size 2"),
        ((0, -4), "index -4 .*size 3"),
        ([0, 2], "2"),
        ((slice(None), np.array([0, 3])), "3"),
        ((0, 0, 0, 0), "too many indices"),
        (np.array([True, False, True]), "mask"),
    ],
)  # fmt: skip
def test_bad_indices_raise_reading_and_writing(index: Any, text: str) -> None:
    x = torch.from_numpy(CUBE.copy())
    for attempt in (lambda: x[ours(index)], lambda: x.__setitem__(ours(index), 0.0)):
        with pytest.raises(IndexError, match=text) as caught:
            attempt()
        assert "test_indexing.py:" in str(caught.value)
    assert x.tolist() == CUBE.tolist()


def test_indices_of_the_wrong_kind() -> None:
    x = torch.from_numpy(CUBE)
    with pytest.raises((IndexError, TypeError)):
        x[1.0]
    with pytest.raises((IndexError, TypeError)):
        x[torch.tensor([0.0])]
    with pytest.raises(ValueError, match="step"):
        x[::-1]
    with pytest.raises(IndexError):
        torch.tensor(1.0)[0]


def test_a_write_of_the_wrong_shape() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match=r"shape|broadcast"):
        x[0] = torch.zeros(2)
    assert x.tolist() == [[0.0] * 3] * 2


def test_iteration_length_and_membership() -> None:
    x = torch.tensor([[1, 2], [3, 4]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert len(x) == 2
    assert 3 in x
    assert 9 not in x
    with pytest.raises(TypeError, match="0-d"):
        len(torch.tensor(1))
    with pytest.raises(TypeError, match="0-d"):
        iter(torch.tensor(1))


def test_tensors_as_python_indices() -> None:
    assert "abc"[torch.tensor(1)] == "b"
    assert list(range(torch.tensor(3))) == [0, 1, 2]
    with pytest.raises(TypeError, match="integer"):
        "abc"[torch.tensor(1.0)]
