"""The command line, as a user types it: every command, and what it says about mistakes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tracejit import cli
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.parse import parse
from tracejit.transforms import pipeline

PROGRAM = """
import tracejit as torch

def chain(x, scale=2.0):
    return (x.exp() * scale).sum()

def wrong(x):
    return x + torch.ones(7)

number = 3
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "user_program.py"
    path.write_text(PROGRAM)
    return str(path)


def run(capsys, *argv):
    """Exit status, stdout and stderr of a command."""
    try:
        status = cli.main(argv)
    except SystemExit as stop:
        status = stop.code
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_compare_prints_a_table(capsys, program):
    status, out, _ = run(capsys, "compare", f"{program}:chain", "f32[64,8]", "3.5")
    assert status == 0
    header, _, eager, compiled = out.splitlines()
    assert "speed-up" in header and eager.startswith("eager") and compiled.startswith("compiled")
    assert compiled.split()[-1] == "0.000"


def test_dump_prints_ir_that_parses(capsys, program):
    status, out, _ = run(capsys, "dump", f"{program}:chain", "f32[6]")
    assert status == 0
    assert "user_program.py:5" in out
    assert str(parse(out)) == str(parse(str(parse(out))))


def test_dump_of_the_plan_and_kernels(capsys, program):
    _, out, _ = run(capsys, "dump", f"{program}:chain", "f32[6]", "--stage", "plan", "--kernels")
    assert "kernel full_" in out and "def kernel(t, lo, hi):" in out


def test_dump_backward(capsys, program):
    status, out, _ = run(capsys, "dump", f"{program}:chain", "f32[6]", "--backward")
    assert status == 0
    assert "graph chain_backward(" in out and out.count("-> f32[6]") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("dump", "nowhere.py:f"), "no file nowhere.py"),
        (("dump", "no-colon"), "expected FILE.py:FUNCTION"),
        (("dump", "{}:missing"), "defines no 'missing'"),
        (("dump", "{}:number"), "is no function"),
        (("dump", "{}:chain"), "missing 1 required positional argument"),
        (("dump", "{}:chain", "f99[3]"), "no dtype 'f99'"),
        (("dump", "{}:chain", "f32[3"), "expected a type such as"),
        (("dump", "{}:chain", "f32[3]", "--stage", "soup"), "no stage 'soup'; there are captured"),
        (("compare", "{}:wrong", "f32[3]"), "add(f32[3], f32[7])"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line(capsys, program, argv, message):
    status, out, err = run(capsys, *(part.format(program) for part in argv))
    assert status == 2 and out == ""
    assert err.startswith("tracejit: ") and message in err


def test_cache_info_and_clear(capsys, program, tmp_path, monkeypatch):
    from tracejit import config
    from tracejit.codegen.compiler import clear_kernels

    with config.override(cache_dir=str(tmp_path / "kernels")):
        clear_kernels(history=False)
        run(capsys, "dump", f"{program}:chain", "f32[3]")
        _, info, _ = run(capsys, "cache", "info")
        count = int(info.splitlines()[1].split()[1])
        assert count >= 1
        _, cleared, _ = run(capsys, "cache", "clear")
        assert cleared.startswith(f"{count} kernels removed")
        assert "kernels  0" in run(capsys, "cache", "info")[1]


def test_doctor_names_versions_and_checks_a_kernel(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert lines["numba"].startswith("0.") and lines["llvmlite"]
    assert "and right" in out and "matrix products" in out


def test_demo_learns_and_agrees(capsys):
    status, out, _ = run(capsys, "demo", "--epochs", "12")
    assert status == 0, out
    assert out.count("test accuracy 9") == 2
    assert "speed-up" in out and "def kernel(t, lo, hi):" in out


def test_python_dash_m_is_the_command():
    made = subprocess.run(
        [sys.executable, "-m", "tracejit", "--version"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert made.stdout.startswith("tracejit 0.")


RIGHT = """
import tracejit as torch
from tracejit.testing.programs import attempt, make


def f(x):
    y = x * 2
    return y + 1,


def run(f):
    for seed in range(3):
        yield attempt(f, make("float32", (3,), seed))
"""

WRONG = RIGHT.replace("y = x * 2", "unused = x * 3\n    y = (x * 2).tanh()")


def to_sin(graph):
    """A wrong pass."""
    known = {id(n): n for n in graph.inputs}
    for node in graph.nodes():
        op = OPS["sin"] if node.op.name == "tanh" else node.op
        inputs = tuple(known[id(x)] for x in node.inputs)
        known[id(node)] = Node(op, inputs, node.params, node.type, node.loc)
    return graph.with_results([known[id(r)] for r in graph.results])


def test_run_and_minimize_a_reproducer(capsys, tmp_path, monkeypatch):
    path = tmp_path / "program.py"
    path.write_text(RIGHT)
    status, out, _ = run(capsys, "run", str(path))
    assert status == 0 and "compiled equals eager" in out
    assert run(capsys, "minimize", str(path))[0] == 2
    path.write_text(WRONG)
    monkeypatch.setattr(pipeline, "PASSES", (*pipeline.PASSES, ("to_sin", to_sin)))
    status, out, _ = run(capsys, "run", str(path))
    assert status == 1 and "program.py: " in out and "compiled equals eager" not in out
    assert run(capsys, "minimize", str(path))[0] == 0
    assert "unused" not in path.read_text() and "tanh()" in path.read_text()
    assert run(capsys, "run", str(path))[0] == 1


def test_run_refuses_other_files(capsys, tmp_path, program):
    status, _, err = run(capsys, "run", program)
    assert status == 2 and "no reproducer" in err
    assert run(capsys, "run", str(tmp_path / "nothing.py"))[0] == 2


def test_fuzz_prints_seeds_and_count(capsys):
    status, out, _ = run(capsys, "fuzz", "--seed", "16", "--programs", "2")
    assert status == 0 and out.startswith("2 programs, seeds 16 to 17: 0 differences")
    assert "def run(f):" in run(capsys, "fuzz", "--seed", "16", "--show")[1]
