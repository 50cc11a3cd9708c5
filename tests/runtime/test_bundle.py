"""Horizontal fusion: equal kernels in one launch where nothing is in between, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_graphs import input_node

from tracejit import config
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.runtime.bundle import Bundle
from tracejit.runtime.executable import build

SHAPES = [(3,), (5, 7), (4000,), (2, 3, 4), (0,)]


def update(x: Node, g: Node, rate: Node) -> Node:
    return x - g * g * OPS["broadcast_to"](rate, shape=x.shape)


def bundles(graph: Graph, arrays: list[Any]) -> list[int]:
    """Run, compare with the interpreter, and count the launches of each bundle."""
    executable = build(graph)
    copies = [a.copy() for a in arrays]
    wanted = interpret(graph, arrays)
    frame = executable.own_frame(copies)
    got = frame.call(copies)
    for w, g in zip(wanted, got, strict=False):
        np.testing.assert_array_equal(w, g)
    for (target, _), w in zip(graph.effects, wanted[len(graph.outputs) :], strict=False):
        np.testing.assert_array_equal(copies[graph.inputs.index(target)], w)
    every = [x for x in frame.launches if isinstance(x, Bundle)]
    return [len(x.launches) for x in every]


def optimizer_step(shapes: list[tuple[int, ...]]) -> tuple[Graph, list[Any]]:
    rng = np.random.default_rng(0)
    rate = input_node("rate", ())
    parameters = [input_node(f"p{i}", s) for i, s in enumerate(shapes)]
    gradients = [input_node(f"g{i}", s) for i, s in enumerate(shapes)]
    effects = tuple((p, update(p, g, rate)) for p, g in zip(parameters, gradients, strict=True))
    arrays = [np.array(0.5, "f4")] + [rng.random(s, "f4") for s in shapes * 2]
    return Graph("step", (rate, *parameters, *gradients), (), effects), arrays


@pytest.mark.parametrize("grain", [1, 32768])
def test_updates_of_all_parameters_are_one_launch(grain: int) -> None:
    with config.override(parallel_grain=grain):
        assert bundles(*optimizer_step(SHAPES)) == [4]


def test_equal_shapes_are_one_kernel_too() -> None:
    graph, arrays = optimizer_step([(8,), (8,), (8,)])
    assert bundles(graph, arrays) == [3]
    assert len(build(graph).plan.kernels) == 3


def test_a_chain_of_equal_kernels_is_no_bundle() -> None:
    x, w = input_node("x", (4, 4)), input_node("w", (4, 4))
    y = OPS["exp"](x)
    z = OPS["exp"](OPS["matmul"](y, w))
    arrays = [np.random.default_rng(i).random((4, 4), "f4") for i in range(2)]
    executable = build(Graph("g", (x, w), (y, z)))
    frame = executable.own_frame(arrays)
    assert not any(isinstance(launch, Bundle) for launch in frame.launches)
    y_array, z_array = frame.call(arrays)
    np.testing.assert_allclose(z_array, np.exp(y_array @ arrays[1]), rtol=1e-5)


def test_targets_that_overlap_keep_their_order() -> None:
    p, q = input_node("p", (6,)), input_node("q", (6,))
    a, b = input_node("a", (6,)), input_node("b", (6,))
    graph = Graph("g", (p, q, a, b), (), ((p, OPS["neg"](a)), (q, OPS["neg"](b))))
    memory = np.zeros(9, "f4")
    ones = np.ones(6, "f4")
    build(graph).run([memory[:6], memory[3:], ones, 2 * ones])
    np.testing.assert_array_equal(memory, [-1] * 3 + [-2] * 6)
