"""From kernel source to an address: Numba's front end, LLVM's passes, the disk cache, the linker.

A kernel is `def kernel(t, lo, hi)`: `t` is the address of a table of words, `[lo, hi)` the units of
work to do. It never raises and never touches Python objects. Numba is imported only when a kernel
is in no cache. Invariant: one source is one kernel object, whoever asks first and however many ask
at once.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

from tracejit import config
from tracejit.codegen.cache import disk_cache
from tracejit.codegen.objects import (
    LinkedObject,
    emit,
    optimize,
    optimize_lightly,
    parse,
    target_fingerprint,
    target_machine,
)
from tracejit.errors import CompileError

_SYMBOL = "tracejit_kernel"
_KEPT = 2048  # kernels held alive by the table alone; programs hold on to their own
_HISTORY = 4096
FAST_FLAGS = frozenset(
    {"reassoc", "contract", "arcp", "nsz"}
)  # what `config.fast_math` allows: never nnan, ninf

_lock = threading.Lock()
_table: OrderedDict[str, CompiledKernel] = OrderedDict()
_pending: dict[str, threading.Event] = {}
_events: list[KernelEvent] = []


class CompiledKernel:
    """A kernel in memory. Its address stays valid as long as this object lives.

    `name` for people, `source` the Python text, `key` the content hash, `address` of `void(int64
    table, int64 lo, int64 hi)`, `compile_ms` what it cost, `from_cache` whether the disk had it.
    """

    def __init__(self, name: str, source: str, key: str, fast: bool, light: bool):
        self.name = name
        self.source = source
        self.key = key
        self.fast = fast
        self.light = light
        self.compile_ms = 0.0
        self.from_cache = False
        self.address = 0
        self._object: LinkedObject | None = None
        self._llvm: str | None = None

    @property
    def filename(self) -> str:
        """The name under which `linecache` and tracebacks know the source."""
        return f"<tracejit {self.name} {self.key[:12]}>"

    @property
    def llvm(self) -> str:
        """The optimised LLVM IR (worked out anew for a kernel that came from disk)."""
        if self._llvm is None:
            self._llvm = str(_lower(self))
        return self._llvm

    @property
    def asm(self) -> str:
        """The machine code as assembly text."""
        return str(target_machine(self.light).emit_assembly(parse(self.llvm)))

    def __repr__(self) -> str:
        origin = "disk" if self.from_cache else f"{self.compile_ms:.0f} ms"
        return f"<kernel {self.name} {self.key[:12]} ({origin})>"


class KernelEvent:
    """One line of `kernel_history()`: `kind` is "compile", "disk" or "memory"."""

    __slots__ = ("kind", "name", "key", "ms")

    def __init__(self, kind: str, name: str, key: str, ms: float):
        self.kind = kind
        self.name = name
        self.key = key
        self.ms = ms

    def __repr__(self) -> str:
        return f"{self.kind} {self.name} {self.key[:12]} {self.ms:.2f} ms"


def kernel_history() -> list[KernelEvent]:
    """What was asked of the compiler so far, oldest first (the last few thousand).

    Example: ``sum(event.kind == "compile" for event in kernel_history())`` counts compilations.
    """
    return list(_events)


def clear_kernels(history: bool = True) -> None:
    """Forget the kernels in memory (those in use live on) and, unless told not to, the history."""
    with _lock:
        _table.clear()
        if history:
            _events.clear()


def compile_kernel(name: str, source: str, light: bool = False) -> CompiledKernel:
    """The kernel that `source` defines, from memory, from disk, or compiled.

    `source` is the text of `def kernel(t, lo, hi)` over the names of `tracejit.codegen.language`;
    `name` is for people only and does not make a kernel another. `light` compiles in a fraction of
    the time what runs over little data: the same operations, not vectorised. Strict IEEE unless
    `config.fast_math`. Raises CompileError naming a reproducer file.

    Example: ``compile_kernel("twice", "def kernel(t, lo, hi):\\n    ...").address``.
    """
    fast = bool(config.fast_math)
    light = light and kernel_key(source, fast) not in _table
    key = kernel_key(source, fast, light)
    while True:
        with _lock:
            kernel = _table.get(key)
            if kernel is not None:
                _table.move_to_end(key)
                _record("memory", name, key, 0.0)
                return kernel
            event = _pending.get(key)
            if event is None:
                mine = _pending[key] = threading.Event()
                break
        event.wait()  # another thread compiles it; if that fails, this one tries for itself
    try:
        kernel = _make(CompiledKernel(name, source, key, fast, light))
        with _lock:
            _table[key] = kernel
            while len(_table) > _KEPT:
                _, dropped = _table.popitem(last=False)
                linecache.cache.pop(dropped.filename, None)
        return kernel
    finally:
        with _lock:
            del _pending[key]
        mine.set()


def kernel_key(source: str, fast: bool = False, light: bool = False) -> str:
    """The content hash of a kernel: its source, the machine, and everything that turns one into
    the other.
    """
    text = f"{_toolchain()}\nfast={fast} light={light}\n{source}"
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _toolchain() -> str:
    """A hash of machine, versions and the sources that are compiled into kernels."""
    import importlib.metadata  # slow to load, and only needed for the first kernel

    digest = hashlib.sha256(target_fingerprint().encode())
    digest.update(importlib.metadata.version("numba").encode())
    here = Path(__file__).parent
    for path in [
        Path(__file__),
        here / "objects.py",
        here / "frontend.py",
        here / "lowering.py",
        here / "language.py",
        here / "lanes.py",
        here / "philox.py",
        *sorted(here.glob("mathlib/*.py")),
    ]:
        if path.exists():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _record(kind: str, name: str, key: str, ms: float) -> None:
    _events.append(KernelEvent(kind, name, key, ms))
    if len(_events) > _HISTORY:
        del _events[: _HISTORY // 2]


def _make(kernel: CompiledKernel) -> CompiledKernel:
    """Load the kernel from disk, or compile it and put it there."""
    name, source, key = kernel.name, kernel.source, kernel.key
    started = time.perf_counter()
    linecache.cache[kernel.filename] = (len(source), None, source.splitlines(True), kernel.filename)
    store = disk_cache()
    code = store.load(key) if store else None
    if code is not None:
        kernel.from_cache = _link(kernel, code)
    if not kernel.from_cache:
        code = emit(_lower(kernel), light=kernel.light)
        kernel._object = LinkedObject(code, (_SYMBOL,))
        if store:
            store.store(key, code)
    assert kernel._object is not None
    kernel.address = kernel._object.addresses[_SYMBOL]
    kernel.compile_ms = (time.perf_counter() - started) * 1e3
    with _lock:
        _record("disk" if kernel.from_cache else "compile", name, key, kernel.compile_ms)
    if config.debug >= 1:
        _say(kernel)
    return kernel


def _say(kernel: CompiledKernel) -> None:
    """What `config.debug` asks for: the kernel, its time, its source."""
    origin = "load from disk" if kernel.from_cache else "compile"
    spent = f" ({kernel.compile_ms:.1f} ms)" if config.debug >= 2 else ""
    source = f"\n{kernel.source}" if config.debug >= 3 else ""
    print(f"tracejit: {origin} {kernel.name} {kernel.key[:12]}{spent}{source}", file=sys.stderr)


def _link(kernel: CompiledKernel, code: bytes) -> bool:
    """Link code from disk; False if it does not fit this process after all, which makes it a
    miss.
    """
    try:
        kernel._object = LinkedObject(code, (_SYMBOL,))
    except CompileError:
        return False
    return True


# Numba


def _lower(kernel: CompiledKernel) -> Any:
    """The optimised LLVM module of a kernel, with one exported function."""
    from tracejit.codegen import frontend  # imports Numba

    name, source = kernel.name, kernel.source
    try:
        tree = ast.parse(source, kernel.filename)
        module = parse(frontend.lower(tree, _SYMBOL, FAST_FLAGS if kernel.fast else frozenset()))
        if kernel.light:
            optimize_lightly(module)
        else:
            optimize(module)
    except frontend.ERRORS as error:
        path = _write_reproducer(name, source, error)
        text = str(error).strip()
        raise CompileError(
            f"kernel {name} cannot be compiled: {text}\nits source is in {path}"
        ) from error
    return module


def _write_reproducer(name: str, source: str, error: BaseException) -> str:
    """Write the kernel and how to compile it to a file of its own; the file's path."""
    header = f'"""Reproducer: kernel {name!r} does not compile. Run it with Python."""\n'
    comment = "".join(f"# {line}\n" for line in str(error).splitlines())
    body = (
        "from tracejit.codegen.compiler import compile_kernel\n\n"
        f"SOURCE = {source!r}\n\nprint(compile_kernel({name!r}, SOURCE))\n"
    )
    with tempfile.NamedTemporaryFile(
        "w", prefix="tracejit_kernel_", suffix=".py", delete=False, encoding="utf-8"
    ) as file:
        file.write(header + comment + body)
    return file.name
