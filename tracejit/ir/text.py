"""The IR as text: short, deterministic, typed, with the user's file:line. `parse` reads it back.

Grammar in docs/ir.md. Invariant: printing what was parsed gives the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.dtypes import DType
from tracejit.ir.node import Node, topological
from tracejit.ir.sizes import SymInt, size_source
from tracejit.ir.types import Device, TensorType

if TYPE_CHECKING:
    from tracejit.ir.graph import Graph


def print_value(value: Any) -> str:
    """A parameter's value as IR text."""
    kind = type(value)
    if kind is int or kind is bool:
        return str(value)
    if kind is float:
        return repr(value)
    if isinstance(value, DType):
        return value.short
    if type(value) is SymInt:
        return size_source(value)
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    if isinstance(value, tuple):
        inside = ",".join(map(print_value, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, np.ndarray):
        return print_value(_nested(value.tolist()))
    if isinstance(value, str):  # one line of ASCII, always in single quotes
        return "'" + value.encode("unicode_escape").decode().replace("'", "\\'") + "'"
    if value is None:
        return "None"
    if isinstance(value, (TensorType, Device)):
        return str(value)
    raise TypeError(f"a parameter of type {type(value).__name__} has no IR text")


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


def print_params(params: dict[str, Any]) -> str:
    """`` {axes=(0,1), keepdims=False}`` with sorted names, or '' if there are none."""
    if not params:
        return ""
    inside = ", ".join(f"{k}={print_value(v)}" for k, v in sorted(params.items()))
    return f" {{{inside}}}"


class Namer:
    """Names nodes by print order: ``%0``, ``%1``...; inputs by their own names."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.count = 0

    def __call__(self, node: Node) -> str:
        found = self.names.get(id(node))
        if found is None:
            if node.op.name == "input":
                found = f"%{node.params['name']}"
            else:
                found = f"%{self.count}"
                self.count += 1
            self.names[id(node)] = found
        return found


def print_node(node: Node, name: Namer) -> tuple[str, str]:
    """The text of one node and the comment with the user's line."""
    arguments = ", ".join(name(x) for x in node.inputs)
    params = {k: v for k, v in node.params.items() if k != "type"}
    text = f"{name(node)} = {node.op.name}({arguments}){print_params(params)}"
    return text, str(node.type)


def print_graph(graph: Graph, mark: Node | None = None, around: int | None = None) -> str:
    """The graph as text. `mark` flags one node; `around` keeps only that many lines about it."""
    name = Namer()
    inputs = ", ".join(_print_input(n) for n in graph.inputs)
    lines = [f"# {graph.notes}"] if graph.notes else []
    symbols = _symbols(graph)
    if symbols:
        lines.append(f"# symbols {', '.join(f'{k}={v}' for k, v in symbols.items())}")
    results = print_types([n.type for n in graph.outputs])
    lines.append(f"graph {graph.name}({inputs}) -> {results} {{")
    for node in graph.inputs:
        name(node)
    body = [(*print_node(n, name), n) for n in graph.nodes()]
    width = min(max((len(text) for text, _, _ in body), default=0), 48)
    last: str | None = None
    rows: list[str] = []
    marked = 0
    for text, kind, node in body:
        row = f"  {text:{width}s} : {kind}"
        place = str(node.loc) if node.loc is not None else None
        if place is not None and place != last:
            assert node.loc is not None
            row = f"{row:{width + 20}s} # {place}  {node.loc.source}".rstrip()
            last = place
        if node is mark:
            marked = len(rows)
            row = "> " + row[2:]
        rows.append(row)
    if around is not None:
        rows = rows[max(0, marked - around) : marked + around + 1]
    lines += rows
    for condition, message in graph.checks:
        lines.append(f"  check {name(condition)} {message!r}")
    for target, value in graph.effects:
        lines.append(f"  write {name(target)} <- {name(value)}")
    lines.append(f"  return {', '.join(name(n) for n in graph.outputs)}".rstrip())
    lines.append("}")
    return "\n".join(lines)


def print_types(types: Sequence[Any]) -> str:
    """``f32[]`` for one type, ``(f32[], i64[3])`` for several."""
    return str(types[0]) if len(types) == 1 else f"({', '.join(map(str, types))})"


def _print_input(node: Node) -> str:
    role = node.params.get("role")
    return f"%{node.params['name']}: {node.type}" + (f" @{role}" if role else "")


def _symbols(graph: Graph) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in topological((*graph.inputs, *graph.results)):
        items = node.type.items if hasattr(node.type, "items") else (node.type,)
        for item in items:
            for size in item.shape:
                if type(size) is SymInt:
                    found.update(size.env.hints)
    return dict(sorted(found.items()))
