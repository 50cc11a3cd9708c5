"""What every test shares: a kernel cache of the test session's own, deleted when it ends.

Invariant: no test reads or writes the user's own kernel cache. With pytest-xdist the workers share
one folder, so a kernel that one of them has compiled is warm for the others. Set TRACEJIT_CACHE_DIR
to keep the kernels between runs while you develop.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

_OWN = "TRACEJIT_CACHE_DIR" not in os.environ
if _OWN:  # before anything imports tracejit; worker processes inherit it
    os.environ["TRACEJIT_CACHE_DIR"] = tempfile.mkdtemp(prefix="tracejit_tests_")
_FOLDER = os.environ["TRACEJIT_CACHE_DIR"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that made the folder removes it."""
    if _OWN:
        shutil.rmtree(_FOLDER, ignore_errors=True)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    import tracejit

    tracejit.manual_seed(0)
