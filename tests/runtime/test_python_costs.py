"""What must not be done twice, by counts: kernel sources, orders of graphs, type checks in eager.

No time is asserted; the figures are in docs/performance.md.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

import tracejit as torch
from tracejit import config, nn
from tracejit.codegen import sources
from tracejit.codegen.compiler import clear_kernels, kernel_history
from tracejit.dtypes import float32
from tracejit.eager import execute
from tracejit.ir.graph import Graph
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.runtime.buffers import memory_stats
from tracejit.transforms import pipeline


class Blocks(nn.Module):
    """Layers of one kind, whose kernels have equal sources."""

    def __init__(self, count: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(count)])

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x)) + x
        return x.square().mean()


def train(count: int) -> int:
    """Sources that are written for a training step of so many blocks."""
    sources._written.clear()
    net = Blocks(count)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = net(x)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(torch.ones(5, 6))
    return len(sources._written)


def test_equal_kernels_of_a_deep_net_are_written_once():
    assert train(9) - train(5) < 4  # fewer than blocks were added


def test_a_source_that_is_at_hand_is_the_one_that_would_be_written():
    with config.override(check=1):  # compares
        train(3)
        train(3)


def test_passes_that_change_nothing_keep_the_order():
    x = OPS["input"](type=TensorType(float32, (4,)), name="x")
    graph = Graph("g", (x,), (OPS["exp"](OPS["mul"](x, x)),))
    first = pipeline.run(graph)
    again = pipeline.run(first)
    assert again.nodes() == first.nodes()
    assert again._order is first._order
    assert replace(first, outputs=(x,)).nodes() == []


def test_types_of_a_reduction_are_checked_once_for_a_layout():
    x = torch.arange(12.0).reshape(3, 4)
    asked = []
    op = OPS["reduce_sum"]
    infer = op.infer
    object.__setattr__(op, "infer", lambda *a, **k: asked.append(1) or infer(*a, **k))
    try:
        assert x.sum(1).tolist() == [6.0, 22.0, 38.0]
        before = len(asked)
        assert (x + 1).sum(1).tolist() == [10.0, 26.0, 42.0]
        assert len(asked) == before
        with pytest.raises(IndexError):
            x.sum(2)
    finally:
        object.__setattr__(op, "infer", infer)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (5,), (1,), (2, 0), (2, 3, 4)])
def test_an_integer_selects_as_a_key_does(shape):
    x = torch.zeros(*shape)
    for i in range(-shape[0], shape[0]):
        part, wanted = x[i], x[(i,)]
        assert part.shape == wanted.shape and part._view == wanted._view
        assert part._base is x
        part += 1 + i
        assert torch.equal(part, wanted)
    for i in (shape[0], -shape[0] - 1):
        with pytest.raises(IndexError, match="out of bounds for dimension 0"):
            x[i]
    with pytest.raises(IndexError, match="too many indices"):
        torch.zeros(())[0]


def test_a_step_with_gathers_and_scatters_updates_parameters_in_place():
    table, head = nn.Embedding(7, 6), nn.Linear(6, 5)
    optimizer = torch.optim.SGD([*table.parameters(), *head.parameters()], lr=0.1)

    @torch.compile
    def step(index, target):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(table(index)), target)
        loss.backward()
        optimizer.step()
        return loss

    for size in (4, 8, 6, 5):
        step(torch.arange(size) % 7, torch.arange(size) % 5)
    (signature,) = step.signatures.values()
    for group in signature.groups:
        program = group.tree.root.program
        assert program.in_place and len(program.in_place) == len(program.graph.effects)


def test_an_exact_op_on_a_large_array_compiles_only_once_that_pays():
    x = torch.ones(execute.THREADED_SIZE + 3)
    key = OPS["sub"], x._array.dtype
    execute._met.pop(key, None)
    with config.override(threads=2):
        before = len(kernel_history())
        first = x - 0.5
        assert len(kernel_history()) == before
        execute._met[key] = execute.PAYING_SIZE
        second = x - 0.5
    assert len(kernel_history()) > before
    assert torch.equal(first, second)


def test_importing_loads_no_compiler():
    late = ("llvmlite", "tracejit.codegen.compiler", "tracejit.runtime.driver",
            "tracejit.runtime.executable", "tracejit.transforms.fuse")  # fmt: skip
    program = f"import sys, tracejit; print([m for m in {late} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("shape, light", [((), True), ((1, 1), True), ((2,), False)])
def test_a_kernel_of_one_element_is_compiled_lightly(shape, light):
    clear_kernels(history=False)  # a full one that is at hand is taken
    f = torch.compile(lambda x: (x * 2).exp())
    f(torch.ones(shape))
    assert [k.compiled.light for k in f.kernels] == [light]


def test_a_capture_leaves_no_spare_memory_behind():
    f = torch.compile(lambda x: ((x + 1).exp() * x).exp().sum())
    x = torch.ones(1 << 21)
    f(x)
    assert memory_stats()["cached"] < 1 << 24
    assert f.cache_info().traces == 1
