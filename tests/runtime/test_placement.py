"""Products and joins store where their readers want them: no copies, the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from random_graphs import input_node

from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.runtime import gemm
from tracejit.runtime.executable import build

B, H, T, D = 2, 3, 5, 4


def launches(graph: Graph) -> list[str]:
    """Run, compare with the interpreter, and name what is launched."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype("f4") for n in graph.inputs]
    executable = build(graph)
    frame = executable.own_frame(arrays)
    for _ in range(2):
        found = frame.call(arrays)
    for got, wanted in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    return [x.kernel.name if hasattr(x, "kernel") else type(x).__name__ for x in frame.launches]


def permuted(x: Node, perm: Sequence[int], shape: Sequence[int]) -> Node:
    return OPS["reshape"](OPS["transpose"](x, perm=tuple(perm)), shape=tuple(shape))


def heads(*names: str) -> list[Node]:
    return [input_node(name, (B, H, T, D)) for name in names]


def joined(parts: Sequence[Node], op: str = "sum_of_parts", **params: Any) -> Node:
    rows = [OPS["reshape"](p, shape=(1, *p.shape)) for p in parts]
    if op == "sum_of_parts":
        params = {"starts": tuple(range(len(rows))), "size": len(rows), **params}
    return OPS[op](*rows, axis=0, **params)


def test_heads_are_merged_without_a_copy() -> None:
    p, v = input_node("p", (B, H, T, T)), input_node("v", (B, H, T, D))
    w = input_node("w", (H * D, 7))
    mixed = permuted(OPS["matmul"](p, v), (0, 2, 1, 3), (B * T, H * D))
    graph = Graph("merge", (p, v, w), (OPS["matmul"](mixed, w), mixed * mixed))
    assert launches(graph) == ["GemmLaunch", "GemmLaunch", "map_mul"]


@pytest.mark.parametrize("op", ["sum_of_parts", "concatenate"])
def test_parts_go_where_they_lie_in_the_whole(op: str) -> None:
    a, b, c = heads("a", "b", "c")
    s, w = input_node("s", (B, H, T, T)), input_node("w", (3 * H * D, 6))
    whole = joined([OPS["matmul"](s, x) for x in (a, b, c)], op)
    flat = permuted(whole, (1, 3, 0, 2, 4), (B * T, 3 * H * D))
    graph = Graph("parts", (s, a, b, c, w), (OPS["matmul"](flat, w),))
    assert launches(graph) == ["GemmLaunch"] * 4


def test_a_join_that_is_a_result_takes_its_parts_too() -> None:
    a, b = heads("a", "b")
    s = input_node("s", (B, H, T, T))
    graph = Graph("result", (s, a, b), (joined([OPS["matmul"](s, x) for x in (a, b)]),))
    assert launches(graph) == ["GemmLaunch"] * 2


def test_a_part_that_is_a_result_too_is_copied() -> None:
    a, b = heads("a", "b")
    s = input_node("s", (B, H, T, T))
    first = OPS["matmul"](s, a)
    whole = joined([first, OPS["matmul"](s, b)])
    names = launches(Graph("both", (s, a, b), (whole * 2.0, first)))
    assert names.count("copy") == 1


def test_the_same_part_twice_is_stored_twice() -> None:
    (a,) = heads("a")
    s = input_node("s", (B, H, T, T))
    part = OPS["matmul"](s, a)
    assert launches(Graph("twice", (s, a), (joined([part, part]) * 2.0,))).count("copy") == 1


def test_the_same_part_twice_of_a_result_is_stored_twice() -> None:
    x, w = input_node("x", (5, 2)), input_node("w", (2, 4))
    part = OPS["matmul"](x, w)
    whole = OPS["concatenate"](part, part, axis=1)
    program = build(Graph("result", (x, w), (whole,)))
    for fill in (1.0, 2.0):  # other values: memory of the first result may be used again
        got = program.run([np.full((5, 2), fill, "f4"), np.ones((2, 4), "f4")])[0]
        assert (got == 2 * fill).all()


def test_parts_that_leave_gaps_are_not_placed() -> None:
    (a,) = heads("a")
    s = input_node("s", (B, H, T, T))
    whole = joined([OPS["matmul"](s, a)], starts=(1,), size=3)
    assert "copy" in launches(Graph("gaps", (s, a), (whole * 2.0,)))


def test_two_orders_of_reading_cost_one_copy() -> None:
    p, v = input_node("p", (B, H, T, T)), input_node("v", (B, H, T, D))
    x = OPS["matmul"](p, v)
    one, two = input_node("one", (H * D, 4)), input_node("two", (H * T, 4))
    left = OPS["matmul"](permuted(x, (0, 2, 1, 3), (B * T, H * D)), one)
    right = OPS["matmul"](permuted(x, (0, 3, 1, 2), (B * D, H * T)), two)
    names = launches(Graph("orders", (p, v, one, two), (left, right)))
    assert names.count("copy") == 1


@pytest.mark.parametrize("short", ["f4", "f8"])
def test_products_have_no_negative_zeros(short: str) -> None:
    tiny = np.full((3, 1), -np.finfo(short).tiny, short)
    found = gemm.matmul(tiny, np.full((1, 40), np.finfo(short).tiny, short))
    if gemm.provider(np.dtype(short)).library.call == "builtin":
        assert (found == 0).all() and not np.signbit(found).any()
