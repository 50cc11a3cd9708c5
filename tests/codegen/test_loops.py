"""Generated kernel source: runs as plain Python, holds no size, is deterministic and readable."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tracejit import dtypes, ops  # noqa: F401  (registers the ops)
from tracejit.codegen.cpu import Variant, table_layout
from tracejit.codegen.language import kernel_namespace
from tracejit.codegen.loops import LoopProgram, build_program
from tracejit.codegen.scalars import literal
from tracejit.codegen.sources import annotated_source, kernel_source
from tracejit.dtypes import DType
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.ops.reduction import expand_reduced
from tracejit.transforms import fuse, pipeline


def inp(name: str, shape: tuple[int, ...], dtype: DType = dtypes.float32) -> Node:
    return OPS["input"](name=name, type=TensorType(dtype, shape))


def program_of(inputs: tuple[Node, ...], *outputs: Node) -> tuple[LoopProgram, Graph]:
    graph = Graph("g", inputs, outputs)
    (step,) = fuse.run(pipeline.run(graph)).kernels
    return build_program(step), graph


def run_in_python(
    program: LoopProgram, variant: Variant, sizes: list[int], operands: list[Any], units: int,
    extras: tuple[int, ...] = (),
) -> None:  # fmt: skip
    """Run a variant un-jitted; `operands` are (array, strides) of loads, then stores."""
    layout = table_layout(program, variant.rank)
    table = np.zeros(layout.length, np.int64)
    table[: variant.rank] = sizes
    for k, (array, strides) in enumerate(operands):
        table[layout.pointer(k)] = array.ctypes.data
        table[layout.pointer(k) + 1 : layout.pointer(k) + 1 + variant.rank] = strides
    for i, extra in enumerate(extras):
        table[layout.extra(i)] = extra
    namespace = kernel_namespace()
    exec(kernel_source(program, variant), namespace)  # generated text
    with np.errstate(all="ignore"):
        namespace["kernel"](table.ctypes.data, 0, units)


def test_map_source_runs_as_python() -> None:
    x = inp("x", (3, 4))
    program, graph = program_of((x,), OPS["tanh"](x) * 2.0 + x)
    array = np.random.default_rng(0).standard_normal((3, 4)).astype("f4")
    out = np.zeros((3, 4), "f4")
    run_in_python(program, Variant("map", 1, "uu"), [12], [(array, [1]), (out, [1])], 12)
    np.testing.assert_allclose(out, interpret(graph, [array])[0], rtol=1e-6)
    turned = np.ascontiguousarray(array.T)
    out[:] = 0
    operands = [(turned, [1, 3]), (out, [4, 1])]
    run_in_python(program, Variant("map", 2, "su"), [3, 4], operands, 12)
    np.testing.assert_allclose(out, interpret(graph, [array])[0], rtol=1e-6)


def test_row_source_runs_as_python() -> None:
    x = inp("x", (3, 70))
    program, graph = program_of((x,), OPS["softmax"](x, axis=1))
    array = np.random.default_rng(0).standard_normal((3, 70)).astype("f4")
    out = np.zeros((3, 70), "f4")
    operands = [(array, [70, 1]), (out, [70, 1])]
    run_in_python(program, Variant("row", 2, "uu"), [3, 70], operands, 3)
    np.testing.assert_allclose(out, interpret(graph, [array])[0], rtol=1e-5)
    source = kernel_source(program, Variant("row", 2, "uu"))
    assert source.count("m.exp(") == 2  # in whole blocks of lanes and in the last, not again later


@pytest.mark.parametrize("blocks, block", [(1, 4096), (3, 64)])
def test_full_source_runs_as_python(blocks: int, block: int) -> None:
    x = inp("x", (150,))
    program, _ = program_of((x,), OPS["reduce_max"](OPS["abs"](x), axes=(0,)))
    array = np.random.default_rng(0).standard_normal(150).astype("f4")
    out = np.zeros(blocks, "f4")
    operands = [(array, [1]), (out, [0])]
    run_in_python(program, Variant("full", 1, "ub"), [150], operands, blocks, (block, 150))
    assert out.max() == np.abs(array).max()


def test_column_source_runs_as_python() -> None:
    x = inp("x", (130, 5), dtypes.int32)
    program, _ = program_of((x,), OPS["reduce_sum"](x * x, axes=(0,)))
    array = np.random.default_rng(0).integers(-9, 9, (130, 5)).astype("i4")
    out = np.zeros((2, 5), "i4")
    operands = [(array, [0, 5, 1]), (out, [0, 0, 1])]
    run_in_python(program, Variant("column", 3, "uu"), [1, 130, 5], operands, 4, (3,))
    np.testing.assert_array_equal(out.sum(0), (array * array).sum(0))


def test_halves_round_and_small_integers_wrap_after_every_op() -> None:
    x = inp("x", (4,), dtypes.float16)
    program, _ = program_of((x,), x * x - x)
    source = kernel_source(program, Variant("map", 1, "uu"))
    assert source.count("round_f16(") == 2
    n = inp("n", (4,), dtypes.int8)
    program, _ = program_of((n,), n * n + n)
    assert kernel_source(program, Variant("map", 1, "uu")).count("to_i8(") == 2


def test_source_holds_no_sizes_and_no_comments() -> None:
    sources = set()
    for rows, columns in ((17, 33), (5, 7)):
        x, w = inp("x", (rows, columns)), inp("w", (columns,))
        y = x * OPS["broadcast_to"](w, shape=(rows, columns))
        y = y - expand_reduced(OPS["reduce_max"](y, axes=(1,)), y, (1,))
        program, _ = program_of((x, w), y)
        sources.add(kernel_source(program, Variant("row", 2, "uuu")))
    (source,) = sources
    assert not re.search(r"\b(17|33)\b", source)
    assert "#" not in source


def test_annotated_source_differs_in_comments_alone() -> None:
    x = inp("x", (3, 4))
    program, _ = program_of((x,), OPS["exp"](x))
    variant = Variant("map", 1, "uu")
    stripped = re.sub(r" *# .*", "", annotated_source(program, variant))
    assert [s for s in stripped.splitlines() if s] == kernel_source(program, variant).splitlines()


@pytest.mark.parametrize("value, dtype, text", [
    (0.1, dtypes.float32, "np.float32(0.1)"), (-0.0, dtypes.float32, "np.float32(-0.0)"),
    (float("-inf"), dtypes.float64, "np.float64(-np.inf)"),
    (float("nan"), dtypes.float16, "np.float32(np.nan)"),
    (300, dtypes.uint8, "np.uint8(44)"), (1, dtypes.bool_, "True"),
    (2**62, dtypes.int64, "np.int64(4611686018427387904)"),
])  # fmt: skip
def test_literals(value: Any, dtype: DType, text: str) -> None:
    assert literal(value, dtype) == text
