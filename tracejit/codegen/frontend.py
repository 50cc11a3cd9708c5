"""Numba's front end for kernels: from a code object to unoptimised LLVM IR text.

Numba types and lowers a kernel as it does any function, but in contexts of our own that hold only
what kernels use: its declarations for arrays, strings, containers and random numbers are never
loaded (0.5 s a process), and its optimiser never runs (the text goes to `objects.optimize`).
Invariant: the only place that runs Numba; a kernel has no access to Python objects.
"""

from __future__ import annotations

import re
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from llvmlite import ir
from numba.core import codegen, compiler, cpu, errors, fastmathpass, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import FastMathOptions
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing import templates
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
_LOOP = re.compile(r'!(\d+) = !\{ !"tracejit\.loop\.\d+", ')
_ARGUMENTS = (types.uintp, types.int64, types.int64)
_DEVICE_ARGUMENTS = (types.uintp,)
# Declarations made by `numba.extending.overload*`; building one loads all of Numba.
_OVERLOADS = frozenset((templates._OverloadFunctionTemplate, templates._OverloadAttributeTemplate))


class _Typing(typing.Context):
    """Numba's typing rules for numbers, ranges, tuples and module attributes, and ours."""

    def _load_builtins(self) -> None:
        from numba.core.typing import builtins  # noqa: F401  declares the rules

        every = templates.builtin_registry
        self._plain = plain = templates.Registry()
        plain.functions = [f for f in every.functions if not _is_overload(f)]
        plain.attributes = [a for a in every.attributes if not _is_overload(a)]
        plain.globals = [(value, kind) for value, kind in every.globals if _is_plain(kind)]
        self.install_registry(plain)

    def resolve_value_type(self, value: Any) -> Any:
        """As Numba's, which would load its typed containers to find out that `range` is none."""
        return self._get_global_type(range) if value is range else super().resolve_value_type(value)


def _is_overload(template: type) -> bool:
    """As `issubclass`, which is slow for classes made by ABCMeta."""
    return not _OVERLOADS.isdisjoint(template.__mro__)


def _is_plain(kind: Any) -> bool:
    return not isinstance(kind, types.Function) or not all(map(_is_overload, kind.templates))


class _Library(codegen.JITCodeLibrary):
    """Keeps the lowered module as it is, instead of parsing and optimising it at once."""

    lowered: ir.Module

    def add_ir_module(self, module: ir.Module) -> None:
        self.lowered = module


class _Codegen(codegen.JITCPUCodegen):
    _library_class = _Library


class _Target(cpu.CPUContext):
    """Numba's CPU target with the lowering of what `_Typing` can type, and nothing linked in."""

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = _Codegen("tracejit")

    @property
    def address_space(self) -> int:
        """LLVM's address space of the memory that `ptr_x(address, scope)` points to."""
        return 0

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, numbers, rangeobj, tupleobj  # noqa: F401  lowering

    def post_lowering(self, module: ir.Module, library: _Library) -> None:
        """Put fast-math flags on the kernel's own arithmetic, never on the math library's.

        That depends on the order of its operations. (Numba links its runtime here; we do not.)
        """
        if self.fastmath:
            for function in module.functions:
                if not function.name.startswith("tracejit."):
                    fastmathpass.FastFloatBinOpVisitor(self.fastmath.flags).visit_Function(function)
                    fastmathpass.FastFloatCallVisitor(self.fastmath.flags).visit_Function(function)


class _DeviceTarget(_Target):
    """As `_Target`, for kernels whose operands lie in a GPU's global memory."""

    @property
    def address_space(self) -> int:
        return 1


class _Contexts:
    """The pair of contexts. Numba refreshes them at every compilation: only what is new is
    added.
    """

    def __init__(self, target: type[_Target] = _Target) -> None:
        self.typing = _Typing()
        self.target = target(self.typing)
        self.target.refresh()
        self.typing.refresh = self.target.refresh = _nothing


def _nothing() -> None:
    """Everything a kernel can name was registered when `language` was imported."""


@cache
def _contexts() -> _Contexts:
    return _Contexts()


@cache
def _device_contexts() -> _Contexts:
    return _Contexts(_DeviceTarget)


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

    `symbol` is the one exported name, `void(int64, int64, int64)`; `fast` the LLVM fast-math flags
    allowed. Raises one of `ERRORS`.
    """
    contexts = _contexts()
    result = _compile(contexts, code, _ARGUMENTS, fast)
    return _module_text(contexts.target, result, symbol)


@global_compiler_lock
def lower_device(code: CodeType, symbol: str, fast: frozenset[str], words: int) -> str:
    """LLVM IR of a device kernel: `def kernel(t)`, whose table of `words` words is its parameter.

    The exported name is a kernel entry of NVPTX. Raises one of `ERRORS`.
    """
    from tracejit.codegen import device_language  # noqa: F401  adds threads and lanes to the names

    contexts = _device_contexts()
    result = _compile(contexts, code, _DEVICE_ARGUMENTS, fast)
    module = _internal(result)
    table = ir.ArrayType(ir.IntType(64), words)
    kind = ir.FunctionType(ir.VoidType(), [table.as_pointer()])
    entry = ir.Function(module, kind, symbol)
    entry.calling_convention = "ptx_kernel"
    entry.args[0].add_attribute("byval")
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    address = builder.ptrtoint(entry.args[0], ir.IntType(64))
    return _called(contexts.target, result, builder, [address])


def _compile(contexts: _Contexts, code: CodeType, arguments: Any, fast: frozenset[str]) -> Any:
    """Numba's result for the function `kernel` that the module `code` defines."""
    namespace = language.numba_namespace()
    exec(code, namespace)  # defines the kernel; the text is generated, never a user's
    function = namespace.get("kernel")
    if not isinstance(function, FunctionType):
        raise CompileError("the source defines no function named kernel")
    return compiler.compile_extra(
        contexts.typing, contexts.target, function, arguments, types.void, _flags(fast), {},
        pipeline_class=_KernelCompiler,
    )  # fmt: skip


def _flags(fast: frozenset[str]) -> Any:
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.enable_ssa = True
    flags.fastmath = FastMathOptions(set(fast)) if fast else FastMathOptions(False)
    return flags


def _module_text(target: _Target, result: Any, symbol: str) -> str:
    """The kernel's module, with an entry of the plain C signature that calls the kernel.

    The kernel's status is dropped: it cannot raise. Everything but the entry becomes internal, so
    that it vanishes once inlined; Numba numbers its functions, and without the number one source
    always gives one text.
    """
    module = _internal(result)
    word = ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 3), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    return _called(target, result, builder, entry.args)


def _internal(result: Any) -> ir.Module:
    """The lowered module, with everything in it internal."""
    module = result.library.lowered
    for value in module.global_values:
        if isinstance(value, ir.Function) and value.is_declaration:
            continue
        value.linkage = "internal"
    return module


def _called(target: _Target, result: Any, builder: ir.IRBuilder, arguments: Any) -> str:
    """The text of the module once the entry has called the kernel and returned."""
    module, descriptor = result.library.lowered, result.fndesc
    callee = target.declare_function(module, descriptor)
    target.call_conv.call_function(
        builder, callee, descriptor.restype, descriptor.argtypes, arguments
    )
    builder.ret_void()
    _mark_loops(module)
    name = descriptor.mangled_name
    text = str(module).replace(name, "kernel").replace(name[4:], "kernel")
    return _LOOP.sub(r"!\1 = distinct !{ !\1, ", text)


def _mark_loops(module: ir.Module) -> None:
    """Put what `language.interleave` asked for on the branches that close those loops.

    A loop's metadata must begin with itself, which llvmlite cannot write: `_LOOP` replaces a name.
    """
    blocks = [block for function in module.functions for block in function.blocks]
    for number, block in enumerate(blocks):
        count = getattr(block, "interleave", None)
        if count is not None:
            wish = module.add_metadata(["llvm.loop.interleave.count", ir.IntType(32)(count)])
            loop = module.add_metadata([f"tracejit.loop.{number}", wish])
            block.terminator.set_metadata("llvm.loop", loop)
