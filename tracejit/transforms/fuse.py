"""Fusion: which nodes run in one kernel. `fuse: Graph -> Plan`.

Nodes join the group of a value they read where the group's loop can compute them: the same element
(map), a row's own value or its reduction (row), what feeds a reduction (column, full). Movement ops
are views and belong to no group. Cheap values are recomputed by their readers instead of stored.
Invariant (convexity, as in PyTensor's fusion): no group depends on its own output through a node
outside it; so the groups can be ordered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.plan import HostStep, KernelStep, Plan, Step
from tracejit.ir.types import TupleType
from tracejit.transforms.fuse_rows import merge_rows
from tracejit.transforms.groups import (
    UNCHECKED,
    Group,
    compose,
    group_name,
    is_pointwise,
    is_reduction,
    lifted,
    needs_merged_axes,
    reads_anywhere,
    reads_positions,
    reduction_lift,
    reduction_shape,
    row_lift,
    sizes_key,
)
from tracejit.transforms.recompute import choose_stored
from tracejit.transforms.views import (
    AxisMap,
    axis_map,
    base_and_views,
    identity_map,
)

MAX_NODES = 120  # ops of one kernel: beyond that compiling costs more than memory traffic saves
FREE = frozenset({"input", "full", "iota", "constant", "size"})  # read by a kernel without a step
AFTER_CHECKS = "one runs before a check, the other may have to run after it"


class Fuser:
    """Builds the groups of one graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.groups: dict[int, Group] = {}
        self.of: dict[int, Group] = {}
        self.why_not: list[str] = []
        self.count = 0
        self.rank = check_ranks(graph)
        self.bases: dict[int, tuple[Node, ...]] = {}  # what each node reads, behind the views
        self.readers: dict[int, list[Node]] = {}  # who reads each value
        for node in graph.nodes():
            bases = tuple({id(b): b for b in (base_and_views(x)[0] for x in node.inputs)}.values())
            self.bases[id(node)] = bases
            for base in bases:
                self.readers.setdefault(id(base), []).append(node)

    # groups and their order ----------------------------------------------------------------

    def new(self, shape: str, domain: tuple[Any, ...], axes: tuple[int, int] = (0, 0)) -> Group:
        group = Group(self.count, shape, domain, axes)
        self.groups[self.count] = group
        self.count += 1
        return group

    def depend(self, group: Group, others: Iterable[Group]) -> None:
        """Record that `group` reads what `others` store."""
        above = 0
        for other in others:
            if other is not group:
                above |= other.above | other.bit
                other.is_read = True
        if above & ~group.above == 0:
            return
        group.above |= above
        if not group.is_read:
            return
        bit, above = group.bit, group.above
        for later in self.groups.values():
            if later.above & bit:
                later.above |= above

    def merge(self, gone: Group, kept: Group) -> None:
        """Move all nodes of `gone` into `kept`."""
        for node in gone.nodes:
            self.of[id(node)] = kept
        kept.nodes = gone.nodes + kept.nodes
        kept.level.update(gone.level)
        kept.lift.update(gone.lift)
        if gone.shape != "map":
            kept.shape, kept.axes = gone.shape, gone.axes
        del self.groups[gone.number]
        kept.above = (kept.above | gone.above) & ~(gone.bit | kept.bit)
        kept.is_read = kept.is_read or gone.is_read
        both, above, rest = gone.bit | kept.bit, kept.above | kept.bit, ~gone.bit
        for later in self.groups.values():
            if later.above & both:
                later.above = (later.above | above) & rest

    def has_path_outside(self, first: Group, last: Group) -> bool:
        """Whether `last` depends on `first` through a third group."""
        if not last.above & first.bit:
            return False
        for node in last.nodes:
            for source in self.sources(node):
                if source is not first and source is not last and source.above & first.bit:
                    return True
        return False

    def sources(self, node: Node) -> list[Group]:
        """The groups whose values a node reads."""
        groups = (self.of.get(id(base)) for base in self.bases[id(node)])
        return list(dict.fromkeys(g for g in groups if g is not None))

    def users(self, group: Group) -> list[Group]:
        """The groups that read a group's values."""
        nodes = (reader for n in group.nodes for reader in self.readers.get(id(n), ()))
        groups = (self.of.get(id(n)) for n in nodes)
        return list(dict.fromkeys(g for g in groups if g is not None and g is not group))

    # joining -------------------------------------------------------------------------------

    def add(self, group: Group, node: Node, level: str, lift: AxisMap | None = None) -> None:
        group.nodes.append(node)
        group.level[id(node)] = level
        if lift is not None:
            group.lift[id(node)] = lift
        group.rank = self.rank_of(node)
        self.of[id(node)] = group
        self.depend(group, self.sources(node))

    def rank_of(self, node: Node) -> int:
        """The first check that needs the node."""
        return self.rank.get(id(node), UNCHECKED)

    def refuse(self, node: Node, group: Group, reason: str) -> None:
        """Note why `node` did not join the group of a value it reads."""
        place = f" ({node.loc.full()})" if node.loc is not None else ""
        last = group.nodes[-1]
        other = f" ({last.loc})" if last.loc is not None else ""
        name = f"{node.op.name}{place}"
        self.why_not.append(f"{name} is not fused with {last.op.name}{other}: {reason}")

    def fit(self, group: Group, node: Node) -> tuple[str, AxisMap | None] | str:
        """The level (and lift) at which `node` fits into `group`, or the reason why it does not."""
        if group.rank != self.rank_of(node):
            return AFTER_CHECKS
        if len(group.nodes) >= MAX_NODES:
            return f"the kernel has {MAX_NODES} ops already"
        if reads_positions(node) and needs_merged_axes(group.shape, group.domain, group.axes):
            return "it reads by position, and the loop merges axes"
        if group.key == sizes_key(node.shape):
            bad = self.element_fault(group, node)
            return bad if bad else ("element", None)
        if group.shape != "row":
            return f"its shape {node.type} is not that of the loop"
        if node.op.kind == "random":
            return "random numbers are made element by element"
        lift = row_lift(group, node.shape)
        if lift is None:
            return f"its shape {node.type} is neither that of the loop nor of its rows"
        for x in node.inputs:
            base, views = base_and_views(x)
            if self.of.get(id(base)) is not group:
                continue
            if group.level[id(base)] != "row" or reads_anywhere(node, x):
                return "it reads elements of the row, not the row's own values"
            through = axis_map(base.shape, views)
            if through is None or compose(lift, through) != group.lift[id(base)]:
                return "it reads other rows"
        return "row", lift

    def element_fault(self, group: Group, node: Node) -> str:
        """Why `node`, of the domain's shape, does not go element by element ('' if it does)."""
        for x in node.inputs:
            base, views = base_and_views(x)
            if self.of.get(id(base)) is not group:
                continue
            through = axis_map(base.shape, views)
            if reads_anywhere(node, x):
                return "it reads elements at computed places"
            if group.level[id(base)] == "element":
                if (
                    through is None
                    or through != identity_map(base.shape)
                    or (sizes_key(base.shape) != group.key)
                ):
                    return "it reads the elements in another order or place"
            elif group.shape != "row":
                return "it needs the whole reduction first"
            elif through is None or through != lifted(group, base):
                return "it reads other rows"
        return ""

    def place_pointwise(self, node: Node) -> None:
        """Put a pointwise node into the group of a value it reads, or into one of its own."""
        sources = sorted(self.sources(node), key=lambda g: -g.number)
        chosen: Group | None = None
        for group in sources:
            if group.shape == "host":
                continue
            if any(other is not group and other.above & group.bit for other in sources):
                self.refuse(node, group, "another input depends on that kernel's result")
                continue
            fit = self.fit(group, node)
            if isinstance(fit, str):
                self.refuse(node, group, fit)
                continue
            self.add(group, node, *fit)
            chosen = group
            break
        if chosen is None:
            chosen = self.new("map", node.shape)
            self.add(chosen, node, "element")
        self.absorb(chosen, sources, node)

    def absorb(self, group: Group, others: Iterable[Group], node: Node) -> None:
        """Merge other groups that `node` reads into its own where that is allowed."""
        for other in others:
            if other is group or other.shape == "host" or other.number not in self.groups:
                continue
            if self.can_merge(other, group):
                self.merge(other, group)

    def can_merge(self, a: Group, b: Group) -> bool:
        """Whether two groups may be one kernel: same loop, no detour, every use in place."""
        if a.key != b.key or "host" in (a.shape, b.shape) or a.rank != b.rank:
            return False
        if a.shape != "map" and b.shape != "map" and (a.shape, a.axes) != (b.shape, b.axes):
            return False
        if len(a.nodes) + len(b.nodes) > MAX_NODES:
            return False
        axes = a.axes if a.shape != "map" else b.axes
        merged = needs_merged_axes(a.shape if a.shape != "map" else b.shape, a.domain, axes)
        if merged and any(map(reads_positions, a.nodes + b.nodes)):
            return False
        if self.has_path_outside(a, b) or self.has_path_outside(b, a):
            return False
        shape = a.shape if a.shape != "map" else b.shape
        return self.uses_fit(a, b, shape) and self.uses_fit(b, a, shape)

    def uses_fit(self, reader: Group, source: Group, shape: str) -> bool:
        """Whether what `reader` takes from `source` is at hand when both are one kernel."""
        for node in reader.nodes:
            for x in node.inputs:
                base, views = base_and_views(x)
                if self.of.get(id(base)) is not source:
                    continue
                through = axis_map(base.shape, views)
                if through is None or reads_anywhere(node, x):
                    return False
                if source.level[id(base)] == "element":
                    same = through == identity_map(base.shape)
                    same = same and sizes_key(base.shape) == source.key
                    if not same or (reader.level[id(node)] == "row" and not is_reduction(node)):
                        return False
                elif shape != "row":
                    return False
                elif reader.level[id(node)] == "row":
                    if is_reduction(node):
                        if through != lifted(source, base):
                            return False
                    elif compose(reader.lift[id(node)], through) != source.lift[id(base)]:
                        return False
                elif through != lifted(source, base):
                    return False
        return True

    def place_reduction(self, node: Node) -> None:
        """Put a reduction into the group that computes what it reduces, or into one of its own."""
        shape, axes = reduction_shape(node), node.params["axes"]
        span = (axes[0], axes[-1] + 1)
        x = node.inputs[0]
        for group in self.sources(node):
            if group.shape == "host":
                continue
            reason = self.reduction_fault(group, node, shape, span)
            if reason:
                self.refuse(node, group, reason)
                continue
            group.shape, group.axes = shape, span
            self.add(group, node, "row", reduction_lift(node))
            return
        group = self.new(shape, x.shape, span)
        self.add(group, node, "row", reduction_lift(node))

    def reduction_fault(self, group: Group, node: Node, shape: str, span: tuple[int, int]) -> str:
        """Why the reduction cannot run inside `group`; '' if it can."""
        base, views = base_and_views(node.inputs[0])
        if group.rank != self.rank_of(node):
            return AFTER_CHECKS
        if group.key != sizes_key(node.inputs[0].shape):
            return "it reduces another shape than that of the loop"
        if group.shape != "map" and (group.shape, group.axes) != (shape, span):
            return f"the kernel reduces other axes ({group.shape})"
        if needs_merged_axes(shape, group.domain, span) and any(map(reads_positions, group.nodes)):
            return "it reads by position, and the loop merges axes"
        through = axis_map(base.shape, views)
        if group.level[id(base)] == "element":
            same = sizes_key(base.shape) == group.key
            if not same or through != identity_map(base.shape):
                return "it reads the elements in another order"
        elif group.shape != "row" or through != lifted(group, base):
            return "it needs the whole reduction first"
        return ""

    def place_host(self, node: Node) -> None:
        """A library call is a group of its own."""
        group = self.new("host", ())
        self.add(group, node, "element")

    # the whole graph -----------------------------------------------------------------------

    def run(self) -> None:
        """Assign every node that computes something."""
        for node in self.graph.nodes():
            if node.op.name in FREE or base_and_views(node)[1]:
                continue
            if node.op.name == "get":
                self.of[id(node)] = self.of[id(node.inputs[0])]
            elif is_pointwise(node):
                self.place_pointwise(node)
            elif is_reduction(node):
                self.place_reduction(node)
            else:
                self.place_host(node)
        self.merge_siblings()
        merge_rows(self)

    def lift_of(self, rows: Group, node: Node) -> AxisMap | None:
        """How a node's value lies along the rows of a row group, if it does."""
        return row_lift(rows, node.shape)

    def may_be_lifted(self, group: Group, rows: Group) -> bool:
        """Whether a map group might become per-row values of a row group."""
        if len(group.nodes) + len(rows.nodes) > MAX_NODES or group.rank != rows.rank:
            return False
        if any(map(reads_positions, group.nodes)):
            return False
        return not (self.has_path_outside(group, rows) or self.has_path_outside(rows, group))

    def merge_siblings(self) -> None:
        """Merge groups that read the same values in the same loop.

        Numbers do not count: what kernels over different data share is then no memory traffic,
        and apart they may be equal, compiled once and bundled.
        """
        readers: dict[int, list[Group]] = {}
        for group in self.groups.values():
            for node in group.nodes:
                for x in node.inputs:
                    base, _ = base_and_views(x)
                    held = readers.setdefault(id(base), [])
                    if base.ndim and base.op.name not in ("full", "iota") and group not in held:
                        held.append(group)
        for held in readers.values():
            alive = [g for g in held if g.shape != "host"]
            while len(alive) > 1:
                first = alive.pop(0)
                for other in alive:
                    gone = first.number not in self.groups or other.number not in self.groups
                    if not gone and other is not first and self.can_merge(first, other):
                        self.merge(first, other)
                        break


def check_ranks(graph: Graph) -> dict[int, int]:
    """Of each node behind a check, the first check that needs it.

    Such nodes run first and apart from others: nothing is written to an input, and nothing read
    at a computed place, before the checks that were made for it.
    """
    rank: dict[int, int] = {}
    for number, (condition, _) in enumerate(graph.checks):
        stack = [condition]
        while stack:
            node = stack.pop()
            if id(node) not in rank:
                rank[id(node)] = number
                stack += node.inputs
    return rank


def _result_copies(graph: Graph, fuser: Fuser) -> dict[int, Node]:
    """Results that are views, constants or inputs get a kernel that writes them out."""
    copies: dict[int, Node] = {}
    for node in graph.results:
        free = node.op.name in FREE or bool(base_and_views(node)[1])
        if free and id(node) not in copies:
            copy = OPS["reshape"](node, shape=node.shape)
            copy.loc = node.loc
            copies[id(node)] = copy
            group = fuser.new("map", node.shape)
            group.nodes.append(copy)
            group.level[id(copy)] = "element"
            fuser.of[id(copy)] = group
            group.rank = fuser.rank_of(node)
            base, _ = base_and_views(node)
            if id(base) in fuser.of:
                fuser.depend(group, [fuser.of[id(base)]])
    return copies


def run(graph: Graph) -> Plan:
    """The plan of `graph`, whose ops must be primitives (see `decompose`)."""
    fuser = Fuser(graph)
    fuser.run()
    copies = _result_copies(graph, fuser)
    if copies:
        graph = graph.with_results([copies.get(id(n), n) for n in graph.results], graph.notes)
    steps = _steps(graph, fuser)
    kernels = sum(isinstance(s, KernelStep) for s in steps)
    notes = f"{len(graph.nodes())} nodes, {kernels} kernels, {len(steps) - kernels} library calls"
    return Plan(graph, steps, fuser.why_not, notes)


def _steps(graph: Graph, fuser: Fuser) -> list[Step]:
    """The groups as steps, each after what it reads."""
    order = {id(n): i for i, n in enumerate(graph.nodes())}
    groups = sorted(fuser.groups.values(), key=lambda g: (g.rank, g.above.bit_count(), g.number))
    chosen = choose_stored(graph, groups, fuser.of)
    steps: list[Step] = []
    for group in groups:
        stores = chosen.stores[group.number]
        if group.shape == "host":
            steps.append(_host_step(graph, group, chosen.reads[group.number]))
            continue
        if not stores:
            continue
        body = sorted(chosen.bodies[group.number], key=lambda n: order[id(n)])
        stores = sorted(stores, key=lambda n: order[id(n)])
        name = group_name(group.shape, body)
        reads = chosen.reads[group.number]
        domain, axes = group.domain, group.axes
        steps.append(KernelStep(name, group.shape, domain, axes, body, reads, stores))
    return steps


def _host_step(graph: Graph, group: Group, reads: list[Node]) -> HostStep:
    (node,) = group.nodes
    results = [node]
    if isinstance(node.type, TupleType):
        results = [n for n in graph.nodes() if n.op.name == "get" and n.inputs[0] is node]
    return HostStep(node.op.name, node, reads, results)
