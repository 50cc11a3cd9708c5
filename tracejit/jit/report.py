"""What a compiled function can tell about itself: IR, kernels, and the `Explanation`.

`CompiledFunction` delegates here. Invariant: asking changes nothing that a later call could see
(a backward program that was not needed yet is planned, which later calls then find).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from tracejit import config, dtypes
from tracejit.errors import Location
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.plan import HostStep, KernelStep, Plan
from tracejit.ir.sizes import hint_of
from tracejit.ir.types import TensorType
from tracejit.jit.explanation import Explanation
from tracejit.jit.naming import Describer
from tracejit.jit.tree import Segment
from tracejit.runtime import gemm

_ORDER = {"equal": 0, "array": 1, "keys": 2, "length": 3}
"""Guards that a user may have broken come first; identities come last."""


class CacheInfo(NamedTuple):
    """Counts of a compiled function: replays, captures that grew a trace or failed, traces kept."""

    hits: int
    misses: int
    traces: int


class Part(NamedTuple):
    """One straight program of a compiled function, and what it is part of."""

    title: str
    program: Any
    function: str


def parts(function: Any, backward: bool = False) -> list[Part]:
    """The programs of all traces, in order; those of gradients if `backward`."""
    found: list[Part] = []
    groups = [(s, g) for s in function.signatures.values() for g in s.groups]
    name = _identifier(getattr(function, "__name__", "graph"))
    for number, (_, group) in enumerate(groups):
        inputs = ", ".join(f"{n.params['name']}: {n.type}" for n in group.inputs.nodes[:4])
        trace = f"trace {number + 1} of {len(groups)} ({inputs})"
        for path, segment in _segments(group.tree.root):
            title = trace + (f", after {path}" if path else "")
            if not backward and segment.program is not None:
                found.append(Part(title, segment.program, name))
            differentiable = segment.leaf.finish.backward if segment.leaf is not None else None
            if backward and differentiable is not None and not differentiable.spent:
                found.append(Part(title, differentiable.program, f"{name}_backward"))
    return found


def _segments(segment: Segment, path: str = "") -> Iterator[tuple[str, Segment]]:
    """Every segment of a tree with the outcomes that lead to it."""
    yield path, segment
    for outcome, child in segment.children.items():
        step = f"{segment.kind}@{segment.location} = {outcome_text(outcome)}"
        yield from _segments(child, f"{path}, {step}" if path else step)


_SHOWN = 10  # positions, more than fit a line


def outcome_text(outcome: Any) -> str:
    """An outcome key of the tree, as Python would print the value."""
    if len(outcome) == 2 and isinstance(outcome[0], str) and isinstance(outcome[1], str):
        text = outcome[1]
    elif outcome and isinstance(outcome[0], bytes):  # int64 positions along each axis
        first = [memoryview(axis[: 8 * _SHOWN]).cast("q").tolist() for axis in outcome]
        text = f"{len(outcome[0]) // 8} at {', '.join(map(str, zip(*first, strict=True)))}"
    else:
        text = f"[{', '.join(map(outcome_text, outcome))}]"
    return text if len(text) <= 40 else text[:37] + "..."


def _identifier(name: str) -> str:
    clean = "".join(c if c.isalnum() or c == "_" else "_" for c in name).strip("_")
    return clean or "graph"


# --- text of the IR ------------------------------------------------------------------------------


def ir(function: Any, stage: str = "captured", backward: bool = False) -> str:
    """The IR of every trace at `stage`; see `CompiledFunction.ir`."""
    found = parts(function, backward)
    if not found:
        raise RuntimeError(_why_nothing(function, backward))
    texts = [(p.title, "\n\n".join(_stage_texts(p, stage))) for p in found]
    if len(texts) == 1:
        return texts[0][1]
    return "\n\n".join(f"# {title}\n{text}" for title, text in texts)


def _stage_texts(part: Part, stage: str) -> list[str]:
    stages = part.program.stages
    if stage != "all" and stage not in stages:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(stages)} and all")
    chosen = stages.items() if stage == "all" else [(stage, stages[stage])]
    return [str(named(value, part.function)) for _, value in chosen]


def named(value: Graph | Plan, name: str) -> Graph | Plan:
    """A graph or plan under another name, for printing."""
    if isinstance(value, Plan):
        return replace(value, graph=replace(value.graph, name=name))
    return replace(value, name=name)


def _why_nothing(function: Any, backward: bool) -> str:
    name = function.__qualname__
    if function.eager_reason is not None:
        return f"{name} has no IR: it runs eagerly, because it {function.eager_reason}"
    if backward and function.signatures:
        return f"{name} has no backward graph: no trace of it returns what requires grad"
    if function.misses:
        return f"{name} has no IR yet: {function.misses[-1].reason}"
    return f"{name} has no IR yet: call it first"


def kernels(function: Any) -> list[Any]:
    """The kernels of all traces and of those gradients that have run, each once."""
    found: dict[int, Any] = {}
    for part in parts(function):
        found.update((id(k), k) for k in part.program.kernels)
    for segment in _all_segments(function):
        backward = segment.leaf.finish.backward if segment.leaf is not None else None
        for program in backward.built if backward is not None else ():
            found.update((id(k), k) for k in program.kernels)
    return list(found.values())


def _all_segments(function: Any) -> Iterator[Segment]:
    for signature in function.signatures.values():
        for group in signature.groups:
            for _, segment in _segments(group.tree.root):
                yield segment


def say_miss(function: Any) -> None:
    """One line about the latest miss, for ``config.debug``."""
    miss = function.misses[-1]
    time = f" ({miss.milliseconds:.1f} ms)" if config.debug >= 2 else ""
    print(f"tracejit: capture {function.__qualname__}: {miss.reason}{time}", file=sys.stderr)


def cache_info(function: Any) -> CacheInfo:
    """Replays, captures and traces of a compiled function."""
    groups = [g for s in function.signatures.values() for g in s.groups]
    traces = sum(g.tree.leaves for g in groups)
    return CacheInfo(sum(g.hits for g in groups), function.captures, traces)


# --- explain -------------------------------------------------------------------------------------


def explain(function: Any) -> Explanation:
    """Everything that is known about a compiled function, as one object."""
    code = getattr(function.function, "__code__", None)
    place = Location(None, fixed=(code.co_filename, code.co_firstlineno)) if code else None
    groups = [(s, g) for s in function.signatures.values() for g in s.groups]
    return Explanation({
        "function": function.__qualname__,
        "place": None if place is None else str(place),
        "eager_reason": function.eager_reason,
        "traces": [_trace(s, g) for s, g in groups],
        "misses": [{"reason": m.reason, "ms": round(m.milliseconds, 2)} for m in function.misses],
        "gemm": _gemm_provider(function),
    })  # fmt: skip


def _trace(signature: Any, group: Any) -> dict[str, Any]:
    words = Describer(group.readset, signature.names)
    read = {id(t.source) for t in group.inputs.tensors}
    guards = [
        words.entry(e)
        for e in sorted(group.readset.entries, key=lambda e: _ORDER.get(e.kind, len(_ORDER)))
        if e.kind != "module tensor" and id(e.source) not in read
    ]
    return {
        "inputs": [words.input(t) for t in group.inputs.tensors],
        "scalars": [
            words.number(label.rpartition("#")[0], read) or node.params["name"]
            for label, (read, node) in zip(
                group.inputs.scalar_keys, group.inputs.scalars, strict=True
            )
        ],
        "modes": {"grad": group.modes["grad"], "default_dtype": str(group.modes["default_dtype"])},
        "guards": list(dict.fromkeys(guards)),
        "size_facts": list(group.facts),
        "hits": group.hits,
        "generated_calls": len(group.fast),
        "tree": _tree(group.tree.root),
    }


def _tree(segment: Segment) -> dict[str, Any]:
    found: dict[str, Any] = {"program": _program(segment.program)}
    if segment.leaf is not None:
        backward = segment.leaf.finish.backward
        found["hits"] = segment.hits
        found["effects"] = len(segment.leaf.effects)
        found["backward"] = _program(backward.built[0]) if backward and backward.built else None
        return found
    found["branch"] = {"kind": segment.kind, "place": _full(segment.location)}
    found["outcomes"] = [
        {"outcome": outcome_text(key), **_tree(child)} for key, child in segment.children.items()
    ]
    return found


def _full(location: Location | None) -> str:
    return "" if location is None else f"{location}  {location.source}".strip()


def _program(program: Any) -> dict[str, Any] | None:
    if program is None:
        return None
    variants: dict[int, list[Any]] = {}
    for kernel in program.kernels:
        variants.setdefault(id(kernel.step), []).append(kernel)
    steps = [_step(s, variants.get(id(s), [])) for s in program.plan.steps]
    return {"steps": steps, "why_not": list(dict.fromkeys(program.why_not)),
            "device": program.on_device()}  # fmt: skip


def _step(step: KernelStep | HostStep, made: list[Any]) -> dict[str, Any]:
    moved = sum(map(_bytes, (*step.reads, *step.stores)))
    if isinstance(step, HostStep):
        return {"name": step.name, "shape": "call", "nodes": [step.node.op.name], "bytes": moved,
                "stores": [str(n.type) for n in step.stores]}  # fmt: skip
    return {
        "name": step.name,
        "shape": step.shape,
        "nodes": [n.op.name for n in step.body],
        "bytes": moved,
        "stores": [str(n.type) for n in step.stores],
        "compiled": [
            {"ms": round(k.compiled.compile_ms, 2), "from_cache": k.compiled.from_cache}
            for k in made
            if k.compiled is not None
        ],
    }


def _bytes(node: Node) -> int:
    """Bytes of a value; for sizes that vary, those of the captured call."""
    items = (node.type,) if isinstance(node.type, TensorType) else node.type.items
    return sum(hint_of(kind.size) * kind.dtype.numpy.itemsize for kind in items)


def _gemm_provider(function: Any) -> str | None:
    """Who multiplies this function's matrices, or None if it multiplies none."""
    for part in parts(function):
        for step in part.program.plan.steps:
            is_product = isinstance(step, HostStep) and step.node.op.name == "matmul"
            if is_product and step.node.dtype in (dtypes.float32, dtypes.float64):
                return gemm.provider(step.node.dtype.numpy).name
    return None
