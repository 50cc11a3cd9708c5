"""Reads IR text back into a graph. The type rules run again, so a wrong type cannot be read in.

Invariant: ``print_graph(parse(text)) == text`` for text that `print_graph` made (comments with
the user's lines apart). No part of the text is evaluated as Python.
"""

from __future__ import annotations

import re
from typing import Any

from tracejit.dtypes import BY_SHORT
from tracejit.errors import ParseError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SizeEnv, SymInt, size_source
from tracejit.ir.types import CPU, Device, TensorType

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:inf|nan)\b|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    r"|(?P<string>'(?:[^'\\]|\\.)*')|(?P<name>%?[A-Za-z_0-9][\w.]*)"
    r"|(?P<op><-|->|//|[-+*%(){}\[\],:=@]))"
)
_HEADER = re.compile(r"graph\s+(\w+)\((.*)\)\s*->\s*(.*)\{$")


def parse(text: str) -> Graph:
    """The graph written as `text`; raises ParseError naming the line."""
    reader = _Reader()
    graph: Graph | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split(" # ")[0].strip()
        if raw.strip().startswith("# symbols "):
            reader.declare_symbols(raw.strip()[len("# symbols ") :])
        if not line or line.startswith("#"):
            continue
        try:
            graph = reader.line(line) or graph
        except (KeyError, IndexError, ValueError, RuntimeError, TypeError) as error:
            raise ParseError(f"line {number}: {line!r}: {error}") from error
    if graph is None:
        raise ParseError("the text holds no whole graph (header, body, return, closing brace)")
    return graph


class _Tokens:
    def __init__(self, text: str):
        self.items: list[tuple[str, str]] = []
        position = 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"cannot read {text[position:]!r}")
            self.items.append((match.lastgroup or "", match.group(match.lastgroup or 0)))
            position = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.items[self.at][1] if self.at < len(self.items) else ""

    def next(self) -> tuple[str, str]:
        if self.at >= len(self.items):
            raise ValueError("the line ends too soon")
        self.at += 1
        return self.items[self.at - 1]

    def expect(self, text: str) -> None:
        _, found = self.next()
        if found != text:
            raise ValueError(f"expected {text!r}, found {found!r}")

    def accept(self, text: str) -> bool:
        if self.peek() == text:
            self.at += 1
            return True
        return False


class _Reader:
    def __init__(self) -> None:
        self.env = SizeEnv()
        self.symbols: dict[str, SymInt] = {}
        self.values: dict[str, Node] = {}
        self.name = ""
        self.inputs: list[Node] = []
        self.effects: list[tuple[Node, Node]] = []
        self.checks: list[tuple[Node, str]] = []
        self.outputs: tuple[Node, ...] = ()

    def declare_symbols(self, text: str) -> None:
        for item in text.split(","):
            name, _, value = item.strip().partition("=")
            symbol = self.env.symbol(int(value))
            if size_source(symbol) != name:
                raise ParseError(f"symbols must be s0, s1, ... in order; found {name!r}")
            self.symbols[name] = symbol

    def line(self, line: str) -> Graph | None:
        header = _HEADER.match(line)
        if header:
            self.name = header.group(1)
            self.read_inputs(header.group(2))
        elif line.startswith("return"):
            names = line[len("return") :].replace(",", " ").split()
            self.outputs = tuple(self.values[n] for n in names)
        elif line.startswith("write "):
            target, _, value = line[len("write ") :].partition("<-")
            self.effects.append((self.values[target.strip()], self.values[value.strip()]))
        elif line.startswith("check "):
            name, _, message = line[len("check ") :].partition(" ")
            self.checks.append((self.values[name], message.strip()[1:-1]))
        elif line == "}":
            parts = (tuple(self.effects), tuple(self.checks))
            return Graph(self.name, tuple(self.inputs), self.outputs, *parts)
        else:
            self.read_node(line.lstrip("> "))
        return None

    def read_inputs(self, text: str) -> None:
        tokens = _Tokens(text)
        while tokens.peek():
            _, name = tokens.next()
            tokens.expect(":")
            kind = self.type(tokens)
            params: dict[str, Any] = {"name": name[1:]}
            if tokens.accept("@"):
                params["role"] = tokens.next()[1]
            node = OPS["input"](type=kind, **params)
            self.values[name] = node
            self.inputs.append(node)
            tokens.accept(",")

    def read_node(self, line: str) -> None:
        tokens = _Tokens(line)
        _, name = tokens.next()
        tokens.expect("=")
        op = OPS[tokens.next()[1]]
        inputs = []
        tokens.expect("(")
        while not tokens.accept(")"):
            inputs.append(self.values[tokens.next()[1]])
            tokens.accept(",")
        params: dict[str, Any] = {}
        if tokens.accept("{"):
            while not tokens.accept("}"):
                key = tokens.next()[1]
                tokens.expect("=")
                params[key] = self.value(tokens)
                tokens.accept(",")
        tokens.expect(":")
        written = line[line.rindex(" : ") + 3 :].strip()
        if op.kind in ("source", "random"):  # their type is a parameter
            params["type"] = self.type(tokens)
        node = op(*inputs, **params)
        if str(node.type) != written:
            raise ValueError(f"the type rule of {op.name} gives {node.type}, the text {written}")
        self.values[name] = node

    def type(self, tokens: _Tokens) -> TensorType:
        dtype = BY_SHORT[tokens.next()[1]]
        tokens.expect("[")
        sizes = []
        while not tokens.accept("]"):
            sizes.append(self.sum(tokens))
            tokens.accept(",")
        device = CPU
        if tokens.peek() == "@" and tokens.items[tokens.at + 1][1] in Device.KINDS:
            tokens.next()
            device = self.device(tokens)
        return TensorType(dtype, tuple(sizes), device)

    def device(self, tokens: _Tokens) -> Device:
        kind = tokens.next()[1]
        return Device(kind, int(tokens.next()[1])) if tokens.accept(":") else Device(kind)

    def value(self, tokens: _Tokens) -> Any:
        kind, text = tokens.items[tokens.at]
        if text == "(":
            return self.maybe_tuple(tokens)
        if kind == "string":
            tokens.next()
            return text[1:-1].encode("ascii").decode("unicode_escape")
        if text in ("True", "False", "None"):
            tokens.next()
            return {"True": True, "False": False, "None": None}[text]
        if text in BY_SHORT:
            tokens.next()
            return BY_SHORT[text]
        if text in Device.KINDS:
            return self.device(tokens)
        return self.sum(tokens)

    def maybe_tuple(self, tokens: _Tokens) -> Any:
        start = tokens.at
        tokens.expect("(")
        items = []
        trailing = False
        while not tokens.accept(")"):
            items.append(self.value(tokens))
            trailing = tokens.accept(",")
        if tokens.peek() in ("+", "*", "//", "%") or (len(items) == 1 and not trailing):
            tokens.at = start
            return self.sum(tokens)
        return tuple(items)

    def sum(self, tokens: _Tokens) -> Any:
        total = self.term(tokens)
        while tokens.accept("+"):
            total = total + self.term(tokens)
        return total

    def term(self, tokens: _Tokens) -> Any:
        total = self.factor(tokens)
        while tokens.peek() in ("*", "//", "%"):
            operator = tokens.next()[1]
            right = self.factor(tokens)
            total = {
                "*": lambda a, b: a * b,
                "//": lambda a, b: a // b,
                "%": lambda a, b: a % b,
            }[operator](total, right)
        return total

    def factor(self, tokens: _Tokens) -> Any:
        kind, text = tokens.next()
        if text == "(":
            inside = self.sum(tokens)
            tokens.expect(")")
            return inside
        if kind == "number":
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        if text in ("inf", "nan"):
            return float(text)
        if text in self.symbols:
            return self.symbols[text]
        raise ValueError(f"cannot read the value {text!r}")
