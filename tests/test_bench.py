"""The benchmark runs, checks what it times, and says what it leaves out. No time is asserted."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pytest

from bench import __main__ as command
from bench import harness, models, overhead, process, training
from bench.frameworks import NumPy, Tracejit, TracejitEager
from bench.models import chargpt, cnn, lstm, mlp


def test_command_writes_tables_and_json(monkeypatch, capsys, tmp_path):
    figures, tables = tmp_path / "f.json", tmp_path / "f.md"
    argv = ["bench", "--quick", "--peers", "numpy", "--only", "16 elements",
            "--json", str(figures), "--markdown", str(tables)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", argv)
    assert command.main() == 0
    out = capsys.readouterr().out
    assert "processor:" in out and "call overhead, 16 elements" in out
    timing = json.loads(figures.read_text())["cases"]["call overhead, 16 elements"]["tracejit"]
    assert timing["problem"] is None and timing["ms"] > 0 and timing["error"] < 1e-5
    assert tables.read_text().count("| --- |") >= 1


def test_a_wrong_result_is_reported_and_not_timed():
    case = harness.Case("wrong", overhead._sixteen, lambda f: f.compile(lambda x, w: x + w),
                        lambda x, w: x - w)  # fmt: skip
    found = harness.run_case(case, [NumPy(), Tracejit()], quick=True)
    assert all("wrong by" in t.problem and np.isnan(t.ms) for t in found.values())


def test_a_framework_that_fails_is_reported():
    def build(framework):
        raise ValueError("no such thing here")

    case = harness.Case("fails", overhead._sixteen, build, lambda x, w: x)
    found = harness.run_case(case, [Tracejit()], quick=True)["tracejit"]
    assert found.problem == "ValueError: no such thing here"


def test_tables_go_between_the_marks_of_a_page(tmp_path):
    from bench.report import write_page

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    write_page(str(page), "new\n")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "new" in text and "old" not in text
    (tmp_path / "other.md").write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        write_page(str(tmp_path / "other.md"), "new")


def test_ratios_mark_what_is_lost():
    from bench.report import case_table, summary_table

    rows = {"a": {"tracejit": harness.Timing(2.0), "torch": harness.Timing(1.0)}}
    assert case_table(rows, {})[1] == [["a", "2.00", "1.00 (0.50!)"]]
    rows["a"]["torch"].ms = 6.0
    assert case_table(rows, {"a": {"torch": 4}})[1] == [["a", "2.00", "6.00 (3.00 [4]!)"]]
    assert summary_table(rows) == (["", "torch"], [["a", "3.0"]])
    assert case_table(rows, {"a": {"torch": 3}})[1] == [["a", "2.00", "6.00 (3.00 [3])"]]


@pytest.mark.parametrize("model", [mlp, cnn, lstm, chargpt], ids=lambda m: m.__name__)
def test_models_lose_what_numpy_says(model):
    assert models.__doc__
    case = training._case("step", model, 2)
    arrays = case.data(True)
    step = case.build(TracejitEager())
    loss = step(*(TracejitEager().tensor(a) for a in arrays)).item()
    assert loss == pytest.approx(float(case.reference(*arrays)), rel=1e-5)


def test_process_figures_of_tracejit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as: the step runs eagerly
        found = process.compile_times(Tracejit())
    assert found["MLP step"] > 0 and found["first kernel"] > 0
