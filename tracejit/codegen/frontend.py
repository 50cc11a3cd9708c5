"""Numba's front end for kernels: from a code object to unoptimised LLVM IR text.

The pipeline is Numba's own with the passes that kernels never need left out (closures, literal unrolling,
array rewrites, object mode), and it stops before Numba would optimise, so the code is compiled only once.
Invariant: the only place that imports Numba at run time; a kernel has no access to Python objects.
"""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import compiler, errors, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import FastMathOptions
from numba.core.registry import cpu_target
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    TranslateByteCode,
)

from tracejit.codegen import language
from tracejit.errors import CompileError

# What Numba and LLVM raise for source they cannot compile.
ERRORS = (
    errors.NumbaError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
_ARGUMENTS = (types.uintp, types.int64, types.int64)


class _KernelCompiler(compiler.CompilerBase):
    """The passes a kernel needs, in Numba's order."""

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("tracejit_kernel")
        for step in (
            TranslateByteCode,
            FixupArgs,
            IRProcessing,
            GenericRewrites,
            ReconstructSSA,
            NopythonTypeInference,
            PreLowerStripPhis,
            IRLegalization,
            NativeLowering,
            NoPythonBackend,
        ):
            manager.add_pass(step, step.name())
        manager.finalize()
        return [manager]


@global_compiler_lock
def lower(code: CodeType, symbol: str, fast: frozenset[str]) -> str:
    """LLVM IR of the function `kernel` that the module `code` defines.

    `symbol` is the one exported name, `void(int64, int64, int64)`; `fast` the LLVM fast-math flags allowed.
    Raises one of `ERRORS`.
    """
    namespace = language.numba_namespace()
    exec(code, namespace)  # defines the kernel; the text is generated, never a user's
    function = namespace.get("kernel")
    if not isinstance(function, FunctionType):
        raise CompileError("the source defines no function named kernel")
    result = compiler.compile_extra(
        cpu_target.typing_context,
        cpu_target.target_context,
        function,
        _ARGUMENTS,
        types.void,
        _flags(fast),
        {},
        pipeline_class=_KernelCompiler,
    )
    return _module_text(result, symbol)


def _flags(fast: frozenset[str]) -> Any:
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.enable_ssa = True
    flags.fastmath = FastMathOptions(set(fast)) if fast else FastMathOptions(False)
    return flags


def _module_text(result: Any, symbol: str) -> str:
    """The kernel's module with an entry of the plain C signature in place of Numba's calling convention."""
    library, descriptor = result.library, result.fndesc
    library.add_ir_module(_entry(library, descriptor, symbol))
    module = library._final_module
    for other in library._linking_libraries:
        module.link_in(other._get_module_for_linking(), preserve=True)
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != symbol:
            value.linkage = llvm.Linkage.internal  # so that what is unused or inlined vanishes
    # Numba numbers its functions; without the number one source always gives one text.
    return (
        str(module)
        .replace(descriptor.mangled_name, "kernel")
        .replace(descriptor.mangled_name[4:], "kernel")
    )


def _entry(library: Any, descriptor: Any, symbol: str) -> ir.Module:
    """A module that exports `symbol` and calls the lowered kernel, dropping its status: it cannot raise."""
    context = cpu_target.target_context
    module = library.create_ir_module(symbol)
    word = ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 3), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    callee = context.declare_function(module, descriptor)
    context.call_conv.call_function(
        builder, callee, descriptor.restype, descriptor.argtypes, entry.args
    )
    builder.ret_void()
    return module
