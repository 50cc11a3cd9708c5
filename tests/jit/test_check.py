"""``compile(check=...)`` and ``compile(audit=True)`` find what is wrong, and change nothing."""

from __future__ import annotations

import ctypes
import sys
import warnings

import pytest

import tracejit as torch
from tracejit import nn
from tracejit.errors import CompileError, DivergenceError, TraceWarning
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.jit.check import interpreted_gradient
from tracejit.testing import reproduce
from tracejit.transforms import pipeline


def test_check_of_what_is_right_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    seen = torch.zeros(3)

    def step(x):
        y = model(x)
        seen.add_(y.detach().sum(0))
        return y * seen

    def run(function):
        torch.manual_seed(3)
        seen.zero_()
        results = []
        for i in range(5):
            y = function(torch.ones(2 + i % 2, 4))
            y.sum().backward()
            results.append(y.tolist())
        grads = [p.grad.tolist() for p in model.parameters()]
        model.zero_grad()
        return results, grads, seen.tolist(), torch.default_generator.offset

    plain = run(step)
    for check in ("first", 1.0, 0.5):
        assert run(torch.compile(step, check=check)) == plain


def test_check_compares_the_first_replays_of_each_path_only() -> None:
    calls = []

    @torch.compile(check="first")
    def f(x):
        return x * 2 if x.sum() > 0 else x * 3

    inner = f.function
    f(torch.ones(2)), f(-torch.ones(2))
    f.function = lambda x: calls.append(1) or inner(x)
    for sign in (1, -1, 1, -1, 1, -1):
        assert f(sign * torch.ones(2)).tolist() == inner(sign * torch.ones(2)).tolist()
    assert len(calls) == 4


@pytest.fixture
def wrong_tanh(monkeypatch):
    """A pass that takes the tanh of a graph with other nodes for sin."""

    def to_sin(graph):
        nodes = graph.nodes()
        if len(nodes) > 1:
            known = {id(n): n for n in graph.inputs}
            for node in nodes:
                op = OPS["sin"] if node.op.name == "tanh" else node.op
                inputs = tuple(known[id(x)] for x in node.inputs)
                known[id(node)] = Node(op, inputs, node.params, node.type, node.loc)
            graph = graph.with_results([known[id(r)] for r in graph.results])
        return graph

    monkeypatch.setattr(pipeline, "PASSES", (*pipeline.PASSES, ("to_sin", to_sin)))


def test_check_names_the_node_and_writes_a_test(wrong_tanh, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    @torch.compile(check="first")
    def f(x, w):
        y = x * w
        z = torch.tanh(y)
        return (z + 1).exp()

    with pytest.raises(DivergenceError) as caught:
        for _ in range(4):  # the pass above, user code to the first capture, is unforeseen there
            f(torch.ones(3), torch.ones(3))
    message = str(caught.value)
    assert "first node that differs: tanh" in message
    assert "z = torch.tanh(y)" in message and __file__ in message
    (path,) = tmp_path.glob("tracejit_repro_*.py")
    assert path.name in message
    assert "tanh" in (reproduce.run(str(path)) or "")
    smaller = reproduce.minimize(str(path))
    assert smaller is not None and len(smaller) <= len(path.read_text())
    path.write_text(smaller)
    with pytest.raises(AssertionError, match="tanh"):
        reproduce._load(str(path))["test_compiled_equals_eager"]()


def test_check_tells_a_missing_guard(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    @torch.compile(check=1.0)
    def f(x):
        return x * 2

    f(torch.ones(2))
    f.function = lambda x: x * 3  # what no guard of the trace knows of
    with pytest.raises(DivergenceError, match="the guards do not see"):
        f(torch.ones(2))


@pytest.mark.parametrize("check", ["always", 0, 2, True, -0.5])
def test_check_refuses_other_values(check) -> None:
    with pytest.raises(ValueError, match="fraction"):
        torch.compile(lambda x: x, check=check)


def test_audit_of_a_pure_function() -> None:
    bias = torch.zeros(3)

    @torch.compile(audit=True)
    def f(x):
        bias.add_(1)
        return x * torch.rand(3) + bias

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [f(torch.ones(3)).tolist() for _ in range(3)]
    assert bias.tolist() == [3.0, 3.0, 3.0]
    torch.manual_seed(0)
    assert results == [(torch.rand(3) + i).tolist() for i in (1, 2, 3)]


@pytest.fixture
def digits_limit():
    """State of the interpreter, which no guard sees; put back at the end."""
    before = sys.get_int_max_str_digits()
    yield
    sys.set_int_max_str_digits(before)


def test_audit_finds_hidden_state(digits_limit) -> None:
    @torch.compile(audit=True)
    def f(x):
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(limit + 1)
        return x + limit

    with pytest.warns(TraceWarning, match="traces in two ways.*full"):
        first = f(torch.zeros(1)).item()
    assert [f(torch.zeros(1)).item() for _ in range(3)] == [first + 1, first + 2, first + 3]


def test_memory_of_ctypes_is_refused() -> None:
    cell = ctypes.c_long(0)

    @torch.compile
    def f(x):
        cell.value += 1
        return x * cell.value

    with pytest.warns(TraceWarning, match="c_long, whose changes cannot be seen"):
        assert [f(torch.ones(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0]


def test_a_gradient_without_kernels_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: Graph) -> None:
        raise CompileError(f"no kernels for {graph.name}")

    x = torch.tensor([0.5, 2.0], requires_grad=True)
    f = torch.compile(lambda x: (x * x).sum())
    f(x)
    monkeypatch.setattr("tracejit.jit.differentiate.build", refuse)
    with pytest.warns(TraceWarning, match="gradient is interpreted: no kernels for backward"):
        f(x).backward()
    f(x).backward()
    assert x.grad.tolist() == [2.0, 8.0]
    assert interpreted_gradient(f) == "no kernels for backward"
