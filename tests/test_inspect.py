"""compare, record, history, explain: what they say is what happened."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import tracejit as torch
from tracejit import nn
from tracejit.inspect.compare import _difference
from tracejit.ir.interpret import interpret
from tracejit.ir.parse import parse

scale = 2.0


# --- record --------------------------------------------------------------------------------------


def test_record_names_inputs_as_the_block_does():
    x, w = torch.randn(3, 4), torch.randn(4)
    with torch.record() as trace:
        y = (x * w).exp()
    text = str(trace)
    assert text.startswith("graph recorded(%x: f32[3,4], %w: f32[4]) -> f32[3,4] {")
    assert "test_inspect.py" in text
    (found,) = interpret(trace.graph, [x.numpy(), w.numpy()])
    np.testing.assert_allclose(found, y.numpy(), rtol=1e-6)


def test_record_shows_writes_and_parses_back():
    b = torch.zeros(3)
    with torch.record() as trace:
        b.add_(1)
    assert "write %b <-" in str(trace)
    assert str(parse(str(trace))) == str(parse(str(parse(str(trace)))))


def test_record_reaches_into_backward():
    w = torch.randn(4, requires_grad=True)
    with torch.record() as trace:
        (w * w).sum().backward()
    assert w.grad is not None and "mul(" in str(trace)
    assert trace.ir("plan").startswith("#")


def test_record_inside_record_is_refused():
    with torch.record(), pytest.raises(RuntimeError, match="inside a capture"):
        torch.record().__enter__()


def test_record_of_a_failing_block_lets_the_error_out():
    with pytest.raises(ZeroDivisionError), torch.record():
        raise ZeroDivisionError
    assert torch.ones(2).add(1).tolist() == [2.0, 2.0]  # and recording has ended


# --- compare -------------------------------------------------------------------------------------


def test_compare_of_a_training_step_leaves_the_state_of_one_call(capsys):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    x = torch.randn(4, 3)

    def step():
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step()
    before = model.weight.detach().numpy().copy()
    momentum = optimizer.state[model.weight]["momentum_buffer"].numpy().copy()
    found = torch.compare(step)
    assert found.max_abs == 0.0 and found.max_ulp == 0.0 and found.eager_reason is None
    assert found.kernels >= 1 and found.rounds >= 5 and found.compile_ms > 0
    grad = model.weight.grad.numpy()
    after = before - np.float32(0.5) * (np.float32(0.9) * momentum + grad)
    np.testing.assert_allclose(model.weight.detach().numpy(), after, rtol=1e-5, atol=1e-6)
    assert "speed-up" in capsys.readouterr().out


def test_compare_says_why_a_function_stays_eager(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.compare(lambda x: torch.tensor(x.numpy() + 1), torch.ones(2))
    assert "numpy()" in found.eager_reason
    assert "runs eagerly" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ([1.0], [1.0], (0, 0)),
        ([np.nan], [np.nan], (0, 0)),
        ([np.nan], [1.0], (np.inf, np.inf)),
        ([np.inf], [np.inf], (0, 0)),
        ([1.0], [np.nextafter(np.float32(1), np.float32(2))], (2**-23, 1)),
        ([-1e-45], [1e-45], (2 * 2.0**-149, 2)),
        ([0.0], [-0.0], (0, 0)),
    ],
)  # fmt: skip
def test_difference_in_ulp(a, b, wanted):
    found = _difference(np.array(a, np.float32), np.array(b, np.float32))
    assert found == pytest.approx(wanted)


def test_difference_of_shapes_is_infinite():
    assert _difference(np.zeros(2), np.zeros(3)) == (np.inf, np.inf)


# --- history -------------------------------------------------------------------------------------


def test_history_counts_compilations(tmp_path):
    with torch.config.override(cache_dir=str(tmp_path)):
        before = torch.history().compiled
        f = torch.compile(lambda x: (x * 0.12345).sinh() - 0.5432)
        f(torch.ones(4))
        (kernel,) = f.kernels
        made = torch.history().compiled
        assert before + 1 <= made <= before + 2  # the eager run may need the kernel of sinh alone
        for size in (4, 5, 6, 7):
            f(torch.ones(size))
        assert torch.history().compiled == made
    last = [e for e in torch.history() if e.kind == "compile"][-1]
    assert last.name == kernel.name and last.name in str(torch.history())


# --- explain, ir, kernels ------------------------------------------------------------------------


def test_explain_tells_guards_branches_and_hits():
    def f(x):
        if x.sum() > 0:
            return x * scale
        return x - 1

    g = torch.compile(f)
    for value in (1.0, 1.0, -1.0, -1.0):
        g(torch.full((4,), value))
    told = g.explain()
    text = str(told)
    assert "global scale == 2.0" in text
    assert "branch on bool at test_inspect.py" in text and "if x.sum() > 0:" in text
    (trace,) = json.loads(told.json())["traces"]
    outcomes = {o["outcome"]: o["hits"] for o in trace["tree"]["outcomes"]}
    assert outcomes == {"True": 1, "False": 1}
    assert "&lt;" in told._repr_html_() or "<pre>" in told._repr_html_()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("shape", "x: f32[3], was f32[2]"),
        ("dtype", "x: f64[2], was f32[2]"),
        ("grad", "x requires grad, did not before"),
        ("number", "k is 3, was 2"),
        ("global", "scale is 5.0, was 2.0"),
        ("no_grad", "gradients are off, were on"),
        ("train", "model.training is False, was True"),
    ],
)  # fmt: skip
def test_a_miss_names_the_guard_that_differs(change, reason, monkeypatch):
    model = nn.Linear(2, 2)

    def f(x, k):
        if model.training:
            return x * k * scale
        return x * k

    g = torch.compile(f)
    g(torch.ones(2), 2)
    x, k = torch.ones(2), 2
    if change == "shape":
        x = torch.ones(3)
    elif change == "dtype":
        x = torch.ones(2, dtype=torch.float64)
    elif change == "grad":
        x = torch.ones(2, requires_grad=True)
    elif change == "number":
        k = 3
    elif change == "global":
        monkeypatch.setitem(globals(), "scale", 5.0)
    elif change == "train":
        model.eval()
    with torch.set_grad_enabled(change != "no_grad"):
        assert torch.equal(g(x, k), f(x, k))
    assert [m.reason for m in g.misses] == ["first call", reason]
    assert reason in str(g.explain())


def test_kernels_have_source_llvm_and_asm():
    f = torch.compile(lambda x: x.exp() + 1)
    f(torch.ones(3))
    (kernel,) = f.kernels
    assert "m.exp(" in kernel.source and "test_inspect.py" in kernel.source
    assert "define" in kernel.llvm and kernel.asm.strip()


@pytest.mark.parametrize("stage", ["captured", "decompose", "simplify", "cse", "dce"])
def test_ir_at_every_stage_parses_back(stage):
    f = torch.compile(lambda x: torch.softmax(x * 1.0 + 0.0, 1))
    f(torch.randn(3, 5))
    text = f.ir(stage)
    assert str(parse(text)) == str(parse(str(parse(text))))
    assert "lambda(" in text


def test_ir_before_the_first_call_says_so():
    with pytest.raises(RuntimeError, match="call it first"):
        torch.compile(lambda x: x).ir()


def test_ir_of_a_function_without_gradients_has_no_backward():
    f = torch.compile(lambda x: x * 2)
    f(torch.ones(2))
    with pytest.raises(RuntimeError, match="no backward graph"):
        f.ir(backward=True)


# --- switches ------------------------------------------------------------------------------------


def test_dump_prints_the_stages_asked_for(capsys):
    with torch.config.override(dump="captured,plan"):
        torch.compile(lambda x: (x + 7.25) * 2)(torch.ones(3))
    err = capsys.readouterr().err
    assert "# stage captured" in err and "# stage plan" in err and "# stage cse" not in err


def test_debug_tells_what_is_compiled(capsys, tmp_path):
    with torch.config.override(debug=3, cache_dir=str(tmp_path)):
        torch.compile(lambda x: (x + 7.125) * 3)(torch.ones(3))
    err = capsys.readouterr().err
    assert "tracejit: compile map_" in err and "def kernel(" in err and "capture" in err


def test_disable_runs_traced_functions_eagerly():
    calls = []

    def f(x):
        calls.append(1) if not torch.is_grad_enabled() else None
        return x * 2

    g = torch.compile(f)
    g(torch.ones(2))
    known = len(g.misses)
    with torch.config.override(disable=True):
        assert g(torch.ones(2)).tolist() == [2.0, 2.0]
        assert g(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert len(g.misses) == known
    assert g.cache_info().hits == 0


def test_check_verifies_after_every_pass(monkeypatch):
    from tracejit.transforms import pipeline

    seen = []
    monkeypatch.setattr(pipeline, "verify", seen.append)
    with torch.config.override(check=1):
        torch.compile(lambda x: x * 3 + 0.375)(torch.ones(2))
    assert len(seen) >= 1 + len(pipeline.PASSES)


def test_disabled_passes_leave_no_stage():
    with torch.config.override(disable_passes="cse,dce"):
        f = torch.compile(lambda x: x * 3 + 0.875)
        f(torch.ones(2))
    with pytest.raises(ValueError, match="no stage 'cse'"):
        f.ir("cse")
