"""Reproducers: files that show a difference between eager and compiled, run and made smaller.

A file holds either a graph with its inputs (``check=`` writes such) or a program with ``f`` and
``run(f)`` (the fuzzer does). Invariant: a smaller file fails as the file given does.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.errors import CompileError, TracejitError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.parse import parse
from tracejit.ir.types import TensorType
from tracejit.jit.differentiate import rebuild
from tracejit.jit.diverge import eager_values, first_difference, reproducer, unpack
from tracejit.jit.observe import Tolerance
from tracejit.testing.agree import check
from tracejit.testing.minimize import minimize as minimize_program
from tracejit.testing.programs import Program

Array = np.ndarray[Any, Any]


def array(dtype: str, shape: tuple[int, ...], packed: str) -> Array:
    """An input of a reproducer: the bytes of the array, compressed, in base 85."""
    return unpack(dtype, shape, packed)


def check_graph(text: str, inputs: Sequence[Array], ulps: float = 0.0, atol: float = 0.0) -> None:
    """Raise AssertionError if a graph in IR text gives something else compiled than eagerly.

    Example: ``check_graph("graph f(%x: f32[2]) -> f32[2] {\\n  %0 = exp(%x) : f32[2]\\n
    return %0\\n}\\n", [np.zeros(2, "f4")])``.
    """
    problem = graph_problem(parse(text), inputs, Tolerance(ulps, atol))
    if problem is not None:
        raise AssertionError(problem)


def graph_problem(graph: Graph, inputs: Sequence[Array], tolerance: Tolerance) -> str | None:
    """How the compiled graph differs from ops that run one at a time, or None."""
    try:
        found = first_difference(graph, inputs, tolerance)
    except CompileError as error:
        return f"cannot be compiled: {error}"
    if found is None:
        return None
    place = int(np.argmax(~tolerance.near(found.eager, found.compiled)))
    return (
        f"{found.node.op.name} -> {found.node.type}: element {place}: eager "
        f"{found.eager.reshape(-1)[place]!r}, compiled {found.compiled.reshape(-1)[place]!r}"
    )


def run(path: str) -> str | None:
    """Run a reproducer file: how compiled differs from eager, or None.

    Raises ValueError for a file that is no reproducer, OSError for one that cannot be read.
    """
    names = _load(path)
    if "GRAPH" in names:
        return graph_problem(parse(names["GRAPH"]), names["INPUTS"], Tolerance())
    with open(path, encoding="utf-8") as file:
        failure = check(file.read()).failure
    return None if failure is None else f"{failure.kind}: {failure.text}"


def minimize(path: str) -> str | None:
    """The text of a smaller reproducer that fails as the file does; None if the file passes."""
    names = _load(path)
    if "GRAPH" in names:
        return _minimize_graph(parse(names["GRAPH"]), names["INPUTS"])
    with open(path, encoding="utf-8") as file:
        program = Program.parse(file.read())
    failure = check(program.source()).failure
    return None if failure is None else minimize_program(program, failure.kind).source()


def _load(path: str) -> dict[str, Any]:
    try:
        names = runpy.run_path(path)
    except (SyntaxError, ImportError, NameError, TracejitError) as error:
        raise ValueError(f"{path} is no reproducer: {error}") from None
    if "GRAPH" not in names and not ("f" in names and "run" in names):
        raise ValueError(f"{path} is no reproducer: it has neither GRAPH nor f and run")
    return names


# --- smaller graphs ------------------------------------------------------------------------------


def _minimize_graph(graph: Graph, inputs: Sequence[Array]) -> str | None:
    def fails(candidate: Graph, arrays: Sequence[Array]) -> bool:
        return graph_problem(candidate, arrays, Tolerance()) is not None

    if not fails(graph, inputs):
        return None
    arrays = list(inputs)
    progress = True
    while progress:
        progress = False
        for candidate, values in _smaller(graph, arrays):
            if fails(candidate, values):
                graph, arrays, progress = candidate, list(values), True
                break
    return reproducer(graph, arrays)


def _smaller(graph: Graph, arrays: Sequence[Array]) -> Iterator[tuple[Graph, Sequence[Array]]]:
    """One result less, an inner value given as an input, inputs that are not needed left out."""
    for i in range(len(graph.outputs)):
        if len(graph.outputs) > 1:
            yield _trimmed(_with(graph, outputs=(graph.outputs[i],)), arrays)
    values = eager_values(graph, arrays)
    for node in graph.nodes():
        inner = node.op.name != "input" and isinstance(node.type, TensorType)
        if inner and node.inputs and all(node is not r for r in graph.outputs):
            yield _trimmed(*_given(graph, arrays, node, np.asarray(values[id(node)])))


def _with(graph: Graph, **changes: Any) -> Graph:
    return Graph(graph.name, changes.get("inputs", graph.inputs), changes["outputs"])


def _given(
    graph: Graph, arrays: Sequence[Array], node: Node, value: Array
) -> tuple[Graph, list[Array]]:
    """The graph with `node` as one more input."""
    taken = {n.params["name"] for n in graph.inputs}
    name = next(f"v{i}" for i in range(len(taken) + 1) if f"v{i}" not in taken)
    fresh = OPS["input"](type=node.type, name=name)
    known = {id(n): n for n in graph.inputs} | {id(node): fresh}
    outputs = tuple(rebuild(graph.outputs, known))
    return _with(graph, inputs=(*graph.inputs, fresh), outputs=outputs), [*arrays, value]


def _trimmed(graph: Graph, arrays: Sequence[Array]) -> tuple[Graph, list[Array]]:
    """Without the inputs that no result depends on."""
    read = {id(n) for n in topological(graph.outputs)}
    kept = [(n, a) for n, a in zip(graph.inputs, arrays, strict=True) if id(n) in read]
    return _with(graph, inputs=tuple(n for n, _ in kept), outputs=graph.outputs), [
        a for _, a in kept
    ]
