"""What LLVM and the assembler make of device kernels, for four generations of GPUs, without one.

Every loop shape and dtype is compiled to PTX with the core dependencies; ptxas (extra `cuda-ci`)
then makes machine code of it. Invariant: a kernel here is one that frames launch, found by planning
a graph for the simulated device.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracejit import dtypes
from tracejit.codegen.cuda import many_source, per_thread_source
from tracejit.codegen.library_kernels import scan_source, scatter_source
from tracejit.codegen.order_kernels import extreme_source, merge_source, search_source
from tracejit.codegen.ptx import ARCHITECTURES, compile_ptx
from tracejit.errors import CompileError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.types import Device, TensorType
from tracejit.runtime.device import backend_of
from tracejit.runtime.device_array import empty
from tracejit.runtime.device_frame import DeviceExecutable, DeviceKernel

SIM = Device("sim", 0)
FLOATS = ("f32", "f16", "f64")
SHAPE = (6, 8)


def tensor(name: str, dtype: Any, shape: Any = SHAPE, **role: Any) -> Node:
    return OPS["input"](name=name, type=TensorType(dtype, shape), **role)


def dense(d: Any) -> Graph:
    x, y = tensor("x", d), tensor("y", d)
    return Graph("dense", (x, y), (OPS["tanh"](x) * y + x,))


def broadcast(d: Any) -> Graph:
    x, w = tensor("x", d), tensor("w", d, (6, 1))
    return Graph("broadcast", (x, w), (x * OPS["broadcast_to"](w, shape=SHAPE),))


def strided(d: Any) -> Graph:
    x = tensor("x", d)
    return Graph("strided", (x,), (OPS["transpose"](x, perm=(1, 0)) + 1.0,))


def softmax(d: Any) -> Graph:
    x = tensor("x", d)
    return Graph("softmax", (x,), (OPS["softmax"](x, axis=1),))


def centred(d: Any) -> Graph:
    """A layer norm: two reductions that depend on one another, and a value for each row."""
    x = tensor("x", d)

    def mean(v: Node) -> Node:
        total = OPS["reshape"](OPS["reduce_sum"](v, axes=(1,)), shape=(6, 1)) * 0.125
        return OPS["broadcast_to"](total, shape=SHAPE)

    rest = x - mean(x)
    return Graph("centred", (x,), (rest * OPS["rsqrt"](mean(rest * rest) + 1e-5),))


def total(d: Any) -> Graph:
    x = tensor("x", d)
    return Graph("total", (x,), (OPS["reduce_sum"](x * x, axes=(0, 1)),))


def columns(d: Any) -> Graph:
    x = tensor("x", d)
    return Graph("columns", (x,), (OPS["reduce_max"](x * x, axes=(0,)),))


def dropout(d: Any) -> Graph:
    x = tensor("x", d)
    key, offset = (tensor(n, dtypes.int64, (), role="scalar") for n in ("key", "offset"))
    u = OPS["random_uniform"](key, offset, type=x.type)
    return Graph("dropout", (x, key, offset), (OPS["where"](u < 0.5, x * 2.0, x * 0.0),))


def rows(d: Any) -> Graph:
    x, i = tensor("x", d), tensor("i", dtypes.int64, (4,))
    return Graph("rows", (x, i), (OPS["take"](x, i, axis=0),))


def update(d: Any) -> Graph:
    """A momentum update in place."""
    p, g, m = tensor("p", d), tensor("g", d), tensor("m", d)
    now = m * 0.9 + g
    return Graph("update", (p, g, m), (), ((m, now), (p, p - now * 0.1)))


TEMPLATES = (dense, broadcast, strided, softmax, centred, total, columns, dropout, rows, update)
CASES = [(make, name) for make in TEMPLATES for name in FLOATS] + [
    (make, name) for make in (broadcast, total, columns) for name in ("i64", "i32", "u8")
]


def kernels(make: Any, name: str) -> list[DeviceKernel]:
    """The kernels that a frame of the graph launches."""
    dtype = next(d for d in dtypes.ALL if d.short == name)
    if dtype.kind != "f" and make is broadcast:
        x, w = tensor("x", dtype), tensor("w", dtype, (6, 1))
        graph = Graph("broadcast", (x, w), (x * OPS["broadcast_to"](w, shape=SHAPE),))
    else:
        graph = make(dtype)
    executable = DeviceExecutable(graph, backend_of(SIM))
    arguments = [
        0 if n.params.get("role") == "scalar" else empty(n.shape, n.dtype.numpy, SIM)
        for n in graph.inputs
    ]
    executable.prepare(arguments)
    return executable.kernels  # type: ignore[return-value]


@pytest.mark.parametrize(("make", "name"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_every_template_gives_clean_ptx(make: Any, name: str) -> None:
    for kernel in kernels(make, name):
        text = kernel.ptx((9, 0))
        assert text.count(".entry") == 1 and text.count(".param .align 8 .b8") == 1
        for unwanted in ("call", "atom.", "red.", "bar.", ".local", "trap"):
            assert not re.search(rf"\b{re.escape(unwanted)}", text), f"{unwanted} in {text}"
        if name in ("f32", "f16"):
            assert ".f64" not in text
        loads = re.findall(r"ld\.(\S+?)[.\s]", text)
        assert {"param", "global"} >= set(loads), "an access that is not to global memory"


def test_dense_maps_use_vectors_of_16_bytes() -> None:
    assert "ld.global.v4.b32" in kernels(broadcast, "f32")[0].ptx()  # whole vectors in every row
    for name, access in (("f32", "v4.b32"), ("f16", "v4.b32"), ("f64", "v2.b64")):
        text = kernels(dense, name)[0].ptx()
        assert text.count(f"ld.global.{access}") == 2 and f"st.global.{access}" in text


def test_sums_and_products_are_not_contracted() -> None:
    x, y = tensor("x", dtypes.float32), tensor("y", dtypes.float32)
    executable = DeviceExecutable(Graph("axpy", (x, y), (x * y + x / y,)), backend_of(SIM))
    executable.prepare([empty(SHAPE, np.dtype("f4"), SIM)] * 2)
    text = executable.kernels[0].ptx()  # type: ignore[attr-defined]
    for exact in ("mul.rn.f32", "add.rn.f32", "div.rn.f32"):
        assert exact in text
    assert "fma" not in text


def test_warps_reduce_by_shuffles() -> None:
    for name, words in (("f32", 1), ("f64", 2)):
        text = kernels(total, name)[0].ptx()
        assert text.count("shfl.sync.bfly") == 5 * words


def test_every_architecture() -> None:
    for make in (dense, softmax, columns):
        for kernel in kernels(make, "f32"):
            for cc in ARCHITECTURES:
                text = kernel.ptx(cc)
                assert f".target sm_{cc[0]}{cc[1]}" in text
                assert (".version 8.6" if cc >= (10, 0) else ".version 7.8") in text


def test_bundles_find_their_tables_without_local_memory() -> None:
    (kernel,) = kernels(update, "f32")
    words = 1 + 4 * (kernel.words + 1)
    text = compile_ptx("many", many_source(kernel.text, kernel.words), words, (9, 0))
    assert "ld.global.v4.b32" in text and ".local" not in text and ".f64" not in text
    assert f"[{8 * words}]" in text


def test_a_kernel_that_cannot_be_compiled() -> None:
    with pytest.raises(CompileError, match="device kernel wrong"):
        compile_ptx("wrong", "def kernel(t):\n    x = nobody(t)\n", 1, (9, 0))


# --- machine code ----------------------------------------------------------------------------


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit: from the wheels, CUDA_HOME or the search path."""
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    places = [*wheels.glob(f"*/bin/{name}")]
    home = os.environ.get("CUDA_HOME")
    places += [Path(home) / "bin" / name] if home else []
    return next((str(p) for p in places if p.exists()), None) or shutil.which(name)


PTXAS, DISASSEMBLER = tool("ptxas"), tool("nvdisasm")


def every_text(cc: tuple[int, int]) -> list[str]:
    """The PTX of every template and dtype, of bundles and of kernels written by hand."""
    held = [k for make in TEMPLATES for name in FLOATS for k in kernels(make, name)]
    texts = [k.ptx(cc) for k in held]
    for kernel in kernels(update, "f32") + kernels(total, "f32") + kernels(columns, "f64"):
        words = 1 + 4 * (kernel.words + 1)
        texts.append(compile_ptx("many", many_source(kernel.text, kernel.words), words, cc))
    by_hand = [(merge_source(n, d, d), 7) for n in ("f32", "b1", "i64") for d in (False, True)]
    by_hand += [(search_source(n, True), 6) for n in ("f16", "f64")]
    by_hand += [(extreme_source(n, True), 5) for n in ("f32", "u8")]
    by_hand += [(scan_source("f32", "add"), 5), (scatter_source("f32", "add", True), 10)]
    return texts + [
        compile_ptx("by_hand", per_thread_source(text, words), words + 1, cc)
        for text, words in by_hand
    ]


def one_module(texts: list[str]) -> str:
    """Kernels in one text, so that the assembler starts once."""
    head = texts[0][: texts[0].index(".address_size 64")] + ".address_size 64\n"
    return head + "".join(
        re.sub(r"\b(tracejit_kernel\w*|_const\w*)", rf"k{number}_\1", text.partition(
            ".address_size 64")[2])
        for number, text in enumerate(texts)
    )  # fmt: skip


def assembled(text: str, cc: tuple[int, int], folder: Path) -> str:
    """What ptxas says of a text; raises AssertionError where it refuses it."""
    assert PTXAS is not None
    source, cubin = folder / "k.ptx", folder / "k.cubin"
    source.write_text(text)
    done = subprocess.run(
        [PTXAS, f"-arch=sm_{cc[0]}{cc[1]}", "-v", str(source), "-o", str(cubin)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.skipif(PTXAS is None, reason="no ptxas here: pip install 'tracejit[cuda-ci]'")
@pytest.mark.parametrize("cc", ARCHITECTURES, ids=str)
def test_cubins(cc: tuple[int, int], tmp_path: Path) -> None:
    texts = every_text(cc)
    said = assembled(one_module(texts), cc, tmp_path)
    assert said.count("0 bytes stack frame, 0 bytes spill stores") == len(texts)
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == len(texts) and max(registers) <= 64


@pytest.mark.skipif(
    PTXAS is None or DISASSEMBLER is None,
    reason="no ptxas and nvdisasm here: pip install 'tracejit[cuda-ci]'",
)
def test_machine_code_of_a_dense_map(tmp_path: Path) -> None:
    assert PTXAS is not None and DISASSEMBLER is not None
    assembled(kernels(dense, "f32")[0].ptx(), (9, 0), tmp_path)
    listing = subprocess.run(
        [DISASSEMBLER, str(tmp_path / "k.cubin")], capture_output=True, text=True, check=True
    ).stdout
    assert "LDG.E.128" in listing and "STG.E.128" in listing
    assert not re.search(r"\b(DADD|DMUL|DFMA|CALL)\b", listing)
