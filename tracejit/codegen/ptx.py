"""From device kernel source to PTX: Numba's front end, then LLVM's own NVPTX code generator.

llvmlite brings that generator, so neither a GPU nor any CUDA package is needed to compile, and a
device kernel goes through the same typing, lowering and math library as a CPU kernel. Additions
and products are never contracted (`.rn` everywhere, `fma` only where the math library says so),
hence pointwise results have the CPU's bits. Invariant: the text depends on source, table length,
architecture and versions alone.
"""

from __future__ import annotations

import ast
import hashlib
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tracejit import config
from tracejit.codegen.cache import disk_cache
from tracejit.codegen.compiler import FAST_FLAGS, kernel_key
from tracejit.errors import CompileError

ENTRY = "tracejit_kernel"
ARCHITECTURES = ((7, 5), (8, 0), (9, 0), (10, 0))
_TRIPLE = "nvptx64-nvidia-cuda"
_lock = threading.RLock()
_texts: dict[str, str] = {}


def ptx_version(cc: tuple[int, int]) -> int:
    """The PTX version asked for: the oldest that knows the architecture and what kernels use.

    Drivers compile PTX up to their own version: 7.8 needs 11.8, 8.6 (for Blackwell) needs 12.7.
    """
    return 86 if cc >= (10, 0) else 78


@cache
def _machine(cc: tuple[int, int]) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(_TRIPLE)
    return target.create_target_machine(
        cpu=f"sm_{cc[0]}{cc[1]}", features=f"+ptx{ptx_version(cc)}", opt=3, reloc="default",
        codemodel="default",
    )  # fmt: skip


@cache
def _own_sources() -> str:
    here = Path(__file__).parent
    names = ("ptx.py", "device_language.py", "frontend.py", "lowering.py", "philox.py")
    return hashlib.sha256(b"".join((here / n).read_bytes() for n in names)).hexdigest()


def compile_ptx(name: str, source: str, words: int, cc: tuple[int, int]) -> str:
    """The PTX of `def kernel(t)` for a table of `words` words; its entry is `ENTRY`.

    Raises CompileError if the source cannot be compiled. Example:
    ``compile_ptx("nothing", "def kernel(t):\\n    pass\\n", 1, (9, 0))``.
    """
    fast = bool(config.fast_math)
    key = kernel_key(f"# ptx {words} {cc} {_own_sources()}\n{source}", fast)
    with _lock:
        text = _texts.get(key)
        if text is None:
            text = _texts[key] = _from_disk(key) or _compile(name, source, words, cc, fast, key)
    return text


def _from_disk(key: str) -> str | None:
    store = disk_cache()
    held = store.load(key) if store else None
    return None if held is None else held.decode()


def _compile(name: str, source: str, words: int, cc: tuple[int, int], fast: bool, key: str) -> str:
    from tracejit.codegen import frontend  # imports Numba

    try:
        text = _emit(_lowered(source, words, fast), cc)
    except frontend.ERRORS as error:
        raise CompileError(f"device kernel {name} cannot be compiled: {error}\n{source}") from error
    store = disk_cache()
    if store:
        store.store(key, text.encode())
    return text


@lru_cache(maxsize=32)  # one text serves all architectures
def _lowered(source: str, words: int, fast: bool) -> str:
    from tracejit.codegen import frontend  # imports Numba

    tree = ast.parse(source, "<tracejit device kernel>")
    return frontend.lower_device(tree, ENTRY, FAST_FLAGS if fast else frozenset(), words)


def _emit(module_text: str, cc: tuple[int, int]) -> str:
    """PTX of LLVM IR, optimised for a GPU: no vectorisation over threads' own loops."""
    import llvmlite.binding as llvm

    machine = _machine(cc)
    module = llvm.parse_assembly(module_text)
    module.triple = _TRIPLE
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module))
