"""A kernel's syntax tree to LLVM IR, with Numba's typing rules and lowering for every operation.

Kernels are structured (loops over `range`, `if`) and every type is known going forward, so one walk
over the tree does what Numba needs bytecode analysis, SSA reconstruction and type inference for, at
a fifth of their time. Each call is still typed and lowered by Numba's own registries, and what they
answer is remembered for the process. Invariant: a construct outside the subset raises CompileError
with its line; nothing is guessed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError

from tracejit.errors import CompileError

_BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[..., Any]] = {
    ast.USub: operator.neg, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip
_OPERATORS = frozenset((*_BINARY.values(), *_COMPARE.values(), *_UNARY.values()))
_I64 = ir.IntType(64)
_Memo = dict[tuple[Any, tuple[Any, ...]], tuple[Any, Callable[..., Any]]]


class _Typed(NamedTuple):
    """An LLVM value and its Numba type."""

    kind: Any
    value: Any


class Rules:
    """Numba's answers: the signature and the lowering of a function for given types of operands.

    `typing` and `target` are a pair of Numba contexts; `literal` are functions whose types depend
    on literal operands (to ask for any number's would be in vain, and slow).
    """

    def __init__(self, typing: Any, target: Any, literal: Collection[Any] = ()):
        self.typing = typing
        self.target = target
        self.literal = literal
        self._found: _Memo = {}

    def find(self, function: Any, kinds: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]]:
        """Signature and lowering of a call; first for any numbers, then for these literals."""
        plain = tuple(map(types.unliteral, kinds))
        for key in ((function, plain), (function, kinds)):
            found = self._found.get(key)
            if found is not None:
                return found
        for operands in (kinds, plain) if function in self.literal else (plain, kinds):
            found = self._ask(function, operands)
            if found is not None:
                self._found[function, operands] = found
                return found
        named = getattr(function, "__name__", str(function))
        raise CompileError(f"{named}({', '.join(map(str, kinds))}) has no meaning in a kernel")

    def _ask(self, function: Any, kinds: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]] | None:
        kind = function if function in _OPERATORS else self.typing.resolve_value_type(function)
        try:
            signature = self.typing.resolve_function_type(kind, kinds, {})
        except TypingError:
            return None
        return signature and (signature, self.target.get_function(kind, signature))


class FunctionLowering:
    """Fills `function` with what `tree`, the definition of a kernel, says.

    `names` are the values of global names; `kinds` the Numba types of the parameters, `arguments`
    their LLVM values. Raises CompileError.
    """

    def __init__(self, rules: Rules, names: dict[str, Any], function: ir.Function):
        self.rules = rules
        self.names = names
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.local: dict[str, _Typed] = {}

    def define(self, tree: ast.FunctionDef, kinds: Sequence[Any], arguments: Sequence[Any]) -> None:
        """Lower the whole body."""
        if len(tree.args.args) != len(kinds):
            raise CompileError(f"a kernel takes {len(kinds)} arguments")
        for parameter, kind, value in zip(tree.args.args, kinds, arguments):
            self.local[parameter.arg] = _Typed(kind, value)
        self._statements(tree.body)
        self.builder.ret_void()

    # --- statements ----------------------------------------------------------------------------

    def _statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            lower = getattr(self, f"_on_{type(statement).__name__}", None)
            if lower is None:
                raise _unknown(statement)
            lower(statement)

    def _on_Expr(self, statement: ast.Expr) -> None:
        self._value(statement.value)

    def _on_Pass(self, statement: ast.Pass) -> None:
        pass

    def _on_Assign(self, statement: ast.Assign) -> None:
        target = statement.targets[0]
        if isinstance(target, ast.Name):
            self._assign(target, self._value(statement.value))
            return
        if not isinstance(target, ast.Tuple):
            raise _unknown(statement)
        if isinstance(statement.value, ast.Tuple):
            parts = [self._value(item) for item in statement.value.elts]
        else:
            kind, value = self._value(statement.value)
            if not isinstance(kind, types.BaseTuple):
                raise _unknown(statement)
            parts = list(map(_Typed, kind.types, cgutils.unpack_tuple(self.builder, value)))
        if len(parts) != len(target.elts):
            raise _unknown(statement)
        for name, part in zip(target.elts, parts):
            self._assign(name, part)

    def _assign(self, target: ast.expr, typed: _Typed) -> None:
        if not isinstance(target, ast.Name):
            raise _unknown(target)
        self.local[target.id] = _Typed(types.unliteral(typed.kind), typed.value)

    def _on_AugAssign(self, statement: ast.AugAssign) -> None:
        if not isinstance(statement.target, ast.Name):
            raise _unknown(statement)
        before = ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement)
        kind, value = self._call(_BINARY[type(statement.op)], [before, statement.value])
        self.local[statement.target.id] = _Typed(kind, value)

    def _on_For(self, loop: ast.For) -> None:
        """A counted loop; what its body assigns anew and had before is carried round by phis."""
        call = loop.iter
        if (not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name)
                or call.func.id != "range" or not isinstance(loop.target, ast.Name)
                or not _goes_up(call)):  # fmt: skip
            raise _unknown(loop)
        bounds = [self._cast(self._value(bound), types.int64) for bound in call.args]
        start, stop = (_I64(0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        step = bounds[2] if len(bounds) == 3 else _I64(1)
        b, before = self.builder, self.builder.block
        head, body, after = (b.append_basic_block(f"{n}.{loop.lineno}") for n in _LOOP_BLOCKS)
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(_I64, loop.target.id)
        index.add_incoming(start, before)
        outer = self._with_phis(_assigned(loop.body), before)
        carried = dict(self.local)
        b.cbranch(b.icmp_signed("<", index, stop), body, after)
        b.position_at_end(body)
        self.local[loop.target.id] = _Typed(types.int64, index)
        self._statements(loop.body)
        index.add_incoming(b.add(index, step, flags=("nsw",)), b.block)
        for name in outer:
            self._close(carried[name], name, b.block, loop)
        b.branch(head)
        b.position_at_end(after)
        self.local = carried
        self.local.pop(loop.target.id, None)  # in Python the last index; nobody asks for it

    def _with_phis(self, assigned: set[str], before: Any) -> list[str]:
        """Give each variable in `assigned` that has a value a phi; the names of those."""
        names = sorted(assigned & self.local.keys())
        for name in names:
            kind, value = self.local[name]
            phi = self.builder.phi(value.type, name)
            phi.add_incoming(value, before)
            self.local[name] = _Typed(kind, phi)
        return names

    def _close(self, carried: _Typed, name: str, block: Any, loop: ast.stmt) -> None:
        kind, value = self.local.get(name, (None, None))
        if kind != carried.kind:
            raise CompileError(
                f"line {loop.lineno}: {name} is {carried.kind} before the loop and {kind} in it"
            )
        carried.value.add_incoming(value, block)

    def _on_If(self, statement: ast.If) -> None:
        """Both sides, then a phi for each variable that had a value before and has another now."""
        b, before = self.builder, dict(self.local)
        test = self._cast(self._value(statement.test), types.boolean)
        blocks = [b.append_basic_block(f"{n}.{statement.lineno}") for n in ("then", "else", "end")]
        b.cbranch(test, *blocks[:2])
        ends = []
        for block, body in zip(blocks, (statement.body, statement.orelse)):
            b.position_at_end(block)
            self.local = dict(before)
            self._statements(body)
            ends.append((b.block, self.local))
            b.branch(blocks[2])
        b.position_at_end(blocks[2])
        self.local = before
        for name in sorted(_assigned(statement.body + statement.orelse) & before.keys()):
            (one, then), (other, otherwise) = ends
            if then[name].kind != otherwise[name].kind:
                raise CompileError(f"line {statement.lineno}: {name} has two types")
            phi = b.phi(then[name].value.type, name)
            phi.add_incoming(then[name].value, one)
            phi.add_incoming(otherwise[name].value, other)
            self.local[name] = _Typed(then[name].kind, phi)

    # --- expressions ---------------------------------------------------------------------------

    def _value(self, node: ast.expr) -> _Typed:
        if isinstance(node, ast.Name):
            if node.id not in self.local:
                raise _nameless(node)
            return self.local[node.id]
        if isinstance(node, ast.Call):
            if node.keywords:
                raise _unknown(node)
            return self._call(self._global(node.func), node.args)
        if isinstance(node, ast.BinOp):
            return self._call(_BINARY[type(node.op)], [node.left, node.right])
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
            return self._call(_COMPARE[type(node.ops[0])], [node.left, node.comparators[0]])
        if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
            number = self._number(node.operand)
            if number is None and type(node.op) in _UNARY:
                return self._call(_UNARY[type(node.op)], [node.operand])
        number = self._number(node)
        if number is None:
            raise _unknown(node)
        kind = self.rules.typing.resolve_value_type_prefer_literal(number)
        plain = types.unliteral(kind)
        return _Typed(kind, self.rules.target.get_constant_generic(self.builder, plain, number))

    def _number(self, node: ast.expr) -> int | float | None:
        """The Python number that an expression is, if it is one: `1`, `-2.5`, `np.inf`."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self._number(node.operand)
            return None if number is None else -number
        if isinstance(node, ast.Attribute):
            found = self._global(node)
            return found if isinstance(found, (int, float)) else None
        return None

    def _global(self, node: ast.expr) -> Any:
        """What a name of the kernel language, or an attribute of its modules, is."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = self.names.get(node.value.id)
            if isinstance(owner, ModuleType) and hasattr(owner, node.attr):
                return getattr(owner, node.attr)
        elif isinstance(node, ast.Name) and node.id in self.names:
            return self.names[node.id]
        raise _nameless(node)

    def _call(self, function: Any, operands: list[ast.expr]) -> _Typed:
        values = [self._value(operand) for operand in operands]
        signature, lower = self.rules.find(function, tuple(value.kind for value in values))
        cast = [self._cast(value, kind) for value, kind in zip(values, signature.args)]
        return _Typed(signature.return_type, lower(self.builder, cast))

    def _cast(self, typed: _Typed, kind: Any) -> Any:
        if typed.kind == kind:
            return typed.value
        return self.rules.target.cast(self.builder, typed.value, typed.kind, kind)


_LOOP_BLOCKS = ("loop", "body", "after")


def _goes_up(call: ast.Call) -> bool:
    """Whether the step of a `range` is 1 or a positive literal: the loop ends by `<`."""
    if len(call.args) < 3:
        return True
    step = call.args[2]
    return isinstance(step, ast.Constant) and type(step.value) is int and step.value > 0


def _assigned(body: list[ast.stmt]) -> set[str]:
    """The names that statements assign, those inside them too."""
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.For):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            names.update(node.id for node in targets if isinstance(node, ast.Name))
        if isinstance(statement, ast.For | ast.If):
            names |= _assigned(statement.body) | _assigned(statement.orelse)
    return names


def _nameless(node: ast.expr) -> CompileError:
    return CompileError(f"line {node.lineno}: there is no name {ast.unparse(node)}")


def _unknown(node: ast.stmt | ast.expr) -> CompileError:
    return CompileError(f"line {node.lineno}: a kernel cannot hold {ast.unparse(node)!r}")
