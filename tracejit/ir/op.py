"""What an op is: everything the compiler may ask of it, in one record.

Invariant: declaring is registering, and a record that lacks a needed field fails at import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracejit.ir.node import Node

KINDS = (
    "elementwise",
    "reduction",
    "movement",
    "contraction",
    "indexing",
    "scan",
    "random",
    "source",
    "structure",
    "library",
    "composite",
)

OPS: dict[str, Op] = {}

NONDIFF = None
"""The gradient rule of an op through which no gradient flows."""

UNKNOWN: Any = NotImplemented
"""What a gradient rule gives for an input by which its derivative is not known: asking raises."""


@dataclass(frozen=True, eq=False)
class Op:
    """One primitive.

    name      what the IR prints.
    kind      one of KINDS: all that fusion may ask.
    infer     type rule: ``infer(types, **params) -> type``; raises ShapeError or DTypeError.
    numpy     reference meaning: ``numpy(*arrays, **params) -> array`` or a tuple of arrays.
    vjp       gradient rule over nodes: ``vjp(g, y, *xs, **params) -> tuple`` (None: no gradient,
              UNKNOWN: asking for it raises), or NONDIFF. For an op with several results `g` is a
              tuple, zeros where unused.
    scalar    kernel text for one element, e.g. ``"m.exp({x})"``; a dict from dtype kinds
              (``"f"``, ``"iu"``, ``"b"``) to texts where they differ; a callable of params.
    cuda      overrides `scalar` on CUDA.
    decompose ``decompose(*xs, **params) -> node``: how the compiler spells a composite op (None:
              these operands need no other spelling).
    on_devices  as `decompose`, for devices, where they have no kernels for the op.
    exact     IEEE (or integer arithmetic) fixes the result, so NumPy's is ours too.
    sample    domain of generated tests: ``sample(rng) -> (list of arrays, params)``.
    multiple  the op has several results (its type is a TupleType).
    names     names of the inputs in kernel text; ("x",) when there is one.
    cost      rough cost of one element in additions, for recompute-or-save decisions.
    """

    name: str
    kind: str
    infer: Callable[..., Any]
    numpy: Callable[..., Any]
    vjp: Callable[..., Any] | None
    doc: str
    scalar: Any = None
    cuda: Any = None
    decompose: Callable[..., Any] | None = None
    on_devices: Callable[..., Any] | None = None
    exact: bool = False
    sample: Callable[..., Any] | None = None
    multiple: bool = False
    names: tuple[str, ...] = ("x",)
    cost: int = 1
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"op {self.name}: unknown kind {self.kind!r}")
        if self.name in OPS:
            raise ValueError(f"op {self.name} is declared twice")
        if not self.doc:
            raise ValueError(f"op {self.name} has no one-line doc")
        if self.kind == "elementwise" and self.scalar is None:
            raise ValueError(f"elementwise op {self.name} has no kernel text")
        OPS[self.name] = self

    def __call__(self, *inputs: Node, **params: Any) -> Node:
        """A node that applies this op; the type rule checks the inputs."""
        from_types = self.infer(tuple([x.type for x in inputs]), **params)
        return _classes[0](self, inputs, params, from_types)

    def scalar_text(self, dtype_kind: str, params: dict[str, Any], cuda: bool = False) -> str:
        """The kernel text for operands whose dtype is of `dtype_kind` ('f', 'i', 'u', 'b')."""
        text = self.cuda if cuda and self.cuda is not None else self.scalar
        if callable(text):
            text = text(**params)
        if isinstance(text, dict):
            for kinds, choice in text.items():
                if dtype_kind in kinds:
                    return str(choice)
            raise ValueError(f"op {self.name} has no kernel text for dtype kind {dtype_kind!r}")
        return str(text)

    def __repr__(self) -> str:
        return f"op {self.name}"


_classes: list[Any] = []
