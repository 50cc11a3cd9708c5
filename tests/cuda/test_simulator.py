"""The simulator: what CUDA leaves open is an error, everything else has one meaning.

Invariant: each fault has a kernel here that commits it, and a twin that does not.
"""

from __future__ import annotations

import numpy as np
import pytest

from tracejit.codegen.simt import Memory, SimFault, simulate

BASE = 1 << 44


class OneBlock(Memory):
    """Memory of one allocation."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def find(self, address: int) -> tuple[int, np.ndarray]:
        return BASE, self.array.view(np.uint8)


def run(source: str, array: np.ndarray, grid: int = 2, threads: int = 64, seed: int = 0) -> None:
    table = np.array([BASE, array.size], np.int64)
    lines = [f"    {line}" for line in source.strip().splitlines()]
    text = "\n".join(["def kernel(t):", "    p = ptr_i64(word(t, 0), 1)", "    n = word(t, 1)",
                      "    i = block() * threads() + thread()", *lines, ""])  # fmt: skip
    simulate(OneBlock(array), "test", text, table, grid, threads, seed)


def test_every_thread_once_whatever_the_order() -> None:
    for seed in range(3):
        array = np.zeros(128, np.int64)
        run("store_i64(p, i, i * i)", array, seed=seed)
        np.testing.assert_array_equal(array, np.arange(128) ** 2)


def test_loops_and_branches_are_masked() -> None:
    array = np.zeros(128, np.int64)
    run("""
total = 0
for j in range(0, i % 5, 1):
    if j != 2:
        total = total + j + 1
if i < 100:
    store_i64(p, i, total)
""", array)  # fmt: skip
    sums = [sum(j + 1 for j in range(i % 5) if j != 2) for i in range(100)]
    np.testing.assert_array_equal(array, sums + [0] * 28)


def test_swap_exchanges_lanes_of_a_warp() -> None:
    array = np.zeros(128, np.int64)
    run("store_i64(p, i, swap_i64(i, 16))", array)
    np.testing.assert_array_equal(array, np.arange(128) ^ 16)


def test_swap_that_not_all_lanes_reach() -> None:
    with pytest.raises(SimFault, match="swap in a branch"):
        run("if i < 20:\n    store_i64(p, i, swap_i64(i, 16))", np.zeros(128, np.int64))
    run("if i < 64:\n    store_i64(p, i, swap_i64(i, 16))", np.zeros(128, np.int64))  # whole warps


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("store_i64(p, i // 2, i)", "two threads write"),
        ("store_i64(p, i, i)\nx = load_i64(p, (i + 1) % n)", "reads what another"),
        ("x = load_i64(p, (i + 1) % n)\nstore_i64(p, i, x)", "reads what another"),
        ("if i == 3:\n    store_i64(p, 0, load_i64(p, n))", "outside its allocation"),
        ("store_i64(p, i - 1, i)", "outside its allocation"),
        ("if i < 60:\n    store2_i64(p, i * 2 + 1, i, i)", "not aligned"),
    ],
)
def test_faults(source: str, fault: str) -> None:
    with pytest.raises(SimFault, match=fault):
        run(source, np.zeros(128, np.int64))


def test_a_thread_may_touch_its_own_element_again() -> None:
    array = np.arange(128)
    run("store_i64(p, i, load_i64(p, i) + 1)\nstore_i64(p, i, load_i64(p, i) * 2)", array)
    np.testing.assert_array_equal(array, (np.arange(128) + 1) * 2)


def test_vectors() -> None:
    array = np.arange(128)
    run("if i < 64:\n    a, b = load2_i64(p, i * 2)\n    store2_i64(p, i * 2, b, a)", array)
    np.testing.assert_array_equal(array.reshape(-1, 2)[:, ::-1].ravel(), np.arange(128))
