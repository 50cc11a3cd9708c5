"""Every example in README.md, docs/ and the docstrings runs; pages print what programs print.

In a page, each ```python block runs (one namespace a page); a ```text block right after it is its
output, where "..." stands for anything. TRACEJIT_ACCEPT=1 rewrites such blocks that hold no "...".
Invariant: a page runs in a process of its own (a fork of one that has loaded the compiler and
started no thread), so what it declares does not reach other tests.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import tracejit

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "\x1e"
_RUNNER = f"""
import json, os, sys, traceback, warnings
from tracejit.codegen.compiler import clear_kernels, compile_kernel
compile_kernel("warm", "def kernel(t, lo, hi):\\n    pass\\n")
clear_kernels()
warnings.filterwarnings("ignore", "This process")  # has threads, of NumPy's BLAS, says Python 3.12

def run(paths):
    namespace = {{"__name__": "__main__"}}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), namespace)
        print("{_MARK}", end="", flush=True)

def child(folder, paths):
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "errors")):
        file = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    status = 1
    try:
        run(paths)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

for request in sys.stdin:
    process = os.fork()
    if not process:
        child(*json.loads(request))
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def runner():
    """A process that has loaded the compiler; each page runs in a fork of it."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _RUNNER], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    ) as process:  # fmt: skip
        yield process
        process.stdin.close()


class Block(NamedTuple):
    """A fenced block: its language, its text, and where the text stands in the page."""

    language: str
    text: str
    start: int
    end: int


def blocks(page: str) -> list[Block]:
    return [Block(m[1], m[2], m.start(2), m.end(2)) for m in _FENCE.finditer(page)]


def examples(page: str) -> list[tuple[Block, Block | None]]:
    """Programs, each with the block of its output if there is one right after it."""
    found = blocks(page)
    pairs = []
    for block, following in zip(found, [*found[1:], None]):
        if block.language == "python":
            near = following is not None and not page[block.end + 4 : following.start - 8].strip()
            is_output = near and following is not None and following.language == "text"
            pairs.append((block, following if is_output else None))
    return pairs


def run_programs(runner: subprocess.Popen[str], programs: list[str], folder: Path) -> list[str]:
    """What each program prints; they share a namespace and a process."""
    paths = []
    for number, program in enumerate(programs):
        named = re.match(r"# (\w+\.py)\n", program)
        path = folder / f"part{number}" / (named[1] if named else "example.py")
        path.parent.mkdir()
        path.write_text(program, "utf-8")
        paths.append(str(path))
    print(json.dumps([str(folder), paths]), file=runner.stdin, flush=True)
    status = runner.stdout.readline()
    assert status == "0\n", (folder / "errors").read_text("utf-8")[-3000:]
    return (folder / "out").read_text("utf-8").split(_MARK)[:-1]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_examples_of_a_page(path, runner, tmp_path):
    page = path.read_text("utf-8")
    pairs = examples(page)
    if not pairs:
        pytest.skip("no examples")
    before = sorted(os.listdir())
    printed = run_programs(runner, [program.text for program, _ in pairs], tmp_path)
    assert sorted(os.listdir()) == before, "an example leaves a file behind"
    accept = os.environ.get("TRACEJIT_ACCEPT") == "1"
    for (_, wanted), found in reversed(list(zip(pairs, printed, strict=True))):
        if wanted is None:
            continue
        if accept and "..." not in wanted.text:
            page = page[: wanted.start] + found + page[wanted.end :]
            continue
        same = doctest.OutputChecker().check_output(
            wanted.text, found, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        )
        assert same, f"{path.name} says:\n{wanted.text}\nthe program says:\n{found}"
    if accept:
        path.write_text(page, "utf-8")


def test_the_runner_notices_a_failing_example(runner, tmp_path):
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_programs(runner, ["x = 1\n", "x / 0\n"], tmp_path)


def test_links_between_pages_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


# --- README commands -----------------------------------------------------------------------------


def test_readme_gives_two_commands_and_ci_runs_them():
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = [b.text.strip() for b in blocks(readme) if b.language == "sh"][:2]
    assert commands == ["pip install . && tracejit demo",
                        'pip install ".[test]" && python -m pytest -q']  # fmt: skip
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    for part in ("pip install --quiet .", "tracejit demo", '".[test]"', "python -m pytest -q"):
        assert part in script


def test_no_page_names_a_machines_folders():
    for path in [*PAGES, *ROOT.glob("bench/**/*.py"), *ROOT.glob("tracejit/**/*.py")]:
        assert not re.search(r"/(home|root|work|Users)/\w", path.read_text("utf-8")), path.name


# --- docstrings ----------------------------------------------------------------------------------

_SETUP = """
import os, tempfile
os.chdir(tempfile.mkdtemp())
from types import SimpleNamespace
import numpy as np
import tracejit as torch
import tracejit
from tracejit import *
from tracejit import nn, optim, config, compile, save, load
from tracejit.utils.data import *
self = SimpleNamespace()
net = model = nn.Linear(4, 2)
x = randn(3, 4); y = randn(3, 4)
w = randn(4, requires_grad=True); (w * w).sum().backward()
a = randn(2, 3, 4); b = randn(2, 4, 5)
fn = compile(lambda x: x * 2); fn(x)
"""
_PUBLIC = ("tensor", "eager", "random", "autograd", "jit.compile", "jit.explanation", "nn", "optim",
           "utils", "serialization", "inspect", "config", "ir.types", "func", "linalg")  # fmt: skip
_EXAMPLE = re.compile(
    r"Example:\s+``(.+?)``(?: (?:is|gives) (?:``(.+?)``|([-\d.]+)\b))?", re.DOTALL
)


def docstring_examples() -> list[tuple[str, str, str, str | None]]:
    """(module, where, program, result as text or None) of every ``Example:`` in the package."""
    found = []
    for info in pkgutil.walk_packages(tracejit.__path__, "tracejit."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, doc in _docstrings(module):
            for program, code, plain in _EXAMPLE.findall(doc):
                text = re.sub(r"\s*\n\s*", " ", program).replace("\\\\", "\\")
                result = (code or plain).rstrip(".") or None
                found.append((info.name, f"{info.name}.{name}", text, result))
            for program in re.findall(r"Example::\n\n((?:[ ]{4}.*\n|\n)+)", doc + "\n"):
                text = inspect.cleandoc("\n" + program)
                found.append((info.name, f"{info.name}.{name}", text, None))
    return found


def _docstrings(module):
    for name, item in vars(module).items():
        if getattr(item, "__module__", None) != module.__name__:
            continue
        yield name, inspect.getdoc(item) or ""
        if inspect.isclass(item):
            for inner, method in vars(item).items():
                if inspect.isfunction(method):
                    yield f"{name}.{inner}", inspect.getdoc(method) or ""


def test_docstring_examples(runner, tmp_path):
    programs, names = [_SETUP], []
    for module, where, text, result in docstring_examples():
        compile(text, where, "exec")  # also those of internals, whose names mean nothing here
        if where.removeprefix("tracejit.").startswith(_PUBLIC):
            lines = text.split("; ")
            if result is not None:
                last = lines.pop()
                lines += [f"_found, _wanted = ({last}), ({result})",
                          f"assert _same(_found, _wanted), ({where!r}, _found)"]  # fmt: skip
            names.append(where)
            own = f"from {module} import *\n"
            programs.append(own + ("; " if result is None else "\n").join(lines) + "\n")
    programs[0] += (
        "def _same(a, b):\n"
        "    a = a.tolist() if isinstance(a, Tensor) else a\n"
        "    return a == b or str(a) == str(b)\n"
    )
    assert len(names) > 20
    run_programs(runner, programs, tmp_path)
