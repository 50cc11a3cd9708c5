"""A process that finds its kernels on disk compiles none, and does not even import Numba."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import tracejit as torch


@torch.compile
def score(x, w):
    return torch.softmax(torch.tanh(x @ w), -1) * 2.0

x, w = torch.ones(5, 9) * 0.3, torch.ones(9, 7) * 0.1
values = [score(x, w).sum().item() for _ in range(3)]
kinds = [event.kind for event in torch.history()]
print(kinds.count("compile"), kinds.count("disk"), "numba" in sys.modules, values)
"""


def run(folder: Path) -> tuple[int, int, bool, str]:
    environment = {**os.environ, "TRACEJIT_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    compiled, loaded, has_numba, values = done.stdout.split(maxsplit=3)
    return int(compiled), int(loaded), has_numba == "True", values


def test_a_warm_process_loads_every_kernel(tmp_path: Path) -> None:
    compiled, _, has_numba, values = run(tmp_path / "cache")
    assert compiled >= 3 and has_numba
    again, loaded, has_numba, same = run(tmp_path / "cache")
    assert again == 0 and loaded == compiled and not has_numba
    assert same == values
