"""The IR of plain eager code: ``with record() as trace: ...; print(trace)``.

Invariant: what runs inside runs and returns as it would outside; recording only looks on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from types import FrameType
from typing import Any

from tracejit.eager.capture import Capture
from tracejit.eager.modes import state
from tracejit.ir.graph import Graph, substitute
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.tensor import Tensor
from tracejit.transforms import fuse, pipeline


class _Watch(Capture):
    """A capture that also lists, in order, what was made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Node] = []

    def set_node(self, tensor: Tensor, node: Node) -> None:
        super().set_node(tensor, node)
        self.made.append(node)


class Recording:
    """A block of eager code as a graph; made by `record`.

    ``str(trace)`` and ``trace.ir(stage)`` give text, ``trace.graph`` the graph. Its inputs are the
    tensors that the block met, named as the block's own variables; its outputs are the values that
    nothing else in the block used.
    """

    def __init__(self) -> None:
        self._watch = _Watch()
        self._graph: Graph | None = None

    def __enter__(self) -> Recording:
        if state.capture is not None:
            raise RuntimeError("record() inside a capture: another recording or @compile runs")
        state.capture = self._watch
        return self

    def __exit__(self, *exc: object) -> None:
        state.capture = None
        self._graph = self._build(_names(sys._getframe(1)))
        self._watch.finish()

    @property
    def graph(self) -> Graph:
        """The recorded graph; RuntimeError while the block still runs."""
        if self._graph is None:
            raise RuntimeError("the recording has not ended yet")
        return self._graph

    def ir(self, stage: str = "captured") -> str:
        """The IR as text: "captured", a pass by name, or "plan"."""
        stages: dict[str, Any] = {}
        lowered = pipeline.run(self.graph, stages)
        if stage == "plan":
            return str(fuse.run(lowered))
        if stage not in stages:
            raise ValueError(f"no stage {stage!r}; there are {', '.join(stages)} and plan")
        return str(stages[stage])

    def __str__(self) -> str:
        return str(self.graph) if self._graph is not None else "<recording>"

    def _build(self, names: dict[int, str]) -> Graph:
        watch = self._watch
        taken: set[str] = set()
        fresh: dict[int, Node] = {}
        for number, (tensor, node) in enumerate(watch.inputs):
            name = _unique(names.get(id(tensor), f"x{number}"), taken)
            role = {"role": "param"} if tensor._is_parameter else {}
            fresh[id(node)] = OPS["input"](type=node.type, name=name, **role)
        for scalar in watch.scalars:
            node = scalar.node
            name = _unique(node.params["name"], taken)
            fresh[id(node)] = OPS["input"](type=node.type, name=name, role="scalar")
        written = [(watch.input_ids[i], watch.node_of(t)) for i, t in watch.writes.items()]
        effects = tuple((fresh[id(n)], value) for n, value in written)
        boundary = (*(n for _, n in watch.inputs), *(s.node for s in watch.scalars))
        sinks = _sinks(watch.made, set(fresh), {id(v) for _, v in effects})
        old = Graph("recorded", boundary, tuple(sinks), effects)
        results = substitute(old, fresh)
        values = zip((t for t, _ in effects), results[len(sinks) :], strict=True)
        found = Graph("recorded", (), tuple(results[: len(sinks)]), tuple(values))
        needed = {id(n) for n in (*topological(found.results), *(t for t, _ in effects))}
        return replace(found, inputs=tuple(n for n in fresh.values() if id(n) in needed))


def _sinks(made: Iterable[Node], boundary: set[int], used: set[int]) -> list[Node]:
    """What was made and not used by anything else that was made."""
    nodes = list(dict.fromkeys(made))
    read = {id(x) for n in topological(nodes) if id(n) not in boundary for x in n.inputs}
    return [n for n in nodes if id(n) not in read | used | boundary]


def _names(frame: FrameType) -> dict[int, str]:
    """Variables of the block that hold tensors."""
    return {id(v): k for k, v in frame.f_locals.items() if isinstance(v, Tensor)}


def _unique(name: str, taken: set[str]) -> str:
    unique, count = name, 1
    while unique in taken:
        unique, count = f"{name}_{count}", count + 1
    taken.add(unique)
    return unique


def record() -> Recording:
    """Record the IR of eager code.

    Example::

        with tracejit.record() as trace:
            y = (x * 2).exp()
        print(trace)
    """
    return Recording()
