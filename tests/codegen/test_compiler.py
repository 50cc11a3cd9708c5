"""compile_kernel: values, one compilation per source, the disk, faults, and threads that ask at
once.
"""

import ctypes
import linecache
import runpy
import subprocess
import sys
import threading

import numpy as np
import pytest

from tracejit import config
from tracejit.codegen import compiler, objects
from tracejit.codegen.compiler import clear_kernels, compile_kernel, kernel_history
from tracejit.errors import CompileError
from tracejit.ir.op import OPS
from tracejit.runtime.executable import build
from tracejit.runtime.single import op_graph

ADD = """def kernel(t, lo, hi):
    x = ptr_f32(word(t, 0))
    y = ptr_f32(word(t, 1))
    for i in range(lo, hi):
        store_f32(y, i, load_f32(x, i) + to_f32({constant}))
"""


@pytest.fixture(autouse=True)
def private_cache(tmp_path):
    clear_kernels()
    with config.override(cache_dir=str(tmp_path), cache=True):
        yield
    clear_kernels()


def kinds():
    return [event.kind for event in kernel_history()]


def run(kernel, x, lo, hi):
    y = np.zeros_like(x)
    table = np.array([x.ctypes.data, y.ctypes.data], np.int64)
    function = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    function(kernel.address)(table.ctypes.data, lo, hi)
    return y


def test_kernel_does_its_range_and_nothing_else():
    x = np.arange(100, dtype=np.float32)
    kernel = compile_kernel("add", ADD.format(constant=2))
    expected = np.where((x >= 3) & (x < 77), x + 2, 0)
    assert (run(kernel, x, 3, 77) == expected).all()
    assert (run(kernel, x, 5, 5) == 0).all()


def test_same_source_is_the_same_kernel():
    first = compile_kernel("add", ADD.format(constant=2))
    assert compile_kernel("other_name", ADD.format(constant=2)) is first
    assert compile_kernel("add", ADD.format(constant=3)) is not first
    assert kinds() == ["compile", "memory", "compile"]


def test_disk_serves_a_new_process_table():
    x = np.arange(10, dtype=np.float32)
    compile_kernel("add", ADD.format(constant=5))
    clear_kernels(history=False)
    kernel = compile_kernel("add", ADD.format(constant=5))
    assert kernel.from_cache and kinds() == ["compile", "disk"]
    assert (run(kernel, x, 0, 10) == x + 5).all()


def test_cache_switched_off():
    with config.override(cache=False):
        compile_kernel("add", ADD.format(constant=5))
        clear_kernels(history=False)
        compile_kernel("add", ADD.format(constant=5))
    assert kinds() == ["compile", "compile"]


def test_warm_process_imports_no_numba(tmp_path):
    script = (
        "import sys; from tracejit.codegen.compiler import compile_kernel\n"
        f"k = compile_kernel('add', {ADD.format(constant=1)!r})\n"
        "print(k.from_cache, 'numba' in sys.modules)"
    )
    environment = {"TRACEJIT_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        for _ in range(2)
    ]
    assert [r.stdout.strip() for r in runs] == ["False True", "True False"], runs[1].stderr


def test_inspection_before_and_after_the_disk():
    kernel = compile_kernel("add", ADD.format(constant=2))
    assert "define void @tracejit_kernel(i64" in kernel.llvm and "fadd" in kernel.llvm
    assert "tracejit_kernel" in kernel.asm
    assert "store_f32" in linecache.getline(kernel.filename, 5)
    clear_kernels()
    assert compile_kernel("add", ADD.format(constant=2)).llvm == kernel.llvm


def test_strict_unless_fast_math_is_asked_for():
    strict = compile_kernel("add", ADD.format(constant=2))
    with config.override(fast_math=True):
        fast = compile_kernel("add", ADD.format(constant=2))
    assert fast is not strict and fast.key != strict.key
    assert "fadd reassoc" in fast.llvm
    for flag in ("reassoc", "nnan", "ninf", "contract", "fast"):
        assert f"fadd {flag}" not in strict.llvm
    assert "nnan" not in fast.llvm and "ninf" not in fast.llvm


def test_fast_math_leaves_the_math_library_alone():
    source = ADD.replace("load_f32(x, i) + to_f32({constant})", "m.exp(load_f32(x, i))")
    x = np.linspace(-80, 80, 1001, dtype=np.float32)
    strict = run(compile_kernel("exp", source), x, 0, len(x))
    with config.override(fast_math=True):
        fast = run(compile_kernel("exp", source), x, 0, len(x))
    assert (fast == strict).all()


def test_compiling_loads_little_of_numba(tmp_path):
    script = (
        "import sys; from tracejit.codegen.compiler import compile_kernel\n"
        f"compile_kernel('add', {ADD.format(constant=1)!r})\n"
        "heavy = 'numba.np.arraymath numba.cpython.unicode numba.typed.typeddict scipy.linalg'\n"
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    environment = {"TRACEJIT_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def kernel(t, lo, hi):\n    no_such_name(t)\n", "no_such_name"),
        ("def kernel(t, lo, hi):\n    return (\n", "never closed"),
        ("def other(t, lo, hi):\n    pass\n", "no function named kernel"),
        ("def kernel(t, lo, hi):\n    raise ValueError\n", "cannot hold 'raise"),
        ("def kernel(t, lo, hi):\n    t.append(1)\n", "append"),
        ("def kernel(t):\n    pass\n", ""),
    ],
)
def test_faults_become_compile_errors_with_a_reproducer(source, word, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CompileError, match="its source is in") as caught:
        compile_kernel("faulty", source)
    assert word in str(caught.value)
    (reproducer,) = tmp_path.glob("tracejit_kernel_*.py")
    with pytest.raises(CompileError):
        runpy.run_path(str(reproducer), run_name="__main__")
    with pytest.raises(
        CompileError
    ):  # a failure leaves nothing behind that the next caller waits for
        compile_kernel("faulty", source)


def test_a_reproducer_is_a_program(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CompileError):
        compile_kernel("faulty", "def kernel(t, lo, hi):\n    no_such_name(t)\n")
    (reproducer,) = tmp_path.glob("tracejit_kernel_*.py")
    result = subprocess.run(
        [sys.executable, reproducer],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert "CompileError" in result.stderr


def test_halves_of_float64_round_once():
    """LLVM calls a function for it that this process may not have."""
    text = """define i16 @f(double %x) {
      %half = fptrunc double %x to half
      %bits = bitcast half %half to i16
      ret i16 %bits
    }"""
    linked = objects.LinkedObject(objects.emit(objects.parse(text)), ("f",))
    narrow = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_double)(linked.addresses["f"])
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, 2, 500) * 2.0 ** rng.integers(-30, 20, 500),
                        [0.0, -0.0, np.inf, -np.inf, np.nan, 65519.999, 65520.0, 2.0**-25,
                         1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11, 3 * 2.0**-26]])  # fmt: skip
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float16)
    got = np.array([narrow(v) for v in x], np.uint16).view(np.float16)
    np.testing.assert_array_equal(got, wanted)
    assert (np.signbit(got) == np.signbit(wanted)).all()


def test_unknown_symbol_is_refused_before_linking():
    module = compiler.parse(
        "declare void @no_such_symbol()\ndefine void @f() { call void @no_such_symbol() ret void }"
    )
    with pytest.raises(CompileError, match="no_such_symbol"):
        compiler.emit(module)


def test_32_threads_ask_and_one_compiles():
    found = []
    barrier = threading.Barrier(32)

    def ask():
        barrier.wait()
        found.append(compile_kernel("add", ADD.format(constant=9)))

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert sorted(kinds()) == ["compile"] + ["memory"] * 31


def test_kernels_in_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(compiler, "_KEPT", 3)
    held = compile_kernel("add", ADD.format(constant=0))
    for constant in range(1, 6):
        compile_kernel("add", ADD.format(constant=constant))
    x = np.arange(4, dtype=np.float32)
    assert len(compiler._table) == 3
    assert (run(held, x, 0, 4) == x).all()  # evicted, yet alive while someone holds it


def test_keys_hold_versions_processor_and_library(monkeypatch):
    """The cache goes by content: another Numba, processor or math library is another key."""
    import importlib.metadata

    source = "def kernel(t, lo, hi):\n    pass\n"
    first = compiler.kernel_key(source)
    assert first == compiler.kernel_key(source) != compiler.kernel_key(source, fast=True)
    real = importlib.metadata.version
    changes = (
        (importlib.metadata, "version", lambda name: real(name) + ".post1"),
        (compiler, "target_fingerprint", lambda: "another processor"),
    )
    for holder, name, other in changes:
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, other)
            compiler._toolchain.cache_clear()
            assert compiler.kernel_key(source) != first, name
        compiler._toolchain.cache_clear()
    assert compiler.kernel_key(source) == first


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "pow", "softmax", "reduce_sum"])
def test_light_compilation_gives_the_same_bits(name):
    rng = np.random.default_rng(4)
    arrays = [rng.uniform(0.1, 3, (9, 33)).astype(np.float32) for _ in range(1 + (name == "pow"))]
    params = {"softmax": {"axis": 1}, "reduce_sum": {"axes": (1,)}}.get(name, {})
    graph = op_graph(OPS[name], arrays, params)
    light, full = build(graph, light=True), build(graph)
    for a, b in zip(light.run(arrays), full.run(arrays), strict=True):
        assert a.tobytes() == b.tobytes()
    pairs = list(zip(light.kernels, full.kernels, strict=True))
    assert pairs and all(a.source == b.source and a.address != b.address for a, b in pairs)
    again = build(graph, light=True)  # what is fully compiled already serves
    again.run(arrays)
    assert [k.address for k in again.kernels] == [k.address for k in full.kernels]
