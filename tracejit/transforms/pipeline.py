"""The passes in their order, with one place for verifying, timing and switching them off.

Invariant: `PASSES` is the whole truth about what happens to a graph before it is fused.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tracejit import config
from tracejit.ir.graph import Graph
from tracejit.ir.verify import verify
from tracejit.transforms import cse, dce, decompose, joins, products, simplify

PASSES: tuple[tuple[str, Callable[[Graph], Graph]], ...] = (
    ("decompose", decompose.run),
    ("products", products.run),
    ("simplify", simplify.run),
    ("cse", cse.run),
    ("joins", joins.run),
    ("dce", dce.run),
)


def disabled_passes() -> frozenset[str]:
    """Names of the passes that `config.disable_passes` switches off."""
    return frozenset(n.strip() for n in config.disable_passes.split(",") if n.strip())


def show(stage: str, what: Any) -> None:
    """Print a graph or plan to stderr if `config.dump` names its stage."""
    if config.dump:
        wanted = {name.strip() for name in config.dump.split(",")}
        if stage in wanted or "all" in wanted:
            print(f"# stage {stage}\n{what}\n", file=sys.stderr)


def run(graph: Graph, stages: dict[str, Graph] | None = None) -> Graph:
    """`graph` after every pass that is switched on; `stages` collects the graph after each.

    `decompose` cannot be switched off: kernels know primitives only. Verifies the graph before
    the first and after every pass when `config.check` is at least 1.
    """
    off = disabled_passes() - {"decompose"}
    if config.check >= 1:
        verify(graph)
    show("captured", graph)
    if stages is not None:
        stages["captured"] = graph
    for name, function in PASSES:
        if name in off:
            continue
        started = time.perf_counter()
        result = function(graph)
        elapsed = (time.perf_counter() - started) * 1e3
        graph = result.with_notes(f"after {name}: {result.notes}, {elapsed:.2f} ms")
        if config.check >= 1:
            verify(graph)
        show(name, graph)
        if stages is not None:
            stages[name] = graph
    return graph.with_notes("")
