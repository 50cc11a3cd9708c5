"""Loops whose number of rounds depends on data: graphs inside a graph, held as IR text.

Invariant: the text of a condition or body is a complete graph over the carried values and then the
constants, so a graph with loops prints and parses like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.op import NONDIFF, Op
from tracejit.ir.parse import parse
from tracejit.ir.types import TensorType, TupleType

Arrays = Sequence[np.ndarray]


@lru_cache(256)
def graph_of(text: str) -> Graph:
    """The graph that a parameter of a loop holds."""
    return parse(text)


RUN: list[Callable[[str, Arrays], Arrays]] = [
    lambda text, arrays: interpret(graph_of(text), arrays),
]
"""How the graphs are run: interpreted, until the runtime is loaded and compiles them."""


def _infer_while(
    types: Sequence[TensorType], *, condition: str, body: str, count: int
) -> TupleType:
    results = graph_of(body).outputs
    if len(results) != count or len(types) < count:
        raise TypeError(f"while_loop: carries {count} values, its body gives {len(results)}")
    return TupleType(tuple(n.type for n in results))


def _numpy_while(
    *arrays: np.ndarray, condition: str, body: str, count: int
) -> tuple[np.ndarray, ...]:
    carried, constants = list(arrays[:count]), arrays[count:]
    while bool(RUN[0](condition, [*carried, *constants])[0]):
        carried = list(RUN[0](body, [*carried, *constants]))
    return tuple(carried)


while_loop = Op(
    "while_loop", "library", _infer_while, _numpy_while,
    NONDIFF,  # the number of rounds is not known: eager.control refuses to record it with gradients
    "Carried values through `body` for as long as `condition` holds.", multiple=True,
)  # fmt: skip
