"""Numba's front end for kernels: from a syntax tree to unoptimised LLVM IR text.

Numba's rules type and lower each operation (`lowering` walks the tree), in contexts of our own that
hold only what kernels use: its declarations for arrays, strings, containers and random numbers are
never loaded (0.5 s a process), and its optimiser never runs (the text goes to `objects.optimize`).
Invariant: the only place that sets Numba up; a kernel has no access to Python objects.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import callconv, codegen, cpu, errors, fastmathpass, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing import templates

from tracejit.codegen import language
from tracejit.codegen.lowering import FunctionLowering, Rules
from tracejit.errors import CompileError

# What Numba and LLVM raise for source they cannot compile.
ERRORS = (
    CompileError,
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
_WORD = ir.IntType(64)
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


class _Target(cpu.CPUContext):
    """Numba's CPU target with the lowering of what `_Typing` can type, and nothing linked in."""

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = codegen.JITCPUCodegen("tracejit")

    @property
    def address_space(self) -> int:
        """LLVM's address space of the memory that `ptr_x(address, scope)` points to."""
        return 0

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, numbers, rangeobj, tupleobj  # noqa: F401  lowering


class _DeviceTarget(_Target):
    """As `_Target`, for kernels whose operands lie in a GPU's global memory."""

    @property
    def address_space(self) -> int:
        return 1


@cache
def _rules(target: type[_Target] = _Target) -> Rules:
    """Numba's typing and lowering for a target. Everything a kernel can name was registered when
    `language` was imported, so the contexts are made once.
    """
    typing_context = _Typing()
    context = target(typing_context)
    context.refresh()
    model = callconv.create_error_model("numpy", context)
    target_context = context.subtarget(error_model=model)
    return Rules(typing_context, target_context, language.TAKES_LITERALS)


@global_compiler_lock
def lower(tree: ast.Module, symbol: str, fast: frozenset[str]) -> str:
    """LLVM IR of the function `kernel` that the module `tree` defines.

    `symbol` is the one exported name, `void(int64, int64, int64)`; `fast` the LLVM fast-math flags
    allowed. Raises one of `ERRORS`.
    """
    rules = _rules()
    with _new_module(rules, tree) as module:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD] * 3), symbol)
        lowering = FunctionLowering(rules, language.kernel_namespace(), function)
        lowering.define(_definition(tree), _ARGUMENTS, function.args)
    return _finished(module, fast)


@global_compiler_lock
def lower_device(tree: ast.Module, symbol: str, fast: frozenset[str], words: int) -> str:
    """LLVM IR of a device kernel: `def kernel(t)`, whose table of `words` words is its parameter.

    The exported name is a kernel entry of NVPTX. Raises one of `ERRORS`.
    """
    from tracejit.codegen import device_language  # noqa: F401  adds threads and lanes to the names

    rules = _rules(_DeviceTarget)
    table = ir.ArrayType(_WORD, words)
    with _new_module(rules, tree) as module:
        entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [table.as_pointer()]), symbol)
        entry.calling_convention = "ptx_kernel"
        entry.args[0].add_attribute("byval")
        lowering = FunctionLowering(rules, language.kernel_namespace(), entry)
        address = lowering.builder.ptrtoint(entry.args[0], _WORD)
        lowering.define(_definition(tree), _DEVICE_ARGUMENTS, [address])
    return _finished(module, fast)


@contextmanager
def _new_module(rules: Rules, tree: ast.Module) -> Iterator[ir.Module]:
    """An empty module; Numba's lowering asks for the library that it belongs to."""
    library = rules.target.codegen().create_library("kernel")
    with rules.target.push_code_library(library):
        module = library.create_ir_module("kernel")
        module.tracejit_scope_count = _scope_count(tree)
        yield module


def _scope_count(tree: ast.Module) -> int:
    """One more than the largest literal that may be the scope of a pointer in the source."""
    found: list[Any] = [
        call.args[1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and len(call.args) == 2
        and isinstance(call.func, ast.Name) and call.func.id.startswith("ptr_")
        and isinstance(call.args[1], ast.Constant)
    ]  # fmt: skip
    return min(int(max(found, default=0)) + 1, language.SCOPES)


def _definition(tree: ast.Module) -> ast.FunctionDef:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "kernel":
            return node
    raise CompileError("the source defines no function named kernel")


def _finished(module: ir.Module, fast: frozenset[str]) -> str:
    """The module's text, once loops and arithmetic are marked.

    Fast-math flags go on the kernel's own arithmetic, never on the math library's: that depends on
    the order of its operations.
    """
    _mark_loops(module)
    for function in module.functions:
        if fast and not function.name.startswith("tracejit."):
            fastmathpass.FastFloatBinOpVisitor(set(fast)).visit_Function(function)
            fastmathpass.FastFloatCallVisitor(set(fast)).visit_Function(function)
    return _LOOP.sub(r"!\1 = distinct !{ !\1, ", str(module))


def _mark_loops(module: ir.Module) -> None:
    """Put what `language.interleave` and `masked_tail` asked for on the branches that close those
    loops.

    A loop's metadata must begin with itself, which llvmlite cannot write: `_LOOP` replaces a name.
    """
    blocks = [block for function in module.functions for block in function.blocks]
    for number, block in enumerate(blocks):
        wishes = []
        count = getattr(block, "interleave", None)
        if count is not None:
            wishes.append(["llvm.loop.interleave.count", ir.IntType(32)(count)])
        if hasattr(block, "masked_tail"):
            wishes.append(["llvm.loop.vectorize.predicate.enable", ir.IntType(1)(1)])
            wishes.append(["llvm.loop.vectorize.enable", ir.IntType(1)(1)])
        if wishes:
            nodes = [module.add_metadata(wish) for wish in wishes]
            loop = module.add_metadata([f"tracejit.loop.{number}", *nodes])
            block.terminator.set_metadata("llvm.loop", loop)
