"""Dead code: effects that change nothing and checks that always hold.

Nodes need no sweep: a graph *is* what its results reach. Invariant: outputs are left alone.
"""

from __future__ import annotations

from dataclasses import replace

from tracejit.ir.graph import Graph
from tracejit.ir.node import Node


def _always_true(condition: Node) -> bool:
    return condition.op.name == "full" and bool(condition.params["value"])


def run(graph: Graph) -> Graph:
    """`graph` without effects that write an input's own value and checks of a constant truth."""
    effects = tuple((target, value) for target, value in graph.effects if value is not target)
    checks = tuple(check for check in graph.checks if not _always_true(check[0]))
    removed = len(graph.effects) - len(effects) + len(graph.checks) - len(checks)
    names = [
        name
        for name, before, after in (
            ("write_of_itself", graph.effects, effects),
            ("check_of_true", graph.checks, checks),
        )
        if len(before) != len(after)
    ]
    notes = f"{removed} rewrites" + (f" ({', '.join(names)})" if names else "")
    if not removed:
        return graph.with_notes(notes)
    return replace(graph, effects=effects, checks=checks, notes=notes)
