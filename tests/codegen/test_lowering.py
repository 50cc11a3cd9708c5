"""Kernels lowered from their syntax tree: control flow, numbers, refusals, and Numba's own answer.

Invariant: a kernel that compiles does what the same source does as Python.
"""

from __future__ import annotations

import numpy as np
import pytest

from tracejit.codegen.compiler import compile_kernel
from tracejit.codegen.language import call_kernel, kernel_namespace
from tracejit.errors import CompileError

LOOPS = {
    "carried": """
    total = 0
    weight = 1
    for i in range(lo, hi):
        total += load_i64(x, i) * weight
        weight = weight + 2
    store_i64(out, 0, total + weight)
""",
    "nested": """
    total = 0
    for i in range(lo, hi):
        row = 0
        for j in range(i):
            row = row + load_i64(x, j)
            total = total + row
    store_i64(out, 0, total)
    store_i64(out, 1, i_last(hi))
""".replace("i_last(hi)", "hi - 1"),
    "branches": """
    most = -5
    where = -1
    for i in range(lo, hi):
        if load_i64(x, i) > most:
            most = load_i64(x, i)
            where = i
        else:
            if where == 2:
                where = 2 + 0
    store_i64(out, 0, most)
    store_i64(out, 1, where)
""",
    "steps": """
    total = 0
    for i in range(lo, hi, 3):
        total = total * 10 + i
    store_i64(out, 0, total)
    for i in range(hi, lo):
        store_i64(out, 1, 99)
""",
    "rebound": """
    value = load_i64(x, 1)
    value, other = to_f64(value) / 4.0, value
    value, other = value + to_f64(other), value
    store_i64(out, 0, to_i64(value * 100.0))
    store_i64(out, 1, select(-1 < 0, 7 // -2, 7 % -2))
""",
}
X = np.array([3, -7, 50, 4, 4, 9, 1, 2], np.int64)


def source(body: str) -> str:
    head = "def kernel(t, lo, hi):\n    x = ptr_i64(word(t, 0))\n    out = ptr_i64(word(t, 1))"
    return head + body


def outcome(call, *bounds: int) -> list[int]:
    out = np.zeros(2, np.int64)
    table = np.array([X.ctypes.data, out.ctypes.data], np.int64)
    call(table.ctypes.data, *bounds)
    return out.tolist()


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("bounds", [(0, 8), (2, 7), (3, 3)])
def test_control_flow_is_pythons(name, bounds) -> None:
    text = source(LOOPS[name])
    exec(text, namespace := kernel_namespace())
    kernel = compile_kernel(name, text)
    compiled = outcome(lambda *a: call_kernel(kernel.address, *a), *bounds)
    assert compiled == outcome(namespace["kernel"], *bounds)


def test_the_same_source_is_a_numba_function_with_the_same_bits() -> None:
    import numba

    text = """def kernel(t, lo, hi):
    x = ptr_f32(word(t, 0))
    out = ptr_f32(word(t, 1))
    total = np.float32(0.0)
    for i in range(lo, hi):
        value = m.tanh(load_f32(x, i) * np.float32(1.5))
        if value > np.float32(0.0):
            total = total + value
        store_f32(out, i, value)
    store_f32(out, 0, total)
"""
    exec(text, namespace := kernel_namespace())
    function = numba.njit("void(uintp, int64, int64)", error_model="numpy")(namespace["kernel"])
    kernel = compile_kernel("both", text)
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    found = []
    for call in (function, lambda *a: call_kernel(kernel.address, *a)):
        out = np.zeros_like(x)
        call(np.array([x.ctypes.data, out.ctypes.data], np.int64).ctypes.data, 1, 101)
        found.append(out)
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("\n    a = 1\n    for i in range(hi):\n        a = 0.5\n", "a is int64 before the loop"),
        ("\n    a = 1\n    if lo < hi:\n        a = 0.5\n", "a has two types"),
        ("\n    for i in range(hi):\n        a = i\n    store_i64(out, 0, a)\n", "no name a"),
        ("\n    while lo < hi:\n        pass\n", "line 4: a kernel cannot hold"),
        ("\n    store_i64(out, 0, v=1)\n", "line 4: a kernel cannot hold"),
        ("\n    store_i64(out, 0, load_f32(x, 0))\n", "load_f32.* has no meaning"),
        ("\n    for i in range(hi, lo, -1):\n        pass\n", "line 4: a kernel cannot hold"),
        ("\n    for i in range(lo, hi, lo):\n        pass\n", "line 4: a kernel cannot hold"),
        ("\n    i = 5\n    for i in range(hi):\n        pass\n    a = i\n", "no name i"),
        ("\n    a = [1]\n", "line 4: a kernel cannot hold"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(body, says) -> None:
    with pytest.raises(CompileError, match=says):
        compile_kernel("refused", source(body))
