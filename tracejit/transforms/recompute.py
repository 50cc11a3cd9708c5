"""Which values of fused groups are stored, and which are recomputed by their readers.

A value that other groups read costs a write and a read of memory; recomputing it costs its ops and
what they read. Invariant: a random number, a reduction and a library result are never recomputed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.sizes import product, size_key
from tracejit.transforms.views import REPEATING, base_and_views, regroups_ones_only

if TYPE_CHECKING:
    from tracejit.transforms.groups import Group

GIVEN = ("input", "constant", "size")
NOTHING = ("full", "iota")
CHEAP = 10  # additions that may be repeated to save a write and a read
DEAR = 16  # ... for a value of one reader: tanh or exp and what is around it cost more than that
TRIVIAL = 4  # ... to save a read only, or when the reader has more elements than the value


def _reads_iota(node: Node) -> bool:
    return any(base_and_views(x)[0].op.name == "iota" for x in node.inputs)


def gathered(node: Node, x: Node) -> bool:
    """Whether `x` is the operand of a gather, which must lie in memory."""
    return node.op.name == "gather" and x is node.inputs[0]


class Chosen(NamedTuple):
    """By group number: nodes stored, stored values read, nodes computed."""

    stores: dict[int, list[Node]]
    reads: dict[int, list[Node]]
    bodies: dict[int, list[Node]]


class Closure(NamedTuple):
    """What recomputing a value takes."""

    nodes: list[Node]
    leaves: list[Node]
    cost: int


class _Chooser:
    def __init__(self, graph: Graph, groups: Sequence[Group], of: dict[int, Group]):
        self.groups = groups
        self.of = of
        self.stored: set[int] = {id(n) for n in graph.results if id(n) in of}
        self.again: set[tuple[int, int]] = set()  # (group number, node): recomputed there
        self.leaves: dict[int, set[int]] = {g.number: set() for g in groups}
        self.readers: dict[int, list[tuple[Group, bool]]] = {}
        self.reshaped: set[int] = set()  # values that some reader regroups

    def find_readers(self) -> None:
        """Who reads which value of another group, and whether a view repeats it."""
        for group in self.groups:
            for node in group.nodes:
                for x in node.inputs:
                    base, views = base_and_views(x)
                    source = self.of.get(id(base))
                    if base.op.name in NOTHING or source is group:
                        continue
                    self.leaves[group.number].add(id(base))
                    if source is None:
                        continue
                    if group.shape == "host" or gathered(node, x):
                        self.stored.add(id(base))
                    for view in views:
                        before = view.inputs[0].shape
                        if view.op.name == "reshape" and not regroups_ones_only(before, view.shape):
                            self.reshaped.add(id(base))
                    repeats = any(v.op.name in REPEATING for v in views)
                    self.readers.setdefault(id(base), []).append((group, repeats))

    def closure(self, value: Node) -> Closure:
        """The pointwise ops back to values that are stored or given."""
        nodes, leaves, stack, seen = [], [], [value], {id(value)}
        while stack:
            node = stack.pop()
            nodes.append(node)
            for x in node.inputs:
                base, _ = base_and_views(x)
                if id(base) in seen or base.op.name in NOTHING:
                    continue
                seen.add(id(base))
                plain = base.op.kind == "elementwise" and id(base) not in self.stored
                if id(base) in self.of and plain:
                    stack.append(base)
                else:
                    leaves.append(base)
        return Closure(nodes, leaves, sum(n.op.cost for n in nodes))

    def pays(self, value: Node, reader: Group, repeats: bool, closure: Closure) -> bool:
        """Whether `reader` had better recompute the value than load it."""
        if any(map(_reads_iota, closure.nodes)):
            if reader.shape != "map" or id(value) in self.reshaped:
                return False
        size = size_key(product(value.shape))  # a leaf may come in through a reshape
        new = [
            x for x in closure.leaves
            if id(x) not in self.leaves[reader.number] and size_key(product(x.shape)) == size
        ]  # fmt: skip
        if value.ndim == 0:
            return closure.cost <= CHEAP
        if id(value) in self.stored or repeats:
            return closure.cost <= TRIVIAL and not new
        if len(self.readers[id(value)]) == 1 and len(new) <= 1:
            return closure.cost <= DEAR
        return closure.cost <= CHEAP and len(new) <= 1

    def without_dear(self, value: Node, closure: Closure) -> Closure:
        """The closure; or a shorter one back to its one dear value, which is then stored."""
        dear = [n for n in closure.nodes if n.op.cost > CHEAP]
        if len(dear) != 1 or dear[0] is value or closure.cost <= DEAR:
            return closure
        self.stored.add(id(dear[0]))
        shorter = self.closure(value)
        readers = self.readers[id(value)]
        if all(g.shape != "host" and self.pays(value, g, r, shorter) for g, r in readers):
            return shorter
        self.stored.discard(id(dear[0]))
        return closure

    def decide(self, value: Node) -> None:
        """Let each reader of `value` recompute it where that pays; else it is stored."""
        readers = self.readers.get(id(value), [])
        if value.op.kind != "elementwise":
            self.stored.add(id(value))
            return
        closure = self.without_dear(value, self.closure(value))
        wanted = [g for g, repeats in readers if g.shape != "host"
                  and self.pays(value, g, repeats, closure)]  # fmt: skip
        if id(value) not in self.stored and len(wanted) < len(readers):
            self.stored.add(id(value))
            wanted = [g for g, repeats in readers if g.shape != "host"
                      and self.pays(value, g, repeats, closure)]  # fmt: skip
        for group in wanted:
            self.again.update((group.number, id(n)) for n in closure.nodes)
            self.leaves[group.number].update(id(x) for x in closure.leaves)
            for leaf in closure.leaves:
                if id(leaf) in self.of:
                    self.stored.add(id(leaf))


def choose_stored(graph: Graph, groups: Sequence[Group], of: dict[int, Group]) -> Chosen:
    """Decide for every value that leaves its group. `groups` come in execution order."""
    chooser = _Chooser(graph, groups, of)
    chooser.find_readers()
    for group in groups:
        for node in group.nodes:
            if id(node) in chooser.readers and group.shape != "host":
                chooser.decide(node)
    return _collect(graph, groups, of, chooser)


def _collect(
    graph: Graph, groups: Sequence[Group], of: dict[int, Group], chooser: _Chooser
) -> Chosen:
    """Walk from what is needed back to what is read, last group first."""
    needed = {id(n) for n in graph.results}
    chosen = Chosen({}, {}, {})
    for group in reversed(groups):
        host = group.shape == "host"
        roots = [n for n in group.nodes if host or id(n) in needed]
        reads: dict[int, Node] = {}
        body: dict[int, Node] = {id(n): n for n in roots}
        stack: list[Any] = list(roots)
        while stack:
            node = stack.pop()
            for x in node.inputs:
                base, _ = base_and_views(x)
                if gathered(node, x):
                    reads[id(base)] = base
                    continue
                if base.op.name in NOTHING or id(base) in body:
                    continue
                mine = of.get(id(base)) is group or (group.number, id(base)) in chooser.again
                if mine and not host:
                    body[id(base)] = base
                    stack.append(base)
                else:
                    reads[id(base)] = base
        needed.update(i for i, n in reads.items() if n.op.name not in GIVEN)
        chosen.stores[group.number] = roots
        chosen.reads[group.number] = list(reads.values())
        chosen.bodies[group.number] = list(body.values())
    return chosen
