"""Kernels that run on the panels of a product: which join it, and that no bit changes."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import input_node

from tracejit import config
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.runtime import bundle
from tracejit.runtime.epilogue import ProductWithEpilogue
from tracejit.runtime.executable import build

pytestmark = pytest.mark.usefixtures("each_number_of_threads")


def joined(graph: Graph) -> list[str]:
    """The loop shapes of kernels that joined a product; the bits are those without epilogues."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype("f4") for n in graph.inputs]
    with config.override(disable_passes="epilogue"):
        plain = build(graph).own_frame(arrays)
        wanted = plain.call([a.copy() for a in arrays])
    assert not any(isinstance(x, ProductWithEpilogue) for x in plain.launches)
    frame = build(graph).own_frame(arrays)
    for _ in range(3):  # the counters of panels are ready again
        given = [a.copy() for a in arrays]
        for got, want in zip(frame.call(given), wanted, strict=True):
            np.testing.assert_array_equal(got, want)
    every = [x for x in frame.launches if isinstance(x, ProductWithEpilogue)]
    return [x.kernel.shape for x in every]


def product(m: int, n: int, k: int, *batch: int) -> tuple[tuple[Node, Node], Node]:
    a, b = input_node("a", (*batch, m, k)), input_node("b", (*batch, k, n))
    return (a, b), OPS["matmul"](a, b)


def spread(bias: Node, like: Node) -> Node:
    return OPS["broadcast_to"](bias, shape=like.shape)


def test_bias_activation_and_residual() -> None:
    inputs, c = product(2500, 40, 128)
    bias, residual = input_node("bias", (40,)), input_node("residual", (2500, 40))
    y = OPS["relu"](c + spread(bias, c)) + residual
    assert joined(Graph("g", (*inputs, bias, residual), (y,))) == ["map"]


def test_rows_with_several_tiles_each() -> None:
    inputs, c = product(2500, 300, 64)
    assert joined(Graph("g", inputs, (OPS["softmax"](c, axis=1), c))) == ["row"]


def test_rows_of_a_batch_and_of_parts_of_rows() -> None:
    inputs, c = product(64, 64, 32, 24)
    assert joined(Graph("g", inputs, (OPS["softmax"](c, axis=2),))) == ["row"]
    parts = OPS["reshape"](c, shape=(24, 64, 4, 16))
    assert joined(Graph("p", inputs, (OPS["softmax"](parts, axis=3),))) == ["row"]


def test_small_products_and_kernels_need_no_panels() -> None:
    inputs, c = product(5, 6, 7)
    assert joined(Graph("g", inputs, (OPS["exp"](c),))) == ["map"]


def test_a_kernel_passes_launches_that_do_not_concern_it() -> None:
    inputs, c = product(2500, 40, 128)
    w = input_node("w", (40, 128))
    other = OPS["matmul"](w, inputs[1])
    names = joined(Graph("g", (*inputs, w), (other, OPS["exp"](c), c * 2.0)))
    assert names == ["map"]


@pytest.mark.parametrize("perm", [(1, 0)])
def test_another_order_of_elements_does_not_join(perm: tuple[int, int]) -> None:
    inputs, c = product(2500, 40, 128)
    turned = OPS["transpose"](c, perm=perm)
    assert joined(Graph("g", inputs, (OPS["softmax"](turned, axis=1),))) == []


def test_reductions_over_rows_do_not_join() -> None:
    inputs, c = product(2500, 40, 128)
    assert joined(Graph("g", inputs, (OPS["reduce_sum"](c, axes=(0,)),))) == []


def test_a_kernel_that_needs_a_later_product_waits_for_it() -> None:
    inputs, c = product(2500, 40, 128)
    v = input_node("v", (40, 40))
    later = OPS["matmul"](c, v)
    assert joined(Graph("g", (*inputs, v), (OPS["exp"](c + later),))) == ["map"]


def test_what_overwrites_an_operand_does_not_join() -> None:
    (a, b), c = product(40, 40, 40)
    graph = Graph("g", (a, b), (c,), ((a, OPS["exp"](c)),))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((40, 40)).astype("f4") for _ in range(2)]
    given = [x.copy() for x in arrays]
    frame = build(graph).own_frame(given)
    (got,) = frame.call(given)
    with config.override(disable_passes="epilogue,memory"):
        (want,) = build(graph).run(arrays)
    assert not any(isinstance(x, ProductWithEpilogue) for x in frame.launches)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(given[0], arrays[0])


def test_a_kernel_does_not_pass_a_check() -> None:
    inputs, c = product(2500, 40, 128)
    w = input_node("w", (40, 40))
    first = OPS["matmul"](w, w)
    fine = OPS["reduce_max"](first, axes=(0, 1)) < 1e9
    graph = Graph("g", (*inputs, w), (c, OPS["exp"](first + 1.0)), (), ((fine, "too large"),))
    arrays = [np.ones(n.shape, "f4") for n in graph.inputs]
    frame = build(graph).own_frame(arrays)
    names = [x.kernel.name if hasattr(x, "kernel") else "" for x in frame.launches]
    assert "exp" in "".join(names[names.index("check") :])
    assert "exp" not in "".join(names[: names.index("check")]) and len(frame.call(arrays)) == 2


def test_partial_results_are_added_up_in_one_launch() -> None:
    columns = [input_node(f"x{i}", (900, 24)) for i in range(4)]
    sums = tuple(OPS["reduce_sum"](x, axes=(0,)) for x in columns)
    arrays = [np.random.default_rng(1).random(x.shape, "f4") for x in columns]
    frame = build(Graph("sums", tuple(columns), sums)).own_frame(arrays)
    found = frame.call(arrays)
    for got, x in zip(found, arrays, strict=True):
        np.testing.assert_allclose(got, x.sum(0), rtol=1e-5)
    held = [len(x.launches) for x in frame.launches if isinstance(x, bundle.Bundle)]
    assert held == [4, 4] == [4] * len(frame.launches)
