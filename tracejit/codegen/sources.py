"""The source of a kernel variant, for the compiler and (with the user's lines) for people.

Invariant: the annotated source differs from the compiled one in comments alone.
"""

from __future__ import annotations

from typing import Any

from tracejit import config
from tracejit.codegen.cpu import Emitter, MapEmitter, Variant
from tracejit.codegen.cpu_reduce import ColumnEmitter, FullEmitter, RowEmitter
from tracejit.codegen.cpu_tile import TileEmitter
from tracejit.codegen.loops import LoopProgram, Value
from tracejit.codegen.scalars import literal
from tracejit.transforms.cse import params_key

_EMITTERS: dict[str, type[Emitter]] = {
    "map": MapEmitter,
    "tile": TileEmitter,
    "row": RowEmitter,
    "column": ColumnEmitter,
    "full": FullEmitter,
}

_MAX_WRITTEN = 4096
_written: dict[Any, tuple[str, tuple[int, ...]]] = {}  # sources, and the numbers of kept values


def emitter(program: LoopProgram, variant: Variant, annotate: bool = False) -> Emitter:
    """The emitter of a variant; ask it for `source()`."""
    return _EMITTERS[variant.shape](program, variant, annotate)


def kernel_source(program: LoopProgram, variant: Variant) -> str:
    """The source that is compiled: no comments, so that equal kernels are compiled once."""
    return written(program, variant)[0]


def written(program: LoopProgram, variant: Variant) -> tuple[str, tuple[Value, ...]]:
    """`kernel_source`, and the row values that it needs scratch memory for.

    Equal programs are written once: a net's layers and an optimizer's parameters make the same few
    over and over. With `config.check` every one is, and compared.
    """
    key = (program_key(program), variant)
    found = _written.get(key)
    if found is None or config.check >= 1:
        made = emitter(program, variant)
        text = made.source()
        scratch = made.plan.scratch if isinstance(made, RowEmitter) else ()
        fresh = (text, tuple(v.number for v in scratch))
        assert found in (None, fresh), "program_key lacks something that the source depends on"
        if len(_written) >= _MAX_WRITTEN:
            _written.clear()
        found = _written[key] = fresh
    return found[0], tuple(program.values[number] for number in found[1])


def program_key(program: LoopProgram) -> tuple[Any, ...]:
    """Equal keys mean equal sources: all of a program that an emitter reads, and nothing else."""
    values = tuple([
        (v.kind, v.dtype.short, tuple([a.number for a in v.args]), v.slot, v.loop, _detail(v))
        for v in program.values
    ])  # fmt: skip
    stores = tuple([(s.value.number, s.level, s.node.dtype.short) for s in program.stores])
    return values, stores


def _detail(value: Value) -> Any:
    """What the text of a value depends on besides its place."""
    node = value.node
    if value.kind == "op":
        return node.op.name, node.inputs[-1].dtype.short, params_key(node.params)
    if value.kind == "const":
        return literal(node.params["value"], value.dtype)
    if value.kind == "load":
        return any(view.op.name == "broadcast_to" for view in value.views)
    return node.op.name if value.kind in ("random", "reduce") else None


def annotated_source(program: LoopProgram, variant: Variant) -> str:
    """The source with types and the user's lines."""
    step = program.step
    title = f"# {step.name}: {variant.shape} kernel, rank {variant.rank}, access {variant.classes}"
    return f"{title}\n{emitter(program, variant, True).source()}"
