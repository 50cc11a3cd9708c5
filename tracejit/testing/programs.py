"""Random programs as source text: a function, the Python state it reads, and calls that change it.

A program is a module with ``f`` and a generator ``run(f)`` that calls it and yields whatever shows.
Invariant: the text is a function of the seed alone, and needs nothing but tracejit to run.
"""

from __future__ import annotations

import ast
import linecache
import random
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import tracejit
from tracejit import dtypes
from tracejit.eager.backward import leaves_below
from tracejit.eager.tape import node_of
from tracejit.tensor import Tensor

INDENT = "    "
_FILE = re.compile(r"<fuzz \d+>")
_USE = re.compile(r"the gradient of (a compiled function|\w+)")
"""What the message about a saved value names: the op of the tape, or the input of the trace."""
_PRELUDE = """\
import copy
import math

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F
from tracejit.testing.programs import Box, attempt, flat, make, pull, pull_twice, spoil
"""
_FLOATS = ("float32",) * 6 + ("float64",) * 2 + ("float16",)
DTYPES = (*_FLOATS, "int64", "int64", "int32", "uint8", "int8", "bool", "bool")


class Box:
    """A plain object whose attributes programs read and write."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def make(
    dtype: str, shape: Sequence[int], seed: int, layout: str = "c", grad: bool = False
) -> Tensor:
    """A tensor of small random values: the same for the same arguments.

    layout  'c' contiguous, 't' transposed, 's' strided, 'f' flipped, 'e' expanded, 'o' offset view.
    """
    rng = np.random.default_rng([seed, *shape])
    shape = tuple(shape)
    if layout == "t" and len(shape) > 1:
        order = tuple(reversed(range(len(shape))))
        whole = _fill(rng, dtype, shape[::-1]).permute(*order)
    elif layout == "s" and shape:
        inside = (slice(None, None, 2),) * len(shape)
        whole = _fill(rng, dtype, tuple(2 * n for n in shape))[inside]
    elif layout == "f" and shape:
        whole = _fill(rng, dtype, shape).flip(0)
    elif layout == "e" and shape and shape[0]:
        whole = _fill(rng, dtype, (1, *shape[1:])).expand(*shape)
    elif layout == "o" and shape:
        whole = _fill(rng, dtype, (shape[0] + 2, *shape[1:]))[1:-1]
    else:
        whole = _fill(rng, dtype, shape)
    if grad:
        whole.requires_grad_()
    return whole


def _fill(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Tensor:
    kind = getattr(dtypes, "bool_" if dtype == "bool" else dtype)
    values: Any
    if kind.kind == "f":
        values = np.round(rng.uniform(-2, 2, shape) * 64) / 64
        values = np.where(rng.random(shape) < 0.03, rng.choice([0.0, -0.0, 1.0, -1.0]), values)
    elif kind.kind == "b":
        values = rng.random(shape) < 0.5
    else:
        values = rng.integers(0 if kind.kind == "u" else -4, 5, shape)
    return tracejit.tensor(np.asarray(values).astype(kind.numpy))


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call, or the type and first line of what it raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        line = _FILE.sub("<fuzz>", str(error).partition("\n")[0])
        return (type(error).__name__, _USE.sub("the gradient of an op", line))


def pull(result: Any) -> None:
    """Backward from all results that have a gradient."""
    total = _total(result)
    if total is not None:
        total.backward()


def pull_twice(result: Any) -> None:
    """Backward, then backward of the gradients' squares."""
    total = _total(result)
    if total is None:
        return
    found = {id(leaf): leaf for _, leaf in leaves_below([node_of(total)])}
    leaves = list(found.values())  # one that a capture with varying sizes met has several nodes
    grads = tracejit.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    squares = _total([g for g in grads if g is not None], power=2, step=0)
    if squares is not None:
        squares.backward()


def spoil(result: Any) -> None:
    """Write to all results, as their owner may: no later call must see it."""
    found: list[Tensor] = []
    _collect(result, found, lambda t: not (t.requires_grad and t.is_leaf))
    with tracejit.no_grad():
        for tensor in found:
            tensor.fill_(1)


def flat(result: Any) -> list[Any]:
    """All results as vectors that share their memory, where it lies so."""
    found: list[Tensor] = []
    _collect(result, found, lambda t: True)
    return [attempt(tensor.view, -1) for tensor in found]


def _total(result: Any, power: int = 1, step: int = 1) -> Any:
    found: list[Tensor] = []
    _collect(result, found, lambda t: t.requires_grad)
    if not found:
        return None
    total: Any = 0.0
    for i, tensor in enumerate(found):
        total = total + (tensor.double() ** power * (1 + step * i)).sum()
    return total


def _collect(value: Any, found: list[Tensor], wanted: Callable[[Tensor], bool]) -> None:
    if isinstance(value, Tensor):
        if wanted(value) and all(value is not t for t in found):
            found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect(item, found, wanted)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found, wanted)


@dataclass(frozen=True)
class Program:
    """A program in parts that can be taken out one by one.

    state    lines that define module-level names.
    header   the arguments of ``f``.
    body     blocks of lines of ``f``; outputs the expressions it returns.
    calls    blocks of lines of ``run``.
    exact    whether all results must have the same bits eager and compiled.
    """

    seed: int
    header: str = ""
    state: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    traits: frozenset[str] = field(default_factory=frozenset)

    def source(self) -> str:
        """The program's text."""
        assigned = (re.match(r"(\w+) = ", block) for block in self.state)
        names = sorted({found[1] for found in assigned if found})
        lines = [_PRELUDE, *self.state, "", "", f"def f({self.header}):"]
        lines += [INDENT + line for block in self.body for line in block.splitlines()]
        lines += [f"{INDENT}return {', '.join(self.outputs)}{',' * (len(self.outputs) == 1)}"]
        lines += ["", "", "def run(f):"]
        if names:
            lines.append(f"{INDENT}global {', '.join(names)}")
        lines += [INDENT + line for block in self.calls for line in block.splitlines()]
        lines += [f"{INDENT}yield None"]
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Program:
        """The program of a text that `source` wrote; ValueError for another."""
        head, first, rest = text.partition("\ndef f(")
        body, second, calls = rest.partition("\ndef run(f):\n")
        header, third, body = body.partition("):\n")
        if not (first and second and third):
            raise ValueError("a program has a function f and a generator run(f)")
        blocks = _blocks(body)
        returned = blocks.pop() if blocks and blocks[-1].startswith("return ") else "return None"
        lines = [c for c in _blocks(calls) if not c.startswith("global ") and c != "yield None"]
        state = tuple(b for b in _blocks(head, "") if b not in _PRELUDE and not b.startswith("#"))
        outputs = _expressions(returned.removeprefix("return "))
        return cls(0, header, state, tuple(blocks), outputs, _calls(lines))

    def without(self, part: str, position: int) -> Program:
        """The program without one element of `part`."""
        items = getattr(self, part)
        return replace(self, **{part: items[:position] + items[position + 1 :]})


def _blocks(text: str, indent: str = INDENT) -> list[str]:
    """Statements at this indentation, each with the lines below it."""
    found: list[str] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        part = line.removeprefix(indent)
        if found and part.startswith((" ", ")", "]", "}", "else", "elif", "except", "finally")):
            found[-1] += "\n" + part
        else:
            found.append(part)
    return found


def _calls(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines of ``run`` in blocks that end where the function was called or looked at."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if blocks[-1] and blocks[-1][-1].startswith("yield") and not line.startswith("yield"):
            blocks.append([])
        blocks[-1].append(line)
    return tuple("\n".join(block) for block in blocks)


def _expressions(text: str) -> tuple[str, ...]:
    """The items of a tuple that is returned."""
    value = ast.parse(text.strip(), mode="eval").body
    items = value.elts if isinstance(value, ast.Tuple) else [value]
    return tuple(ast.unparse(item) for item in items)


_count = [0]


def load(source: str) -> types.ModuleType:
    """The text as a module with a name of its own; tracebacks and `inspect` find its lines."""
    _count[0] += 1
    filename = f"<fuzz {_count[0]}>"
    while len(_loaded) > 200:
        linecache.cache.pop(_loaded.pop(0), None)
    _loaded.append(filename)
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    module = types.ModuleType(f"fuzz_{_count[0]}")
    exec(compile(source, filename, "exec"), module.__dict__)  # text of our own generator
    return module


_loaded: list[str] = []


# --- generating ----------------------------------------------------------------------------------


class Builder:
    """Grows a program statement by statement, running each one to see what it gives."""

    def __init__(self, seed: int):
        self.seed = seed
        self.rng = random.Random(seed)
        self.module = load(_PRELUDE)
        self.space = self.module.__dict__
        self.state: list[str] = []
        self.body: list[str] = []
        self.names: list[str] = []  # tensors in scope, oldest first
        self.inputs: list[str] = []
        self.traits: set[str] = set()
        self.count = 0
        self.batch = self.rng.choice([2, 3, 3, 4, 5])

    def value(self, name: str) -> Any:
        return self.space[name]

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def new(self) -> str:
        """A fresh name."""
        self.count += 1
        return f"v{self.count}"

    def tensor(self, wanted: Callable[[Tensor], bool] | None = None) -> str | None:
        """A tensor in scope, the later ones more often; None if none will do."""
        fitting = [n for n in self.names if wanted is None or wanted(self.space[n])]
        if not fitting:
            return None
        return fitting[max(self.rng.randrange(len(fitting)), self.rng.randrange(len(fitting)))]

    def float_tensor(self, rank: int = 0) -> str | None:
        """A floating tensor of at least this rank."""
        return self.tensor(lambda t: t.dtype.is_floating_point and t.ndim >= rank)

    def like(self, name: str) -> str:
        """A tensor that broadcasts with `name` (itself, if there is no other)."""
        shape = self.space[name].shape
        return self.tensor(lambda t: _broadcasts(t.shape, shape)) or name

    def number(self) -> str:
        """A number: a literal, an argument, or a piece of state."""
        held = [n for n in ("k", "GAIN", "BOX.scale", "TABLE[0]") if self._has(n)]
        if held and self.chance(0.4):
            return self.rng.choice(held)
        return self.rng.choice(["2", "0.5", "-1", "3", "1.5", "0.1", "1", "-0.25", "7"])

    def _has(self, name: str) -> bool:
        return name.split(".")[0].split("[")[0] in self.space

    def add_state(self, line: str) -> None:
        """A module-level definition."""
        if line not in self.state:
            exec(line, self.space)
            self.state.append(line)

    def try_block(self, block: str, traits: Sequence[str] = ()) -> bool:
        """Append a block if it runs and gives tensors worth keeping."""
        before = dict(self.space)
        try:
            exec(compile(block, "<block>", "exec"), self.space)
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):
            self.space.clear()  # what a user's mistake raises; anything else is a fault of ours
            self.space.update(before)
            return False
        made = [n for n in self.space if n not in before and isinstance(self.space[n], Tensor)]
        if any(not _is_tame(self.space[n]) for n in made) and not self.chance(0.1):
            self.space.clear()
            self.space.update(before)
            return False
        self.body.append(block)
        self.names += [n for n in made if n not in self.names]
        self.traits.update(traits)
        return True


def _broadcasts(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b)))


def _is_tame(tensor: Tensor) -> bool:
    """Whether most values are finite and moderate, so that differences show."""
    array = tensor._array
    if array.size > 20_000:
        return False
    if array.dtype.kind != "f" or not array.size:
        return True
    with np.errstate(all="ignore"):
        return bool((np.abs(array) < 1e4).mean() > 0.6)
