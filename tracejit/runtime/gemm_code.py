"""The native code of tracejit's own matrix products: word functions and micro kernels, linked.

Invariant: each is linked once in a process.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from tracejit.codegen import gemm_kernel, gemv_kernel, vector_ir
from tracejit.codegen.objects import LinkedObject
from tracejit.runtime import gemm_libraries, native_gemv
from tracejit.runtime import native_gemm as layout
from tracejit.runtime.driver import Words, link_ir, link_words

_EXPORTS = (
    "gemm_tiles",
    "zeros",
    "nothing",
    "enter",
    "leave",
    "builtin",
    "builtin_column",
    "builtin_narrow",
    "stripe",
    "pack_rows",
    "packs_a",
    "finish",
    *gemm_libraries.CALLS,
)


def bits_of(dtype: np.dtype[Any], value: float) -> int:
    """The bits of a number of `dtype` (float32, float64)."""
    return int(np.array(value, dtype).view(f"i{dtype.itemsize}"))


@cache
def linked_words() -> LinkedObject:
    """The word functions of `native_gemm`."""
    return link_words(layout, _EXPORTS)


@cache
def _linked_few() -> LinkedObject:
    return link_words(native_gemv, ("few_rows",))


def add_micro_kernels(context: Words, dtype: np.dtype[Any]) -> LinkedObject:
    """Link the micro kernels of a dtype (float32, float64) and enter them into its context; what
    must live as long as that.
    """
    name = f"f{8 * dtype.itemsize}"
    symbols = gemm_kernel.names(name)
    block = gemm_kernel.block(name)
    linked = link_ir((gemm_kernel, vector_ir), lambda: gemm_kernel.text(name), symbols, repr(block))
    first = layout.CONTEXT_MICRO
    context[first : first + len(symbols)] = [linked.addresses[symbol] for symbol in symbols]
    context[layout.CONTEXT_BLOCK_ROWS] = block.rows
    context[layout.CONTEXT_BLOCK_FEW] = block.few
    context[layout.CONTEXT_BLOCK_COLUMNS] = block.columns
    context[layout.CONTEXT_LANES] = block.lanes
    context[layout.CONTEXT_A_WIDTH] = block.width * dtype.itemsize
    context[layout.CONTEXT_ONE] = bits_of(dtype, 1.0)
    context[layout.CONTEXT_ROW_COLUMNS] = gemm_kernel.row_block(name).columns
    words = linked_words().addresses
    context[layout.CONTEXT_STRIPE] = words["stripe"]
    context[layout.CONTEXT_PACK_ROWS] = words["pack_rows"]
    context[layout.CONTEXT_PACKS_A] = words["packs_a"]
    context[layout.CONTEXT_FINISH] = words["finish"]
    return linked


def add_few_rows(context: Words, dtype: np.dtype[Any]) -> LinkedObject:
    """Link what multiplies few rows and enter it into a context with micro kernels; what must live
    as long as that. The bits are the same with and without.
    """
    name = f"f{8 * dtype.itemsize}"
    symbols = gemv_kernel.names(name)
    block = repr(gemm_kernel.block(name))
    few = link_ir((gemv_kernel, vector_ir), lambda: gemv_kernel.text(name), symbols, block)
    first = layout.CONTEXT_DOTS
    context[first : first + len(symbols)] = [few.addresses[symbol] for symbol in symbols]
    context[layout.CONTEXT_FEW_ROWS] = _linked_few().addresses["few_rows"]  # last: it is asked for
    return few
