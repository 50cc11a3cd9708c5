"""The word language: what is compiled does what the same text does as plain Python, and the rest
is refused.
"""

import ctypes
import sys
import textwrap

import numpy as np
import pytest

from tracejit.codegen import words, words_llvm
from tracejit.codegen.objects import LinkedObject, emit, optimize_lightly, parse
from tracejit.errors import CompileError

PROGRAM = '''
from tracejit.codegen.words import *

LIMIT = 7

def _helper(x):
    """A docstring."""
    return x * x + LIMIT

def arithmetic(a, b):
    c = a + b * 3 - (a & b) + (a | b) + (a ^ b)
    c += (a << 2) + (b >> 1)
    return c - -a + _helper(b) + min(a, b) * 5 + max(a, b) + a // 3 + a % 3

def control(n):
    total = 0
    for i in range(n):
        if i % 2 == 0 and i != 4 or i == 5:
            continue
        if not i < 20:
            break
        total += i
    for i in range(3, n):
        total += i
    for i in range(1, n, LIMIT):
        total += i * i
    while total > 1000 or total == 77:
        total -= 1000
        if total == 5:
            return -1
    pass
    return total + (n > 3)

def memory(p, n):
    previous = atomic_add(p, 1, 10)
    store(p, 0, load(p, 2) + load_byte(p + 16))
    atomic_store(p, 3, atomic_swap(p, 2, n) + atomic_load(p, 1))
    store(p, 4, float_bits(load(p, 5)))
    return previous

def _callee(x, y):
    store(x, 6, y)

def calls(p, n):
    pause()
    call_as("ll", _callee, p, n)
    return load(p, 6)

def scratch(n):
    room = stack(4)
    for i in range(4):
        store(room, i, i * n)
    return load(room, 3)
'''


def load_module(tmp_path, monkeypatch, text, name):
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        module = load_module(
            tmp_path_factory.mktemp("words"), monkeypatch, PROGRAM, "words_program"
        )
        compiled = parse(words_llvm.translate(module))
        optimize_lightly(compiled)
        names = ("arithmetic", "control", "memory", "calls", "scratch")
        linked = LinkedObject(emit(compiled), names)

        def native(name, *arguments):
            kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))
            return kind(linked.addresses[name])(*arguments)

        yield module, native


@pytest.mark.parametrize("a", [0, 1, 6, 1 << 40])
@pytest.mark.parametrize("b", [0, 3, 12345])
def test_arithmetic(both, a, b):
    module, native = both
    assert native("arithmetic", a, b) == module.arithmetic(a, b)


@pytest.mark.parametrize("n", [0, 1, 3, 5, 8, 30, 45, 100])
def test_control(both, n):
    module, native = both
    assert native("control", n) == module.control(n)


def test_memory(both):
    module, native = both
    start = np.array([1, 2, 300, 4, 5, np.float64(1.1).view(np.int64), 0], np.int64)
    results = []
    for run in (module.memory, lambda *arguments: native("memory", *arguments)):
        table = start.copy()
        results.append((run(table.ctypes.data, 9), table.tolist()))
    assert results[0] == results[1]
    assert results[0][1][4] == np.float32(1.1).view(np.int32)


def test_calls_and_stack(both):
    _, native = both
    table = np.zeros(7, np.int64)
    assert native("calls", table.ctypes.data, 42) == 42
    assert native("scratch", 5) == 15


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("return x / 2", "Div"),
        ("return unknown(x)", "unknown"),
        ("return load(x)", "load with 1 arguments"),
        ("return 1.5", "1.5"),
        ("return x < 1 < 2", "x < 1 < 2"),
        ("y, z = 1, 2", "one name"),
        ("for y in x: pass", "range"),
        ("with x: pass", "With"),
        ("return missing", "the name missing"),
        ("return load(x, index=1)", "index"),
        ("y = stack(x)", "stack"),
        ("call_as('l', x)", "call_as"),
        ("return 'text'", "text"),
    ],
)
def test_anything_else_is_refused_with_its_line(tmp_path, monkeypatch, line, complaint):
    text = f"from tracejit.codegen.words import *\n\ndef f(x):\n    {line}\n"
    module = load_module(tmp_path, monkeypatch, text, "words_refused")
    with pytest.raises(CompileError, match="words_refused:4: ") as caught:
        words_llvm.translate(module)
    assert complaint in str(caught.value)


def test_call_as_in_python():
    seen = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int32, ctypes.c_float, ctypes.c_double)
    function = kind(lambda *values: seen.append(values))
    address = ctypes.cast(function, ctypes.c_void_p).value
    bits = [int(np.float32(0.5).view(np.int32)), int(np.float64(0.25).view(np.int64))]
    words.call_as("lifd", address, 7, -3, *bits)
    assert seen == [(7, -3, 0.5, 0.25)]
