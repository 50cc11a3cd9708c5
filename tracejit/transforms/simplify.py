"""Algebra that holds for every value, NaN, infinities and -0.0 included.

Each rule is a function named by its effect: it takes a node on its new inputs and returns another
node of the same type, or None. Invariant: no rule changes a single bit of a result, and none asks
a symbolic size a question that would become a guard.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.ir.graph import Graph, rebuilt
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, is_one, size_key

Rule = Callable[[Node], Node | None]
RULES: dict[str, list[Rule]] = {}
_VIEWS_OF_CONSTANTS = ("broadcast_to", "reshape", "transpose", "slice", "flip")


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for nodes of the named ops."""

    def register(function: Rule) -> Rule:
        for op in ops:
            RULES.setdefault(op, []).append(function)
        return function

    return register


def constant_value(node: Node) -> Any:
    """The one value of a constant node, or None."""
    return node.params["value"] if node.op.name == "full" else None


def _is_number(node: Node, number: float) -> bool:
    """Whether the node is `number` everywhere; 0 means +0.0."""
    value = constant_value(node)
    if value is None or isinstance(value, bool) or value != number:
        return False
    return number != 0 or math.copysign(1.0, value) > 0


def same_sizes(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two shapes are equal for all values of the symbols."""
    return tuple(map(size_key, a)) == tuple(map(size_key, b))


@rule("mul")
def mul_one(node: Node) -> Node | None:
    """x * 1 is x."""
    x, y = node.inputs
    if node.dtype.kind == "b":
        return None
    return x if _is_number(y, 1) else y if _is_number(x, 1) else None


@rule("div")
def div_one(node: Node) -> Node | None:
    """x / 1 is x."""
    return node.inputs[0] if _is_number(node.inputs[1], 1) else None


@rule("sub")
def sub_zero(node: Node) -> Node | None:
    """x - 0 is x (0 here is +0.0: -0.0 - -0.0 is +0.0)."""
    return node.inputs[0] if _is_number(node.inputs[1], 0) else None


@rule("add")
def add_zero(node: Node) -> Node | None:
    """Integers: x + 0 is x. Floats: only x + -0.0 is x, since -0.0 + 0.0 is +0.0."""
    for x, y in (node.inputs, node.inputs[::-1]):
        value = constant_value(y)
        if value is None or isinstance(value, bool) or value != 0:
            continue
        if node.dtype.kind in "iu" or math.copysign(1.0, value) < 0:
            return x
    return None


@rule("neg")
def neg_neg(node: Node) -> Node | None:
    """-(-x) is x."""
    inner = node.inputs[0]
    return inner.inputs[0] if inner.op.name == "neg" else None


@rule("bitwise_not")
def not_not(node: Node) -> Node | None:
    """~~x is x."""
    inner = node.inputs[0]
    return inner.inputs[0] if inner.op.name == "bitwise_not" else None


@rule("where")
def where_same(node: Node) -> Node | None:
    """A choice between equal values, or on a constant condition."""
    condition, x, y = node.inputs
    value = constant_value(condition)
    if value is not None:
        return x if value else y
    return x if x is y else None


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide`."""
    if narrow.kind == "b" or wide is narrow:
        return True
    if wide.kind == "f":
        digits = {2: 11, 4: 24, 8: 53}[wide.itemsize]
        return narrow.itemsize < wide.itemsize and (
            narrow.kind == "f" or narrow.itemsize * 8 <= digits
        )
    if narrow.kind == "f" or (wide.kind == "u" and narrow.kind == "i"):
        return False
    return narrow.itemsize < wide.itemsize


@rule("cast")
def cast_same(node: Node) -> Node | None:
    """A cast to the dtype that is there already."""
    return node.inputs[0] if node.inputs[0].dtype is node.dtype else None


@rule("cast")
def cast_back(node: Node) -> Node | None:
    """Narrow to wide and back again is nothing; two widenings are one."""
    inner = node.inputs[0]
    if inner.op.name != "cast" or not holds(inner.dtype, inner.inputs[0].dtype):
        return None
    source = inner.inputs[0]
    if source.dtype is node.dtype:
        return source
    if holds(node.dtype, inner.dtype) and inner.dtype.kind == source.dtype.kind:
        return OPS["cast"](source, dtype=node.dtype)
    return None


@rule("transpose")
def merge_transposes(node: Node) -> Node | None:
    """Two transposes are one; one that moves nothing is none."""
    x, perm = node.inputs[0], node.params["perm"]
    if x.op.name == "transpose":
        inner = x.params["perm"]
        x, perm = x.inputs[0], tuple(inner[p] for p in perm)
        if perm != tuple(range(len(perm))):
            return OPS["transpose"](x, perm=perm)
    return x if perm == tuple(range(len(perm))) else None


@rule("reshape")
def merge_reshapes(node: Node) -> Node | None:
    """A reshape of a reshape is one; one to the shape that is there already is none."""
    x = node.inputs[0]
    if same_sizes(x.shape, node.shape):
        return x
    if x.op.name == "reshape":
        return OPS["reshape"](x.inputs[0], shape=node.params["shape"])
    return None


@rule("broadcast_to")
def merge_broadcasts(node: Node) -> Node | None:
    """A broadcast of a broadcast is one; one to the shape that is there already is none."""
    x = node.inputs[0]
    if same_sizes(x.shape, node.shape):
        return x
    if x.op.name == "broadcast_to":
        return Node(node.op, x.inputs, node.params, node.type, node.loc)
    return None


@rule("broadcast_to")
def drop_leading_ones(node: Node) -> Node | None:
    """A reshape that only adds leading ones is part of the broadcast."""
    x = node.inputs[0]
    if x.op.name != "reshape":
        return None
    extra = x.ndim - x.inputs[0].ndim
    if extra > 0 and all(map(is_one, x.shape[:extra])):
        if same_sizes(x.shape[extra:], x.inputs[0].shape):
            return Node(node.op, x.inputs, node.params, node.type, node.loc)
    return None


@rule("slice")
def slice_all(node: Node) -> Node | None:
    """A slice that takes everything."""
    whole = same_sizes(node.shape, node.inputs[0].shape)
    plain = all(type(s) is not SymInt and s == 1 for s in node.params["steps"])
    return node.inputs[0] if whole and plain else None


@rule("flip")
def flip_none(node: Node) -> Node | None:
    """A flip of no axes."""
    return node.inputs[0] if not node.params["axes"] else None


@rule("reduce_max", "reduce_min", "reduce_any", "reduce_all")
def reduce_nothing(node: Node) -> Node | None:
    """An extreme over no axes (a sum over none turns -0.0 into 0.0, so it stays)."""
    return node.inputs[0] if not node.params["axes"] else None


@rule(*_VIEWS_OF_CONSTANTS)
def move_constant(node: Node) -> Node | None:
    """A constant has the same value wherever its elements go."""
    value = constant_value(node.inputs[0])
    return None if value is None else full_like(node, value)


def fold_constants(node: Node) -> Node | None:
    """An exact op on constants is a constant."""
    if not node.op.exact or not node.inputs:
        return None
    values = [constant_value(x) for x in node.inputs]
    if any(v is None for v in values):
        return None
    arrays = [np.array(v, x.dtype.numpy) for v, x in zip(values, node.inputs, strict=True)]
    with np.errstate(all="ignore"):
        result = np.asarray(node.op.numpy(*arrays, **node.params), node.dtype.numpy)
    return full_like(node, result.item())


def _apply(node: Node, fired: Counter[str]) -> Node:
    """Apply rules until none fires."""
    while True:
        rules = RULES.get(node.op.name, ())
        for candidate in (*rules, fold_constants) if node.op.exact else rules:
            result = candidate(node)
            if result is not None:
                fired[candidate.__name__] += 1
                if result.loc is None:
                    result.loc = node.loc
                break
        else:
            return node
        node = result


def run(graph: Graph) -> Graph:
    """`graph` with every rule applied wherever it holds."""
    fired: Counter[str] = Counter()
    new: dict[int, Node] = {id(n): n for n in graph.inputs}
    for node in graph.nodes():
        new[id(node)] = _apply(rebuilt(node, new), fired)
    names = f" ({', '.join(sorted(fired))})" if fired else ""
    notes = f"{fired.total()} rewrites{names}"
    return graph.with_results([new[id(n)] for n in graph.results], notes)
