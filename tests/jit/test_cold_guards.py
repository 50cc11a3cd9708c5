"""What the compiler itself reads while it compiles is no guard of the user's function."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import tracejit as torch
from tracejit.errors import DeviceError

PROGRAM = """
import tracejit as torch
f = torch.compile(lambda x: torch.tanh(x) * 2)
f(torch.ones(3))
(signature,) = f.signatures.values()
(group,) = signature.groups
print(sorted(type(e.source.key).__name__ for e in group.readset.entries))
"""


def test_the_environment_is_no_guard_when_kernels_compile_cold(tmp_path) -> None:
    environment = {**os.environ, "TRACEJIT_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert "bytes" not in done.stdout, done.stdout


@pytest.mark.parametrize("ask", [lambda x: x.to("cuda"), lambda x: x.cuda()])
def test_a_device_that_is_not_there_is_one_sentence(ask) -> None:
    with pytest.raises(DeviceError, match=r"tracejit\[cuda\]"):
        ask(torch.ones(2))
