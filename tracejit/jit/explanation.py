"""The answer of ``fn.explain()``: plain data, printed as text, JSON or HTML.

Invariant: the three forms show the same data; what is too long for the text is in the JSON.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

_MOST_LINES = 12
"""Lines of one list in the text form."""


class Explanation:
    """What a compiled function has become: traces, guards, branches, misses, fusion.

    ``str(e)`` is text for people, ``e.json()`` the same for programs, ``e.data`` the plain dicts.

    Example: ``print(fn.explain())``.
    """

    def __init__(self, data: dict[str, Any]):
        self.data = data

    def __str__(self) -> str:
        return "\n".join(_text(self.data))

    def __repr__(self) -> str:
        return str(self)

    def json(self) -> str:
        """The data as JSON text."""
        return json.dumps(self.data, indent=1)

    def _repr_html_(self) -> str:
        """For notebooks: the text, with one foldable block per trace."""
        head = "\n".join(_head(self.data))
        blocks = [
            f"<details open><summary>trace {i + 1}: {html.escape(_summary(t))}</summary>"
            f"<pre>{html.escape(chr(10).join(_trace(t)))}</pre></details>"
            for i, t in enumerate(self.data["traces"])
        ]
        tail = html.escape("\n".join(_misses(self.data)))
        return f"<div><pre>{html.escape(head)}</pre>{''.join(blocks)}<pre>{tail}</pre></div>"


def _text(data: dict[str, Any]) -> Iterator[str]:
    yield from _head(data)
    for number, trace in enumerate(data["traces"]):
        yield f"trace {number + 1}: {_summary(trace)}"
        yield from (f"  {line}" for line in _trace(trace))
    yield from _misses(data)


def _head(data: dict[str, Any]) -> Iterator[str]:
    place = f" ({data['place']})" if data["place"] else ""
    count = len(data["traces"])
    yield f"{data['function']}{place}: {_count(count, 'trace')}"
    if data["eager_reason"]:
        yield f"runs eagerly: {data['eager_reason']}"
    if data["gemm"]:
        yield f"matrix products by: {data['gemm']}"


def _summary(trace: dict[str, Any]) -> str:
    return f"{', '.join(trace['inputs'][:3])}{', ...' if len(trace['inputs']) > 3 else ''}"


def _limited(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield f"{title}:"
    yield from (f"  {line}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"  ... and {len(lines) - _MOST_LINES} more (see .json())"


def _trace(trace: dict[str, Any]) -> Iterator[str]:
    mode = "on" if trace["modes"]["grad"] else "off"
    default = trace["modes"]["default_dtype"]
    yield f"replays: {trace['hits']}; gradients {mode}, {default}"
    yield from _limited("inputs", trace["inputs"])
    yield from _limited("numbers read at every call", trace["scalars"])
    yield from _limited("guards", trace["guards"])
    yield from _limited("size facts", trace["size_facts"])
    yield from _tree(trace["tree"])


def _tree(node: dict[str, Any]) -> Iterator[str]:
    yield from _program("program", node["program"])
    if "branch" not in node:
        yield (f"result: {_count(node['hits'], 'replay')}, "
               f"{_count(node['effects'], 'write')} to inputs")  # fmt: skip
        yield from _program("backward program", node["backward"])
        return
    yield f"branch on {node['branch']['kind']} at {node['branch']['place']}"
    for child in node["outcomes"]:
        yield f"  {child['outcome']}:"
        yield from (f"    {line}" for line in _tree(child))


def _program(title: str, program: dict[str, Any] | None) -> Iterator[str]:
    if program is None:
        return
    kernels = [s for s in program["steps"] if s["shape"] != "call"]
    calls = len(program["steps"]) - len(kernels)
    moved = sum(s["bytes"] for s in program["steps"])
    yield (f"{title}: {_count(len(kernels), 'kernel')}, {_count(calls, 'library call')}, "
           f"{_amount(moved)} moved")  # fmt: skip
    for number, step in enumerate(program["steps"]):
        yield f"  {number}: {_step(step)}"
    yield from _limited("  on the device", program["device"])
    yield from _limited("  not fused because", program["why_not"])


def _step(step: dict[str, Any]) -> str:
    result = ", ".join(step["stores"])
    if step["shape"] == "call":
        return f"call {step['name']} -> {result}, {_amount(step['bytes'])}"
    made = "; ".join(
        "from disk" if k["from_cache"] else f"compiled in {k['ms']:.0f} ms"
        for k in step["compiled"]
    )
    ops = _count(len(step["nodes"]), "op")
    return (f"{step['shape']} kernel {step['name']} ({ops}) -> {result}, "
            f"{_amount(step['bytes'])}{', ' + made if made else ''}")  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _amount(count: int) -> str:
    """Bytes for people."""
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _misses(data: dict[str, Any]) -> Iterator[str]:
    lines = [f"{m['ms']:9.2f} ms  {m['reason']}" for m in data["misses"]]
    total = sum(m["ms"] for m in data["misses"])
    yield from _limited(f"misses ({total:.0f} ms in all)", lines)
