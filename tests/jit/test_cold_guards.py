"""What the compiler itself reads while it compiles is no guard of the user's function."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

import tracejit as torch
from tracejit.errors import DeviceError

PROGRAM = f"""
import tracejit as torch
f = torch.compile(lambda x: torch.tanh(x) * {random.uniform(2, 3)!r})  # in no cache
f(torch.ones(3))
(signature,) = f.signatures.values()
(group,) = signature.groups
print(sorted(type(e.source.key).__name__ for e in group.readset.entries))
print(torch.history().compiled)
"""


def test_the_environment_is_no_guard_when_kernels_compile_cold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    entries, compiled = done.stdout.splitlines()
    assert "bytes" not in entries
    assert int(compiled) > 0


@pytest.mark.parametrize("ask", [lambda x: x.to("cuda"), lambda x: x.cuda()])
def test_a_device_that_is_not_there_is_one_sentence(ask) -> None:
    with pytest.raises(DeviceError, match=r"tracejit\[cuda\]"):
        ask(torch.ones(2))
