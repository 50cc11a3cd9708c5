"""Composite ops in terms of primitives that kernels know: the compiler's own spelling.

Invariant: afterwards a reduction is a sum, product, maximum or minimum, accumulates in its own
dtype, and its axes are one run of neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.dtypes import accumulator, bool_, int64, uint8
from tracejit.ir.graph import Graph, rebuilt
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, is_one, is_zero, product, size_key
from tracejit.transforms.simplify import constant_value
from tracejit.transforms.views import base_and_views, regroups_ones_only

_SPLITTABLE = ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")
_LAST_INT64 = 2**63 - 1


def composite(node: Node) -> Node | None:
    """An op that brings its own decomposition (None: it needs none here)."""
    if node.op.decompose is None:
        return None
    result: Node | None = node.op.decompose(*node.inputs, **node.params)
    return result


def as_devices_do(node: Node) -> Node | None:
    """An op of which devices have no kernels."""
    if node.op.on_devices is None:
        return None
    result: Node = node.op.on_devices(*node.inputs, **node.params)
    return result


def drop_structure(node: Node) -> Node | None:
    """Ops that concern gradients and names only: once gradients are taken they mean nothing."""
    if node.op.name in ("detach", "alias"):
        return node.inputs[0]
    return node.inputs[1] if node.op.name == "with_value" else None


def accumulate_wide(node: Node) -> Node | None:
    """Halves are reduced in float32 (for extremes that changes nothing but the storage)."""
    x = node.inputs[0] if node.inputs else None
    if node.op.name not in _SPLITTABLE or x is None or accumulator(x.dtype) is x.dtype:
        return None
    wide = OPS["cast"](x, dtype=accumulator(x.dtype))
    return OPS["cast"](node.op(wide, **node.params), dtype=x.dtype)


def bool_as_byte(node: Node) -> Node | None:
    """any and all are the maximum and minimum of bytes."""
    names = {"reduce_any": "reduce_max", "reduce_all": "reduce_min",
             "reduce_max": "reduce_max", "reduce_min": "reduce_min"}  # fmt: skip
    if node.op.name not in names or node.inputs[0].dtype is not bool_:
        return None
    shape, axes = node.inputs[0].shape, node.params["axes"]
    if any(is_zero(shape[a]) for a in axes):
        return full_like(node, names[node.op.name] == "reduce_min")
    byte = OPS["cast"](node.inputs[0], dtype=uint8)
    reduced = OPS[names[node.op.name]](byte, axes=axes)
    return OPS["cast"](reduced, dtype=bool_)


def arg_as_minimum(node: Node) -> Node | None:
    """The index of an extreme is the smallest index of an element equal to it (or NaN)."""
    if node.op.name not in ("argmax", "argmin"):
        return None
    x, axes = node.inputs[0], node.params["axes"]
    if x.dtype is bool_:
        x = OPS["cast"](x, dtype=uint8)
    extreme = OPS["reduce_max" if node.op.name == "argmax" else "reduce_min"](x, axes=axes)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    spread = OPS["broadcast_to"](OPS["reshape"](extreme, shape=kept), shape=x.shape)
    hit = OPS["eq"](x, spread)
    if x.dtype.kind == "f":
        hit = OPS["bitwise_or"](hit, OPS["isnan"](x))
    index = OPS["iota"](type=x.type.with_dtype(int64), axis=axes[0])
    return OPS["reduce_min"](OPS["where"](hit, index, full_like(index, _LAST_INT64)), axes=axes)


def split_axes(node: Node) -> Node | None:
    """Axes that are no neighbours are reduced one run after the other, the last run first."""
    if node.op.name not in _SPLITTABLE:
        return None
    axes = node.params["axes"]
    first = len(axes) - 1
    while first > 0 and axes[first - 1] == axes[first] - 1:
        first -= 1
    if first <= 0:
        return None
    inner = node.op(node.inputs[0], axes=axes[first:])
    return node.op(inner, axes=axes[:first])


def scatter_one_per_row(node: Node) -> Node | None:
    """Adding one element per row to zeros is a comparison of positions (the gradient of nll)."""
    if node.op.name != "scatter_add":
        return None
    x, index, source = node.inputs
    axis = node.params["axis"]
    zero = constant_value(x)
    if zero is None or zero != 0 or not is_one(index.shape[axis]):
        return None
    others = [(size_key(n), size_key(m)) for n, m in zip(x.shape, index.shape, strict=True)]
    if any(n != m for i, (n, m) in enumerate(others) if i != axis):
        return None
    place = OPS["iota"](type=index.type.with_shape(x.shape), axis=axis)
    hit = OPS["eq"](place, OPS["broadcast_to"](index, shape=x.shape))
    value = OPS["add"](x, OPS["broadcast_to"](source, shape=x.shape))
    return OPS["where"](hit, value, x)


def take_as_gather(node: Node) -> Node | None:
    """Slices at indices are a gather whose operand and index repeat along each other's axes."""
    if node.op.name != "take":
        return None
    x, index = node.inputs
    axis = node.params["axis"]
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    if index.ndim == 0:
        one = OPS["take"](x, OPS["reshape"](index, shape=(1,)), axis=axis)
        return OPS["reshape"](one, shape=node.shape)
    lead = index.shape[:-1]
    spread = OPS["reshape"](x, shape=(*before, *(1 for _ in lead), x.shape[axis], *after))
    spread = OPS["broadcast_to"](spread, shape=(*before, *lead, x.shape[axis], *after))
    column = OPS["reshape"](index, shape=(*(1 for _ in before), *index.shape, *(1 for _ in after)))
    column = OPS["broadcast_to"](column, shape=node.shape)
    return OPS["gather"](spread, column, axis=axis + len(lead))


def index_as_take(node: Node) -> Node | None:
    """Arrays of indices at neighbouring axes are one index into those axes merged."""
    if node.op.name != "index":
        return None
    x, *indices = node.inputs
    found = _merged_index(x, indices, node.params["axes"])
    return None if found is None else OPS["take"](*found, axis=node.params["axes"][0])


def _merged_index(
    x: Node, indices: Sequence[Node], axes: Sequence[int]
) -> tuple[Node, Node] | None:
    """`x` with neighbouring axes merged, and the index into the merged axis; else None."""
    if list(axes) != list(range(axes[0], axes[0] + len(axes))):
        return None
    flat = indices[0]
    for axis, more in zip(axes[1:], indices[1:], strict=True):
        flat = OPS["add"](OPS["mul"](flat, size_like(flat, x.shape[axis])), more)
    merged = product(x.shape[a] for a in axes)
    shape = (*x.shape[: axes[0]], merged, *x.shape[axes[-1] + 1 :])
    return OPS["reshape"](x, shape=shape), flat


def index_put_as_scatter(node: Node) -> Node | None:
    """Writing (or adding) at neighbouring axes is a scatter (or take_add) along them merged."""
    if node.op.name != "index_put":
        return None
    x, y, *indices = node.inputs
    axis = node.params["axes"][0]
    found = _merged_index(x, indices, node.params["axes"])
    if found is None or indices[0].ndim == 0:
        return None
    target, flat = found
    if node.params["accumulate"]:
        result = OPS["take_add"](target, flat, y, axis=axis)
    else:
        count = product(flat.shape)
        before, after = target.shape[:axis], target.shape[axis + 1 :]
        column = OPS["reshape"](flat, shape=(*(1 for _ in before), count, *(1 for _ in after)))
        y = OPS["reshape"](y, shape=(*before, count, *after))
        index = OPS["broadcast_to"](column, shape=y.shape)
        result = OPS["scatter"](target, index, y, axis=axis)
    return OPS["reshape"](result, shape=node.shape)


def store_positions(node: Node) -> Node | None:
    """Positions that a reshape regroups have no strides: they are computed before it."""
    if node.op.name != "reshape":
        return None
    x = node.inputs[0]
    if base_and_views(x)[0].op.name != "iota" or regroups_ones_only(x.shape, node.shape):
        return None
    return OPS["reshape"](OPS["maximum"](x, x), shape=node.params["shape"])


def size_like(node: Node, size: Any) -> Node:
    """A size, known or symbolic, as int64 of the shape of `node`."""
    if type(size) is not SymInt:
        return full_like(node, size)
    return OPS["broadcast_to"](OPS["size"](value=size), shape=node.shape)


Rules = tuple[Callable[[Node], Node | None], ...]
RULES: Rules = (
    drop_structure,
    composite,
    accumulate_wide,
    bool_as_byte,
    arg_as_minimum,
    split_axes,
    scatter_one_per_row,
    store_positions,
    index_as_take,
    index_put_as_scatter,
    take_as_gather,
)


class _Finished(dict[int, Node]):
    """Map from the ids of nodes to their final form. The nodes stay alive: an id names one node."""

    def __init__(self) -> None:
        self.keep: list[Node] = []

    def set(self, node: Node, final: Node) -> None:
        """Record the final form of a node; that is its own."""
        self.keep += (node, final)
        self[id(node)] = self[id(final)] = final


def _unfinished(root: Node, done: dict[int, Node]) -> list[Node]:
    """The nodes that a rule made, each after its inputs, without those behind finished nodes."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif id(node) not in done and id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(x, False) for x in reversed(node.inputs)]
    return order


def _expand(node: Node, fired: Counter[str], done: _Finished, rules: Rules) -> Node:
    """The node in primitives."""
    for rule in rules:
        result = rule(node)
        if result is None:
            continue
        fired[rule.__name__] += 1
        for made in _unfinished(result, done):
            if made.loc is None:
                made.loc = node.loc
            done.set(made, _expand(rebuilt(made, done), fired, done, rules))
        return done[id(result)]
    return node


def for_devices(graph: Graph) -> Graph:
    """`graph` without the ops that only the CPU has kernels for."""
    if not any(n.op.on_devices for n in graph.nodes()):
        return graph
    return run(graph, (as_devices_do, *RULES))


def run(graph: Graph, rules: Rules = ()) -> Graph:
    """`graph` without composite ops."""
    fired: Counter[str] = Counter()
    done = _Finished()
    for node in graph.inputs:
        done.set(node, node)
    new: dict[int, Node] = {id(n): n for n in graph.inputs}
    for node in graph.nodes():
        kept = rebuilt(node, new)
        result = _expand(kept, fired, done, rules or RULES)
        done.set(kept, result)
        new[id(node)] = result
    names = f" ({', '.join(sorted(fired))})" if fired else ""
    notes = f"{fired.total()} rewrites{names}"
    return graph.with_results([new[id(n)] for n in graph.results], notes)
