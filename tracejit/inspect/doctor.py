"""`tracejit doctor`: what this installation runs on, and whether it works.

Invariant: every line is looked up now; nothing is remembered from an earlier run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import time
from typing import TextIO

import numpy as np

import tracejit
from tracejit import config
from tracejit.codegen import objects
from tracejit.codegen.cache import disk_cache
from tracejit.eager.factories import tensor
from tracejit.errors import CompileError
from tracejit.jit.compile import compile
from tracejit.runtime import gemm, gemm_libraries

_PACKAGES = ("numpy", "numba", "llvmlite", "onednn-cpu-gomp", "numba-cuda", "torch", "jax")
_VECTORS = (
    ("avx512f", "AVX-512, 16 floats"), ("avx2", "AVX2, 8 floats"), ("avx", "AVX, 8 floats"),
    ("neon", "NEON, 4 floats"), ("sse2", "SSE2, 4 floats"),
)  # fmt: skip


def main(out: TextIO) -> int:
    """Print the report; 0 if a kernel compiles and is right, 1 if not."""
    for name, text in facts():
        print(f"{name:16s} {text}", file=out)
    works, text = check_kernel()
    print(f"{'a kernel':16s} {text}", file=out)
    return 0 if works else 1


def facts() -> list[tuple[str, str]]:
    """Name and value of everything worth knowing."""
    name, features = objects.cpu()
    found = [
        ("tracejit", tracejit.__version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
    ]
    found += [(package, _version(package)) for package in _PACKAGES]
    found += [
        ("processor", f"{name}, {_vectors(features)}"),
        ("threads", f"{config.threads} (TRACEJIT_THREADS)"),
        ("matrix products", _products()),
        ("CUDA", _cuda()),
        ("kernel cache", _cache()),
    ]
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _vectors(features: str) -> str:
    present = {f[1:] for f in features.split(",") if f.startswith("+")}
    return next((text for name, text in _VECTORS if name in present), "no known vector unit")


def _products() -> str:
    chosen = ", ".join(
        f"{dtype} by {gemm.provider(np.dtype(dtype)).name}" for dtype in ("float32", "float64")
    )
    single = np.dtype(np.float32)
    there = [n for n in ("openblas", "onednn") if gemm_libraries.find(n, single) is not None]
    return f"{chosen}; also here: {', '.join(there) or 'none'} (TRACEJIT_GEMM)"


def _cuda() -> str:
    if importlib.util.find_spec("numba_cuda") is None:
        return 'not installed (pip install "tracejit[cuda]")'
    return f"numba-cuda {_version('numba-cuda')}"


def _cache() -> str:
    cache = disk_cache()
    if cache is None:
        return "off (TRACEJIT_CACHE=0)"
    entries = cache.entries()
    size = sum(size for _, size, _ in entries)
    return f"{len(entries)} kernels, {size / 1e6:.1f} MB in {cache.folder}"


def check_kernel() -> tuple[bool, str]:
    """Compile one fused kernel and hold its result against float64."""
    x = tensor(np.linspace(-3.0, 3.0, 1001, dtype=np.float32))
    f = compile(lambda x: (x * x + 1.0).log() * x.sin())
    started = time.perf_counter()
    try:
        f(x)
        found = f(x).numpy().astype(np.float64)
    except CompileError as fault:
        return False, f"FAILED: {fault}"
    spent = (time.perf_counter() - started) * 1e3
    exact = x.numpy().astype(np.float64)
    wanted = np.log(exact * exact + 1.0) * np.sin(exact)
    error = float(np.max(np.abs(found - wanted)))
    if not error <= 1e-5:
        return False, f"FAILED: wrong by {error:.2g}"
    origin = "from the cache" if all(k.compiled.from_cache for k in f.kernels) else "compiled"
    return True, f"{origin} and right (largest error {error:.1e}) in {spent:.0f} ms"
