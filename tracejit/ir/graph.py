"""A graph: inputs, outputs and effects; the nodes are those reachable from the results.

Invariant: immutable; a pass returns a new graph. Effects are writes to inputs that take place
together when the whole graph has run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_
from typing import Any

from tracejit.ir.node import Node, topological
from tracejit.ir.text import print_graph


@dataclass(frozen=True, eq=False)
class Graph:
    """``Graph(name, inputs, outputs, effects)``.

    inputs   nodes of op ``input``.
    outputs  the results, in order.
    effects  pairs (input, node): the input's storage takes the node's value at the end.
    checks   pairs (0-d bool node, message): must hold before any effect takes place.
    notes    what a pass wants to say about itself; printed as the first line.
    """

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    effects: tuple[tuple[Node, Node], ...] = ()
    checks: tuple[tuple[Node, str], ...] = ()
    notes: str = field(default="", compare=False)

    @property
    def results(self) -> tuple[Node, ...]:
        """Outputs, then the values of effects, then the conditions of checks."""
        values = tuple(value for _, value in self.effects)
        return self.outputs + values + tuple(condition for condition, _ in self.checks)

    def nodes(self) -> list[Node]:
        """All nodes but the inputs, each after what it reads, in a deterministic order."""
        return list(self._order)

    @cached_property
    def _order(self) -> tuple[Node, ...]:
        inputs = set(self.inputs)
        return tuple(n for n in topological(self.results) if n not in inputs)

    def with_results(self, results: Sequence[Node], notes: str = "") -> Graph:
        """The graph with other results (same count and order)."""
        first, second = len(self.outputs), len(self.outputs) + len(self.effects)
        effects = tuple((e[0], v) for e, v in zip(self.effects, results[first:second], strict=True))
        checks = tuple((v, c[1]) for c, v in zip(self.checks, results[second:], strict=True))
        made = replace(
            self, outputs=tuple(results[:first]), effects=effects, checks=checks, notes=notes
        )
        if "_order" in self.__dict__ and all(map(is_, results, self.results)):
            made.__dict__["_order"] = self._order  # a pass that changed nothing: nothing to sort
        return made

    def with_notes(self, notes: str) -> Graph:
        """The graph with something else to say about itself."""
        return self.with_results(self.results, notes)

    def __str__(self) -> str:
        return print_graph(self)


def users_of(nodes: Iterable[Node]) -> dict[int, list[Node]]:
    """Map from a node's id to the nodes that read it."""
    users: dict[int, list[Node]] = {}
    for node in nodes:
        for value in node.inputs:
            users.setdefault(id(value), []).append(node)
    return users


def rebuilt(node: Node, new: dict[int, Node]) -> Node:
    """The node on the new values (by id) of its inputs: itself where all of them stayed."""
    for x in node.inputs:
        if new[id(x)] is not x:
            return node.replace(tuple([new[id(x)] for x in node.inputs]))
    return node


def rewrite(graph: Graph, rule: Callable[[Node], Node | None], notes: str = "") -> Graph:
    """Rebuild the graph bottom-up; `rule` sees each node on its new inputs and may replace it."""
    new: dict[int, Node] = {id(n): n for n in graph.inputs}
    for node in graph.nodes():
        kept = rebuilt(node, new)
        result = rule(kept)
        new[id(node)] = kept if result is None else result
    return graph.with_results([new[id(n)] for n in graph.results], notes)


def substitute(graph: Graph, values: dict[int, Node]) -> list[Node]:
    """The results of `graph` with the inputs (by id) replaced by `values`."""
    new: dict[int, Any] = dict(values)
    for node in graph.nodes():
        new[id(node)] = node.replace(tuple(new[id(x)] for x in node.inputs))
    return [new[id(n)] for n in graph.results]
