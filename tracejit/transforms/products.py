"""Transposed matrix products become products of the transposes: ``(A B)^T = B^T A^T``.

A gradient of ``x @ w.T`` comes out transposed; multiplying the other way round gives it in the
layout of `w`, and the operands' transposes cost nothing. Invariant: a product that others read as
it is stays, and each element remains the same sum in the same order.
"""

from __future__ import annotations

from tracejit.ir.graph import Graph, rebuilt, users_of
from tracejit.ir.node import Node
from tracejit.ops.contraction import matmul, swap_last


def run(graph: Graph) -> Graph:
    """`graph` with every transpose of a product that only it reads turned into a product."""
    nodes = graph.nodes()
    users = users_of(nodes)
    results = {id(n) for n in graph.results}
    new: dict[int, Node] = {id(n): n for n in graph.inputs}
    count = 0
    for node in nodes:
        product = node.inputs[0] if node.inputs else node
        alone = len(users.get(id(product), ())) == 1 and id(product) not in results
        if _swaps_product(node) and alone:
            a, b = (new[id(x)] for x in product.inputs)
            result = matmul(swap_last(b), swap_last(a))
            result.loc = product.loc
            new[id(node)] = result
            count += 1
            continue
        new[id(node)] = rebuilt(node, new)
    names = " (flip_product)" if count else ""
    return graph.with_results([new[id(n)] for n in graph.results], f"{count} rewrites{names}")


def _swaps_product(node: Node) -> bool:
    if node.op.name != "transpose" or node.inputs[0].op is not matmul:
        return False
    order = list(range(node.ndim))
    return list(node.params["perm"]) == [*order[:-2], order[-1], order[-2]]
