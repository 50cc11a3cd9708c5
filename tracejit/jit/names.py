"""Which names a code object can read, from its bytecode: globals, attributes, imported modules.

Invariant: a name that the code could read is in the answer; where names are made at run time
(``getattr(x, name)``, ``globals()``), the answer says that any name may be read.
"""

from __future__ import annotations

import ast
import dis
import importlib.util
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

_GLOBAL_OPS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME",
               "LOAD_FROM_DICT_OR_GLOBALS"}  # fmt: skip
_BY_NAME = {"getattr": 1, "hasattr": 1, "setattr": 1, "delattr": 1}  # position of the name
_BY_ANY_NAME = {"vars", "dir", "locals", "globals", "eval", "exec", "attrgetter", "methodcaller",
                "__dict__", "__getattribute__", "__globals__", "getattr_static", "getmembers"
            }  # fmt: skip
_LISTINGS = {"vars", "dir", "__dict__", "getmembers"}
_IMPORTS = {"__import__", "import_module"}
_BY_ANY_GLOBAL = {"globals", "locals", "eval", "exec", "__globals__", "vars"}


_NO_STEPS = {"EXTENDED_ARG", "PUSH_NULL", "NOP", "CACHE"}
_MARKS = (None, True, False, ...)
"""What objects are compared with by identity that are no numbers."""


class Names:
    """What one code object (without the code inside it) can read.

    globals      names looked up in the module and among the builtins.
    attributes   names of attributes, and strings that could serve as such.
    stored       those of them that are only assigned (``self.rewards = []``), never looked up.
    modules      (name, level) of modules imported inside the code.
    any_attribute, any_global  whether names made at run time are looked up.
    imports_any  whether it imports a module by a name made at run time.
    may_miss     whether the code can go on after a look-up that finds no attribute.
    tells_types  whether it can tell a number from what stands for one, by its very type.
    tells_identity    whether it can tell two equal objects apart.
    asks_ids     whether it asks for the `id` of objects.
    lists_attributes  whether it can ask which attributes an object has.
    """

    def __init__(self, code: types.CodeType):
        self.globals: set[str] = set()
        self.modules: list[tuple[str, int]] = []
        self._scan(code)
        strings = set(_strings(code.co_consts))
        self.attributes = set(code.co_names) | strings
        self.stored -= strings
        lookups = set(code.co_names)
        self.imports_any = False
        if not lookups.isdisjoint(_IMPORTS):
            self.tells_types = True  # whatever it imports
            self.imports_any = _imports_made_names(code)
            self.modules += [(name, 0) for name in code.co_consts if isinstance(name, str)]
        self.may_miss = bool(code.co_exceptiontable) or not lookups.isdisjoint(_BY_NAME)
        self.lists_attributes = not lookups.isdisjoint(_LISTINGS)
        suspects = lookups & (_BY_ANY_NAME | _BY_NAME.keys())
        free = _made_lookups(code) if suspects else set()
        self.any_attribute = bool(free)
        self.any_global = bool(free & _BY_ANY_GLOBAL)

    def _scan(self, code: types.CodeType) -> None:
        before: list[Any] = []
        last: dis.Instruction | None = None
        self.stored: set[str] = set()
        others: set[Any] = set()
        self.tells_types = self.tells_identity = False
        steps = [i for i in dis.get_instructions(code) if i.opname not in _NO_STEPS]
        for instruction, following in zip(steps, [*steps[1:], steps[-1]], strict=True):
            if isinstance(instruction.argval, str):
                named = self.stored if instruction.opname == "STORE_ATTR" else others
                named.add(instruction.argval)
            if instruction.opname in _GLOBAL_OPS:
                self.globals.add(instruction.argval)
                self.tells_types |= _tells_type(instruction.argval, following)
            elif instruction.opname == "IS_OP":
                self.tells_identity |= not _loads_mark(last)
            elif instruction.opname == "IMPORT_NAME":
                level = before[-2] if len(before) > 1 else 0
                self.modules.append((instruction.argval, level if type(level) is int else 0))
            before = [*before[-1:], instruction.argval]
            last = instruction
        self.asks_ids = "id" in self.globals
        self.tells_identity |= self.asks_ids
        self.stored -= others


def _loads_mark(instruction: dis.Instruction | None) -> bool:
    """Whether an instruction loads one of the `_MARKS`."""
    if instruction is None or not instruction.opname.startswith("LOAD_CONST"):
        return False
    return any(instruction.argval is mark for mark in _MARKS)


def _tells_type(name: str, following: dis.Instruction) -> bool:
    """Whether a global of this name, used so, shows the type of a number: ``type(n)`` (but not
    ``type(self)``), ``float.hex(n)``."""
    if name == "type":
        return following.argval not in ("self", "cls")
    return name in ("int", "float") and following.opname in ("LOAD_ATTR", "LOAD_METHOD")


_known: dict[types.CodeType, Names] = {}


def names_of(code: types.CodeType) -> Names:
    """The names of `code`; worked out once."""
    found = _known.get(code)
    if found is None:
        if len(_known) > 4096:
            _known.clear()
        found = _known[code] = Names(code)
    return found


def imported_module(name: str, level: int, global_names: dict[str, Any]) -> str | None:
    """The absolute name of a module that ``import`` in code with these globals means."""
    if level == 0:
        return name
    package = global_names.get("__package__")
    if not isinstance(package, str):
        return None
    try:
        return importlib.util.resolve_name("." * level + name, package)
    except ImportError:
        return None


def _strings(constants: tuple[Any, ...]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            if constant.isidentifier():
                yield constant
            else:  # attrgetter("a.b"), format strings
                yield from (part for part in constant.split(".") if part.isidentifier())
        elif isinstance(constant, (tuple, frozenset)):
            yield from _strings(tuple(constant))


def _made_lookups(code: types.CodeType) -> set[str]:
    """The functions by which the code may look up names that are not written in it."""
    tree = _tree_of(code)
    if tree is None:
        return set(code.co_names) & (_BY_ANY_NAME | _BY_NAME.keys())
    visitor = _Lookups()
    visitor.visit(tree)
    return visitor.found


def _tree_of(code: types.CodeType) -> ast.AST | None:
    """The syntax tree of the code; None if there is no source, or a fragment of a line."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


def _imports_made_names(code: types.CodeType) -> bool:
    """Whether the code may import a module by a name that is not written in it."""
    tree = _tree_of(code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree else []
    named = [call for call in calls
             if getattr(call.func, "id", getattr(call.func, "attr", "")) in _IMPORTS]  # fmt: skip
    return not named or not all(
        call.args and isinstance(call.args[0], ast.Constant) for call in named
    )


class _Lookups(ast.NodeVisitor):
    """Collects uses of look-up functions, but not ``getattr(x, "name")``."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _BY_NAME:
            position = _BY_NAME[function.id]
            name = node.args[position] if len(node.args) > position else None
            if isinstance(name, ast.Constant):
                for argument in node.args:
                    self.visit(argument)
                return
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _BY_ANY_NAME or node.id in _BY_NAME:
            self.found.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _BY_ANY_NAME:
            self.found.add(node.attr)
        self.generic_visit(node)


def with_inner(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code and all code objects among its constants."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from with_inner(constant)
