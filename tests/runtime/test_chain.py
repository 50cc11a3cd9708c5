"""Chains of product, kernel and product: which launches make one, and that no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_graphs import input_node

import tracejit as torch
from tracejit import config
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.nn import functional as F
from tracejit.runtime.chain import Chain
from tracejit.runtime.executable import build

pytestmark = pytest.mark.usefixtures("each_number_of_threads")


def hidden(graph: Graph) -> list[int]:
    """For each chain of the graph, how many of its buffers lie in scratch memory; the bits are
    those without chains.
    """
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype(n.dtype.numpy) for n in graph.inputs]
    with config.override(disable_passes="epilogue"):
        plain = build(graph).own_frame(arrays)
        wanted = plain.call([a.copy() for a in arrays])
    assert not any(isinstance(x, Chain) for x in plain.launches)
    frame = build(graph).own_frame(arrays)
    for _ in range(3):
        given = [a.copy() for a in arrays]
        for got, want in zip(frame.call(given), wanted, strict=True):
            assert got.tobytes() == want.tobytes()
    return [len(x.hidden) for x in frame.launches if isinstance(x, Chain)]


def attention(*batch: int, m: int = 301, n: int = 517, k: int = 40, width: int = 33) -> Any:
    """Inputs, scores, weights and result."""
    shapes = {"q": (*batch, m, k), "k": (*batch, k, n), "v": (*batch, n, width)}
    inputs = tuple(input_node(name, shape) for name, shape in shapes.items())
    scores = OPS["matmul"](*inputs[:2])
    weights = OPS["softmax"](scores * 0.3, axis=len(batch) + 1)
    return inputs, scores, weights, OPS["matmul"](weights, inputs[2])


@pytest.mark.parametrize("batch", [(2,), (2, 3), ()])
def test_attention_is_a_chain(batch: tuple[int, ...]) -> None:
    m = 301 if batch else 801
    inputs, _, _, y = attention(*batch, m=m)
    assert hidden(Graph("g", inputs, (y,))) == [2]


def test_what_others_read_is_written_to_memory() -> None:
    inputs, scores, weights, y = attention(3)
    assert hidden(Graph("weights", inputs, (y, weights))) == [1]
    assert hidden(Graph("both", inputs, (y, weights, scores))) in ([], [0])
    total = OPS["reduce_sum"](scores, axes=(0, 1))
    assert hidden(Graph("scores", inputs, (y, total))) in ([], [1])


def test_what_makes_no_chain() -> None:
    inputs, _, _, y = attention(2, m=20, n=30)
    assert hidden(Graph("small", inputs, (y,))) == []
    inputs, _, weights, _ = attention(2, m=500, n=500)
    square = OPS["matmul"](weights, weights)  # its right operand is not whole before the end
    assert hidden(Graph("square", inputs[:2], (square,))) == []
    turned = OPS["transpose"](weights, perm=(0, 2, 1))
    assert hidden(Graph("turned", inputs, (OPS["matmul"](turned, inputs[2]),))) == []


def test_values_that_come_after_the_weights() -> None:
    """The second product needs what a launch between computes: all run where they stood."""
    inputs, _, weights, _ = attention(2, m=400, n=400, k=64, width=64)
    late = OPS["matmul"](OPS["exp"](inputs[2]), OPS["matmul"](inputs[1], inputs[2]))
    hidden(Graph("g", inputs, (OPS["matmul"](weights, late),)))


def test_a_mask_and_a_bias_of_each_row() -> None:
    inputs, scores, _, _ = attention(4, m=300, n=300)
    bias: Node = input_node("bias", (300, 300))
    spread = OPS["broadcast_to"](bias, shape=scores.shape)
    weights = OPS["softmax"](scores + spread, axis=2)
    graph = Graph("g", (*inputs, bias), (OPS["matmul"](weights, inputs[2]),))
    assert hidden(graph) == [2]


def test_compiled_attention_of_many_lengths_is_the_eager_one() -> None:
    @torch.compile
    def compiled(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    for length in (130, 260, 383, 517, 270, 40):
        q, k, v = (torch.randn(3, 2, length, 24) for _ in range(3))
        wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        for _ in range(2):
            assert torch.equal(compiled(q, k, v), wanted), length
