"""The source of a kernel variant, for the compiler and (with the user's lines) for people.

Invariant: the annotated source differs from the compiled one in comments alone.
"""

from __future__ import annotations

from tracejit.codegen.cpu import Emitter, MapEmitter, Variant
from tracejit.codegen.cpu_reduce import ColumnEmitter, FullEmitter, RowEmitter
from tracejit.codegen.cpu_tile import TileEmitter
from tracejit.codegen.loops import LoopProgram

_EMITTERS: dict[str, type[Emitter]] = {
    "map": MapEmitter,
    "tile": TileEmitter,
    "row": RowEmitter,
    "column": ColumnEmitter,
    "full": FullEmitter,
}


def emitter(program: LoopProgram, variant: Variant, annotate: bool = False) -> Emitter:
    """The emitter of a variant; ask it for `source()`."""
    return _EMITTERS[variant.shape](program, variant, annotate)


def kernel_source(program: LoopProgram, variant: Variant) -> str:
    """The source that is compiled: no comments, so that equal kernels are compiled once."""
    return emitter(program, variant).source()


def annotated_source(program: LoopProgram, variant: Variant) -> str:
    """The source with types and the user's lines."""
    step = program.step
    title = f"# {step.name}: {variant.shape} kernel, rank {variant.rank}, access {variant.classes}"
    return f"{title}\n{emitter(program, variant, True).source()}"
