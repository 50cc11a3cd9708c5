"""The pass `products`: before and after, and where it must not fire."""

from __future__ import annotations

import numpy as np

from tracejit.dtypes import float32
from tracejit.ir import OPS, Graph, Node, TensorType
from tracejit.ir.interpret import interpret
from tracejit.ops.contraction import matmul, swap_last
from tracejit.transforms import products


def _input(name: str, *shape: int) -> Node:
    return OPS["input"](type=TensorType(float32, shape), name=name)


def _graph(keep_product: bool) -> Graph:
    a, b = _input("a", 3, 4), _input("b", 4, 5)
    product = matmul(a, b)
    outputs = (swap_last(product), product) if keep_product else (swap_last(product),)
    return Graph("f", (a, b), outputs)


def test_a_transposed_product_is_computed_the_other_way_round() -> None:
    graph = _graph(keep_product=False)
    result = products.run(graph)
    assert result.outputs[0].op is matmul
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4), "f4"), rng.standard_normal((4, 5), "f4")]
    before, after = interpret(graph, arrays)[0], interpret(result, arrays)[0]
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_product_that_is_read_as_it_is_stays() -> None:
    result = products.run(_graph(keep_product=True))
    assert [n.op.name for n in result.nodes()].count("matmul") == 1
    assert result.outputs[0].op.name == "transpose"
