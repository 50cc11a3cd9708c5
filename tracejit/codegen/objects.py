"""Object code: which machine it is for, how it is emitted, and how it is linked into this process.

Knows llvmlite and nothing of Numba, so that a process whose kernels are all on disk never imports
Numba. Invariant: an address handed out stays valid exactly as long as its `LinkedObject` lives.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import threading
from collections.abc import Collection
from functools import cache
from typing import Any

from tracejit.errors import CompileError

_lock = threading.RLock()
_process = ctypes.CDLL(None)
_numbers = itertools.count()


@cache
def _llvm() -> Any:
    """llvmlite's binding, ready for this machine; loaded on first use (it takes 60 ms)."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def cpu() -> tuple[str, str]:
    """Name and features of this processor, as LLVM writes them.

    Where there are 512-bit vectors LLVM is told to use them. Left alone it prefers 256 bits on most
    such processors, to spare their clock; kernels full of polynomials run 1.4 to 1.7 times as fast
    with 512 (measured on Cascade Lake, of all the one whose clock suffers most).
    """
    llvm = _llvm()
    features = llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features.split(","):
        features += ",-prefer-256-bit"
    return llvm.get_host_cpu_name(), features


@cache
def target_fingerprint() -> str:
    """A hash of everything about machine and LLVM that object code depends on."""
    import llvmlite

    versions = llvmlite.__version__, repr(_llvm().llvm_version_info)
    parts = (_llvm().get_process_triple(), *cpu(), *versions)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def target_machine(light: bool = False) -> Any:
    """The code generator for this processor (position-independent, small code model).

    The `light` one selects and places instructions without looking for the best: the same
    operations in a quarter of the time.
    """
    name, features = cpu()
    target = _llvm().Target.from_triple(_llvm().get_process_triple())
    return target.create_target_machine(
        cpu=name, features=features, opt=0 if light else 3, reloc="pic", codemodel="small"
    )


@cache
def _linker() -> Any:
    return _llvm().create_lljit_compiler(target_machine())


def parse(text: str) -> Any:
    """An LLVM module from IR text, for this machine; raises CompileError with LLVM's words."""
    llvm = _llvm()
    try:
        module = llvm.parse_assembly(text)
        module.triple = llvm.get_process_triple()
        module.data_layout = str(target_machine().target_data)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM refuses the IR: {error}") from error
    return module


def optimize(module: Any) -> None:
    """Run LLVM's module passes at -O3, loop and SLP vectorisation on, in place."""
    llvm = _llvm()
    with _lock:
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        options.slp_vectorization = True
        builder = llvm.create_pass_builder(target_machine(), options)
        builder.getModulePassManager().run(module, builder)


def optimize_lightly(module: Any) -> None:
    """Only put locals into registers and tidy up: for straight code without loops over data, ten
    times cheaper.
    """
    llvm = _llvm()
    with _lock:
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        builder = llvm.create_pass_builder(target_machine(), options)
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
        passes.run(module, builder)


def emit(module: Any, imports: Collection[str] = (), light: bool = False) -> bytes:
    """Object code of an optimised LLVM module; `light` as in `target_machine`.

    Raises CompileError if it calls a function that is neither among `imports` nor in a loaded
    library.
    """
    for function in module.functions:
        name = function.name
        if function.is_declaration and not name.startswith("llvm."):
            if name not in imports and not hasattr(_process, name):
                raise CompileError(f"the code calls {name}, which no loaded library has")
    with _lock:
        return bytes(target_machine(light).emit_object(module))


_NARROW = "__truncdfhf2"
"""What LLVM calls to make halves of float64 (on x86 it makes such a cast of others': it moves casts
past the copying of signs). Processes have it only by chance."""

_NARROW_IR = """
define half @narrow(double %x) {
  %near = fptrunc double %x to float
  %back = fpext float %near to double
  %size = call double @llvm.fabs.f64(double %x)
  %rounded = call double @llvm.fabs.f64(double %back)
  %over = fcmp ogt double %rounded, %size
  %lost = fcmp une double %back, %x
  %one = zext i1 %over to i32
  %odd = zext i1 %lost to i32
  %bits = bitcast float %near to i32
  %cut = sub i32 %bits, %one
  %pattern = or i32 %cut, %odd
  %single = bitcast i32 %pattern to float
  %half = fptrunc float %single to half
  ret half %half
}
declare double @llvm.fabs.f64(double)
"""
"""Rounds once: a float made odd where digits are lost, then that (Boldo and Melquiond, 2005)."""


@cache
def _narrow() -> LinkedObject:
    return LinkedObject(emit(parse(_NARROW_IR)), ("narrow",))


class LinkedObject:
    """Object code in this process's memory. `addresses` maps each exported name to its address.

    Arguments: `code` object code for this machine; `names` the exported functions wanted; `imports`
    addresses of outside functions (what is not listed is looked up among the process's own symbols,
    e.g. libm). Raises CompileError if a symbol is missing: linking never aborts the process.
    """

    def __init__(self, code: bytes, names: tuple[str, ...], imports: dict[str, int] | None = None):
        builder = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
        imports = dict(imports or {})
        if _NARROW.encode() in code:
            imports[_NARROW] = _narrow().addresses["narrow"]
        for name, address in imports.items():
            builder.import_symbol(name, address)
        for name in names:
            builder.export_symbol(name)
        try:
            with _lock:
                self._tracker = builder.link(_linker(), f"tracejit_{next(_numbers)}")
        except RuntimeError as error:
            raise CompileError(f"the object code cannot be linked: {error}") from error
        self.addresses: dict[str, int] = {name: self._tracker[name] for name in names}
