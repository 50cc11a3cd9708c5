"""Traces run by the interpreter on NumPy, in the place of kernels (``--interpret``).

What capture, gradients and passes make of a function is judged without the time that kernels take
to compile, so every op can be measured; the kernels have their own kinds of checks. Invariant: the
reference meaning of each op is all that runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tracejit.eager.execute
import tracejit.runtime.executable as executables
import tracejit.runtime.single as single
from tracejit.errors import CheckFailed
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret

_RUN_OP = """
def run_op(op, arrays, params, *rest):
    with numpy.errstate(all="ignore"):
        result = op.numpy(*arrays, **params)
    several = isinstance(result, tuple)
    return tuple(map(numpy.asarray, result)) if several else numpy.asarray(result)
"""


class InterpretedFrame:
    """What an executable asks of a frame, answered by the interpreter."""

    straight = None
    makers = ()
    launches = ()
    arena_bytes = 0

    def __init__(self, graph: Graph):
        self.graph = graph

    def call(self, arrays: Sequence[Any]) -> list[Any]:
        """Outputs; effects are written when the checks hold."""
        graph = self.graph
        given = [a if np.ndim(a) else np.asarray(a, n.dtype.numpy)
                 for a, n in zip(arrays, graph.inputs, strict=True)]  # fmt: skip
        results = [np.array(r) for r in interpret(graph, given)]
        first, second = len(graph.outputs), len(graph.outputs) + len(graph.effects)
        for holds, (_, message) in zip(results[second:], graph.checks, strict=True):
            if not holds:
                raise CheckFailed(message)
        place = {id(node): i for i, node in enumerate(graph.inputs)}
        for (target, _), value in zip(graph.effects, results[first:second], strict=True):
            arrays[place[id(target)]][...] = value
        return results[:first]


def install() -> None:
    """From now on no kernel is compiled; a library of this process, not of others."""
    path = tracejit.eager.execute.__file__  # a capture takes the code for the library's own
    scope: dict[str, Any] = {"numpy": np, "__name__": "tracejit.eager.execute"}
    exec(compile(_RUN_OP, path, "exec"), scope)
    tracejit.eager.execute.run_op = single.run_op = scope["run_op"]
    executables.Executable.frame = (  # type: ignore[method-assign,assignment]
        lambda self, arrays, in_place: InterpretedFrame(self.graph)
    )
