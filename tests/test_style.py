"""The whole tree is clean for `ruff check` and `ruff format --check` (settings: pyproject.toml).

Invariant: nothing is checked that ruff itself does not; without ruff there is nothing to run.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ruff") is None, reason="ruff is not installed"
)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff(command: tuple[str, ...]) -> None:
    """To mend: ``ruff check --fix . && ruff format .``."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "--output-format", "concise", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
