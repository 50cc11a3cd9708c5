"""The trace tree: traces of one function under one set of guards, joined where they agree.

A tree node is a segment that ends in a value that steered Python (a branch point) or in the
results (a leaf). Segments are compiled programs; what a later segment needs of an earlier one is
carried. Invariant: nodes of different captures that mean the same are one node (`Interner`), so
that a common prefix is computed once, and effects take place in leaves only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tracejit import config
from tracejit.eager.capture import Branch
from tracejit.eager.integers import LiftedInt
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.text import print_value
from tracejit.ir.types import TensorType, TupleType
from tracejit.jit.layouts import Order, inverse
from tracejit.jit.shapes import size_givers
from tracejit.jit.source import Refusal

_MAX_TEXTS = 4
"""Texts made of one value, which rarely comes back, before a function stays eager."""


class Interner:
    """One node per meaning."""

    def __init__(self) -> None:
        self.by_key: dict[Any, Node] = {}
        self.taken: set[str] = set()  # names of inputs

    def input(self, key: Any, kind: TensorType, name: str, role: str | None) -> Node:
        """The canonical input of a source; its name is made unique."""
        found = self.by_key.get(("input", key))
        if found is None:
            unique, count = name, 1
            while unique in self.taken:
                unique, count = f"{name}_{count}", count + 1
            self.taken.add(unique)
            params: dict[str, Any] = {"name": unique}
            if role is not None:
                params["role"] = role
            found = OPS["input"](type=kind, **params)
            self.by_key["input", key] = found
        return found

    def inputs(self) -> list[Node]:
        """All inputs met so far."""
        return [node for key, node in self.by_key.items() if key[0] == "input"]

    def add(self, roots: Sequence[Node], known: dict[int, Node]) -> list[Node]:
        """Canonical nodes of `roots`; `known` maps ids of boundary nodes to canonical ones."""
        done = dict(known)
        self.fill(reachable(roots, done), done)
        return [done[id(r)] for r in roots]

    def fill(self, nodes: Sequence[Node], done: dict[int, Node]) -> None:
        """Put canonical nodes of `nodes`, each after its inputs, into `done`."""
        for node in nodes:
            inputs = tuple(done[id(x)] for x in node.inputs)
            done[id(node)] = self._canonical(node, inputs)

    def _canonical(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        params: tuple[Any, ...] = ()
        if node.params:
            for number in _lifted(node.params.values()):
                number.capture.fix(number)
                raise Refusal(f"{node.op.name} takes a number that varies from call to call as a "
                              "size or an option")  # fmt: skip
            params = tuple(sorted([(k, print_value(v)) for k, v in node.params.items()]))
        key = (node.op.name, params, inputs)
        found = self.by_key.get(key)
        if found is None:
            found = self.by_key[key] = Node(node.op, inputs, node.params, node.type, node.loc)
        return found


def reachable(roots: Sequence[Node], known: dict[int, Node]) -> list[Node]:
    """Nodes reachable from `roots` without passing a known one, each after its inputs."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
            continue
        if id(node) in seen or id(node) in known:
            continue
        seen.add(id(node))
        stack.append((node, True))
        stack.extend((x, False) for x in reversed(node.inputs))
    return order


class Leaf:
    """The end of a path: what the results are and what must happen (see `replay`)."""

    def __init__(
        self,
        outputs: Sequence[Node],
        effects: Sequence[tuple[Node, Node]],
        checks: Sequence[tuple[Node, str]],
        finish: Any,
    ):
        self.outputs = tuple(outputs)
        self.effects = tuple(effects)
        self.checks = tuple(checks)
        self.finish = finish
        self.orders: dict[int, Order] = {}  # of outputs that are not in row-major order: the axes

    def stored(self, results: Sequence[Node]) -> tuple[Node, ...]:
        """Of the outputs what the program stores in row-major order."""
        return tuple(
            OPS["transpose"](node, perm=self.orders[i]) if i in self.orders else node
            for i, node in enumerate(results)
        )

    def arranged(self, arrays: list[Any]) -> list[Any]:
        """The outputs, from what the program stored."""
        for i, order in self.orders.items():
            arrays[i] = arrays[i].transpose(inverse(order))
        return arrays

    @property
    def targets(self) -> list[Node]:
        return [*self.outputs, *(v for _, v in self.effects), *(c for c, _ in self.checks)]


class Segment:
    """A tree node: computes `condition` and goes on by its value, or ends in `leaf`."""

    def __init__(self) -> None:
        self.condition: Node | None = None
        self.kind = ""
        self.location: Any = None
        self.children: dict[Any, Segment] = {}
        self.leaf: Leaf | None = None
        self.hits = 0
        self.graph: Graph | None = None
        self.program: Any = None
        self.reads: list[Any] = []  # input positions and carried keys, in program order
        self.carries: list[int] = []  # ids of canonical nodes this segment hands on

    @property
    def targets(self) -> list[Node]:
        if self.leaf is not None:
            return self.leaf.targets
        return [] if self.condition is None else [self.condition]


class Conflict(Exception):
    """Two runs with equal guards and outcomes took different ways: a guard is missing."""


class Tree:
    """All paths seen under one set of guards."""

    def __init__(self) -> None:
        self.root = Segment()
        self.nodes = Interner()
        self.leaves = 0

    def insert(self, branches: Sequence[tuple[Node, Branch]], leaf: Leaf) -> None:
        """Add a path; segments are rebuilt at next use. Raises Conflict before any change."""
        self._check(branches)
        segment = self.root
        for condition, branch in branches:
            segment.condition, segment.kind = condition, branch.kind
            segment.location = branch.location
            segment = segment.children.setdefault(outcome_key(branch.outcome), Segment())
        segment.leaf = leaf
        self.leaves += 1
        self._plan(self.root, set())

    def _check(self, branches: Sequence[tuple[Node, Branch]]) -> None:
        segment: Segment | None = self.root
        for condition, branch in branches:
            if segment is None:
                return
            if segment.leaf is not None:
                raise Conflict(str(branch.location))
            if segment.condition is not None and (
                segment.condition is not condition or segment.kind != branch.kind
            ):
                raise Conflict(str(branch.location))
            segment = segment.children.get(outcome_key(branch.outcome))
        if segment is not None and segment.condition is not None:
            raise Conflict("a path ends where another goes on")

    # --- what each segment computes ------------------------------------------------------------

    def _plan(self, segment: Segment, available: set[int]) -> None:
        """Split the computation over segments: each computes what its target still lacks.

        A node with several results is never carried itself: the parts of it that later segments
        read are, and the segment that computes the node hands on each of them.
        """
        own = [n for n in topological(segment.targets)
               if n.op.name != "input" and not _is_at_hand(n, available)]  # fmt: skip
        below = available | {id(n) for n in own}
        for child in segment.children.values():
            self._plan(child, below)
        carried = [n for n in self._wanted(segment, below).values()
                   if not _is_at_hand(n, available)]  # fmt: skip
        segment.carries = [id(n) for n in carried]
        segment.graph = self._segment_graph(segment, available, carried)
        segment.program = None

    def _wanted(self, segment: Segment, available: set[int]) -> dict[int, Node]:
        """What the segments below read of the nodes in `available`."""
        wanted: dict[int, Node] = {}
        stack = list(segment.children.values())
        while stack:
            child = stack.pop()
            for node in _until(child.targets, available):
                wanted[id(node)] = node
            stack.extend(child.children.values())
        return wanted

    def _segment_graph(self, segment: Segment, available: set[int], carried: list[Node]) -> Graph:
        """The graph of one segment over graph inputs and carried values."""
        replaced: dict[int, Node] = {}
        inputs: list[Node] = []
        reads: list[Any] = []
        for node in _until([*segment.targets, *carried], available, with_inputs=True):
            if node.op.name == "input":
                inputs.append(node)
                reads.append(("input", node))
                replaced[id(node)] = node
            else:
                fresh = OPS["input"](type=node.type, name=f"carried{len(reads)}")
                inputs.append(fresh)
                reads.append(("carried", id(node)))
                replaced[id(node)] = fresh
        leaf = segment.leaf
        for target, _ in leaf.effects if leaf is not None else ():
            if id(target) not in replaced:
                replaced[id(target)] = target
                inputs.append(target)
                reads.append(("input", target))
        segment.reads = reads
        results = Interner().add([*segment.targets, *carried], replaced)
        whole = self.nodes.inputs()
        for i in size_givers([*topological(results), *inputs], whole):
            inputs.append(whole[i])
            reads.append(("input", whole[i]))
        if leaf is None:
            return Graph("segment", tuple(inputs), tuple(results))
        n, m = len(leaf.outputs), len(leaf.outputs) + len(leaf.effects)
        effects = tuple((t, v) for (t, _), v in zip(leaf.effects, results[n:m], strict=True))
        checks = tuple((v, c[1]) for c, v in zip(leaf.checks, results[m:], strict=True))
        return Graph("segment", tuple(inputs), leaf.stored(results[:n]), effects, checks)


def _until(roots: Sequence[Node], stop: set[int], with_inputs: bool = False) -> list[Node]:
    """The nodes at hand in `stop` (and inputs, if asked) that the roots reach first."""
    found: list[Node] = []
    seen: set[int] = set()
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if _is_at_hand(node, stop) or (with_inputs and node.op.name == "input"):
            found.append(node)
            continue
        stack.extend(reversed(node.inputs))
    return found


def _lifted(values: Iterable[Any]) -> list[LiftedInt]:
    """The lifted ints that got into parameters, where a trace would fix them."""
    found: list[LiftedInt] = []
    for value in values:
        kind = type(value)
        if kind is LiftedInt:
            found.append(value)
        elif kind is TensorType:
            found += _lifted(value.shape)
        elif kind is tuple or kind is list:
            found += _lifted(value)
    return found


def _is_at_hand(node: Node, available: set[int]) -> bool:
    """Whether an earlier segment has the value: its node, or the several results it is one of."""
    if node.op.name == "get":
        return id(node.inputs[0]) in available or id(node) in available
    return id(node) in available and not isinstance(node.type, TupleType)


def outcome_key(outcome: Any) -> Any:
    """A hashable key that tells outcomes apart as Python would (1, 1.0, True; nan; -0.0)."""
    if isinstance(outcome, list):
        return tuple(map(outcome_key, outcome))
    if type(outcome) is tuple:  # of bytes (indices): their text would take longer than all else
        return outcome
    return (type(outcome).__name__, repr(outcome))


def has_many_outcomes(segment: Segment) -> bool:
    """Whether a branch point of the tree has shown more outcomes than are kept."""
    most = _MAX_TEXTS if segment.kind == "text" else config.max_branches
    if len(segment.children) > most:
        return True
    return any(map(has_many_outcomes, segment.children.values()))
