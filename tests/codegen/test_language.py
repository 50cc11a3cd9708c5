"""The kernel language: loads, stores, casts and bits mean the same compiled and as plain Python."""

from __future__ import annotations

import ctypes
import doctest
import subprocess
import sys

import numpy as np
import pytest
from mathlib_tools import kernel, run, run_python, same, source, values

from tracejit.codegen import language, mathlib
from tracejit.codegen.compiler import compile_kernel
from tracejit.codegen.language import STORAGE, call_kernel, kernel_namespace
from tracejit.codegen.mathlib.core import NUMPY_TYPE
from tracejit.errors import CompileError

CASTS = ["f64", "f32", "i64", "i32", "i16", "i8", "u8", "b1"]


def _stored(storage: str) -> np.ndarray:
    kind = {"f16": "f32", "b1": "u8"}.get(storage, storage)
    x = values(kind, 40)
    return x > 0 if storage == "b1" else x


@pytest.mark.parametrize("storage", STORAGE)
def test_load_then_store_keeps_every_element(storage: str) -> None:
    x = _stored(storage)
    with np.errstate(all="ignore"):
        x = x.astype(STORAGE[storage][1])
    for evaluate in (run, run_python):
        assert same(evaluate("a", (storage,), storage, x), x).all()


def test_store_f16_rounds_to_nearest_even_at_every_half() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([halves, middles, np.nextafter(middles, 0), np.nextafter(middles, 9e9),
                        [65519.99, 65520.0, 1e30, np.inf, np.nan]]).astype(np.float32)  # fmt: skip
    x = np.concatenate([x, -x])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    assert same(run("a", ("f32",), "f16", x), expected).all()
    assert same(run("round_f16(a)", ("f32",), "f32", x), expected.astype(np.float32)).all()


def test_f64_is_rounded_to_f16_once() -> None:
    """Just beside a middle between two halves: rounding to float32 first would give the middle."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middles = (halves[:-1] + halves[1:]) / 2
    beside = np.nextafter(middles, 0), np.nextafter(middles, 9e9)
    special = [65519.99999999, 65520.0, 2.0**-25, 5e-324]
    x = np.concatenate([halves, middles, *beside, values("f64", 500), special])
    x = np.concatenate([x, -x])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
        twice = x.astype(np.float32).astype(np.float16)
    assert same(run("round_f16(a)", ("f64",), "f32", x), expected).all()
    assert (expected != twice).sum() > 10_000


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("kind", CASTS)
def test_casts_truncate_and_wrap_as_numpy(kind: str, target: str) -> None:
    x = values("u8", 30).astype(bool) if kind == "b1" else values(kind, 30)
    expression = f"to_{target}(a)"
    got = run(expression, (kind,), target, x)
    assert same(got, run_python(expression, (kind,), target, x)).all()
    inside = np.ones(x.shape, bool)
    if kind[0] == "f" and target[0] in "iu":  # beyond, C leaves the result open
        wide = NUMPY_TYPE[target if target in ("i64", "i32") else "i32"]
        bound = 2.0 ** (8 * wide.itemsize - 1)
        inside = (x >= -bound) & (x < bound)
        lowest = np.array(np.iinfo(wide).min, wide).astype(NUMPY_TYPE[target])
        assert (got[~inside] == lowest).all()
    with np.errstate(all="ignore"):
        expected = x[inside].astype(wide) if not inside.all() else x
        assert same(got[inside], expected.astype(NUMPY_TYPE[target])).all()


@pytest.mark.parametrize(("expression", "kinds", "out"), [
    ("bits_f32(a)", ("f32",), "i32"), ("bits_f64(a)", ("f64",), "i64"),
    ("f32_from_bits(a)", ("i32",), "f32"), ("f64_from_bits(a)", ("i64",), "f64"),
    ("fma32(a, b, c)", ("f32",) * 3, "f32"), ("fma64(a, b, c)", ("f64",) * 3, "f64"),
    ("select(a, b, c)", ("b1", "f32", "f32"), "f32"),
    ("select(a < b, a, b)", ("i16", "i16"), "i16"),
])  # fmt: skip
def test_primitives_agree_with_plain_python(
    expression: str, kinds: tuple[str, ...], out: str
) -> None:
    arrays = [values("u8" if k == "b1" else k, 200, seed) for seed, k in enumerate(kinds)]
    length = min(len(a) for a in arrays)
    arrays = [a[:length] > 0 if k == "b1" else a[:length] for a, k in zip(arrays, kinds)]
    assert same(run(expression, kinds, out, *arrays),
                run_python(expression, kinds, out, *arrays)).all()  # fmt: skip


def test_fma_rounds_once() -> None:
    one = 1 + 2.0**-23
    got = run("fma32(a, a, b)", ("f32", "f32"), "f32", [one], [-(1 + 2.0**-22)])
    assert got[0] == 2.0**-46
    one = 1 + 2.0**-52
    got = run("fma64(a, a, b)", ("f64", "f64"), "f64", [one], [-(1 + 2.0**-51)])
    assert got[0] == 2.0**-104


def test_words_of_the_table() -> None:
    text = """def kernel(t, lo, hi):
    out = ptr_f64(word(t, 0))
    store_f64(out, word(t, 1), fword(t, 2))
"""
    compiled = compile_kernel("words", text)
    for as_python in (False, True):
        out = np.zeros(4)
        table = np.array([out.ctypes.data, 3, np.float64(-2.5).view(np.int64)], np.int64)
        if as_python:
            exec(text, namespace := kernel_namespace())
            namespace["kernel"](table.ctypes.data, 0, 1)
        else:
            call_kernel(compiled.address, table.ctypes.data, 0, 1)
        assert out.tolist() == [0, 0, 0, -2.5]


def test_a_kernel_calls_a_kernel_on_its_part_of_the_range() -> None:
    text = """def kernel(t, lo, hi):
    call_kernel(word(t, 0), word(t, 1), lo, hi)
"""
    x, y = np.arange(8.0), np.zeros(8)
    inner = np.array([x.ctypes.data, y.ctypes.data], np.uintp)
    address = kernel("a + a", ("f64",), "f64").address
    outer = np.array([address, inner.ctypes.data], np.uintp)
    call_kernel(compile_kernel("outer", text).address, outer.ctypes.data, 2, 5)
    assert y.tolist() == [0, 0, 4, 6, 8, 0, 0, 0]


@pytest.mark.parametrize("storage", ["f64", "f32", "f16", "i32", "u8"])
def test_loads_and_stores_vectorise(storage: str) -> None:
    expression = "m.maximum(a, a + a)" if storage[0] == "f" else "select(a > b, a, b)"
    kinds = (storage,) if storage[0] == "f" else (storage, storage)
    asm = kernel(expression, kinds, storage).asm
    assert "ymm" in asm or "zmm" in asm or "xmm" in asm
    assert any(line.split()[0].endswith(("ps", "pd", "b", "d")) and "mm" in line
               for line in asm.splitlines() if line.startswith("\tv")), asm  # fmt: skip
    assert "call" not in asm


def test_storing_a_float_as_an_integer_needs_a_cast() -> None:
    with pytest.raises(CompileError):
        compile_kernel("wrong", source("a", ("f32",), "i32"))


def test_namespaces_are_fresh_and_hold_no_builtins_but_range() -> None:
    first, second = kernel_namespace(), kernel_namespace()
    first["word"] = None
    assert second["word"] is not None
    assert set(second["__builtins__"]) == {"range"}


def test_pointer_reads_and_writes_the_memory_itself() -> None:
    x = np.zeros(3, np.int16)
    namespace = kernel_namespace()
    pointer = namespace["ptr_i16"](x.ctypes.data)
    namespace["store_i16"](pointer, 1, np.int64(70000))
    assert x.tolist() == [0, 70000 - 65536, 0]
    assert namespace["load_i16"](pointer, 1) == x[1]
    assert ctypes.c_int16.from_address(x.ctypes.data + 2).value == x[1]


def test_import_of_tracejit_leaves_numba_alone() -> None:
    code = "import sys, tracejit; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_examples_in_the_documentation_run() -> None:
    for module in (language, mathlib):
        outcome = doctest.testmod(module)
        assert outcome.attempted > 0 and outcome.failed == 0
