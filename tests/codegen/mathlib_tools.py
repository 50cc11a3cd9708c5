"""Tools of the math library's tests: one-expression kernels, errors in ulp, hard points.

Invariant: what is tested is the code that the project's own compiler makes.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import mpmath as mp
import numpy as np

from tracejit.codegen.compiler import CompiledKernel, compile_kernel
from tracejit.codegen.language import STORAGE, kernel_namespace
from tracejit.codegen.mathlib.core import NUMPY_TYPE

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -2.5, 2.0, 3.0, -7.0, 1e-40, -1e-310, 5e-324,
           2.0**-126, 2.0**-1022, 3.4e38, 1.7e308, -1e30, 1e18, np.inf, -np.inf, np.nan
           ]  # fmt: skip


def source(expression: str, kinds: tuple[str, ...], out: str) -> str:
    """Kernel text that stores `expression` over a, b, c loaded from arrays of `kinds`."""
    names = "abc"[: len(kinds)]
    lines = ["def kernel(t, lo, hi):"]
    lines += [f"    p{n} = ptr_{k}(word(t, {i}))" for i, (n, k) in enumerate(zip(names, kinds))]
    lines += [f"    out = ptr_{out}(word(t, {len(kinds)}))", "    for i in range(lo, hi):"]
    lines += [f"        {n} = load_{k}(p{n}, i)" for n, k in zip(names, kinds)]
    return "\n".join([*lines, f"        store_{out}(out, i, {expression})", ""])


@cache
def kernel(expression: str, kinds: tuple[str, ...], out: str) -> CompiledKernel:
    """The compiled one-expression kernel."""
    return compile_kernel("expression", source(expression, kinds, out))


def _table(operands: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.array([x.ctypes.data for x in operands], np.uintp)


def _operands(kinds: tuple[str, ...], out: str, arrays: tuple[Any, ...]) -> list[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        loaded = [np.ascontiguousarray(x, STORAGE[k][1]) for x, k in zip(arrays, kinds)]
    return [*loaded, np.zeros(loaded[0].shape, STORAGE[out][1])]


def run(expression: str, kinds: tuple[str, ...], out: str, *arrays: Any) -> np.ndarray[Any, Any]:
    """Evaluate the compiled kernel over arrays (flat, of one length)."""
    operands = _operands(kinds, out, arrays)
    function = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_int64, ctypes.c_int64)
    function(kernel(expression, kinds, out).address)(
        _table(operands).ctypes.data, 0, operands[0].size
    )
    return operands[-1]


def run_python(
    expression: str, kinds: tuple[str, ...], out: str, *arrays: Any
) -> np.ndarray[Any, Any]:
    """Evaluate the same kernel source as plain Python on the same kind of table."""
    operands = _operands(kinds, out, arrays)
    namespace = kernel_namespace()
    exec(source(expression, kinds, out), namespace)
    with np.errstate(all="ignore"):
        namespace["kernel"](_table(operands).ctypes.data, 0, operands[0].size)
    return operands[-1]


def values(kind: str, count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Random bit patterns of `kind`, then ordinary numbers, then the special ones."""
    rng, dtype = np.random.default_rng(seed), NUMPY_TYPE[kind]
    width = dtype.itemsize * 8
    patterns = rng.integers(0, 2**width, count, dtype=f"u{dtype.itemsize}").view(dtype)
    if kind[0] == "f":
        plain = rng.standard_normal(count) * 10
        with np.errstate(over="ignore", invalid="ignore"):
            return np.concatenate([patterns, plain.astype(dtype), np.array(SPECIAL, dtype)])
    info = np.iinfo(dtype)
    edges = [0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1]
    edges += [-1, -2, -3] if info.min else []
    small = rng.integers(max(info.min, -9), 9, count)
    return np.concatenate([patterns, small.astype(dtype), np.array(edges, dtype)])


def same(x: Any, y: Any) -> np.ndarray[Any, Any]:
    """Elementwise: equal with equal sign bits, or both NaN."""
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind != "f":
        return np.asarray(x == y)
    return ((x == y) & (np.signbit(x) == np.signbit(y))) | (np.isnan(x) & np.isnan(y))


def error_in_ulp(got: Any, exact: Any, kind: str) -> float:
    """|got - exact| in units of the last place of `exact` in `kind`; overflow must give inf."""
    info = np.finfo(NUMPY_TYPE[kind])
    limit = mp.mpf(float(info.max))
    if mp.isinf(exact) or abs(exact) > limit * (1 + mp.mpf(2) ** -info.nmant):
        return 0.0 if np.isinf(got) and (got > 0) == (exact > 0) else np.inf
    if not np.isfinite(got):
        return 0.5 if np.isinf(got) and abs(exact) > limit else np.inf
    exponent = max(info.minexp, mp.frexp(exact)[1] - 1) if exact else info.minexp
    return float(abs(mp.mpf(float(got)) - exact) / mp.mpf(2) ** (int(exponent) - info.nmant))
