"""Runs device kernel source on NumPy: every variable holds the values of all threads at once.

The same text that `ptx` compiles is executed here as Python, with arrays for values and a mask for
the threads that take part: a loop goes on while any thread is in it, an `if` narrows the mask, and
an assignment keeps the old value where a thread is masked out. Threads stand in a shuffled order.
Invariant: what CUDA leaves open is an error here: an element written by one thread and touched by
another within a launch, an address outside every allocation, a `swap` that not all lanes reach.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from tracejit.codegen import device_language, language
from tracejit.codegen.language import STORAGE
from tracejit.codegen.mathlib.core import NUMPY_TYPE
from tracejit.errors import TracejitError

Array = np.ndarray[Any, Any]
LANES_AT_ONCE = 1 << 15
_EVERYBODY = np.array([-1])  # as the reader of an element: all threads


class SimFault(TracejitError, RuntimeError):
    """A simulated kernel did what a GPU would punish or leave undefined."""


class Memory:
    """What the simulator asks of a device's memory."""

    def find(self, address: int) -> tuple[int, Array]:
        """First address and bytes of the allocation that holds `address`; raises SimFault."""
        raise NotImplementedError


class _Pointer:
    """A typed view of one allocation, and the element to which the pointer points."""

    __slots__ = ("key", "array", "first", "kind")

    def __init__(self, memory: Memory, address: int, storage: str):
        start, data = memory.find(address)
        kind, dtype, _ = STORAGE[storage]
        size = np.dtype(dtype).itemsize
        if (address - start) % size:
            raise SimFault(f"pointer to {storage} is not aligned to its {size} bytes")
        self.key = (start, size)
        self.array = data[: len(data) // size * size].view(dtype)
        self.first = (address - start) // size
        self.kind = NUMPY_TYPE[kind]


class _Pointers:
    """Different pointers in different threads."""

    __slots__ = ("parts",)

    def __init__(self, memory: Memory, addresses: Array, storage: str):
        self.parts = [
            (addresses == address, _Pointer(memory, int(address), storage))
            for address in np.unique(addresses)
        ]


class _Assignments(ast.NodeTransformer):
    """Masked assignment and branches: `x = e` becomes `x = keep(x, e)` where x has a value."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.inner: list[str] = []  # first assigned where threads may not come
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        first = [ast.Assign([ast.Name(n, ast.Store())], ast.Constant(None)) for n in self.inner]
        node.body = [*(ast.copy_location(x, node) for x in first), *node.body]
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        node.iter = self.visit(node.iter)
        self.depth += 1
        node.body = [self.visit(x) for x in node.body]
        self.depth -= 1
        return node

    def visit_If(self, node: ast.If) -> ast.For:
        test = self.visit(node.test)
        self.depth += 1
        body = [self.visit(x) for x in node.body]
        self.depth -= 1
        call = ast.Call(ast.Name("when", ast.Load()), [test], [])
        return ast.copy_location(ast.For(ast.Name("_", ast.Store()), call, body, []), node)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        node.value = self.visit(node.value)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            if self.depth and target.id in self.known:
                held = ast.Name(target.id, ast.Load())
                node.value = ast.Call(ast.Name("keep", ast.Load()), [held, node.value], [])
            elif self.depth:
                self.inner.append(target.id)
            self.known.add(target.id)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.Assign:
        assert isinstance(node.target, ast.Name)
        held = ast.Name(node.target.id, ast.Load())
        plain = ast.Assign([node.target], ast.BinOp(held, node.op, node.value))
        return self.visit_Assign(ast.copy_location(plain, node))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            return ast.Call(ast.Name("negation", ast.Load()), [node.operand], [])
        return node


@lru_cache(maxsize=1024)
def _code(source: str, filename: str) -> CodeType:
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    tree = ast.fix_missing_locations(_Assignments().visit(ast.parse(source)))
    return compile(tree, filename, "exec")


class _Launch:
    """Some blocks of one launch in progress."""

    def __init__(self, memory: Memory, table: Array, grid: int, threads: int, name: str):
        self.memory = memory
        self.table = table
        self.grid = grid
        self.width = threads
        self.name = name
        self.mask: Array | None = None
        self.writers: dict[Any, Array] = {}
        self.reads: list[tuple[Any, Array, Array]] = []

    def place(self, blocks: Array, order: Array) -> None:
        """The threads of `blocks`, in the order `order`."""
        lane = np.arange(len(blocks) * self.width)[order]
        self.position = np.empty(len(order), np.int64)
        self.position[order] = np.arange(len(order))
        self.lane = lane
        self.thread = (lane % self.width).astype(np.int64)
        self.block = blocks[lane // self.width].astype(np.int64)
        self.number = self.block * self.width + self.thread + 1
        self.mask = None

    # control ---------------------------------------------------------------------------------

    def loop(self, *bounds: Any) -> Iterator[Any]:
        """`range`, for every thread its own."""
        start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
        if not any(isinstance(x, np.ndarray) and x.ndim for x in (start, stop, step)):
            yield from map(np.int64, range(int(start), int(stop), int(step)))
            return
        outer, value = self.mask, start
        while True:
            active = np.broadcast_to(np.asarray(value < stop), self.lane.shape)
            self.mask = active if outer is None else active & outer
            if not self.mask.any():
                break
            if self.mask.all():
                self.mask = None
            yield value
            value = value + step
        self.mask = outer

    def when(self, test: Any) -> Iterator[None]:
        """`if`: once, with the threads for which the test holds."""
        outer = self.mask
        active = np.broadcast_to(np.asarray(test, bool), self.lane.shape)
        mask = active if outer is None else active & outer
        if mask.any():
            self.mask = None if mask.all() else mask
            yield None
        self.mask = outer

    def keep(self, held: Any, value: Any) -> Any:
        """An assignment: the value, for threads that take part."""
        if self.mask is None or held is None or isinstance(value, _Pointer | _Pointers):
            return value
        return np.where(self.mask, value, held)

    # memory ----------------------------------------------------------------------------------

    def index(self, p: _Pointer, i: Any, count: int = 1) -> tuple[Array, Array]:
        """The elements that threads touch, and the numbers of those threads."""
        where = np.broadcast_to(np.asarray(p.first + i, np.int64), self.lane.shape)
        who = self.number
        if self.mask is not None:
            where, who = where[self.mask], who[self.mask]
        if len(where) and (where.min() < 0 or where.max() + count > len(p.array)):
            raise SimFault(f"{self.name}: an access outside its allocation")
        return where, who

    def each(self, p: _Pointers, act: Callable[[_Pointer], Any]) -> Any:
        """`act` with every pointer, for the threads that have it; the value of each thread."""
        outer, result = self.mask, None
        for chosen, pointer in p.parts:
            self.mask = chosen if outer is None else chosen & outer
            if self.mask.any():
                value = act(pointer)
                result = value if result is None else np.where(chosen, value, result)
        self.mask = outer
        return result

    def load(self, p: Any, i: Any) -> Array:
        if isinstance(p, _Pointers):
            found: Array = self.each(p, lambda one: self.load(one, i))
            return found
        if not np.ndim(i):
            return self.load_same(p, i)
        where, who = self.index(p, i)
        self.reads.append((p.key, where, who))
        values = p.array[where].astype(p.kind)
        if self.mask is None:
            return values
        full = np.zeros(self.lane.shape, p.kind)
        full[self.mask] = values
        return full

    def load_same(self, p: _Pointer, i: Any) -> Any:
        """One element for all threads, as one number."""
        at = p.first + int(i)
        if not 0 <= at < len(p.array):
            raise SimFault(f"{self.name}: an access outside its allocation")
        who = _EVERYBODY if self.mask is None else self.number[self.mask]
        self.reads.append((p.key, np.full(len(who), at), who))
        return p.array[at].astype(p.kind)

    def store(self, p: Any, i: Any, value: Any) -> None:
        if isinstance(p, _Pointers):
            self.each(p, lambda one: self.store(one, i, value))
            return
        where, who = self.index(p, i)
        values = np.broadcast_to(np.asarray(value).astype(p.kind), self.lane.shape)
        if self.mask is not None:
            values = values[self.mask]
        p.array[where] = values.astype(p.array.dtype)
        writers = self.writers.get(p.key)
        if writers is None:
            writers = self.writers[p.key] = np.zeros(len(p.array), np.int64)
        before = writers[where]
        writers[where] = who
        if ((before != 0) & (before != who)).any() or (writers[where] != who).any():
            raise SimFault(f"{self.name}: two threads write one element")

    def aligned(self, p: Any, i: Any, count: int) -> None:
        if isinstance(p, _Pointers):
            self.each(p, lambda one: self.aligned(one, i, count))
            return
        where, _ = self.index(p, i, count)
        if len(where) and (where % count).any():
            raise SimFault(f"{self.name}: a vector access is not aligned")

    def load_vector(self, p: Any, i: Any, count: int) -> tuple[Array, ...]:
        self.aligned(p, i, count)
        return tuple(self.load(p, i + k) for k in range(count))

    def store_vector(self, p: Any, i: Any, *values: Any) -> None:
        self.aligned(p, i, len(values))
        for k, value in enumerate(values):
            self.store(p, i + k, value)

    def swap(self, value: Any, mask: Any) -> Any:
        partner = self.position[self.lane ^ int(mask)]
        if self.mask is not None and (self.mask != self.mask[partner]).any():
            raise SimFault(f"{self.name}: swap in a branch that not all lanes take")
        if not isinstance(value, np.ndarray) or not value.ndim:
            return value
        return value[partner]

    def check_races(self) -> None:
        """Raise if a thread read what another one wrote: no order between them is promised."""
        for key, where, who in self.reads:
            writers = self.writers.get(key)
            if writers is not None:
                writer = writers[where]
                if ((writer != 0) & (writer != who)).any():
                    raise SimFault(f"{self.name}: a thread reads what another thread writes")

    # names -----------------------------------------------------------------------------------

    def namespace(self) -> dict[str, Any]:
        """The globals of the kernel."""
        names = language.kernel_namespace()
        table = self.table
        floats = table.view(np.float64)
        for storage in STORAGE:
            names[f"ptr_{storage}"] = self._pointer(storage)
            names[f"load_{storage}"] = self.load
            names[f"store_{storage}"] = self.store
            for count in device_language.WIDTHS:
                names[f"load{count}_{storage}"] = self._vector_load(count)
                names[f"store{count}_{storage}"] = self.store_vector
        for kind in NUMPY_TYPE:
            names[f"swap_{kind}"] = self.swap
        names.update(
            word=lambda t, k: table[k], fword=lambda t, k: floats[k],
            thread=lambda: self.thread, block=lambda: self.block,
            threads=lambda: np.int64(self.width), blocks=lambda: np.int64(self.grid),
            when=self.when, keep=self.keep, range=self.loop,
            negation=np.logical_not, __builtins__={},
        )  # fmt: skip
        return names

    def _pointer(self, storage: str) -> Callable[..., Any]:
        def make(address: Any, scope: int = 0) -> Any:
            one = address if not np.ndim(address) else address[0]
            if np.ndim(address) and (address != one).any():
                return _Pointers(self.memory, address, storage)
            return _Pointer(self.memory, int(one), storage)

        return make

    def _vector_load(self, count: int) -> Callable[..., tuple[Array, ...]]:
        return lambda p, i: self.load_vector(p, i, count)


def simulate(
    memory: Memory, name: str, source: str, table: Array, grid: int, threads: int, seed: int = 0
) -> None:
    """Run `def kernel(t)` on `grid` blocks of `threads` threads; `table` are its words.

    Raises SimFault for races, wild accesses and divergent swaps.
    """
    launch = _Launch(memory, np.ascontiguousarray(table, np.int64), grid, threads, name)
    names = launch.namespace()
    exec(_code(source, f"<tracejit sim {name} {hash(source) & 0xFFFFFFFF:x}>"), names)
    kernel = names["kernel"]
    random = np.random.default_rng(seed)
    order = random.permutation(grid)
    at_once = max(1, LANES_AT_ONCE // threads)
    with np.errstate(all="ignore"):
        for first in range(0, grid, at_once):
            blocks = order[first : first + at_once]
            launch.place(blocks, random.permutation(len(blocks) * threads))
            kernel(0)
    launch.check_races()
