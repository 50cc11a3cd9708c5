"""Translates word functions (see `words`) to LLVM IR.

Python's own parser reads them; every local lives in a stack slot, which LLVM turns into a register.
Invariant: a construct that the translator does not know raises CompileError; nothing is guessed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
from types import ModuleType

from tracejit.codegen.words import External
from tracejit.errors import CompileError

_OPERATIONS = {
    "load": 2, "store": 3, "load_byte": 1, "atomic_load": 2, "atomic_store": 3, "atomic_add": 3,
    "atomic_swap": 3, "float_bits": 1, "bit_length": 1, "pause": 0, "min": 2, "max": 2,
}  # fmt: skip
_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "sdiv", ast.Mod: "srem",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "lshr",
}  # fmt: skip
_COMPARE = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge",
}  # fmt: skip
# Letters of a `call_as` signature: the LLVM type a word is turned into for a foreign function.
_FOREIGN = {"l": "i64", "i": "i32", "b": "i8", "f": "float", "d": "double"}


def externals(module: ModuleType) -> dict[str, External]:
    """The outside functions that the word functions of `module` may call, by name."""
    return {name: value for name, value in vars(module).items() if isinstance(value, External)}


def source_of(module: ModuleType) -> str:
    """The text of a module; raises CompileError if it cannot be read."""
    spec = importlib.util.find_spec(module.__name__)
    source = spec.loader.get_source(module.__name__) if spec and spec.loader else None  # type: ignore[attr-defined]
    if source is None:
        raise CompileError(f"the source of {module.__name__} cannot be read")
    return str(source)


def fingerprint(module: ModuleType) -> str:
    """A hash of everything that the translation of `module` depends on, much cheaper than
    translating.
    """
    constants = sorted(item for item in vars(module).items() if type(item[1]) is int)
    outside = sorted((name, external.arity) for name, external in externals(module).items())
    parts = (
        source_of(module),
        source_of(sys.modules[__name__]),
        repr(constants),
        repr(outside),
        _PAUSE,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def translate(module: ModuleType) -> str:
    """LLVM IR of all functions of `module`, a module of word functions.

    Names without a leading underscore are exported as symbols of the same name. Raises CompileError
    for anything outside the subset.

    Example: a module holding `def twice(x): return x + x` gives `define i64 @twice(i64 %arg.x)
    ...`.
    """
    tree = ast.parse(source_of(module))
    definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    arities = {node.name: len(node.args.args) for node in definitions}
    outside = {name: external.arity for name, external in externals(module).items()}
    parts = [_header(outside)]
    for node in definitions:
        parts.append(_Function(node, module, arities, outside).text())
    return "\n".join(parts)


def _header(outside: dict[str, int]) -> str:
    declarations = [f"declare i64 @{name}({', '.join(['i64'] * n)})" for name, n in outside.items()]
    minmax = [f"declare i64 @llvm.s{op}.i64(i64, i64)" for op in ("min", "max")]
    minmax.append("declare i64 @llvm.ctlz.i64(i64, i1)")
    hint = [f"declare void @{_PAUSE.replace('i32 1', 'i32')}"] if _PAUSE else []
    return "\n".join(declarations + minmax + hint)


class _Function:
    """Translates one word function; locals live in stack slots, which LLVM turns into registers."""

    def __init__(
        self,
        node: ast.FunctionDef,
        module: ModuleType,
        arities: dict[str, int],
        outside: dict[str, int],
    ):
        self.node = node
        self.module = module
        self.arities = arities
        self.outside = outside
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.slots: set[str] = set()
        self.count = 0
        self.loops: list[tuple[str, str]] = []

    def text(self) -> str:
        """The LLVM IR definition."""
        parameters = [argument.arg for argument in self.node.args.args]
        for name in parameters:
            self._assign(name, f"%arg.{name}")
        self._body(self.node.body)
        self.lines.append("  ret i64 0")
        linkage = "internal " if self.node.name.startswith("_") else ""
        head = ", ".join(f"i64 %arg.{name}" for name in parameters)
        body = "\n".join(self.entry + ["  br label %start", "start:"] + self.lines)
        return f"define {linkage}i64 @{self.node.name}({head}) nounwind {{\n{body}\n}}\n"

    def _fail(self, node: ast.AST, what: str) -> CompileError:
        line = getattr(node, "lineno", 0)
        return CompileError(f"{self.module.__name__}:{line}: {what} is not a word construct")

    def _emit(self, text: str) -> str:
        """Append an instruction with a result; the name of the result."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def _label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def _place(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def _jump(self, label: str) -> None:
        """End the block; what follows in the source is reached only through a label."""
        self.lines.append(f"  br label %{label}")

    def _assign(self, name: str, value: str) -> None:
        if name not in self.slots:
            self.slots.add(name)
            self.entry.append(f"  %slot.{name} = alloca i64")
        self.lines.append(f"  store i64 {value}, ptr %slot.{name}")

    # statements

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            method = getattr(self, "_do_" + type(statement).__name__, None)
            if method is None:
                raise self._fail(statement, type(statement).__name__)
            method(statement)

    def _do_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring says nothing to the machine
            self._value(node.value)

    def _do_Pass(self, node: ast.Pass) -> None:
        pass

    def _do_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if len(node.targets) != 1 or not isinstance(target, ast.Name):
            raise self._fail(node, "assignment to anything but one name")
        self._assign(target.id, self._value(node.value))

    def _do_AugAssign(self, node: ast.AugAssign) -> None:
        if not isinstance(node.target, ast.Name):
            raise self._fail(node, "assignment to anything but one name")
        old = self._name(node.target)
        self._assign(node.target.id, self._binary(node, node.op, old, self._value(node.value)))

    def _do_Return(self, node: ast.Return) -> None:
        value = "0" if node.value is None else self._value(node.value)
        self.lines.append(f"  ret i64 {value}")
        self._place(self._label("dead"))

    def _do_If(self, node: ast.If) -> None:
        yes, no, end = self._label("then"), self._label("else"), self._label("end")
        self._branch(node.test, yes, no)
        self._place(yes)
        self._body(node.body)
        self._jump(end)
        self._place(no)
        self._body(node.orelse)
        self._jump(end)
        self._place(end)

    def _do_While(self, node: ast.While) -> None:
        test, body, end = self._label("test"), self._label("body"), self._label("end")
        self._jump(test)
        self._place(test)
        self._branch(node.test, body, end)
        self._loop(node.body, body, test, end)
        self._jump(test)
        self._place(end)

    def _do_For(self, node: ast.For) -> None:
        call = node.iter
        is_range = (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "range"
        )
        if not is_range or not isinstance(node.target, ast.Name) or len(call.args) > 3:  # type: ignore[attr-defined]
            raise self._fail(node, "a loop over anything but range() with rising values")
        bounds = [self._value(argument) for argument in call.args]  # type: ignore[attr-defined]
        first, stop = bounds[:2] if len(bounds) > 1 else ("0", bounds[0])
        stride = bounds[2] if len(bounds) == 3 else "1"
        self._assign(node.target.id, first)
        test, body, step, end = (self._label(stem) for stem in ("test", "body", "step", "end"))
        self._jump(test)
        self._place(test)
        inside = self._emit(f"icmp slt i64 {self._name(node.target)}, {stop}")
        self.lines.append(f"  br i1 {inside}, label %{body}, label %{end}")
        self._loop(node.body, body, step, end)
        self._jump(step)
        self._place(step)
        self._assign(node.target.id, self._emit(f"add i64 {self._name(node.target)}, {stride}"))
        self._jump(test)
        self._place(end)

    def _loop(self, statements: list[ast.stmt], body: str, again: str, end: str) -> None:
        self._place(body)
        self.loops.append((again, end))
        self._body(statements)
        self.loops.pop()

    def _do_Break(self, node: ast.Break) -> None:
        self._jump(self.loops[-1][1])
        self._place(self._label("dead"))

    def _do_Continue(self, node: ast.Continue) -> None:
        self._jump(self.loops[-1][0])
        self._place(self._label("dead"))

    # conditions

    def _branch(self, test: ast.expr, yes: str, no: str) -> None:
        """Jump to `yes` or `no`; `and`, `or`, `not` stop early as in Python."""
        if isinstance(test, ast.BoolOp):
            for part in test.values[:-1]:
                following = self._label("next")
                first, second = (
                    (following, no) if isinstance(test.op, ast.And) else (yes, following)
                )
                self._branch(part, first, second)
                self._place(following)
            self._branch(test.values[-1], yes, no)
        elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            self._branch(test.operand, no, yes)
        else:
            self.lines.append(f"  br i1 {self._condition(test)}, label %{yes}, label %{no}")

    def _condition(self, test: ast.expr) -> str:
        if isinstance(test, ast.Compare):
            if len(test.ops) != 1 or type(test.ops[0]) not in _COMPARE:
                raise self._fail(test, ast.unparse(test))
            left, right = self._value(test.left), self._value(test.comparators[0])
            return self._emit(f"icmp {_COMPARE[type(test.ops[0])]} i64 {left}, {right}")
        return self._emit(f"icmp ne i64 {self._value(test)}, 0")

    # values

    def _value(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return str(int(node.value))
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.BinOp):
            return self._binary(node, node.op, self._value(node.left), self._value(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._emit(f"sub i64 0, {self._value(node.operand)}")
        if isinstance(node, ast.Compare):
            return self._emit(f"zext i1 {self._condition(node)} to i64")
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._fail(node, ast.unparse(node))

    def _binary(self, node: ast.AST, op: ast.operator, left: str, right: str) -> str:
        """Division and remainder are those of non-negative words, the right shift is unsigned."""
        if type(op) not in _BINARY:
            raise self._fail(node, type(op).__name__)
        return self._emit(f"{_BINARY[type(op)]} i64 {left}, {right}")

    def _name(self, node: ast.Name) -> str:
        if node.id in self.slots:
            return self._emit(f"load i64, ptr %slot.{node.id}")
        if node.id in self.arities:  # a function as a value: its address
            return self._emit(f"ptrtoint ptr @{node.id} to i64")
        constant = getattr(self.module, node.id, None)
        if type(constant) is not int:
            raise self._fail(node, f"the name {node.id}")
        return str(constant)

    def _call(self, node: ast.Call) -> str:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._fail(node, ast.unparse(node))
        name = node.func.id
        if name == "stack":
            return self._stack(node)
        if name == "call_as":
            return self._call_as(node)
        if name == "call_word":
            return self._call_word(node)
        arities = {**_OPERATIONS, **self.outside, **self.arities}
        if arities.get(name) != len(node.args):
            raise self._fail(node, f"{name} with {len(node.args)} arguments")
        words = [self._value(argument) for argument in node.args]
        if name in self.arities or name in self.outside:
            return self._emit(f"call i64 @{name}({', '.join(f'i64 {word}' for word in words)})")
        result = getattr(self, "_op_" + name)(*words)
        return "0" if result is None else result

    def _stack(self, node: ast.Call) -> str:
        size = node.args[0]
        count = (
            size.value
            if isinstance(size, ast.Constant)
            else getattr(self.module, ast.unparse(size), None)
        )
        if type(count) is not int:
            raise self._fail(node, "stack() of a size not known beforehand")
        self.count += 1
        name = f"%stack{self.count}"
        self.entry.append(f"  {name} = alloca [{count} x i64], align 64")
        return self._emit(f"ptrtoint ptr {name} to i64")

    def _call_as(self, node: ast.Call) -> str:
        signature = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        if not isinstance(signature, str) or len(signature) != len(node.args) - 2:
            raise self._fail(node, "call_as() whose signature does not fit")
        target = self._pointer(self._value(node.args[1]))
        words = [self._value(argument) for argument in node.args[2:]]
        passed = [
            self._foreign(letter, word) for letter, word in zip(signature, words, strict=True)
        ]
        self.lines.append(f"  call void {target}({', '.join(passed)})")
        return "0"

    def _call_word(self, node: ast.Call) -> str:
        target = self._pointer(self._value(node.args[0]))
        words = [self._value(argument) for argument in node.args[1:]]
        return self._emit(f"call i64 {target}({', '.join(f'i64 {word}' for word in words)})")

    def _foreign(self, letter: str, word: str) -> str:
        """The word as an argument of the C type that `letter` stands for."""
        if letter == "l":
            return f"i64 {word}"
        if letter == "d":
            return f"double {self._emit(f'bitcast i64 {word} to double')}"
        narrow = self._emit(f"trunc i64 {word} to {'i8' if letter == 'b' else 'i32'}")
        if letter == "f":
            return f"float {self._emit(f'bitcast i32 {narrow} to float')}"
        return f"{_FOREIGN[letter]} signext {narrow}"

    # operations

    def _pointer(self, word: str) -> str:
        return self._emit(f"inttoptr i64 {word} to ptr")

    def _element(self, pointer: str, index: str) -> str:
        return self._emit(f"getelementptr i64, ptr {self._pointer(pointer)}, i64 {index}")

    def _op_load(self, pointer: str, index: str) -> str:
        return self._emit(f"load i64, ptr {self._element(pointer, index)}")

    def _op_store(self, pointer: str, index: str, value: str) -> None:
        self.lines.append(f"  store i64 {value}, ptr {self._element(pointer, index)}")

    def _op_load_byte(self, pointer: str) -> str:
        byte = self._emit(f"load i8, ptr {self._pointer(pointer)}")
        return self._emit(f"zext i8 {byte} to i64")

    def _op_atomic_load(self, pointer: str, index: str) -> str:
        return self._emit(f"load atomic i64, ptr {self._element(pointer, index)} seq_cst, align 8")

    def _op_atomic_store(self, pointer: str, index: str, value: str) -> None:
        address = self._element(pointer, index)
        self.lines.append(f"  store atomic i64 {value}, ptr {address} seq_cst, align 8")

    def _op_atomic_add(self, pointer: str, index: str, value: str) -> str:
        return self._emit(f"atomicrmw add ptr {self._element(pointer, index)}, i64 {value} seq_cst")

    def _op_atomic_swap(self, pointer: str, index: str, value: str) -> str:
        return self._emit(
            f"atomicrmw xchg ptr {self._element(pointer, index)}, i64 {value} seq_cst"
        )

    def _op_float_bits(self, double: str) -> str:
        wide = self._emit(f"bitcast i64 {double} to double")
        bits = self._emit(f"bitcast float {self._emit(f'fptrunc double {wide} to float')} to i32")
        return self._emit(f"zext i32 {bits} to i64")

    def _op_bit_length(self, value: str) -> str:
        zeros = self._emit(f"call i64 @llvm.ctlz.i64(i64 {value}, i1 false)")
        return self._emit(f"sub i64 64, {zeros}")

    def _op_min(self, left: str, right: str) -> str:
        return self._emit(f"call i64 @llvm.smin.i64(i64 {left}, i64 {right})")

    def _op_max(self, left: str, right: str) -> str:
        return self._emit(f"call i64 @llvm.smax.i64(i64 {left}, i64 {right})")

    def _op_pause(self) -> None:
        if _PAUSE:
            self.lines.append(f"  call void @{_PAUSE}")


def _pause_intrinsic() -> str:
    """The call that eases a spin loop on this processor ('' where LLVM names none)."""
    machine = os.uname().machine.lower() if hasattr(os, "uname") else ""
    if machine in ("x86_64", "amd64"):
        return "llvm.x86.sse2.pause()"
    return "llvm.aarch64.hint(i32 1)" if machine in ("aarch64", "arm64") else ""


_PAUSE = _pause_intrinsic()
