"""Whether a program gives the same plain, compiled, and with its IR interpreted.

All that shows is compared: values, dtypes, shapes, gradients, sharing, errors, random state.
Invariant: where only pointwise work, views and indexing took part, the bits must be the same. A
tolerance is used in three places. `CLOSE`: traces that add up floats (`SUMS`), which fusion may do
in another order, and `.grad`, to which the uses of a value contribute in the order of the tape,
which a compiled call shortens. `WIDE`: if such a program is not even close (cancellation), it
runs again in float64, and the difference must all but vanish. `INTERPRETED`: compiled graphs
against NumPy's own exp, sin, sums; those that add up get the same second chance.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import tracejit
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import at_sizes, interpret, sizes_met
from tracejit.ir.types import TensorType
from tracejit.jit.check import CLOSE, SUMS, adds_up, graphs, interpreted_gradient, segments
from tracejit.jit.compile import CompiledFunction
from tracejit.jit.observe import EXACT, Observer, Tolerance, compare_logs, equal_bits
from tracejit.testing.programs import load

WIDE = Tolerance(ulps=2**20, atol=1e-8)
"""For the same programs in float64, if they were further apart: what is left of rounding."""

INTERPRETED = {"f2": (2e-2, 2e-2), "f4": (2e-4, 2e-5), "f8": (1e-8, 1e-9)}
"""Relative and absolute tolerance of compiled graphs against NumPy's own exp, sin, sums..., by
the narrowest dtype in the graph. Graphs of exact ops only must have NumPy's bits."""

_ANY_ORDER = ("reduce_max", "reduce_min", "reduce_any", "reduce_all", "argmax", "argmin", "sort",
              "topk")  # fmt: skip


class Failure:
    """How the runs of a program differ. `kind` is what a smaller program must show as well."""

    def __init__(self, kind: str, text: str):
        self.kind = kind
        self.text = text


class Outcome:
    """What became of one program.

    failure   how the runs differ, or None.
    way       'same bits'; 'close' or 'close in float64', where sums were ordered otherwise.
    compiled  the compiled function, for what it has to tell.
    """

    def __init__(self, failure: Failure | None, way: str, compiled: CompiledFunction):
        self.failure = failure
        self.way = way
        self.compiled = compiled


def observe(source: str, compile: Callable[[Any], Any]) -> Observer:
    """Run a program's text once; what it showed, an error at the end included."""
    tracejit.manual_seed(77)
    module = load(source)
    observer = Observer(strides="order")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            for value in module.run(compile(module.f)):
                observer.see(value)
        except Exception as error:  # any error of the program is one of its results
            observer.see(("raised", type(error).__name__, str(error).partition("\n")[0]))
        observer.see((tracejit.default_generator.key, tracejit.default_generator.offset))
        observer.finish()
    return observer


def check(source: str) -> Outcome:
    """Compare the plain and the compiled run of a program, then the compiled graphs with the
    interpreter. That a kernel could not be made is a failure too, though eager results are right.
    """
    plain, compiled, function = _both(source)
    found = compare_logs(plain.log, compiled.log)
    way = "same bits"
    sums = found is not None and any(map(adds_up, graphs(function)))
    if found is not None and (sums or ".grad: element" in found):
        found = compare_logs(plain.log, compiled.log, CLOSE)
        way = "close"
        if found is not None and _agrees_in_float64(source):
            found, way = None, "close in float64"
    if found is not None:
        return Outcome(Failure(_kind(found), found), way, function)
    reason = function.eager_reason
    if reason is not None and reason.startswith("code generation failed"):
        return Outcome(Failure("compile", reason), way, function)
    if (reason := interpreted_gradient(function)) is not None:
        return Outcome(Failure("compile", reason), way, function)
    text = interpreted(function)
    sums = text is not None and any(map(adds_up, graphs(function)))
    if sums and _interpreted_in_float64(source):
        text, way = None, "close in float64"
    return Outcome(None if text is None else Failure("interpreter", text), way, function)


def _both(source: str) -> tuple[Observer, Observer, CompiledFunction]:
    made: list[CompiledFunction] = []

    def compile(function: Any) -> Any:
        made.append(tracejit.compile(function))
        return made[0]

    plain = observe(source, lambda function: function)
    return plain, observe(source, compile), made[0]


def _kind(found: str) -> str:
    """The sort of a difference: errors by the names of both results, so that a smaller program
    does not fail for a reason of its own.
    """
    errors = re.findall(r"[A-Z]\w*Error", found)
    if errors:
        return "error " + " ".join(dict.fromkeys(errors))
    if "requires_grad" in found or "is_leaf" in found or ".grad" in found:
        return "gradient"
    return "value"


# --- tolerance -----------------------------------------------------------------------------------


def _agrees_in_float64(source: str) -> bool:
    """Whether a difference is rounding: it must all but vanish when the floats are wide."""
    plain, compiled, _ = _in_float64(source)
    return compare_logs(plain.log, compiled.log, WIDE) is None


def _interpreted_in_float64(source: str) -> bool:
    """The same of a difference from the interpreter: `INTERPRETED` asks 1e-8 of wide floats."""
    return interpreted(_in_float64(source)[2]) is None


def _in_float64(source: str) -> tuple[Observer, Observer, CompiledFunction]:
    before = tracejit.get_default_dtype()
    tracejit.set_default_dtype(tracejit.float64)
    try:
        return _both(widened(source))
    finally:
        tracejit.set_default_dtype(before)


def widened(source: str) -> str:
    """A program's text with float64 in the place of the narrower floats."""
    return re.sub(r"\bfloat(16|32)\b", "float64", source).replace(".float()", ".double()")


# --- the interpreter -----------------------------------------------------------------------------


def interpreted(function: CompiledFunction) -> str | None:
    """Run every program of every trace on random inputs, against the interpreter of the IR."""
    rng = np.random.default_rng(0)
    if function.eager_reason is not None:
        return None
    groups = [g for s in function.signatures.values() for g in s.groups]
    for segment in (s for g in groups for s in segments(g)):
        if segment.program is None:
            continue
        found = compare_graph(segment.graph, segment.program, rng)
        if found is not None:
            return found
    return None


def compare_graph(graph: Graph, program: Any, rng: np.random.Generator) -> str | None:
    """How a compiled graph differs from the interpreted one on random inputs; None if not."""
    sizes = sizes_met(graph)
    arrays = [_random_array(rng, at_sizes(node.type, sizes)) for node in graph.inputs]
    try:
        with np.errstate(all="ignore"):
            wanted = interpret(graph, [a.copy() for a in arrays])
    except (IndexError, ValueError, ZeroDivisionError, RuntimeError):
        return None  # random indices need not be in range
    try:
        outputs = program.run(arrays)
    except tracejit.errors.CheckFailed:
        return None
    except (tracejit.errors.CompileError, RuntimeError) as error:
        return f"{error} in\n{graph}"
    place = {id(n): i for i, n in enumerate(graph.inputs)}
    got = [*outputs[: len(graph.outputs)], *(arrays[place[id(t)]] for t, _ in graph.effects)]
    near = _tolerance(graph)
    for i, (w, g) in enumerate(zip(wanted, got)):
        if not _agree(w, np.asarray(g), near):
            return f"output {i} of\n{graph}\ninterpreted {w!r}\ncompiled {g!r}"
    return None


def _tolerance(graph: Graph) -> tuple[float, float] | None:
    """None if all ops are exact, else the tolerance for the narrowest dtype that occurs."""
    nodes = graph.nodes()
    if all(map(_is_exact, nodes)):
        return None
    kinds = [k for n in nodes for k in (n.type.items if n.op.multiple else (n.type,))]
    names = [k.dtype.numpy.str[1:] for k in kinds if k.dtype.kind == "f"]
    return INTERPRETED[min(names, default="f8")]


def _is_exact(node: Any) -> bool:
    kind, name = node.op.kind, node.op.name
    if name in SUMS or name == "random_normal" or (kind == "library" and not node.op.exact):
        return False
    if kind in ("elementwise", "composite"):
        return bool(node.op.exact)
    return kind != "reduction" or name in _ANY_ORDER


def _agree(wanted: np.ndarray, got: np.ndarray, near: tuple[float, float] | None) -> bool:
    if wanted.dtype != got.dtype or wanted.shape != got.shape:
        return False
    if near is None:
        return EXACT.fits(wanted, got)
    if wanted.dtype.kind != "f":
        return True  # a comparison of inexact floats may go either way
    same = equal_bits(wanted, got) | np.isclose(
        got.reshape(-1), wanted.reshape(-1), *near, equal_nan=True
    )
    return bool(same.mean() > 0.98) if same.size else True


def _random_array(rng: np.random.Generator, kind: TensorType) -> np.ndarray:
    if kind.dtype.kind == "f":
        return np.asarray(rng.uniform(-1, 1, kind.shape)).astype(kind.dtype.numpy)
    if kind.dtype.kind == "b":
        return np.asarray(rng.random(kind.shape) < 0.5)
    return np.asarray(rng.integers(0, 2, kind.shape)).astype(kind.dtype.numpy)
