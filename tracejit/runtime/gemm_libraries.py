"""Finds the matrix multiplication libraries of this process: NumPy's own BLAS, and oneDNN if it is
installed.

Knows names and addresses only; how they are called is in `native_gemm.py`.
Invariant: a library is offered only after a small product by it came out right.
"""

from __future__ import annotations

import ctypes
import glob
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np


class Library(NamedTuple):
    """A function that multiplies matrices: `call` names the word function in `native_gemm` that
    knows its signature.

    `get_threads`/`set_threads` are addresses (0: it has no threads of its own); `threads_are_local`
    says that they concern the calling thread only.
    """

    name: str
    call: str
    function: int
    get_threads: int = 0
    set_threads: int = 0
    threads_are_local: bool = False


CALLS = ("cblas64_f32", "cblas64_f64", "cblas32_f32", "cblas32_f64", "onednn_f32")

# (symbol of the BLAS function, symbols of get and set threads, width of its integers), by how NumPy
# was built.
_BLAS_NAMES = (
    (
        "scipy_cblas_{}gemm64_",
        "scipy_openblas_get_num_threads64_",
        "scipy_openblas_set_num_threads64_",
        64,
    ),
    ("cblas_{}gemm64_", "openblas_get_num_threads64_", "openblas_set_num_threads64_", 64),
    ("scipy_cblas_{}gemm", "scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads", 32),
    ("cblas_{}gemm", "openblas_get_num_threads", "openblas_set_num_threads", 32),
)


def find(name: str, dtype: np.dtype[Any]) -> Library | None:
    """The library called "openblas" or "onednn" for float32 or float64, or None."""
    return _FINDERS[name](dtype)


def find_openblas(dtype: np.dtype[Any]) -> Library | None:
    """NumPy's own BLAS for float32 or float64, or None if it is not an OpenBLAS that can be
    called by address.
    """
    letter = {"f4": "s", "f8": "d"}[dtype.str[1:]]
    for path in _numpy_blas_paths():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for function, get, set_, width in _BLAS_NAMES:
            symbol = function.format(letter)
            if all(hasattr(library, name) for name in (symbol, get, set_)):
                call = f"cblas{width}_f{8 * dtype.itemsize}"
                threads = _address(library, get), _address(library, set_)
                return Library("openblas", call, _address(library, symbol), *threads)
    return None


def find_onednn(dtype: np.dtype[Any]) -> Library | None:
    """oneDNN's `dnnl_sgemm` from the wheel `onednn-cpu-gomp` (float32 only), or None."""
    if dtype.str[1:] != "f4":
        return None
    for path in _onednn_paths():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue  # its OpenMP is missing, say
        if all(
            hasattr(library, name)
            for name in ("dnnl_sgemm", "omp_get_max_threads", "omp_set_num_threads")
        ):
            threads = (
                _address(library, "omp_get_max_threads"),
                _address(library, "omp_set_num_threads"),
            )
            return Library("onednn", "onednn_f32", _address(library, "dnnl_sgemm"), *threads, True)
    return None


def _address(library: ctypes.CDLL, symbol: str) -> int:
    return ctypes.cast(library[symbol], ctypes.c_void_p).value or 0


def _numpy_blas_paths() -> Iterator[str]:
    """Files that may be the BLAS which NumPy has loaded."""
    package = os.path.dirname(np.__file__)
    for folder in (package + ".libs", os.path.join(package, ".dylibs")):
        yield from sorted(glob.glob(os.path.join(glob.escape(folder), "*openblas*")))
    if os.path.exists("/proc/self/maps"):  # a NumPy of the system's, with a BLAS of the system's
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split(maxsplit=5)[5].strip() for line in maps if "blas" in line}
        yield from sorted(path for path in paths if "openblas" in os.path.basename(path))


def _onednn_paths() -> Iterator[str]:
    import importlib.metadata  # slow to load, and seldom needed

    try:
        files = importlib.metadata.files("onednn-cpu-gomp") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith(("libdnnl.so", "libdnnl.dylib")):
            yield str(file.locate())
    yield from glob.glob(os.path.join(glob.escape(sys.prefix), "lib", "libdnnl.so*"))


_FINDERS = {"openblas": find_openblas, "onednn": find_onednn}
