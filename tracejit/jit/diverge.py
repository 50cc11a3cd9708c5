"""Where a compiled call begins to differ from eager code, and a test file that shows it.

Invariant: the file that is written needs the graph's text and the values of its inputs only; no
name or string of the user's reaches it unquoted.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.eager.execute import execute
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import at_sizes
from tracejit.ir.node import Node
from tracejit.ir.types import TensorType
from tracejit.jit.group import Group, leave
from tracejit.jit.observe import Tolerance
from tracejit.jit.tree import outcome_key
from tracejit.runtime.target import build
from tracejit.tensor import Tensor

if TYPE_CHECKING:
    from tracejit.jit.check import Snapshot
    from tracejit.jit.compile import CompiledFunction


class Call:
    """One replay: its trace tree and what its inputs were."""

    def __init__(
        self, group: Group, before: Snapshot, tensors: Sequence[Tensor], numbers: Sequence[Any],
        sizes: dict[str, int],
    ):  # fmt: skip
        data = {id(t): copy for t, _, copy, _ in before.tensors}
        self.group = group
        self.sizes = sizes
        inputs = group.inputs
        self.values: dict[int, Any] = {
            id(n): data[id(t)] for n, t in zip(inputs.nodes, tensors, strict=False)
        }
        for (_, node), number in zip(inputs.scalars, numbers, strict=True):
            self.values[id(node)] = np.asarray(number, node.dtype.numpy)


class Divergence:
    """The first node whose compiled value is not the eager one."""

    def __init__(self, node: Node, eager: Any, compiled: Any, graph: Graph, arrays: Sequence[Any]):
        self.node = node
        self.eager = eager
        self.compiled = compiled
        self.graph = graph
        self.arrays = list(arrays)


def report(function: CompiledFunction, call: Call, difference: str, tolerance: Tolerance) -> str:
    """What to tell about a compiled call that differs from eager; writes a reproducer file."""
    name = function.__qualname__
    lines = [f"{name}: the compiled call differs from eager: {difference}"]
    found = _in_tree(call, tolerance)
    if found is None:
        lines += _other_trace(function, call)
        return "\n".join(lines)
    node = found.node
    place = int(np.argmax(~tolerance.near(found.eager, found.compiled)))
    lines.append(
        f"  first node that differs: {node.op.name} -> {node.type}, element {place}: eager "
        f"{found.eager.reshape(-1)[place]!r}, compiled {found.compiled.reshape(-1)[place]!r}"
    )
    if node.loc is not None:
        lines.append(f"  at {node.loc.full()}")
    path = write_reproducer(found, name)
    lines.append(f"  reproducer: {path}; python -m tracejit run {path}, or minimize in its place")
    return "\n".join(lines)


def _other_trace(function: CompiledFunction, call: Call) -> list[str]:
    """All programs do what their graphs say: it is the trace that does not fit the call."""
    return [
        "  every node of the trace gives what eager gives: the function depends on something that "
        "the guards do not see; compile(audit=True) compares two traces of it",
        f"  the trace was: {call.group.tree.leaves} paths; print(fn.explain()) shows its guards",
    ]


# --- bisecting -----------------------------------------------------------------------------------


def _in_tree(call: Call, tolerance: Tolerance) -> Divergence | None:
    """Follow the call's path through the tree by eager values."""
    segment = call.group.tree.root
    values = dict(call.values)
    while True:
        if segment.graph is None:
            return None
        arrays = [values[id(key) if kind == "input" else key] for kind, key in segment.reads]
        graph = concrete(segment.graph, call.sizes)
        found = first_difference(graph, arrays, tolerance)
        if found is not None or segment.leaf is not None:
            return found
        results = [eager_values(graph, arrays)[id(n)] for n in graph.outputs]
        count = len(results) - len(segment.carries)
        values.update(zip(segment.carries, results[count:], strict=True))
        following = segment.children.get(outcome_key(leave(results[0], segment.kind)))
        if following is None:
            return None
        segment = following


def concrete(graph: Graph, sizes: dict[str, int]) -> Graph:
    """The graph with numbers in the place of symbolic sizes."""
    made: dict[int, Node] = {}
    for node in (*graph.inputs, *graph.nodes()):
        if id(node) in made:
            continue
        params = {k: at_sizes(v, sizes) for k, v in node.params.items()}
        fresh = node.op(*(made[id(x)] for x in node.inputs), **params)
        fresh.loc = node.loc
        made[id(node)] = fresh
    effects = tuple((made[id(t)], made[id(v)]) for t, v in graph.effects)
    return Graph(graph.name, tuple(made[id(n)] for n in graph.inputs),
                 tuple(made[id(n)] for n in graph.outputs), effects)  # fmt: skip


def eager_values(graph: Graph, arrays: Sequence[Any]) -> dict[int, Any]:
    """What each node gives when ops run one at a time, as eager code does."""
    values: dict[int, Any] = {id(n): np.array(a) for n, a in zip(graph.inputs, arrays, strict=True)}
    with np.errstate(all="ignore"):
        for node in graph.nodes():
            if id(node) not in values:
                inputs = [values[id(x)] for x in node.inputs]
                values[id(node)] = execute(node.op, inputs, node.params)
    return values


def compiled_values(graph: Graph, arrays: Sequence[Any], nodes: Sequence[Node]) -> list[Any]:
    """What `nodes` give in one compiled program; raises CompileError."""
    program = build(Graph(graph.name, graph.inputs, tuple(nodes)))
    return list(program.run([np.array(a) for a in arrays]))


def first_difference(
    graph: Graph, arrays: Sequence[Any], tolerance: Tolerance
) -> Divergence | None:
    """The first node in order whose compiled value differs, or None.

    First with all values stored by one program; if that hides the fault, because it changes what
    is fused, by halving the graph at the first result that differs.
    """
    wanted = eager_values(graph, arrays)
    nodes = [n for n in graph.nodes() if n.op.name != "input" and isinstance(n.type, TensorType)]

    def differing(stored: Sequence[Node]) -> Divergence | None:
        for node, got in zip(stored, compiled_values(graph, arrays, stored), strict=True):
            eager = np.asarray(wanted[id(node)])
            if not tolerance.fits(eager, np.asarray(got)):
                cut = Graph(graph.name, graph.inputs, tuple(stored))
                return Divergence(node, eager, np.asarray(got), cut, arrays)
        return None

    if not nodes:
        return None
    found = differing(nodes)
    if found is not None:
        alone = differing([found.node])
        return alone or found
    roots = [n for n in graph.results if n.op.name != "input" and isinstance(n.type, TensorType)]
    bad = next((r for r in roots if differing([r]) is not None), None)
    if bad is None:
        return differing(roots) if roots else None
    low, high = 0, next(i for i, n in enumerate(nodes) if n is bad)
    while low < high:
        middle = (low + high) // 2
        if differing([nodes[middle]]) is None:
            low = middle + 1
        else:
            high = middle
    return differing([nodes[high]])


# --- traces --------------------------------------------------------------------------------------


def trace_text(function: CompiledFunction) -> str:
    """All that a capture found: the IR of each segment, branches, guards on sizes."""
    if function.eager_reason is not None:
        return f"runs eagerly: {function.eager_reason}"
    if not function.signatures:
        return "\n".join(m.reason for m in function.misses)
    return function.ir()


def first_line(first: str, second: str) -> str | None:
    """The first line that differs between two texts, as ``one | other``; None if they agree."""
    if first == second:
        return None
    gone, come = "", ""
    for line in difflib.ndiff(first.splitlines(), second.splitlines()):
        if line.startswith("- ") and not gone:
            gone = line[2:].strip()
        elif line.startswith("+ ") and not come:
            come = line[2:].strip()
        if gone and come:
            break
    return f"{gone or 'nothing'} | {come or 'nothing'}"


# --- the reproducer ------------------------------------------------------------------------------

_FILE = '''\
"""tracejit reproducer: a compiled graph that does not give what eager code gives.

Run it with pytest, or: python -m tracejit run FILE; python -m tracejit minimize FILE
"""

from tracejit.testing.reproduce import array, check_graph

GRAPH = (
{graph}
)
INPUTS = [
{inputs}
]


def test_compiled_equals_eager() -> None:
    check_graph(GRAPH, INPUTS, ulps={ulps!r}, atol={atol!r})
'''


def reproducer(graph: Graph, arrays: Sequence[Any], ulps: float = 0.0, atol: float = 0.0) -> str:
    """The text of a test file for a graph and the values of its inputs."""
    text = "".join(f"    {line + chr(10)!r}\n" for line in _without_lines(graph).splitlines())
    inputs = "".join(f"    {_array_text(np.asarray(a))},\n" for a in arrays)
    return _FILE.format(graph=text.rstrip("\n"), inputs=inputs.rstrip("\n"), ulps=ulps, atol=atol)


def write_reproducer(found: Divergence, name: str) -> str:
    """Write the test file for a divergence into the current folder; its name."""
    text = reproducer(found.graph, found.arrays)
    mark = hashlib.sha256((name + text).encode()).hexdigest()[:8]
    path = f"tracejit_repro_{mark}.py"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return os.path.join(".", path)


def _without_lines(graph: Graph) -> str:
    """The text of a graph without the user's source lines."""
    return str(concrete_copy(graph))


def concrete_copy(graph: Graph) -> Graph:
    """A copy of a concrete graph whose nodes know no source lines."""
    copied = concrete(graph, {})
    for node in copied.nodes():
        node.loc = None
    return copied


def _array_text(array: np.ndarray[Any, Any]) -> str:
    packed = base64.b85encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode()
    return f"array({array.dtype.str!r}, {array.shape!r}, {packed!r})"


def unpack(dtype: str, shape: tuple[int, ...], packed: str) -> np.ndarray[Any, Any]:
    """The array that a test file holds."""
    data = zlib.decompress(base64.b85decode(packed))
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()
