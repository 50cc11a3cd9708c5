"""Minimum cuts, and what a backward graph saves of its forward graph."""

from __future__ import annotations

import itertools
import random

from tracejit.dtypes import float32
from tracejit.ir import OPS, Node, TensorType
from tracejit.ops.elementwise import exp, tanh
from tracejit.ops.reduction import expand_reduced, reduce_sum
from tracejit.transforms.grad import backpropagate
from tracejit.transforms.maxflow import INFINITE, FlowNetwork
from tracejit.transforms.partition import residuals


def _cut_weight(edges: list[tuple[int, int, int]], side: set[int]) -> int:
    return sum(c for a, b, c in edges if a not in side and b in side)


def test_cuts_are_minimal_on_random_networks() -> None:
    rng = random.Random(0)
    for _ in range(50):
        count = 6
        edges = [(a, b, rng.randrange(1, 9)) for a in range(count) for b in range(count)
                 if a != b and rng.random() < 0.5]  # fmt: skip
        network = FlowNetwork(count)
        for edge in edges:
            network.add_edge(*edge)
        found = _cut_weight(edges, network.sink_side(0, count - 1))
        middle = range(1, count - 1)
        best = min(
            _cut_weight(edges, {count - 1, *chosen})
            for n in range(count - 1)
            for chosen in itertools.combinations(middle, n)
        )
        assert found == best
    assert INFINITE > 1 << 50


def _input(*shape: int) -> Node:
    return OPS["input"](type=TensorType(float32, shape), name="x")


def _saved(x: Node, y: Node) -> list[str]:
    seed = OPS["input"](type=y.type, name="g")
    (gradient,) = backpropagate([y], [seed], [x])
    assert gradient is not None
    return [n.op.name for n in residuals([gradient], [x, seed], [y])]


def test_a_pointwise_chain_saves_nothing() -> None:
    x = _input(64, 64)
    assert _saved(x, tanh(exp(x) * x)) == []


def test_a_reduction_is_saved_not_what_it_was_spread_to() -> None:
    x = _input(64, 64)
    centred = x - expand_reduced(reduce_sum(x, axes=(1,)), x, (1,))
    assert _saved(x, centred * centred) == ["reduce_sum"] or _saved(x, centred * centred) == [
        "reshape"
    ]
