"""Compiled math functions give the bits of their NumPy twins, and the hot ones vectorise."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from mathlib_tools import kernel, run, same, values

from tracejit.codegen import mathlib
from tracejit.codegen.mathlib.core import NUMPY_TYPE
from tracejit.codegen.mathlib.define import FUNCTIONS

KINDS = ["f32", "f64", "i32", "u8"]  # other widths: test_mathlib_integer
PACKED = re.compile(r"\tv(fn?madd|mul|add|div|sqrt|max|round|rndscale)\w*p[sd]\t.*%[yz]mm")


def _natural(name: str, kind: str) -> bool:
    """Whether the function takes operands of `kind` as they are."""
    kinds = (kind,) * len(inspect.signature(FUNCTIONS[name].body).parameters)
    outcome = FUNCTIONS[name].rule(kinds)
    return outcome is not None and outcome[0] == kinds


CASES = [(name, kind) for name in mathlib.__all__ if name in FUNCTIONS for kind in KINDS
         if _natural(name, kind)]  # fmt: skip


def _case(name: str, kind: str, count: int) -> tuple[tuple[str, ...], str, list[np.ndarray]]:
    function = FUNCTIONS[name]
    kinds = (kind,) * len(inspect.signature(function.body).parameters)
    operand_kinds, result = function.rule(kinds)
    return operand_kinds, result, [values(k, count, seed) for seed, k in enumerate(operand_kinds)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_compiled_equals_twin_bit_for_bit(name: str, kind: str) -> None:
    """f64 twins do exact rational arithmetic for each fused multiply-add, hence fewer points."""
    kinds, result, arrays = _case(name, kind, 4 if kind == "f64" else 100)
    letters = ", ".join("abc"[: len(kinds)])
    got = run(f"m.{name}({letters})", kinds, result, *arrays)
    assert got.dtype == NUMPY_TYPE[result]
    twin = getattr(mathlib, name)(*arrays)
    assert same(got, twin).all(), [(*(a[i] for a in arrays), got[i], twin[i])
                                   for i in np.flatnonzero(~same(got, twin))[:3]]  # fmt: skip


@pytest.mark.parametrize("name", ["exp", "tanh", "erf", "sin", "sigmoid", "log1p"])
def test_vector_body_and_scalar_rest_give_the_same_bits(name: str) -> None:
    x = values("f32", 500)
    whole = run(f"m.{name}(a)", ("f32",), "f32", x)
    singly = np.concatenate([run(f"m.{name}(a)", ("f32",), "f32", x[i : i + 1])
                             for i in range(len(x))])  # fmt: skip
    assert same(whole, singly).all()


@pytest.mark.parametrize("name", [
    "exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "rsqrt",
    "sqrt", "sinh", "cosh", "atan", "erfc", "maximum", "floor", "round",
])  # fmt: skip
def test_hot_functions_are_packed_code_without_calls(name: str) -> None:
    count = len(inspect.signature(FUNCTIONS[name].body).parameters)
    asm = kernel(f"m.{name}({', '.join('ab'[:count])})", ("f32",) * count, "f32").asm
    assert "call" not in asm
    assert PACKED.search(asm)


@pytest.mark.parametrize("name", ["exp", "log", "sin", "pow", "tanh"])
def test_double_precision_vectorises_too(name: str) -> None:
    count = len(inspect.signature(FUNCTIONS[name].body).parameters)
    asm = kernel(f"m.{name}({', '.join('ab'[:count])})", ("f64",) * count, "f64").asm
    assert "call" not in asm
    assert PACKED.search(asm)


def test_gelu_is_one_packed_loop() -> None:
    text = "np.float32(0.5) * a * (np.float32(1) + m.tanh(np.float32(0.8) * (a + a * a * a)))"
    asm = kernel(text, ("f32",), "f32").asm
    assert "call" not in asm
    assert "vdivss" not in asm and "vdivps" not in asm  # a polynomial reciprocal
    assert "213ps\t%ymm" in asm or "213ps\t%zmm" in asm


def test_twins_take_numbers_scalars_and_arrays() -> None:
    assert mathlib.exp(0) == 1 and mathlib.exp(0).dtype == np.float64
    assert mathlib.exp(np.float32(0)).dtype == np.float32
    assert mathlib.exp(np.zeros((2, 3), np.float32)).shape == (2, 3)
    assert mathlib.maximum(np.int8(3), np.int8(5)).dtype == np.int8
    with pytest.raises(TypeError):
        mathlib.gcd(1.5, 2.0)


def test_a_math_function_cannot_branch_on_a_value() -> None:
    from llvmlite import ir

    from tracejit.codegen.mathlib.core import Value

    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [ir.FloatType()]), "f")
    x = Value(ir.IRBuilder(function.append_basic_block()), function.args[0], "f32")
    with pytest.raises(TypeError, match="select"):
        bool(x < 1.0)
    with pytest.raises(TypeError, match="mixed kinds"):
        x + Value(x.builder, ir.Constant(ir.DoubleType(), 1.0), "f64")
